//! Everything about checkpointing that can be set, and written down.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    contract::{CheckpointOptions, CheckpointStorage, FilesystemStorage, Storage},
    error::{Error, Result},
    manifest::CheckpointKind,
    options::Options,
    outcome::ExternalizedCheckpointCleanup,
    store::Store,
};

/// What a record counts for after a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CheckpointingMode {
    /// Once.
    #[default]
    ExactlyOnce,
    /// Once or more often.
    AtLeastOnce,
}

/// Something that is set and has another effect, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigWarning {
    /// Unaligned checkpoints are switched on, and have no effect: they are for exactly-once alone.
    UnalignedNeedsExactlyOnce,
    /// The interval is shorter than the minimum pause, which counts instead.
    IntervalBelowMinPause {
        /// What is set.
        interval: Duration,
        /// What counts.
        min_pause: Duration,
    },
}

/// When and how checkpoints are taken. Times count in milliseconds; what is less is cut off.
///
/// Setters refuse numbers and times that can never be, and what was written down by others is read with the same care;
/// whether the parts fit together, and whether the storage can be, [`validate`](Self::validate) tells. The [`Coordinator`](super::Coordinator) asks it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use piton::{ExternalizedCheckpointCleanup, policy::CheckpointConfig};
///
/// let mut config = CheckpointConfig::new();
/// config.set_checkpoint_interval(Some(Duration::from_secs(10)))?;
/// config.set_tolerable_checkpoint_failure_number(3);
/// config.set_externalized_checkpoint_cleanup(ExternalizedCheckpointCleanup::RetainOnCancellation);
/// config.set_checkpoint_storage_dir("/var/lib/engine/checkpoints");
/// assert_eq!(config.validate()?, []);
///
/// // Written down, and read again; what is not said is as by default:
/// let json = serde_json::to_string(&config)?;
/// assert_eq!(serde_json::from_str::<CheckpointConfig>(&json)?, config);
/// let short: CheckpointConfig = serde_json::from_str(r#"{ "checkpoint_interval_ms": 500 }"#)?;
/// assert_eq!(short.checkpoint_timeout(), CheckpointConfig::DEFAULT_TIMEOUT);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct CheckpointConfig {
    mode: CheckpointingMode,
    interval: Option<Duration>,
    timeout: Duration,
    min_pause: Duration,
    max_concurrent: u32,
    tolerable_failures: u32,
    cleanup: ExternalizedCheckpointCleanup,
    unaligned: bool,
    alignment_timeout: Duration,
    force_unaligned: bool,
    storage: Option<Storage>,
}

/// The same as it is written down.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename = "CheckpointConfig")]
struct Written {
    checkpointing_mode: CheckpointingMode,
    checkpoint_interval_ms: Option<u64>,
    checkpoint_timeout_ms: u64,
    min_pause_between_checkpoints_ms: u64,
    max_concurrent_checkpoints: u32,
    tolerable_checkpoint_failure_number: u32,
    externalized_checkpoint_cleanup: ExternalizedCheckpointCleanup,
    unaligned_checkpoints: bool,
    alignment_timeout_ms: u64,
    force_unaligned_checkpoints: bool,
    checkpoint_storage: Option<Storage>,
}

impl CheckpointConfig {
    /// Exactly once.
    pub const DEFAULT_MODE: CheckpointingMode = CheckpointingMode::ExactlyOnce;
    /// Ten minutes.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(10);
    /// None.
    pub const DEFAULT_MIN_PAUSE_BETWEEN_CHECKPOINTS: Duration = Duration::ZERO;
    /// One.
    pub const DEFAULT_MAX_CONCURRENT_CHECKPOINTS: u32 = 1;
    /// The shortest interval, and the shortest timeout: 10 ms.
    pub const MINIMAL_CHECKPOINT_TIME: Duration = Duration::from_millis(10);
    /// The longest minimum pause: 365 days.
    pub const MAX_MIN_PAUSE: Duration = Duration::from_hours(365 * 24);
    /// So many failures are tolerated, and any number more: 2^31 - 1.
    pub const UNLIMITED_TOLERABLE_FAILURE_NUMBER: u32 = u32::MAX >> 1;

