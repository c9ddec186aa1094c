//! The records of the manifest log.

use std::path::PathBuf;

use super::Inspection;
use crate::{
    disk::layout,
    error::{Malformed, Result},
    format::record::{self, Record},
    id::CheckpointId,
    manifest::CheckpointKind,
    records::{InLogFile, RawRecord, Survey},
};

/// A record of the manifest log, or a place where one is lost: [`Inspection::records`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogRecord {
    /// The log that it is in, by its path under the root.
    pub log: PathBuf,
    /// Where it begins, in each of the two halves of the log.
    pub offset: u64,
    /// Its number; records are numbered through all logs.
    pub number: u64,
    /// How many bytes it has, without what frames it.
    pub len: u64,
    /// In how many of its two places it is whole.
    pub copies: u8,
    /// What it says.
    pub kind: RecordKind,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordKind {
    /// A checkpoint was published.
    Checkpoint {
        /// Its id.
        id: CheckpointId,
        /// Whether it is a savepoint.
        kind: CheckpointKind,
        /// The generation of the store that published it.
        generation: u64,
        /// The checkpoint that its differences are from; `None` if it says everything.
        against: Option<CheckpointId>,
        /// The checkpoints that retention gave up with it.
        forgotten: Vec<CheckpointId>,
        /// How many states it has the bytes of, because their data files were not synced.
        redone_states: usize,
        /// How many bytes these have.
        redone_bytes: u64,
    },
    /// Checkpoints were forgotten.
    Forgotten(Vec<CheckpointId>),
    /// Sinks, metadata or the pin of a checkpoint were changed.
    Updated {
        /// The checkpoint.
        id: CheckpointId,
        /// Whether it is pinned from now on.
        pinned: bool,
    },
    /// All roll-backs that count from now on: the checkpoints above the first id, up to the second.
    RolledBack(Vec<(u64, u64)>),
    /// There is a checkpoint of which nothing else is known.
    Lost(CheckpointId),
    /// Every id up to this one was used.
    IdsUsed(u64),
    /// Another store is to be deleted, because this checkpoint was moved here from it.
    Departing {
        /// The checkpoint.
        id: CheckpointId,
        /// The root of that store.
        root: PathBuf,
    },
    /// The move of this checkpoint is finished.
    Departed(CheckpointId),
    /// It makes no sense, or a newer version wrote it.
    Unreadable(String),
    /// From here to the next record both halves are damaged.
    Damaged,
}

impl RecordKind {
    fn of(bytes: &[u8]) -> Self {
        match record::decode(bytes) {
            Ok(record) => record.into(),
            Err(Malformed { newer: Some(_), .. }) => Self::Unreadable("a newer version of this crate wrote it".into()),
            Err(wrong) => Self::Unreadable(wrong.what),
        }
    }
}

impl From<Record<'_>> for RecordKind {
    fn from(record: Record<'_>) -> Self {
        match record {
            Record::Checkpoint(published) => Self::Checkpoint {
                id: published.id,
                kind: published.kind(),
                generation: published.generation(),
                against: published.against,
                redone_states: published.redo.len(),
                redone_bytes: published.redo.iter().map(|redo| redo.extent.len).sum(),
                forgotten: published.forgotten,
            },
            Record::Forgotten(ids) => Self::Forgotten(ids),
            Record::Updated(update) => Self::Updated { id: update.id, pinned: update.pinned },
            Record::RolledBack(ranges) => Self::RolledBack(ranges),
            Record::Lost(unknown) => Self::Lost(unknown.id),
            Record::IdsUsed(id) => Self::IdsUsed(id),
            Record::Departing(source) => Self::Departing { id: source.ours.1, root: source.root },
            Record::Departed(id) => Self::Departed(id),
        }
    }
}

impl Inspection {
    /// The records of the logs that count, oldest first. The checkpoints that a base has are not among them: it took the place of
    /// their records. The logs are read once more for this: a writer may have gone on meanwhile.
    ///
    /// # Errors
    ///
    /// `is_newer_format` if a newer version of this crate wrote a log. Errors of the file system.
    pub fn records(&self) -> Result<Vec<LogRecord>> {
        let Some(store) = self.store.filter(|_| self.has_log) else { return Ok(Vec::new()) };
        let survey = Survey::read_steady(&self.volume, store)?;
        let one = |InLogFile { log, offset, record }: InLogFile<'_>| {
            let log = layout::log(log.generation, log.sequence);
            match record {
                Some(RawRecord { number, bytes, twice }) => LogRecord {
                    log,
                    offset,
                    number,
                    len: bytes.len() as u64,
                    copies: if twice { 2 } else { 1 },
                    kind: RecordKind::of(bytes),
                },
                None => LogRecord { log, offset, number: 0, len: 0, copies: 0, kind: RecordKind::Damaged },
            }
        };
        Ok(survey.raw_records().map(one).collect())
    }
}
