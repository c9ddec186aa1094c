//! How a store is opened.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    disk::{Disk, MemoryDisk, OsDisk},
    id::Scope,
    manifest::DEFAULT_VNODE_COUNT,
    observe::{Event, Observer, Progress},
};

/// When states become durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// none. Their records say so: opening the store with another setting makes them durable first.
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

/// Which states share a segment: a data file with many states one after another.
///
/// A state shares one if it fits into the write buffer and into a segment; a longer one has a segment of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Merging {
    /// None: every state has a file of its own.
    Off,
    /// Those of one checkpoint.
    WithinCheckpoint,
    /// Those of one checkpoint and of the following ones, until the segment is full: a checkpoint costs one data sync for
    /// each segment it touched, and mostly no new file.
    #[default]
    AcrossCheckpoints,
}

/// When space is given back: when files that nobody refers to are removed, holes punched, and files marked for rewriting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Maintenance {
    /// At the end of each commit, abort and forgetting, and when a reader is dropped, on the thread that does it. What a
    /// commit punches is bounded by what it wrote.
    #[default]
    Inline,
    /// When the engine calls [`Store::maintain`](crate::Store::maintain), on a thread of its choice.
    Manual,
}

/// A half of a log is a multiple of this, and of a length between these.
const LOG_BLOCK: u64 = 4096;
const LEAST_HALF_LOG: u64 = 64 * 1024;
const MOST_HALF_LOG: u64 = 1 << 30;
/// Unless somebody has said how long logs are: opening waits for the first one.
const MOST_HALF_FIRST_LOG: u64 = 512 * 1024;
/// The largest inline threshold: 1 MiB.
const MAX_INLINE_THRESHOLD: usize = 1 << 20;
/// The cap for a state of a store in memory.
pub(crate) const MEMORY_STATE_LIMIT: usize = 5 * 1024 * 1024;

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
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Options {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) durability: Durability,
    pub(crate) verify: Verify,
    pub(crate) inline_shared: usize,
    pub(crate) inline_exclusive: usize,
    pub(crate) max_inline_threshold: usize,
    pub(crate) write_buffer: usize,
    pub(crate) max_state_size: Option<u64>,
    pub(crate) retain: Option<NonZeroUsize>,
    pub(crate) retain_for: Option<Duration>,
    pub(crate) vnode_count: u16,
    pub(crate) rebuild_identity: bool,
    pub(crate) accept_loss: bool,
    pub(crate) must_exist: bool,
    pub(crate) wait_for_lock: Duration,
    pub(crate) merging: Merging,
    pub(crate) segment_size: u64,
    pub(crate) lanes: u16,
    pub(crate) alignment: u32,
    pub(crate) max_space_amplification: Option<f64>,
    pub(crate) punch_holes: bool,
    pub(crate) relocation: bool,
    pub(crate) maintenance: Maintenance,
    pub(crate) log_size: Option<u64>,
    pub(crate) redo_size: u64,
    pub(crate) observer: Observer,
}

impl Options {
    /// The defaults: the real file system, durable per checkpoint, states verified on first use, shared states of up to 64
    /// bytes and exclusive ones of up to 1 KiB inline, write buffers of 1 MiB, one segment of 32 MiB per scope shared across checkpoints, at most twice the space
    /// that live states need, nothing pruned by itself.
    #[must_use]
    pub fn new() -> Self {
        Self {
            disk: Arc::new(OsDisk),
            durability: Durability::default(),
            verify: Verify::default(),
            inline_shared: 64,
            inline_exclusive: 1024,
            max_inline_threshold: MAX_INLINE_THRESHOLD,
            write_buffer: 1 << 20,
            max_state_size: None,
            retain: None,
            retain_for: None,
            vnode_count: DEFAULT_VNODE_COUNT,
            rebuild_identity: false,
            accept_loss: false,
            must_exist: false,
            wait_for_lock: Duration::ZERO,
            merging: Merging::default(),
            segment_size: 32 << 20,
            lanes: 1,
            alignment: 64,
            max_space_amplification: Some(2.0),
            punch_holes: true,
            relocation: true,
            maintenance: Maintenance::default(),
            log_size: None,
            redo_size: 256 << 10,
            observer: Observer::default(),
        }
    }

