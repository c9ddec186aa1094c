//! What a coordinator tells the engine.

use std::time::Duration;

use super::{FailureReason, RequestId};
use crate::{contract::CheckpointOptions, error::Error, id::CheckpointId};

/// What an engine is to do, or to know.
#[derive(Clone, Debug)]
pub enum Action {
    /// A checkpoint has begun: let every subtask write its part, with [streams](super::Coordinator::streams) of it.
    Trigger {
        /// The checkpoint.
        id: CheckpointId,
        /// How it is to be taken.
        options: CheckpointOptions,
        /// The request that this answers.
        request: RequestId,
    },
    /// A checkpoint came to nothing: whoever still writes for it may stop. Its streams fail.
    Abort {
        /// The checkpoint.
        id: CheckpointId,
        /// Why.
        why: FailureReason,
    },
    /// A request will not be fulfilled.
    Refuse {
        /// The request that this answers.
        request: RequestId,
        /// Why.
        why: Refusal,
    },
    /// End the job as failed: more checkpoints have failed than is tolerable, or the store refuses to write until it is
    /// reopened. Whoever has something that is committed with a checkpoint (sinks) does nothing about it before the store is
    /// open again, which tells whether the last checkpoint is there.
    FailJob,
}

/// Why a request was refused.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// Too many wait.
    TooManyRequests,
    /// It was due, and not enough time has passed since the last completion. After so much more it would have.
    MinimumTimeBetweenCheckpoints(Duration),
    /// The store could not begin a checkpoint.
    Store(Error),
    /// The coordinator ends.
    ShutDown,
}

/// What became of the part of a subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// So many others are missing.
    Waiting(usize),
    /// It was the last one: [complete](super::Coordinator::complete) the checkpoint.
    Complete,
    /// It was there already; nothing has changed.
    Duplicate,
    /// It is too late: the checkpoint has expired.
    Expired,
    /// There is no such checkpoint under way: it was committed, came to nothing, or never was.
    Unknown,
}
