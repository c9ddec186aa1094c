//! What happens in a store.

use std::{fmt, path::PathBuf, time::Duration};

use crate::{
    error::Error,
    id::{CheckpointId, Scope},
    manifest::CheckpointKind,
    report::Usage,
};

/// Something that happened in a store, and is done: [`Options::observer`](crate::Options::observer).
///
/// [`name`](Self::name) and [`weight`](Self::weight) are for tools that sort events; [`Display`](fmt::Display) says in one
/// line what happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A store was opened for writing. What was found to be wrong follows, each in an event of its own.
    #[non_exhaustive]
    Opened {
        /// The directory of the store, absolute.
        root: PathBuf,
        /// How often it was opened for writing, this time included.
        generation: u64,
        /// Whether the store is new.
        created: bool,
        /// How many checkpoints were found.
        checkpoints: usize,
        /// How many leftovers of crashed processes were removed.
        removed: usize,
        /// How many states were written again from the manifest log.
        redone: u64,
        /// How long it took.
        took: Duration,
        /// What the store holds and takes.
        usage: Usage,
    },
    /// A checkpoint was begun.
    #[non_exhaustive]
    Begun {
        /// Its id.
        checkpoint: CheckpointId,
    },
    /// A state was written: [`finish`](crate::StateWriter::finish) has returned its handle. It becomes durable with its
    /// checkpoint.
    #[non_exhaustive]
    Written {
        /// The checkpoint that it was written for.
        checkpoint: CheckpointId,
        /// Its scope.
        scope: Scope,
        /// How many bytes it has.
        bytes: u64,
        /// Whether it travels inside its handle, and so in the record of its checkpoint.
        inline: bool,
    },
    /// A checkpoint was committed, and is durable unless the store syncs nothing.
    #[non_exhaustive]
    Committed {
        /// Its id.
        checkpoint: CheckpointId,
        /// What it is.
        kind: CheckpointKind,
        /// How many states in files it names that the newest checkpoint before it did not.
        new_states: u64,
        /// How many bytes these have.
        new_bytes: u64,
        /// How many files and directories were synced for it.
        syncs: u64,
        /// How long each step took.
        took: CommitTimes,
        /// What the store holds and takes now.
        usage: Usage,
    },
    /// A pending checkpoint was given up, or failed.
    #[non_exhaustive]
    Aborted {
        /// The id that it had.
        checkpoint: CheckpointId,
    },
    /// Automatic retention gave up checkpoints with a commit.
    #[non_exhaustive]
    Retained {
        /// Those that are gone, ascending.
        forgotten: Vec<CheckpointId>,
        /// Those that stay because another process reads them.
        in_use: Vec<CheckpointId>,
    },
    /// Checkpoints were forgotten or pruned, durably.
    #[non_exhaustive]
    Forgotten {
        /// Those that are gone, ascending.
        checkpoints: Vec<CheckpointId>,
        /// Those that stay because another process reads them.
        in_use: Vec<CheckpointId>,
    },
    /// A checkpoint was [pinned](crate::Store::pin) or unpinned, durably.
    #[non_exhaustive]
    Pinned {
        /// Its id.
        checkpoint: CheckpointId,
        /// Whether it is pinned now.
        pinned: bool,
    },
    /// The store was [rolled back](crate::Store::rollback_to), durably.
    #[non_exhaustive]
    RolledBack {
        /// To this checkpoint.
        to: CheckpointId,
    },
    /// Data files that nobody refers to were removed.
    #[non_exhaustive]
    Removed {
        /// How many.
        files: u64,
        /// How many bytes they had.
        bytes: u64,
    },
    /// Holes were punched into a data file that stays.
    #[non_exhaustive]
    Punched {
        /// Its path, absolute.
        file: PathBuf,
        /// How many bytes came back.
        bytes: u64,
    },
    /// A checkpoint that was committed has states that were copied out of files that should go.
    #[non_exhaustive]
    Relocated {
        /// Its id.
        checkpoint: CheckpointId,
        /// How many bytes these states have.
        bytes: u64,
    },
    /// The manifest log was summed up in a base; the files before it are gone.
    #[non_exhaustive]
    Renewed {
        /// How long the base is.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// A checkpoint was found to be damaged. It stays, and [`latest`](crate::Store::latest) skips it.
    #[non_exhaustive]
    Damaged {
        /// Its id.
        checkpoint: CheckpointId,
        /// What is wrong, with the file.
        error: Error,
    },
    /// Damage to the manifest log or the identity that lost nothing was mended.
    #[non_exhaustive]
    Healed {
        /// What was wrong, with the file.
        error: Error,
    },
    /// A part of the manifest log is gone for good.
    #[non_exhaustive]
    Lost {
        /// What is lost, with the file.
        error: Error,
    },
    /// Nobody knows what is durable any more: the store refuses to write until it is reopened.
    #[non_exhaustive]
    Poisoned {
        /// The failure that did it.
        error: Error,
    },
    /// Another process has opened the store for writing: this one refuses to write from now on.
    #[non_exhaustive]
    Fenced {
        /// The directory and the generations.
        error: Error,
    },
    /// Something could not be removed or tidied up. Nothing is lost by it; it is tried again.
    #[non_exhaustive]
    LeftOver {
        /// What, and why.
        error: Error,
    },
    /// A member was [admitted](crate::Store::admit).
    #[non_exhaustive]
    Admitted {
        /// Its number.
        member: u32,
    },
    /// A member was [dismissed](crate::Store::dismiss).
    #[non_exhaustive]
    Dismissed {
        /// Its number.
        member: u32,
    },
    /// The part of a member was [accepted](crate::PendingCheckpoint::accept).
    #[non_exhaustive]
    Accepted {
        /// For this checkpoint.
        checkpoint: CheckpointId,
        /// The number of the member.
        member: u32,
    },
    /// A checkpoint was exported, durably.
    #[non_exhaustive]
    Exported {
        /// Its id.
        checkpoint: CheckpointId,
        /// The directory of the export, absolute.
        root: PathBuf,
        /// How many bytes more are in use on the file system.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// A checkpoint was imported, durably.
    #[non_exhaustive]
    Imported {
        /// The id that it has here.
        checkpoint: CheckpointId,
        /// How many bytes more are in use on the file system.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// The first phase of a [snapshot](crate::snapshot) is done.
    #[non_exhaustive]
    SnapshotPrepared {
        /// For this checkpoint.
        checkpoint: CheckpointId,
    },
    /// The second phase of a [snapshot](crate::snapshot) is done, and its resources are about to be released.
    #[non_exhaustive]
    SnapshotWritten {
        /// For this checkpoint.
        checkpoint: CheckpointId,
        /// How many bytes of state it stands for.
        bytes: u64,
    },
}

/// How long the steps of a commit took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitTimes {
    /// To compare what the manifest names with the newest checkpoint, and to move states out of files that should go.
    pub prepare: Duration,
    /// To write what gathered in memory, and to sync what the record does not have.
    pub sync: Duration,
    /// To wait for the turn, and to append the record and sync it.
    pub publish: Duration,
    /// To give space back, and to keep the manifest log in order.
    pub tidy: Duration,
}

impl CommitTimes {
    /// How long the commit took as a whole.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.prepare + self.sync + self.publish + self.tidy
    }
}

