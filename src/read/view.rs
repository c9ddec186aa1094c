//! A state as a slice.

use std::{
    fmt,
    ops::{Deref, Range},
    sync::Arc,
};

use super::{pin::Pin, segment::Segment};
use crate::{disk::Mapping, handle::InlineBytes};

/// The bytes of one state, or of one [key group](crate::KeyGroup) of it, in order, without a copy: a `&[u8]` by [`Deref`].
///
/// It keeps its checkpoint pinned, and its file mapped, also if the [`Checkpoint`](crate::Checkpoint) is dropped. A file
/// that somebody outside of the store cuts shorter while it is mapped ends the process with SIGBUS;
/// [`Checkpoint::reader`](crate::Checkpoint::reader) does not map.
pub struct StateView(Bytes);

enum Bytes {
    Inline(InlineBytes),
    /// A part of them.
    InlinePart(InlineBytes, Range<usize>),
    /// A part of the mapping of a file.
    Shared(Arc<Segment>, Range<usize>),
    /// A mapping of this state alone. What else is here only keeps, and goes after it.
    Own(Mapping, #[expect(dead_code, reason = "held for what it keeps")] Arc<Pin>),
}

impl StateView {
    pub(super) fn inline(bytes: InlineBytes) -> Self {
        Self(Bytes::Inline(bytes))
    }

    pub(super) fn inline_part(bytes: InlineBytes, part: Range<usize>) -> Self {
        Self(Bytes::InlinePart(bytes, part))
    }

    pub(super) fn shared(segment: &Arc<Segment>, part: Range<usize>) -> Self {
        Self(Bytes::Shared(Arc::clone(segment), part))
    }

    pub(super) fn own(mapping: Mapping, pin: &Arc<Pin>) -> Self {
        Self(Bytes::Own(mapping, Arc::clone(pin)))
    }
}

impl Deref for StateView {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Inline(bytes) => bytes,
            Bytes::InlinePart(bytes, part) => bytes.get(part.clone()).unwrap_or_default(),
            Bytes::Shared(segment, part) => segment.part(part),
            Bytes::Own(mapping, _) => mapping.get(0..mapping.len()).unwrap_or_default(),
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
