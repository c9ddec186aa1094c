//! What takes checkpoints.

use std::path::Path;

use crate::{
    Result,
    workload::{Changes, Workload},
};

/// A kind of peer.
#[derive(Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    /// How many checkpoints are there to go back to.
    pub keeps: &'static str,
    /// What it checks while it reads.
    pub verifies: &'static str,
    /// With more states than this it takes too long to be measured.
    pub most_states: usize,
    pub open: fn(&Path, &Workload) -> Result<Box<dyn Peer>>,
}

pub trait Peer {
    /// Makes a checkpoint: these states are new, all others are as before. Durable on return.
    fn checkpoint(&mut self, changes: &Changes) -> Result<()>;

    /// Runs between two checkpoints, outside of the measurement.
    fn rest(&mut self) -> Result<()> {
        Ok(())
    }

    /// Reads every byte of every state of the newest checkpoint, and says how many there are.
    fn read_all(&mut self) -> Result<u64>;

    /// Makes another checkpoint of the newest one, that needs none of its files; false if it has no such thing, here and in
    /// the following.
    fn duplicate(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Makes the newest checkpoint a store of its own in a directory that is not there yet, durably, as far as it goes.
    fn export(&mut self, to: &Path) -> Result<bool> {
        let _ = to;
        Ok(false)
    }

    /// Gives up all checkpoints but the newest one, and their space.
    fn prune(&mut self) -> Result<bool> {
        Ok(false)
    }
}

/// Looks at every byte, and at nothing else.
pub fn touch(bytes: &[u8]) -> u64 {
    let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_add(u64::from(*byte)));
    std::hint::black_box(sum);
    bytes.len() as u64
}
