//! How far long work is.

/// Work that may take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Task {
    /// Opening a store: to look whether the data files of each checkpoint are there. Items are checkpoints.
    CheckFiles,
    /// To remove data files that nobody refers to: when a store is opened, and when checkpoints are forgotten. Items are
    /// files. Told of 100 files and more.
    RemoveFiles,
    /// To compare the bytes of a checkpoint with their checksums. Items are states.
    Verify,
    /// To export a checkpoint. Items are data files.
    Export,
    /// To import a checkpoint. Items are data files.
    Import,
}

/// How far long work is: [`Options::progress`](crate::Options::progress).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Which work.
    pub task: Task,
    /// How many items are done.
    pub items: u64,
    /// Of how many.
    pub all_items: u64,
    /// How many bytes are done; 0 of work that does not count bytes.
    pub bytes: u64,
    /// Of how many.
    pub all_bytes: u64,
}

impl Progress {
    pub(crate) fn new(task: Task, all_items: usize, all_bytes: u64) -> Self {
        Self { task, items: 0, all_items: all_items as u64, bytes: 0, all_bytes }
    }

    /// One item more is done.
    pub(crate) fn done(&mut self, bytes: u64) {
        self.items += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}
