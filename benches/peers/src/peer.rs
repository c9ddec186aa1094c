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
    pub open: fn(&Path, &Workload) -> Result<Box<dyn Peer>>,
}

pub trait Peer {
    /// Makes a checkpoint: these states are new, all others are as before. Durable on return.
    fn checkpoint(&mut self, changes: &Changes) -> Result<()>;

    /// Reads every byte of every state of the newest checkpoint, and says how many there are.
    fn read_all(&mut self) -> Result<u64>;
}

/// Looks at every byte, and at nothing else.
pub fn touch(bytes: &[u8]) -> u64 {
    let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_add(u64::from(*byte)));
    std::hint::black_box(sum);
    bytes.len() as u64
}
