//! A state as a slice.

use std::{fmt, ops::Deref, sync::Arc};

use super::Checkpoint;
use crate::disk::Mapping;

/// The bytes of one state, in order, without a copy: a `&[u8]` by [`Deref`].
///
/// It keeps its checkpoint pinned. A file that somebody outside of the store cuts shorter while it is mapped ends the
/// process with SIGBUS; [`Checkpoint::reader`] does not map.
pub struct StateView(Bytes);

enum Bytes {
    Inline(Arc<[u8]>),
    /// The checkpoint only pins, and goes after the mapping.
    Mapped(Mapping, #[expect(dead_code, reason = "held for its pin")] Checkpoint),
}

impl StateView {
    pub(super) fn inline(bytes: Arc<[u8]>) -> Self {
        Self(Bytes::Inline(bytes))
    }

    pub(super) fn mapped(mapping: Mapping, checkpoint: Checkpoint) -> Self {
        Self(Bytes::Mapped(mapping, checkpoint))
    }
}

impl Deref for StateView {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Inline(bytes) => bytes,
            Bytes::Mapped(mapping, _) => mapping,
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
