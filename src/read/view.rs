//! A state as a slice.

use std::{
    fmt,
    ops::{Deref, Range},
    sync::Arc,
};

use super::Checkpoint;
use crate::{
    disk::Mapping,
    error::{Error, Result},
    handle::Extent,
};

/// The bytes of one state, in order, without a copy: a `&[u8]` by [`Deref`].
///
/// It keeps its checkpoint pinned. A file that somebody outside of the store cuts shorter while it is mapped ends the
/// process with SIGBUS; [`Checkpoint::reader`] does not map.
pub struct StateView(Bytes);

enum Bytes {
    Inline(Arc<[u8]>),
    /// A part of the mapping of a whole file. The checkpoint only pins, and goes after the mapping.
    Mapped(Arc<Mapping>, Range<usize>, #[expect(dead_code, reason = "held for its pin")] Checkpoint),
}

impl StateView {
    pub(super) fn inline(bytes: Arc<[u8]>) -> Self {
        Self(Bytes::Inline(bytes))
    }

    /// The mapping must reach up to the end of the state.
    pub(super) fn mapped(mapping: Arc<Mapping>, extent: &Extent, checkpoint: Checkpoint) -> Result<Self> {
        let part = usize::try_from(extent.offset).ok().zip(usize::try_from(extent.end()).ok());
        let part = part.map(|(start, end)| start..end).filter(|part| mapping.get(part.clone()).is_some());
        let part = part.ok_or_else(|| Error::invalid("map a state", "it does not lie in its mapping"))?;
        Ok(Self(Bytes::Mapped(mapping, part, checkpoint)))
    }
}

impl Deref for StateView {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Inline(bytes) => bytes,
            Bytes::Mapped(mapping, part, _) => mapping.get(part.clone()).unwrap_or_default(),
        }
    }
}

impl AsRef<[u8]> for StateView {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for StateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateView({} bytes)", self.len())
    }
}
