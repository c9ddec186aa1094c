//! What the coordinator and its processes tell each other over pipes: a length, and a value in bincode.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    path::PathBuf,
};

use piton::{CheckpointId, Membership, Part, Worn};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::trap::Trap;

/// The checkpoint that an epoch ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The checkpoint to write.
    pub id: CheckpointId,
    /// The checkpoint that its changes are relative to.
    pub since: Option<CheckpointId>,
}

/// Closes an epoch: a source puts all that it reads from now on into the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// The epoch that ends.
    pub epoch: u64,
    /// The checkpoint that the epoch ends with, if it ends with one.
    pub ticket: Option<Ticket>,
}

/// What a process needs to know to begin.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// The directory of the store.
    pub root: PathBuf,
    /// The right of the process to write for the store.
    pub membership: Membership,
    /// The checkpoint to go on from.
    pub resume: Option<CheckpointId>,
    /// The first epoch.
    pub epoch: u64,
    /// The number of this process.
    pub process: usize,
    /// Where the processes listen, by number.
    pub addresses: Vec<SocketAddr>,
    /// How many workers each process has.
    pub workers: usize,
    /// The trap of this process.
    pub trap: Option<Trap>,
}

/// From the coordinator to a process.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Join the store, connect and restore.
    Start(Box<Start>),
    /// Close an epoch.
    Tick(Tick),
    /// A checkpoint was published: the member sheds the worn files.
    Published(Worn),
    /// Sync as many bytes into an own file as the last part had: the floor that checkpoints are compared with.
    Blob,
    /// All is counted and published.
    Finish,
}

/// From a process to the coordinator.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The process waits for its peers at this address.
    Listening(SocketAddr),
    /// All workers have restored their state.
    Ready(Vec<Restored>),
    /// The part of the process is durable.
    Prepared(Box<Prepared>),
    /// All sources of the process are at their end.
    Exhausted,
    /// The blob is durable.
    Blob,
    /// The process gives up.
    Failed(String),
}

/// A part, and what the coordinator wants to know of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prepared {
    /// The epoch that the checkpoint ends.
    pub epoch: u64,
    /// The part.
    pub part: Part,
    /// How many microseconds it took from the last share to the part.
    pub micros: u64,
    /// How many bytes of states are new.
    pub bytes: u64,
    /// How many units of input the sources of the process had read.
    pub read: u64,
    /// Whether they were at their end.
    pub exhausted: bool,
}

/// What a worker read to come back to a checkpoint.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Restored {
    /// The worker's number.
    pub worker: usize,
    /// How many bytes of key groups it read.
    pub read: u64,
    /// How many bytes a snapshot of its range has.
    pub own: u64,
    /// How many bytes all key groups of the operator have.
    pub all: u64,
}

/// Sends one message.
///
/// # Errors
///
/// The other end is gone.
pub fn send(pipe: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut frame = vec![0; 4];
    bincode::serde::encode_into_std_write(message, &mut frame, bincode::config::standard())
        .map_err(io::Error::other)?;
    let len = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
    frame[..4].copy_from_slice(&len.to_le_bytes());
    pipe.write_all(&frame)?;
    pipe.flush()
}

/// Receives one message; `None` when the other end is gone.
///
/// # Errors
///
/// The bytes are no message of this type.
pub fn receive<T: DeserializeOwned>(pipe: &mut impl Read) -> io::Result<Option<T>> {
    let mut len = [0; 4];
    match pipe.read_exact(&mut len) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut frame = vec![0; u32::from_le_bytes(len) as usize];
    match pipe.read_exact(&mut frame) {
        // The sender was killed in the middle of a message.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let decoded = bincode::serde::decode_from_slice(&frame, bincode::config::standard());
    decoded.map(|(message, _)| Some(message)).map_err(io::Error::other)
}