    /// The defaults: exactly once, no periodic checkpoints, a timeout of ten minutes, no pause, one at a time, no failure
    /// tolerated, no checkpoint kept at the end of the job, aligned, no storage.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mode: Self::DEFAULT_MODE,
            interval: None,
            timeout: Self::DEFAULT_TIMEOUT,
            min_pause: Self::DEFAULT_MIN_PAUSE_BETWEEN_CHECKPOINTS,
            max_concurrent: Self::DEFAULT_MAX_CONCURRENT_CHECKPOINTS,
            tolerable_failures: 0,
            cleanup: ExternalizedCheckpointCleanup::NoExternalizedCheckpoints,
            unaligned: false,
            alignment_timeout: Duration::ZERO,
            force_unaligned: false,
            storage: None,
        }
    }

    /// Whether checkpoints are taken periodically.
    #[must_use]
    pub const fn is_checkpointing_enabled(&self) -> bool {
        self.interval.is_some()
    }

    /// What a record counts for after a failure.
    #[must_use]
    pub const fn checkpointing_mode(&self) -> CheckpointingMode {
        self.mode
    }

    /// Sets what a record counts for after a failure.
    pub const fn set_checkpointing_mode(&mut self, mode: CheckpointingMode) -> &mut Self {
        self.mode = mode;
        self
    }

    /// From the start of one periodic checkpoint to the next at least; `None` if there are none. At least the
    /// [minimum pause](Self::min_pause_between_checkpoints), whatever was set.
    #[must_use]
    pub fn checkpoint_interval(&self) -> Option<Duration> {
        self.interval.map(|interval| interval.max(self.min_pause))
    }

    /// Takes checkpoints periodically, or, with `None`, on request alone.
    ///
    /// # Errors
    ///
    /// `is_invalid` if it is below 10 ms.
    pub fn set_checkpoint_interval(&mut self, interval: Option<Duration>) -> Result<&mut Self> {
        self.interval = interval.map(|interval| at_least_minimal("checkpoint_interval", interval)).transpose()?;
        Ok(self)
    }

    /// How long a checkpoint may take before it is aborted.
    #[must_use]
    pub const fn checkpoint_timeout(&self) -> Duration {
        self.timeout
    }

    /// Sets how long a checkpoint may take before it is aborted.
    ///
    /// # Errors
    ///
    /// `is_invalid` if it is below 10 ms.
    pub fn set_checkpoint_timeout(&mut self, timeout: Duration) -> Result<&mut Self> {
        self.timeout = at_least_minimal("checkpoint_timeout", timeout)?;
        Ok(self)
    }

    /// How long nothing periodic is started after a checkpoint was completed.
    #[must_use]
    pub const fn min_pause_between_checkpoints(&self) -> Duration {
        self.min_pause
    }

    /// Sets how long nothing periodic is started after a checkpoint was completed; a year if that is less.
    pub fn set_min_pause_between_checkpoints(&mut self, pause: Duration) -> &mut Self {
        self.min_pause = in_millis(pause).min(Self::MAX_MIN_PAUSE);
        self
    }

    /// How many checkpoints may be under way at the same time.
    #[must_use]
    pub const fn max_concurrent_checkpoints(&self) -> u32 {
        self.max_concurrent
    }

    /// Sets how many checkpoints may be under way at the same time.
    ///
    /// # Errors
    ///
    /// `is_invalid` if it is zero.
    pub fn set_max_concurrent_checkpoints(&mut self, number: u32) -> Result<&mut Self> {
        if number == 0 {
            return Err(invalid("max_concurrent_checkpoints", "it is 0: at least one must be possible"));
        }
        self.max_concurrent = number;
        Ok(self)
    }

    /// Whether the first checkpoint that fails fails the job.
    #[must_use]
    pub const fn is_fail_on_checkpointing_errors(&self) -> bool {
        self.tolerable_failures == 0
    }

    /// Tolerates no failure, or any number of them: see
    /// [`set_tolerable_checkpoint_failure_number`](Self::set_tolerable_checkpoint_failure_number), which can say more.
    pub const fn set_fail_on_checkpointing_errors(&mut self, fail: bool) -> &mut Self {
        self.tolerable_failures = if fail { 0 } else { Self::UNLIMITED_TOLERABLE_FAILURE_NUMBER };
        self
    }

    /// How many checkpoints may fail one after the other before the job does.
    #[must_use]
    pub const fn tolerable_checkpoint_failure_number(&self) -> u32 {
        self.tolerable_failures
    }

    /// Sets how many checkpoints may fail one after the other before the job does;
    /// [`UNLIMITED_TOLERABLE_FAILURE_NUMBER`](Self::UNLIMITED_TOLERABLE_FAILURE_NUMBER), or more, is any number of them.
    pub fn set_tolerable_checkpoint_failure_number(&mut self, number: u32) -> &mut Self {
        self.tolerable_failures = number.min(Self::UNLIMITED_TOLERABLE_FAILURE_NUMBER);
        self
    }

    /// Another name of [`set_externalized_checkpoint_cleanup`](Self::set_externalized_checkpoint_cleanup).
    pub const fn enable_externalized_checkpoints(&mut self, cleanup: ExternalizedCheckpointCleanup) -> &mut Self {
        self.set_externalized_checkpoint_cleanup(cleanup)
    }

    /// Sets which checkpoints stay when the job ends.
    pub const fn set_externalized_checkpoint_cleanup(&mut self, cleanup: ExternalizedCheckpointCleanup) -> &mut Self {
        self.cleanup = cleanup;
        self
    }

    /// Whether checkpoints may stay when the job ends.
    #[must_use]
    pub const fn is_externalized_checkpoints_enabled(&self) -> bool {
        !matches!(self.cleanup, ExternalizedCheckpointCleanup::NoExternalizedCheckpoints)
    }

    /// Which checkpoints stay when the job ends.
    #[must_use]
    pub const fn externalized_checkpoint_cleanup(&self) -> ExternalizedCheckpointCleanup {
        self.cleanup
    }

    /// Whether what is under way may become part of a checkpoint instead of being waited for. With at-least-once it is not,
    /// whatever was set.
    #[must_use]
    pub const fn is_unaligned_checkpoints_enabled(&self) -> bool {
        self.unaligned && matches!(self.mode, CheckpointingMode::ExactlyOnce)
    }

    /// Lets what is under way become part of a checkpoint instead of waiting for it.
    pub const fn enable_unaligned_checkpoints(&mut self) -> &mut Self {
        self.unaligned = true;
        self
    }

    /// Waits for what is under way.
    pub const fn disable_unaligned_checkpoints(&mut self) -> &mut Self {
        self.unaligned = false;
        self
    }

    /// How long an unaligned checkpoint is aligned before it is unaligned; zero: not at all.
    #[must_use]
    pub const fn alignment_timeout(&self) -> Duration {
        self.alignment_timeout
    }

    /// Sets how long an unaligned checkpoint is aligned before it is unaligned.
    pub fn set_alignment_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.alignment_timeout = in_millis(timeout);
        self
    }

    /// Whether checkpoints are unaligned also where the engine would think better of it.
    #[must_use]
    pub const fn is_force_unaligned_checkpoints(&self) -> bool {
        self.force_unaligned
    }

    /// Sets whether checkpoints are unaligned also where the engine would think better of it.
    pub const fn set_force_unaligned_checkpoints(&mut self, force: bool) -> &mut Self {
        self.force_unaligned = force;
        self
    }

    /// Sets where the checkpoints go.
    pub fn set_checkpoint_storage(&mut self, storage: impl Into<Storage>) -> &mut Self {
        self.storage = Some(storage.into());
        self
    }

    /// Lets the checkpoints go into files in this directory.
    pub fn set_checkpoint_storage_dir(&mut self, dir: impl Into<PathBuf>) -> &mut Self {
        self.set_checkpoint_storage(FilesystemStorage::new(dir))
    }

    /// Where the checkpoints go.
    #[must_use]
    pub const fn checkpoint_storage(&self) -> Option<&Storage> {
        self.storage.as_ref()
    }

    /// Whether the parts fit together; what has another effect than one might think.
    ///
    /// # Errors
    ///
    /// `is_invalid` if unaligned checkpoints are to be taken several at a time, or if no store can be opened with what the
    /// storage says.
    pub fn validate(&self) -> Result<Vec<ConfigWarning>> {
        self.storage.as_ref().map_or(Ok(()), Storage::check)?;
        if self.is_unaligned_checkpoints_enabled() && self.max_concurrent > 1 {
            let why = format!("it is {}, and unaligned checkpoints are taken one at a time", self.max_concurrent);
            return Err(invalid("max_concurrent_checkpoints", why));
        }
        let unaligned = (self.unaligned && !self.is_unaligned_checkpoints_enabled())
            .then_some(ConfigWarning::UnalignedNeedsExactlyOnce);
        let interval = self.interval.filter(|interval| *interval < self.min_pause);
        let interval =
            interval.map(|interval| ConfigWarning::IntervalBelowMinPause { interval, min_pause: self.min_pause });
        Ok(unaligned.into_iter().chain(interval).collect())
    }

    /// How a checkpoint of this kind is taken.
    #[must_use]
    pub fn checkpoint_options(&self, kind: CheckpointKind) -> CheckpointOptions {
        let exactly_once = self.mode == CheckpointingMode::ExactlyOnce;
        CheckpointOptions::derive(kind, exactly_once, self.is_unaligned_checkpoints_enabled(), self.alignment_timeout)
    }

    /// How the store of this configuration is opened, for an engine that has more to say about it
    /// ([`Options::retain`], ...): in the [root](CheckpointStorage::root) of the [storage](Self::checkpoint_storage).
    ///
    /// # Errors
    ///
    /// `is_invalid` if no storage is set, or if it says what no store can be.
    pub fn store_options(&self) -> Result<Options> {
        self.needed_storage()?.options()
    }

    /// Opens the store of this configuration, or creates it.
    ///
    /// # Errors
    ///
    /// Those of [`store_options`](Self::store_options) and of [`Options::open`].
    pub fn open_store(&self) -> Result<Store> {
        self.store_options()?.open(self.needed_storage()?.root())
    }

    fn needed_storage(&self) -> Result<&Storage> {
        let unset = || invalid("checkpoint_storage", "it is not set: say where the checkpoints go");
        self.storage.as_ref().ok_or_else(unset)
    }
}

