//! How a job ended, and which of its checkpoints stay.

use serde::{Deserialize, Serialize};

use crate::manifest::CheckpointKind;

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobOutcome {
    /// It has done all there was to do.
    Finished,
    /// Somebody wanted it to end.
    Cancelled,
    /// It could not go on.
    Failed,
    /// It ended here to go on elsewhere, or later.
    Suspended,
}

/// Which checkpoints stay when their job ends, so that somebody may go on from them. A savepoint always does.
///
/// # Examples
///
/// ```
/// use piton::{CheckpointKind, ExternalizedCheckpointCleanup, JobOutcome};
///
/// let cleanup = ExternalizedCheckpointCleanup::DeleteOnCancellation;
/// assert!(cleanup.keeps(JobOutcome::Failed, CheckpointKind::Checkpoint));
/// assert!(!cleanup.keeps(JobOutcome::Cancelled, CheckpointKind::Checkpoint));
/// assert!(cleanup.keeps(JobOutcome::Cancelled, CheckpointKind::Savepoint));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExternalizedCheckpointCleanup {
    /// None, however the job ended.
    #[default]
    NoExternalizedCheckpoints,
    /// All if the job failed; else none.
    DeleteOnCancellation,
    /// All if the job was cancelled, failed, or was suspended; none if it has finished.
    RetainOnCancellation,
}

impl ExternalizedCheckpointCleanup {
    /// Whether checkpoints of this kind stay.
    #[must_use]
    pub const fn keeps(self, outcome: JobOutcome, kind: CheckpointKind) -> bool {
        match (kind, self) {
            (CheckpointKind::Savepoint, _) => true,
            (_, Self::NoExternalizedCheckpoints) => false,
            (_, Self::DeleteOnCancellation) => matches!(outcome, JobOutcome::Failed),
            (_, Self::RetainOnCancellation) => !matches!(outcome, JobOutcome::Finished),
        }
    }
}
