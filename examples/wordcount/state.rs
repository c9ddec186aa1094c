//! The count as it is on disk: opening the store, checking that it is ours to continue, reading it back.
//!
//! Each checkpoint has the states `worker-003/position` and `worker-003/group-17`, of each worker and of each of its
//! groups that has a word, and metadata that tells what the checkpoint is a checkpoint of.

use std::{path::Path, str::FromStr, thread};

use piton::{Checkpoint, Manifest, ManifestBuilder, Options, Store};

use crate::{
    Failure,
    arguments::Arguments,
    counts::{self, Counts, GROUPS, WordCounts},
    input::{self, InputFile},
    worker::Position,
};

/// How many checkpoints stay: more than one, so that a damaged file costs some time and not the whole count.
const KEPT: usize = 3;

/// An open store, and the newest checkpoint in it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    /// Held open, so that what the next checkpoint reuses is there whatever happens.
    pub(crate) latest: Option<Checkpoint>,
    record: Record,
}

/// What the metadata of a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) workers: usize,
    pub(crate) groups: usize,
    /// The fingerprint of the input.
    pub(crate) input: u64,
    /// How often the input is counted in all.
    pub(crate) passes: u64,
    /// How many checkpoints there were, this one included.
    pub(crate) checkpoints: u64,
    /// How often a run went on from a checkpoint.
    pub(crate) restarts: u64,
}

impl State {
    /// Opens the store, or creates it, and finds out whether the call fits to what is in it.
    pub(crate) fn open(directory: &Path, arguments: &Arguments, files: &[InputFile]) -> Result<Self, Failure> {
        let store = Options::new().retain(KEPT).open(directory)?;
        let latest = store.latest()?;
        let found = latest.as_ref().map(|latest| Record::read(latest.manifest())).transpose();
        let found = found.map_err(|error| input::at(directory, error))?;
        let input = input::fingerprint(files);
        let record = match found {
            None => Record::new(input, arguments)?,
            Some(found) => found.go_on(input, arguments).map_err(|error| input::at(directory, error))?,
        };
        let mut state = Self { store, latest, record };
        if state.latest.is_some() && !state.is_finished()? {
            state.record.restarts += 1;
        }
        Ok(state)
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// How many files of crashed runs were removed when the store was opened.
    pub(crate) fn leftovers(&self) -> u64 {
        self.store.open_report().removed.len() as u64
    }

    /// Takes over a checkpoint that was just committed with this record.
    pub(crate) fn advance(&mut self, checkpoint: Checkpoint, record: Record) {
        self.latest = Some(checkpoint);
        self.record = record;
    }

    /// Whether every worker has counted its share as often as it should.
    pub(crate) fn is_finished(&self) -> Result<bool, Failure> {
        let positions = (0..self.record.workers).map(|worker| self.position(worker));
        Ok(positions.collect::<Result<Vec<_>, _>>()?.iter().all(|at| at.pass >= self.record.passes))
    }

    /// Where a worker goes on: at the beginning if there is no checkpoint.
    pub(crate) fn position(&self, worker: usize) -> Result<Position, Failure> {
        let Some(latest) = &self.latest else { return Ok(Position::default()) };
        let name = position_name(worker);
        let handle = latest.manifest().state(&name);
        let handle = handle.ok_or_else(|| format!("checkpoint {} has no {name}", latest.id()))?;
        let (position, _) = bincode::decode_from_slice(&latest.read(handle)?, bincode::config::standard())?;
        Ok(position)
    }

    /// What a worker has counted up to its position.
    pub(crate) fn counts(&self, worker: usize) -> Result<Counts, Failure> {
        let Some(latest) = &self.latest else { return Ok(Counts::default()) };
        let group = |group| {
            let handle = latest.manifest().state(&group_name(worker, group))?;
            Some(latest.read(handle).map_err(Failure::from).and_then(|bytes| Ok((group, counts::decode(&bytes)?))))
        };
        Counts::restore((0..GROUPS).filter_map(group))
    }

    /// The counts of all workers together.
    pub(crate) fn totals(&self) -> Result<WordCounts, Failure> {
        let mut totals = WordCounts::new();
        let Some(latest) = &self.latest else { return Ok(totals) };
        for (_, handle) in latest.manifest().states().filter(|(name, _)| is_group(name)) {
            for (word, count) in counts::decode(&latest.read(handle)?)? {
                *totals.entry(word).or_default() += count;
            }
        }
        Ok(totals)
    }
}

pub(crate) fn position_name(worker: usize) -> String {
    format!("worker-{worker:03}/position")
}

pub(crate) fn group_name(worker: usize, group: usize) -> String {
    format!("worker-{worker:03}/group-{group:02}")
}

pub(crate) fn is_group(name: &str) -> bool {
    name.contains("/group-")
}

impl Record {
    /// That of a state that begins.
    fn new(input: u64, arguments: &Arguments) -> Result<Self, Failure> {
        let workers = match arguments.workers {
            Some(workers) => workers,
            None => thread::available_parallelism()?.get(),
        };
        let passes = arguments.passes;
        Ok(Self { workers, groups: GROUPS, input, passes, checkpoints: 0, restarts: 0 })
    }

    /// Refuses whatever would make positions and counts mean something else than when they were written. The number of
    /// passes may grow: the workers then just go on.
    fn go_on(self, input: u64, arguments: &Arguments) -> Result<Self, Failure> {
        let Self { workers, groups, .. } = self;
        if let Some(wanted) = arguments.workers.filter(|wanted| *wanted != workers) {
            return Err(format!(
                "this state was begun with {workers} workers, --workers says {wanted}; leave --workers out, or begin \
                 anew with another --state"
            )
            .into());
        }
        if groups != GROUPS {
            return Err(format!(
                "this state has {groups} key groups, this program {GROUPS}; begin anew with another --state"
            )
            .into());
        }
        if input != self.input {
            return Err("this state was begun with other input (paths or lengths differ); give it the same input, or \
                        begin anew with another --state"
                .into());
        }
        Ok(Self { passes: self.passes.max(arguments.passes), ..self })
    }

    fn read(manifest: &Manifest) -> Result<Self, Failure> {
        Ok(Self {
            workers: number(manifest, "workers")?,
            groups: number(manifest, "groups")?,
            input: number(manifest, "input")?,
            passes: number(manifest, "passes")?,
            checkpoints: number(manifest, "checkpoints")?,
            restarts: number(manifest, "restarts")?,
        })
    }

    /// A manifest that says so, and names no state yet.
    pub(crate) fn manifest(&self) -> ManifestBuilder {
        Manifest::builder()
            .metadata("workers", self.workers.to_string())
            .metadata("groups", self.groups.to_string())
            .metadata("input", self.input.to_string())
            .metadata("passes", self.passes.to_string())
            .metadata("checkpoints", self.checkpoints.to_string())
            .metadata("restarts", self.restarts.to_string())
    }
}

fn number<T: FromStr>(manifest: &Manifest, name: &str) -> Result<T, Failure> {
    let text = manifest.metadata(name).and_then(|bytes| str::from_utf8(bytes).ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        format!("checkpoint {} is not one of a word count: no {name:?} in its metadata", manifest.id()).into()
    })
}
