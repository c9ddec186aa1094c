//! A state as a slice.

use std::{
    fmt,
    ops::{Deref, Range},
    sync::Arc,
};

use super::{
    Checkpoint,
    segments::{Mapped, OpenSegment},
};
use crate::{disk::Mapping, handle::InlineBytes};

/// The bytes of one state, in order, without a copy: a `&[u8]` by [`Deref`].
///
/// It keeps its checkpoint pinned. A file that somebody outside of the store cuts shorter while it is mapped ends the
/// process with SIGBUS; [`Checkpoint::reader`] does not map.
pub struct StateView(Bytes);

enum Bytes {
    Inline(InlineBytes),
    /// A part of a mapping. What else is here only keeps, and goes after it.
    Mapped(Arc<Mapping>, Range<usize>, #[expect(dead_code, reason = "held for what it keeps")] Kept),
}

/// The segment, so that later views of it share its mapping; not if it has this one state alone, because there may be
/// more of those than files can be open. The checkpoint, for its pin.
#[expect(dead_code, reason = "held for what they keep")]
struct Kept(Option<Arc<OpenSegment>>, Checkpoint);

impl StateView {
    pub(super) fn inline(bytes: InlineBytes) -> Self {
        Self(Bytes::Inline(bytes))
    }

    pub(super) fn mapped(mapped: Mapped, segment: Arc<OpenSegment>, checkpoint: Checkpoint) -> Self {
        let Mapped { mapping, part } = mapped;
        let shared = segment.is_shared().then_some(segment);
        Self(Bytes::Mapped(mapping, part, Kept(shared, checkpoint)))
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