/// How much an event matters to the people who run an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// One of many small steps.
    Detail,
    /// What a healthy store does.
    Info,
    /// To be looked at some time: see docs/operations.md.
    Warning,
    /// To be looked at now: see docs/operations.md.
    Error,
}

impl Event {
    /// What kind of event it is, in `snake_case`. A name never changes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::Begun { .. } => "begun",
            Self::Written { .. } => "written",
            Self::Committed { .. } => "committed",
            Self::Aborted { .. } => "aborted",
            Self::Retained { .. } => "retained",
            Self::Forgotten { .. } => "forgotten",
            Self::Pinned { .. } => "pinned",
            Self::RolledBack { .. } => "rolled_back",
            Self::Removed { .. } => "removed",
            Self::Punched { .. } => "punched",
            Self::Relocated { .. } => "relocated",
            Self::Renewed { .. } => "renewed",
            Self::Damaged { .. } => "damaged",
            Self::Healed { .. } => "healed",
            Self::Lost { .. } => "lost",
            Self::Poisoned { .. } => "poisoned",
            Self::Fenced { .. } => "fenced",
            Self::LeftOver { .. } => "left_over",
            Self::Admitted { .. } => "admitted",
            Self::Dismissed { .. } => "dismissed",
            Self::Accepted { .. } => "accepted",
            Self::Exported { .. } => "exported",
            Self::Imported { .. } => "imported",
            Self::SnapshotPrepared { .. } => "snapshot_prepared",
            Self::SnapshotWritten { .. } => "snapshot_written",
        }
    }

    /// How much it matters.
    #[must_use]
    pub fn weight(&self) -> Weight {
        match self {
            Self::Begun { .. }
            | Self::Written { .. }
            | Self::Removed { .. }
            | Self::Punched { .. }
            | Self::Relocated { .. }
            | Self::Accepted { .. }
            | Self::SnapshotPrepared { .. }
            | Self::SnapshotWritten { .. } => Weight::Detail,
            Self::Healed { .. } | Self::LeftOver { .. } => Weight::Warning,
            Self::Damaged { .. } | Self::Lost { .. } | Self::Poisoned { .. } | Self::Fenced { .. } => Weight::Error,
            _ => Weight::Info,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened { root, generation, created, checkpoints, took, .. } => {
                let what = if *created { "made" } else { "opened" };
                let root = root.display();
                write!(f, "{what} the store in {root}: {checkpoints} checkpoints, generation {generation}, {took:?}")
            }
            Self::Begun { checkpoint } => write!(f, "began checkpoint {checkpoint}"),
            Self::Written { checkpoint, bytes, .. } => {
                write!(f, "wrote a state of {bytes} bytes for checkpoint {checkpoint}")
            }
            Self::Committed { checkpoint, new_states, new_bytes, syncs, took, .. } => {
                let took = took.total();
                write!(f, "committed checkpoint {checkpoint}: {new_states} new states, {new_bytes} bytes")?;
                write!(f, ", {syncs} syncs, {took:?}")
            }
            Self::Aborted { checkpoint } => write!(f, "aborted checkpoint {checkpoint}"),
            Self::Retained { forgotten, in_use } => {
                write!(f, "retention gave up {} checkpoints, {} are in use", forgotten.len(), in_use.len())
            }
            Self::Forgotten { checkpoints, in_use } => {
                write!(f, "forgot {} checkpoints, {} are in use", checkpoints.len(), in_use.len())
            }
            Self::Pinned { checkpoint, pinned: true } => write!(f, "pinned checkpoint {checkpoint}"),
            Self::Pinned { checkpoint, pinned: false } => write!(f, "unpinned checkpoint {checkpoint}"),
            Self::RolledBack { to } => write!(f, "rolled back to checkpoint {to}"),
            Self::Removed { files, bytes } => write!(f, "removed {files} data files of {bytes} bytes"),
            Self::Punched { file, bytes } => {
                write!(f, "punched holes into {}: {bytes} bytes came back", file.display())
            }
            Self::Relocated { checkpoint, bytes } => {
                write!(f, "moved states of {bytes} bytes out of files that should go, for checkpoint {checkpoint}")
            }
            Self::Renewed { bytes, took } => {
                write!(f, "summed up the manifest log in a base of {bytes} bytes, {took:?}")
            }
            Self::Damaged { checkpoint, error } => write!(f, "checkpoint {checkpoint} is damaged: {error}"),
            Self::Healed { error } => write!(f, "healed: {error}"),
            Self::Lost { error } => write!(f, "lost: {error}"),
            Self::Poisoned { error } => write!(f, "the store must be reopened: {error}"),
            Self::Fenced { error } => write!(f, "{error}"),
            Self::LeftOver { error } => write!(f, "not done, to be tried again: {error}"),
            Self::Admitted { member } => write!(f, "admitted member {member}"),
            Self::Dismissed { member } => write!(f, "dismissed member {member}"),
            Self::Accepted { checkpoint, member } => {
                write!(f, "accepted a part of member {member} for checkpoint {checkpoint}")
            }
            Self::Exported { checkpoint, root, bytes, took } => {
                write!(f, "exported checkpoint {checkpoint} to {}: {bytes} bytes, {took:?}", root.display())
            }
            Self::Imported { checkpoint, bytes, took } => {
                write!(f, "imported checkpoint {checkpoint}: {bytes} bytes, {took:?}")
            }
            Self::SnapshotPrepared { checkpoint } => write!(f, "prepared a snapshot for checkpoint {checkpoint}"),
            Self::SnapshotWritten { checkpoint, bytes } => {
                write!(f, "wrote a snapshot of {bytes} bytes for checkpoint {checkpoint}")
            }
        }
    }
}