    /// A store in memory, gone with the last clone of the [`Store`](crate::Store): a [`MemoryDisk`] of its own, at most
    /// 5 MiB (5,242,880 bytes) per state.
    #[must_use]
    pub fn memory() -> Self {
        Self::new().disk(MemoryDisk::new()).durability(Durability::None).max_state_size(Some(MEMORY_STATE_LIMIT as u64))
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

    /// A state of at most this many bytes travels inside its handle, and so in the record of its checkpoint, instead of a
    /// file; at most 1 MiB, 0 for none but empty states. By default 64 bytes for shared states, which stay in memory and in
    /// each base of the manifest log for as long as a checkpoint has them, and 1 KiB for exclusive ones. This sets both.
    #[must_use]
    pub fn inline_threshold(self, bytes: usize) -> Self {
        self.inline_threshold_of(Scope::Shared, bytes).inline_threshold_of(Scope::Exclusive, bytes)
    }

    /// The [inline threshold](Self::inline_threshold) of one scope.
    #[must_use]
    pub fn inline_threshold_of(mut self, scope: Scope, bytes: usize) -> Self {
        match scope {
            Scope::Shared => self.inline_shared = bytes,
            Scope::Exclusive => self.inline_exclusive = bytes,
        }
        self
    }

    /// How many bytes a [`StateWriter`](crate::StateWriter) holds back at most before it writes; 1 MiB by default. At
    /// least the inline threshold is held back in any case. A state that fits shares a segment with others; a longer one
    /// is streamed into a segment of its own. States of at most 16 KiB that share a segment are written together: at most as
    /// many bytes as this gather in each segment, and at most 256 KiB.
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

    /// With each commit, forgets all but the newest `checkpoints`, as [`Store::prune`](crate::Store::prune) does, but
    /// without looking at those that stay, and without a sync of its own: the record of the commit says it, so both are
    /// durable or neither is. At least one stays. By default nothing is forgotten by itself.
    ///
    /// With 1 no older checkpoint is left to fall back to, should a state of the newest one be damaged.
    #[must_use]
    pub fn retain(mut self, checkpoints: usize) -> Self {
        self.retain = NonZeroUsize::new(checkpoints).or(Some(NonZeroUsize::MIN));
        self
    }

    /// With each commit, forgets the checkpoints that were this old when the newest one was taken, by the times that
    /// their manifests have ([`ManifestBuilder::timestamp_ms`](crate::ManifestBuilder::timestamp_ms)): one without a
    /// time stays. Together with [`retain`](Self::retain) a checkpoint goes only if both say so. At least one stays.
    #[must_use]
    pub fn retain_for(mut self, age: Duration) -> Self {
        self.retain_for = Some(age);
        self
    }

    /// How many virtual nodes the engine spreads its keys over; 256 by default. A manifest that says nothing else gets
    /// this number, and validation warns of one that has another.
    #[must_use]
    pub fn vnode_count(mut self, count: u16) -> Self {
        self.vnode_count = count;
        self
    }

    /// Which states share a segment; [`Merging::AcrossCheckpoints`] by default.
    #[must_use]
    pub fn merging(mut self, merging: Merging) -> Self {
        self.merging = merging;
        self
    }

    /// How many bytes a segment that states share has at most; 32 MiB by default, at least 1. A state that does not fit
    /// goes to a fresh segment, and one that fits into none has one of its own.
    #[must_use]
    pub fn segment_size(mut self, bytes: u64) -> Self {
        self.segment_size = bytes;
        self
    }

    /// How many segments of a scope take states at the same time; 1 by default, at least 1. A writer that finds all of
    /// them taken opens another while there are fewer, and else waits for the one append that is under way. Each that a
    /// checkpoint has touched costs it a sync.
    #[must_use]
    pub fn lanes(mut self, lanes: u16) -> Self {
        self.lanes = lanes;
        self
    }

    /// States in files begin at a multiple of this many bytes, so that mapped ones can be used in place; 64 by default, a
    /// power of two up to 4096.
    #[must_use]
    pub fn alignment(mut self, bytes: u32) -> Self {
        self.alignment = bytes;
        self
    }

    /// How much the data files may take on the medium in relation to what their live states need; 2 by default, at least
    /// 1, `None` for as much as they like. Beside that there is one segment for each lane, which is still being filled.
    ///
    /// It holds for engines that go on from a checkpoint ([`Manifest::based_on`](crate::Manifest::based_on)), or pass what
    /// they keep through [`reuse`](crate::PendingCheckpoint::reuse), both of which relocate states out of files that should
    /// go, or that write anew what
    /// [`could_reuse`](crate::PendingCheckpoint::could_reuse) refuses.
    #[must_use]
    pub fn max_space_amplification(mut self, ratio: Option<f64>) -> Self {
        self.max_space_amplification = ratio;
        self
    }

    /// Whether dead ranges are punched out of files that stay, where the disk can do that; on by default.
    #[must_use]
    pub fn punch_holes(mut self, punch: bool) -> Self {
        self.punch_holes = punch;
        self
    }

    /// Whether [`reuse`](crate::PendingCheckpoint::reuse) and the commit copy states out of files that should go; on by default.
    #[must_use]
    pub fn relocation(mut self, relocation: bool) -> Self {
        self.relocation = relocation;
        self
    }

    /// When space is given back; [`Maintenance::Inline`] by default.
    #[must_use]
    pub fn maintenance(mut self, maintenance: Maintenance) -> Self {
        self.maintenance = maintenance;
        self
    }

    /// Opens only a store that is there: a directory without one is an error (`is_not_found`), and nothing is created. Off by
    /// default.
    ///
    /// For jobs that must not begin anew without notice: the mount point of a volume that is not mounted is an empty
    /// directory, and would become a new store.
    ///
    /// # Examples
    ///
    /// ```
    /// let dir = tempfile::tempdir()?;
    /// let error = piton::Options::new().must_exist(true).open(dir.path()).unwrap_err();
    /// assert!(error.is_not_found());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn must_exist(mut self, must: bool) -> Self {
        self.must_exist = must;
        self
    }