fn invalid(member: &str, why: impl Into<String>) -> Error {
    Error::invalid(format!("set {member}"), why)
}

fn at_least_minimal(member: &str, time: Duration) -> Result<Duration> {
    let least = CheckpointConfig::MINIMAL_CHECKPOINT_TIME;
    if time < least {
        return Err(invalid(member, format!("{time:?} is below the shortest, {least:?}")));
    }
    Ok(in_millis(time))
}

/// What can be written down of it.
fn in_millis(time: Duration) -> Duration {
    Duration::from_millis(millis(time))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Written {
    fn default() -> Self {
        CheckpointConfig::new().into()
    }
}

impl From<CheckpointConfig> for Written {
    fn from(config: CheckpointConfig) -> Self {
        Self {
            checkpointing_mode: config.mode,
            checkpoint_interval_ms: config.interval.map(millis),
            checkpoint_timeout_ms: millis(config.timeout),
            min_pause_between_checkpoints_ms: millis(config.min_pause),
            max_concurrent_checkpoints: config.max_concurrent,
            tolerable_checkpoint_failure_number: config.tolerable_failures,
            externalized_checkpoint_cleanup: config.cleanup,
            unaligned_checkpoints: config.unaligned,
            alignment_timeout_ms: millis(config.alignment_timeout),
            force_unaligned_checkpoints: config.force_unaligned,
            checkpoint_storage: config.storage,
        }
    }
}

impl TryFrom<Written> for CheckpointConfig {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self> {
        let mut config = Self {
            mode: written.checkpointing_mode,
            cleanup: written.externalized_checkpoint_cleanup,
            unaligned: written.unaligned_checkpoints,
            force_unaligned: written.force_unaligned_checkpoints,
            storage: written.checkpoint_storage,
            ..Self::new()
        };
        config
            .set_checkpoint_interval(written.checkpoint_interval_ms.map(Duration::from_millis))?
            .set_checkpoint_timeout(Duration::from_millis(written.checkpoint_timeout_ms))?
            .set_min_pause_between_checkpoints(Duration::from_millis(written.min_pause_between_checkpoints_ms))
            .set_max_concurrent_checkpoints(written.max_concurrent_checkpoints)?
            .set_tolerable_checkpoint_failure_number(written.tolerable_checkpoint_failure_number)
            .set_alignment_timeout(Duration::from_millis(written.alignment_timeout_ms));
        Ok(config)
    }
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnalignedNeedsExactlyOnce => {
                f.write_str("unaligned checkpoints are for exactly-once alone, and are switched off")
            }
            Self::IntervalBelowMinPause { interval, min_pause } => {
                write!(f, "the checkpoint interval of {interval:?} is raised to the minimum pause, {min_pause:?}")
            }
        }
    }
}
