//! Named points at which a process kills itself, so that a crash hits exactly there.

use std::sync::Mutex;

use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

/// A place in the protocol between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Point {
    /// A process joined the store and restored nothing yet.
    Joined,
    /// A worker restored its state.
    Restored,
    /// A process wrote the states of its part, and did not sync them.
    Written,
    /// A part is durable, and was not sent.
    Prepared,
    /// A part was sent.
    Sent,
    /// The coordinator began a checkpoint, and told no process.
    Begun,
    /// The coordinator accepted some parts of a checkpoint, and not all.
    Accepted,
    /// The coordinator accepted all parts, and did not commit.
    Complete,
    /// The coordinator committed, and told no process.
    Committed,
}

impl Point {
    /// The points that a timely process passes.
    pub const OF_PROCESS: [Self; 5] = [Self::Joined, Self::Restored, Self::Written, Self::Prepared, Self::Sent];
    /// The points that the coordinator passes.
    pub const OF_COORDINATOR: [Self; 4] = [Self::Begun, Self::Accepted, Self::Complete, Self::Committed];
}

/// A point, and how often a process passes it alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trap {
    /// Where the process dies.
    pub point: Point,
    /// How often the process passes the point before it dies there.
    pub skip: u32,
}

static ARMED: Mutex<Option<Trap>> = Mutex::new(None);

/// Arms the trap of this process, or disarms it.
pub fn arm(trap: Option<Trap>) {
    if let Ok(mut armed) = ARMED.lock() {
        *armed = trap;
    }
}

/// Passes a point. The process dies here if the trap is armed for this point and nothing is left to skip.
pub fn pass(point: Point) {
    let Ok(mut armed) = ARMED.lock() else { return };
    let Some(trap) = armed.as_mut().filter(|trap| trap.point == point) else { return };
    match trap.skip.checked_sub(1) {
        Some(left) => trap.skip = left,
        None => drop(kill_process(getpid(), Signal::KILL)),
    }
}
