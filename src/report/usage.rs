//! What a store holds and what it takes.

/// What a store holds in files and what they take: [`Store::usage`](crate::Store::usage).
///
/// A *logical file* is a state in a data file, a *physical file* a data file. States that travel inside their handles and
/// manifests do not count. Everything is derived from who refers to what, and nothing of it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// How many states in files are alive: some checkpoint, pending checkpoint or reader refers to each of them.
    pub logical_files: u64,
    /// How many bytes these states have.
    pub logical_bytes: u64,
    /// How many data files there are, without orphans.
    pub physical_files: u64,
    /// How many bytes these files have. One that shares its bytes with another, in this store or elsewhere (a hard link or
    /// a reflink), counts in full, here and in the following. Those that [are gathered](Self::gathered_bytes) are among
    /// them.
    pub physical_bytes: u64,
    /// How many of the physical bytes are still in memory: small states of pending checkpoints are written together, at
    /// most 256 KiB of each segment, and at the latest when their checkpoint is committed. Those of aborted ones are among
    /// them until the segment is written. They count among the allocated bytes as well.
    pub gathered_bytes: u64,
    /// What these files take on the medium, without the holes that were punched into them. Known from what was written,
    /// and asked of the file system when the store is opened and after punching.
    pub allocated_bytes: u64,
    /// How many of the physical bytes belong to no live state: those of states that nobody refers to, of abandoned and of
    /// unfinished ones, and the padding that aligns states. Holes are among them.
    pub dead_bytes: u64,
    /// How many bytes are in data files that nobody refers to and that were not removed yet.
    pub orphan_bytes: u64,
    /// How many of the physical files still take states.
    pub open_files: u64,
    /// How many of the physical files hold so little that their states should be written anew:
    /// see [`PendingCheckpoint::could_reuse`](crate::PendingCheckpoint::could_reuse).
    pub marked_files: u64,
    /// How many data files of other stores are referred to in place ([`Claim::Borrow`](crate::Claim::Borrow)). They and
    /// their states count nowhere else.
    pub borrowed_files: u64,
    /// How many bytes the states in those have that are referred to.
    pub borrowed_bytes: u64,
    /// How many bytes of states were written into files since the store was opened, without those relocated.
    pub written_bytes: u64,
    /// How many bytes of states `reuse` has relocated since the store was opened.
    pub relocated_bytes: u64,
}

impl Usage {
    /// What the files take on the medium in relation to the states in them; 1 if there are none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    pub fn space_amplification(&self) -> f64 {
        if self.logical_bytes == 0 { 1.0 } else { self.allocated_bytes as f64 / self.logical_bytes as f64 }
    }
}
