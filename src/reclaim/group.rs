//! Attempts at a checkpoint, as those that refer to extents.

/// One attempt at a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Group(pub(super) u64);

/// Who keeps a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Pending,
    Manifest,
    /// A manifest that was removed, and may come back until the removal is durable.
    Removed,
    Reader(u64),
}
