//! How a store is opened.

use std::{num::NonZeroUsize, sync::Arc};

use crate::disk::{Disk, MemoryDisk, OsDisk};

/// When states become durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When [`commit`](crate::PendingCheckpoint::commit) returns: everything that the checkpoint refers to, and the
    /// checkpoint itself. Nothing is promised before.
    #[default]
    PerCheckpoint,
    /// Each state already when [`finish`](crate::StateWriter::finish) returns, for engines that hand handles to another
    /// machine; the checkpoint itself when `commit` returns.
    PerState,
    /// Never: nothing is synced. **For tests and for file systems in memory (tmpfs) alone**: after a power cut, even
    /// after a crash of the operating system, checkpoints may be lost or damaged. A crash of the process alone loses
    /// none.
    None,
}

/// When the checksum of a state is compared with its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// The first time that a [`Checkpoint`](crate::Checkpoint) reads the state, before any of its bytes are given out.
    #[default]
    FirstUse,
    /// Never: a flipped bit in a state goes unnoticed. For states that carry checksums of their own.
    Never,
}

/// The largest inline threshold: 1 MiB.
pub(crate) const MAX_INLINE_THRESHOLD: usize = 1 << 20;
/// The cap for a state of a store in memory.
const MEMORY_STATE_LIMIT: u64 = 5 * 1024 * 1024;

/// How a store is opened: [`Options::new`] has the defaults, [`open`](Options::open) opens.
///
/// # Examples
///
/// ```
/// use piton::{Durability, Options};
///
/// let dir = tempfile::tempdir()?;
/// let store = Options::new().inline_threshold(4096).retain(3).durability(Durability::None).open(dir.path())?;
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) durability: Durability,
    pub(crate) verify: Verify,
    pub(crate) inline_threshold: usize,
    pub(crate) write_buffer: usize,
    pub(crate) max_state_size: Option<u64>,
    pub(crate) retain: Option<NonZeroUsize>,
    pub(crate) rebuild_identity: bool,
}

impl Options {
    /// The defaults: the real file system, durable per checkpoint, states verified on first use, states of up to 1 KiB
    /// inline, write buffers of 1 MiB, nothing pruned by itself.
    #[must_use]
    pub fn new() -> Self {
        Self {
            disk: Arc::new(OsDisk),
            durability: Durability::default(),
            verify: Verify::default(),
            inline_threshold: 1024,
            write_buffer: 1 << 20,
            max_state_size: None,
            retain: None,
            rebuild_identity: false,
        }
    }

    /// A store in memory, gone with the last clone of the [`Store`](crate::Store): a [`MemoryDisk`] of its own, at most
    /// 5 MiB (5,242,880 bytes) per state.
    #[must_use]
    pub fn memory() -> Self {
        Self::new().disk(MemoryDisk::new()).durability(Durability::None).max_state_size(Some(MEMORY_STATE_LIMIT))
    }

    /// The file system to use instead of the operating system's.
    #[must_use]
    pub fn disk(mut self, disk: impl Disk) -> Self {
        self.disk = Arc::new(disk);
        self
    }

    /// When states become durable; [`Durability::PerCheckpoint`] by default.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// When the checksum of a state is compared with its bytes; [`Verify::FirstUse`] by default.
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// A state of at most this many bytes travels inside its handle and the manifest instead of a file; 1 KiB by
    /// default, at most 1 MiB, 0 for none but empty states.
    #[must_use]
    pub fn inline_threshold(mut self, bytes: usize) -> Self {
        self.inline_threshold = bytes;
        self
    }

    /// How many bytes a [`StateWriter`](crate::StateWriter) holds back at most before it writes; 1 MiB by default. At
    /// least the inline threshold is held back in any case.
    #[must_use]
    pub fn write_buffer(mut self, bytes: usize) -> Self {
        self.write_buffer = bytes;
        self
    }

    /// A state that grows beyond this many bytes is refused as soon as it does; no limit by default.
    #[must_use]
    pub fn max_state_size(mut self, bytes: Option<u64>) -> Self {
        self.max_state_size = bytes;
        self
    }

    /// After each commit, forgets all but the newest `checkpoints`, as [`Store::prune`](crate::Store::prune) does, but
    /// without a sync of its own: the next commit makes it durable, and then the data goes. At least one stays. By
    /// default nothing is forgotten by itself.
    #[must_use]
    pub fn retain(mut self, checkpoints: usize) -> Self {
        self.retain = NonZeroUsize::new(checkpoints).or(Some(NonZeroUsize::MIN));
        self
    }

    /// Opens a store whose identity file (`piton.store`) is damaged or missing, by making a new one from what the
    /// manifests say. Off by default: without this, opening such a store is an error.
    ///
    /// What cannot be made again is the memory of ids whose checkpoints were forgotten: they may be given out again.
    #[must_use]
    pub fn rebuild_identity(mut self, rebuild: bool) -> Self {
        self.rebuild_identity = rebuild;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
