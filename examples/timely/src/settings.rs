//! What a coordinator is told, and what it tells: over stdin and stdout, to the supervisor.

use std::{path::PathBuf, process::Command, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{message::Restored, trap::Trap};

/// How a coordinator works.
pub struct Settings {
    /// The directory of the store.
    pub root: PathBuf,
    /// The operator with key groups.
    pub operator: &'static str,
    /// How many processes there are.
    pub processes: usize,
    /// How many workers there are in each life, again and again.
    pub scales: Vec<usize>,
    /// The number of the first life.
    pub life: usize,
    /// How long an epoch is.
    pub epoch: Duration,
    /// How many epochs there are to a checkpoint; 0 for one checkpoint at the end.
    pub epochs_per_checkpoint: u64,
    /// Whether to measure, between two checkpoints, what the disk needs for as many bytes.
    pub with_floor: bool,
    /// How to start a process.
    pub command: Box<dyn Fn() -> Command>,
}

/// How a life is to end before its time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub enum Blow {
    /// Not by the coordinator.
    #[default]
    None,
    /// The coordinator kills itself at a point.
    Coordinator(Trap),
    /// One of the processes kills itself at a point.
    Process(usize, Trap),
    /// The coordinator ends the life when so many units were read and published, to go on with another number of workers.
    Stop(u64),
}

/// From the coordinator to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// A life begins when the supervisor has said how it ends: with a [`Blow`].
    Life {
        /// Its number.
        life: usize,
        /// How many workers it has.
        workers: usize,
        /// The processes.
        pids: Vec<u32>,
    },
    /// All workers are restored, and begin to count.
    Running {
        /// What they read.
        restored: Vec<Restored>,
    },
    /// A checkpoint was published.
    Published(Published),
    /// How many microseconds writing the same bytes took without a store.
    Floor(u64),
    /// A life ended before all was counted.
    Ended(String),
    /// All is counted and published.
    Finished,
}

/// A published checkpoint.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Published {
    /// How many microseconds passed since the coordinator closed the epoch.
    pub micros: u64,
    /// How many of them the store took: in the slowest process, from the last share of an operator to the part; and from
    /// the last part on.
    pub store_micros: u64,
    /// How many bytes of states are new.
    pub bytes: u64,
    /// How many units of input were read since the checkpoint before.
    pub read: u64,
}