    /// How long opening waits for a lock that another process holds; not at all by default. A job that is restarted may meet
    /// its predecessor, which is just ending.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let dir = tempfile::tempdir()?;
    /// let old = piton::Store::open(dir.path())?;
    /// let ends = std::thread::spawn(move || old.close());
    /// let store = piton::Options::new().wait_for_lock(Duration::from_secs(10)).open(dir.path())?;
    /// # ends.join().unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn wait_for_lock(mut self, wait: Duration) -> Self {
        self.wait_for_lock = wait;
        self
    }

    /// Opens a store that has lost a part of its manifest log for good, with what is left. Off by default: without this, a
    /// file of the log that is missing, or damaged in all copies, is an error, because to go on would remove data, and might
    /// give ids out again. A damaged record is no error: the store opens, and [`OpenReport::lost`](crate::OpenReport) names
    /// the record each time, until the loss is accepted.
    ///
    /// Checkpoints of which the content is lost stay, as damaged ones, until they are forgotten. The data files stay as they
    /// are until the store is opened again: save before what [`list_segment`](crate::list_segment) finds in them.
    /// [`OpenReport::cleanup_skipped`](crate::OpenReport) says that they are there.
    #[must_use]
    pub fn accept_loss(mut self, accept: bool) -> Self {
        self.accept_loss = accept;
        self
    }

    /// How long a file of the manifest log is, in bytes, without its headers of 8 KiB: by default 4 MiB on the real file system,
    /// and 1 MiB for the first one of each open, which opening waits for. It has each record twice. It is written full of
    /// zeros when it is made, so that a commit changes no metadata of the file system, and three or four such files are there
    /// at a time. A longer one is made less often, and is read for longer when the store is opened. At least 128 KiB.
    #[must_use]
    pub fn log_size(mut self, bytes: u64) -> Self {
        self.log_size = Some(bytes);
        self
    }

    /// How many bytes of states a checkpoint may carry in its record, 256 KiB by default, at most an eighth of half a
    /// [log](Self::log_size). Such a checkpoint costs one sync, whatever segments it wrote to: they are synced later. Its new
    /// bytes are written three times, twice to the log and once to their segments. A checkpoint with more new bytes writes
    /// them once, and syncs each segment that it wrote to before its record, which takes longer. 0 turns it off. With
    /// [`Durability::None`] and [`Durability::PerState`] there is no use for it, nor for states with segments of their own,
    /// nor for the first states in a new segment.
    #[must_use]
    pub fn redo_size(mut self, bytes: u64) -> Self {
        self.redo_size = bytes;
        self
    }

    /// Calls back with each [`Event`], after it happened, on the thread that it happened on, before the method returns that it
    /// happened in. No lock is held meanwhile: the observer may use the store. Events of what it does so are told after the ones
    /// that wait. Nobody looks by default, which costs nothing. A second observer is told after the first.
    ///
    /// A panic of the observer goes through to the caller of the method, which has done its work.
    ///
    /// With the features `log`, `tracing` and `metrics` there are ready-made observers in [`observe`](crate::observe).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    /// use piton::{Manifest, Options, observe::{Event, Weight}};
    ///
    /// let committed = Arc::new(AtomicU64::new(0));
    /// let counter = Arc::clone(&committed);
    /// let store = Options::memory()
    ///     .observer(move |event| match event {
    ///         Event::Committed { .. } => drop(counter.fetch_add(1, Ordering::Relaxed)),
    ///         event if event.weight() >= Weight::Warning => eprintln!("{event}"),
    ///         _ => {}
    ///     })
    ///     .open("state")?;
    /// store.begin_next()?.commit(Manifest::builder())?;
    /// assert_eq!(committed.load(Ordering::Relaxed), 1);
    /// # Ok::<(), piton::Error>(())
    /// ```
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.observer.and_events_to(observer);
        self
    }

    /// Calls back with how far long work is, while it is done, on the thread that does it: opening, verifying, exporting,
    /// importing, pruning. It is called often, at most once for each checkpoint, file, or 4 MiB: it must be
    /// quick, and must not use the store.
    ///
    /// # Examples
    ///
    /// ```
    /// use piton::{Options, observe::Task};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = Options::new()
    ///     .progress(|progress| {
    ///         if progress.task == Task::Export {
    ///             println!("{} of {} bytes", progress.bytes, progress.all_bytes);
    ///         }
    ///     })
    ///     .open(dir.path())?;
    /// # let pending = store.begin_next()?;
    /// # let weights = pending.write(piton::Scope::Shared, &[7; 5000])?;
    /// # let id = pending.commit(piton::Manifest::builder().state("weights", weights))?.id();
    /// # let savepoints = tempfile::tempdir()?;
    /// store.export(id, savepoints.path().join("savepoint"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.observer.and_progress_to(progress);
        self
    }

    /// How many bytes of states a record may have.
    pub(crate) fn most_redo(&self) -> u64 {
        let has_use = self.durability == Durability::PerCheckpoint;
        if has_use { self.redo_size.min(self.half_log() / 8) } else { 0 }
    }

    /// How long each half of a log is.
    pub(crate) fn half_log(&self) -> u64 {
        let half = self.log_size.unwrap_or_else(|| self.disk.log_size()) / 2;
        half.clamp(LEAST_HALF_LOG, MOST_HALF_LOG) / LOG_BLOCK * LOG_BLOCK
    }

    /// The same for the first one of an open.
    pub(crate) fn half_first_log(&self) -> u64 {
        let half = self.half_log();
        if self.log_size.is_some() { half } else { half.min(MOST_HALF_FIRST_LOG) }
    }

    /// Opens a store whose identity file (`piton.store`) is damaged or missing, by making a new one from what the
    /// manifest log says. Off by default: without this, opening such a store is an error.
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
