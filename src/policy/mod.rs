//! When to take checkpoints, and when to give up: for engines that would rather not write this anew.
//!
//! Pure state machines: the time comes in as an argument, a [`Duration`](std::time::Duration) since any moment of the
//! engine's choice that only grows; decisions come out as values. No clock is read, no lock taken, nothing is written, and
//! in steady state nothing allocated. [`Coordinator`] joins them with a [`Store`](crate::Store), and is the only one that
//! writes; an engine may do without it, and use the parts.
//!
//! | part | decides |
//! |---|---|
//! | [`CheckpointConfig`] | nothing: it is what the others are made of, and can be written down |
//! | [`RequestDecider`] | which request is next, and whether it may start now |
//! | [`FailureCounter`] | whether the job has failed as well |
//! | [`Expiry`] | which checkpoints take too long |
//! | [`Coordinator`] | all of it, for one store |
//!
//! What a store decides by itself is not decided here again: which checkpoints stay while the job runs
//! ([`Options::retain`](crate::Options::retain)), and which when it ends
//! ([`ExternalizedCheckpointCleanup`](crate::ExternalizedCheckpointCleanup), [`Store::end_job`](crate::Store::end_job)).
//!
//! # Who owns what
//!
//! A [`Coordinator`] owns its pending checkpoints, from when it triggers them until they are committed or aborted; whoever
//! writes into them has [streams](Coordinator::streams) that end with them. It belongs to one thread, or is locked by the
//! engine; nothing in it blocks but [`complete`](Coordinator::complete), which commits, and the abort of a checkpoint, which
//! may remove files. It holds nothing that a crash could lose: what is committed is in the store, and what is not never was.

mod action;
mod config;
mod coordinator;
mod decider;
mod expiry;
mod failures;

pub use action::{Acknowledged, Action, Refusal};
pub use config::{CheckpointConfig, CheckpointingMode, ConfigWarning};
pub use coordinator::Coordinator;
pub use decider::{CheckpointRequest, Choice, QueuedRequest, RequestDecider, RequestId, Situation, Submitted};
pub use expiry::Expiry;
pub use failures::{FailureCounter, FailureReason, Verdict};
