//! What can be wrong with a checkpoint.

use std::{fmt, time::Duration};

use crate::{error::Error, id::CheckpointId, manifest::Manifest};

/// How closely a checkpoint is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// Every byte of its states: as long as reading them takes.
    #[default]
    Full,
    /// Whether its record is known, and the files that its states are in are there and long enough.
    Quick,
}

/// Whether a checkpoint can be used in spite of an issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It can; something about it is unusual.
    Warning,
    /// It cannot.
    Fatal,
}

/// Something that is wrong with a checkpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Issue {
    /// Fatal: there is no such checkpoint.
    Missing,
    /// Fatal: its record is lost; the error names where it was.
    Unreadable(Error),
    /// Fatal: its epoch is 0.
    ZeroEpoch,
    /// Fatal: a state is missing, too short, or has the wrong checksum or digest; the error names the file and the byte.
    State {
        /// What the manifest calls it.
        name: String,
        /// What is wrong with it.
        error: Error,
    },
    /// Warning: the engine gave no time.
    NoTimestamp,
    /// Warning: its number of virtual nodes is 0, or not that of the store.
    VnodeCount {
        /// That of the checkpoint.
        found: u16,
        /// That of the store.
        expected: u16,
    },
    /// Warning: others of its sinks have a commit status, this one has an epoch and none.
    SinkWithoutStatus(String),
    /// Warning: there is an offset of a source that is not in the list of sources, which is not empty.
    UnknownSource(String),
    /// Warning: a partition has deltas, and no snapshot that they go on from, and there is no parent that could have it: none
    /// was named, or it is gone. Pin a parent, or name its artifacts in the manifest, which keeps them.
    IncrementalWithoutParent,
}

impl Issue {
    /// Whether the checkpoint can be used in spite of it.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Missing | Self::Unreadable(_) | Self::ZeroEpoch | Self::State { .. } => Severity::Fatal,
            Self::NoTimestamp
            | Self::VnodeCount { .. }
            | Self::SinkWithoutStatus(_)
            | Self::UnknownSource(_)
            | Self::IncrementalWithoutParent => Severity::Warning,
        }
    }

    /// What is wrong with what a manifest says, for a store with so many virtual nodes. Nothing is read.
    #[must_use]
    pub fn of_content(manifest: &Manifest, vnode_count: u16) -> Vec<Self> {
        super::content::issues(manifest, vnode_count)
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such checkpoint"),
            Self::Unreadable(error) => write!(f, "{error}"),
            Self::ZeroEpoch => f.write_str("its epoch is 0"),
            Self::State { name, error } => write!(f, "{name}: {error}"),
            Self::NoTimestamp => f.write_str("it has no time"),
            Self::VnodeCount { found, expected } => write!(f, "it has {found} virtual nodes, the store {expected}"),
            Self::SinkWithoutStatus(sink) => write!(f, "sink {sink:?} has an epoch and no commit status"),
            Self::UnknownSource(source) => {
                write!(f, "there is an offset of {source:?}, which is not among the sources")
            }
            Self::IncrementalWithoutParent => {
                f.write_str("a partition has deltas without a snapshot, and the checkpoint has no parent that is there")
            }
        }
    }
}

/// What validating a checkpoint found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ValidationReport {
    /// The checkpoint.
    pub id: CheckpointId,
    /// What is wrong with it, fatal or not.
    pub issues: Vec<Issue>,
}

impl ValidationReport {
    /// The report of these issues of a checkpoint.
    #[must_use]
    pub fn new(id: CheckpointId, issues: Vec<Issue>) -> Self {
        Self { id, issues }
    }

    /// Whether the checkpoint can be used: nothing fatal was found.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.fatal().next().is_none()
    }

    /// What was found that is fatal.
    pub fn fatal(&self) -> impl Iterator<Item = &Issue> {
        self.issues.iter().filter(|issue| issue.severity() == Severity::Fatal)
    }
}

/// Why a checkpoint was not the one to come back to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Skipped {
    /// Somebody rolled back to an older one.
    RolledBack,
    /// These issues, at least one of them fatal.
    Invalid(Vec<Issue>),
}

/// What looking for the newest valid checkpoint found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The checkpoint to come back to, if there is one.
    pub chosen: Option<CheckpointId>,
    /// The newer ones, newest first, and why not.
    pub skipped: Vec<(CheckpointId, Skipped)>,
    /// Those that were really validated, newest first.
    pub examined: Vec<CheckpointId>,
    /// How long it took.
    pub elapsed: Duration,
}
