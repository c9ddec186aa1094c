//! Whether failing checkpoints fail the job.

use std::fmt;

use super::CheckpointConfig;
use crate::id::CheckpointId;

/// Why a checkpoint came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// The storage failed.
    Io,
    /// The second phase of a snapshot failed.
    AsyncPart,
    /// A subtask declined it.
    Declined,
    /// It took too long.
    Expired,
    /// Everything was there, and it could not be committed.
    Finalizing,
    /// A newer one was committed before it.
    Subsumed,
    /// The job, or whoever coordinates it, ends.
    ShutDown,
    /// Something that says nothing about the checkpoint: a subtask was not running, somebody cancelled it.
    Other,
}

impl FailureReason {
    /// Whether it counts against the job.
    #[must_use]
    pub const fn counts(self) -> bool {
        matches!(self, Self::Io | Self::AsyncPart | Self::Declined | Self::Expired | Self::Finalizing)
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "the storage failed",
            Self::AsyncPart => "the second phase of a snapshot failed",
            Self::Declined => "a subtask declined it",
            Self::Expired => "it took too long",
            Self::Finalizing => "it could not be committed",
            Self::Subsumed => "a newer one was committed before it",
            Self::ShutDown => "the job ends",
            Self::Other => "it was given up",
        })
    }
}

/// What a failure comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does not count.
    Ignored,
    /// So many have failed, and that is tolerable.
    Tolerated(u32),
    /// More have failed than is tolerable: the job has failed. The count begins anew.
    FailJob,
}

/// Counts checkpoints that fail one after the other.
///
/// One that fails in several ways counts once. A success ends the count, unless a newer checkpoint has succeeded before;
/// what becomes known of older ones later does not count, nor, after the job has failed, of those that failed it.
///
/// # Examples
///
/// ```
/// use piton::{CheckpointId, policy::{CheckpointConfig, FailureCounter, FailureReason, Verdict}};
///
/// let mut config = CheckpointConfig::new();
/// config.set_tolerable_checkpoint_failure_number(1);
/// let mut failures = FailureCounter::new(&config);
/// let [first, second] = [1, 2].map(|n| CheckpointId::new(n).unwrap());
/// assert_eq!(failures.failed(first, FailureReason::Expired), Verdict::Tolerated(1));
/// assert_eq!(failures.failed(first, FailureReason::Declined), Verdict::Ignored);
/// assert_eq!(failures.failed(second, FailureReason::Io), Verdict::FailJob);
/// ```
#[derive(Clone, Debug)]
pub struct FailureCounter {
    tolerable: u32,
    /// Ascending.
    counted: Vec<CheckpointId>,
    /// Nothing up to this one counts any more.
    done: Option<CheckpointId>,
}

impl FailureCounter {
    /// Nothing has failed yet.
    #[must_use]
    pub const fn new(config: &CheckpointConfig) -> Self {
        Self { tolerable: config.tolerable_checkpoint_failure_number(), counted: Vec::new(), done: None }
    }

    /// A checkpoint has failed.
    pub fn failed(&mut self, id: CheckpointId, reason: FailureReason) -> Verdict {
        let is_unlimited = self.tolerable >= CheckpointConfig::UNLIMITED_TOLERABLE_FAILURE_NUMBER;
        if is_unlimited || !reason.counts() || self.done >= Some(id) {
            return Verdict::Ignored;
        }
        let Err(at) = self.counted.binary_search(&id) else { return Verdict::Ignored };
        self.counted.insert(at, id);
        let count = u32::try_from(self.counted.len()).unwrap_or(u32::MAX);
        if count > self.tolerable {
            self.done = self.counted.last().copied();
            self.counted.clear();
            return Verdict::FailJob;
        }
        Verdict::Tolerated(count)
    }

    /// A checkpoint was completed.
    pub fn succeeded(&mut self, id: CheckpointId) {
        if self.done < Some(id) {
            self.done = Some(id);
            self.counted.clear();
        }
    }

    /// How many have failed since the last success.
    #[must_use]
    pub fn count(&self) -> usize {
        self.counted.len()
    }
}
