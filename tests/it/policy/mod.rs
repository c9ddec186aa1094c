//! When checkpoints are taken, and when they are given up: the rules G1 to G7, each a table with one row a clause, in their
//! order. The time is a number in every row. What is fenced off here: a clause that nobody looked at.

mod config;
mod coordinator;
mod decider;
mod expiry;
mod failures;
mod options;
mod outcome;
mod steady;
mod storage;

use std::time::Duration;

use piton::{CheckpointId, policy::CheckpointConfig};

/// So many milliseconds after the beginning of time.
fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

fn config(set: impl FnOnce(&mut CheckpointConfig) -> &mut CheckpointConfig) -> CheckpointConfig {
    let mut config = CheckpointConfig::new();
    set(&mut config);
    config
}
