//! The count as it is on disk: opening the store, checking that it is ours to continue, reading it back.
//!
//! Each checkpoint has the states `worker-003/position` and `worker-003/group-17`, of each worker and of each of its
//! groups that has a word, and metadata that tells what the checkpoint is a checkpoint of.

use std::{path::Path, thread};

use bincode::{Decode, Encode, config};
use piton::{Checkpoint, Manifest, ManifestBuilder, Options, Store};

use crate::{
    Failure,
    arguments::Arguments,
    counts::{self, Counts, GROUPS, WordCounts},
    input::{self, InputFile},
    progress,
    worker::Position,
};

/// How many checkpoints stay: more than one, so that a damaged file costs some time and not the whole count.
const KEPT: usize = 3;
/// Where the manifest has the record.
const RECORD: &str = "record";

/// An open store, and the newest checkpoint in it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    /// Held open, so that what the next checkpoint keeps is there whatever happens.
    pub(crate) latest: Option<Checkpoint>,
    record: Record,
}

/// What the metadata of a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Record {
    pub(crate) workers: usize,
    pub(crate) groups: usize,
    /// The fingerprint of the input.
    pub(crate) input: u64,
    /// How often the input is counted in all.
    pub(crate) passes: u64,
    /// How often a run went on from a checkpoint.
    pub(crate) restarts: u64,
}

impl State {
    /// Opens the store, or creates it, and finds out whether the call fits to what is in it.
    pub(crate) fn open(directory: &Path, arguments: &Arguments, files: &[InputFile]) -> Result<Self, Failure> {
        let mut options = Options::new().retain(KEPT);
        if !arguments.child {
            options = options.progress(progress::of_store());
        }
        let store = options.open(directory)?;
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

    /// The id of the checkpoint that the next one goes on from; 0 for none.
    pub(crate) fn base(&self) -> u64 {
        self.latest.as_ref().map_or(0, |latest| latest.id().get())
    }

    /// The manifest of the next checkpoint: what the newest one has, until something else is put in its place.
    pub(crate) fn manifest(&self) -> piton::Result<ManifestBuilder> {
        let manifest = self.latest.as_ref().map(|latest| Manifest::based_on(latest.manifest()));
        Ok(manifest.unwrap_or_else(Manifest::builder).metadata(RECORD, counts::encode(&self.record)?))
    }

    /// How many files of crashed runs were removed when the store was opened.
    pub(crate) fn leftovers(&self) -> u64 {
        self.store.open_report().removed.len() as u64
    }

    /// How many checkpoints there were.
    pub(crate) fn checkpoints(&self) -> u64 {
        self.latest.as_ref().map_or(0, |latest| latest.manifest().epoch())
    }

    /// Whether every worker has counted its share as often as it should.
    pub(crate) fn is_finished(&self) -> Result<bool, Failure> {
        Ok(self.positions()?.iter().all(|at| at.pass >= self.record.passes))
    }

    /// How many bytes were counted, all passes together.
    pub(crate) fn bytes(&self) -> Result<u64, Failure> {
        Ok(self.positions()?.iter().map(|position| position.bytes).sum())
    }

    fn positions(&self) -> Result<Vec<Position>, Failure> {
        (0..self.record.workers).map(|worker| self.position(worker)).collect()
    }

    /// Where a worker goes on: at the beginning if there is no checkpoint.
    pub(crate) fn position(&self, worker: usize) -> Result<Position, Failure> {
        let Some(latest) = &self.latest else { return Ok(Position::default()) };
        let name = position_name(worker);
        let handle = latest.manifest().state(&name);
        let handle = handle.ok_or_else(|| format!("checkpoint {} has no {name}", latest.id()))?;
        let (position, _) = bincode::decode_from_slice(&latest.read(handle)?, config::standard())?;
        Ok(position)
    }

    /// What a worker has counted up to its position.
    pub(crate) fn counts(&self, worker: usize) -> Result<Counts, Failure> {
        let Some(latest) = &self.latest else { return Ok(Counts::default()) };
        let group = |group| {
            let handle = latest.manifest().state(&group_name(worker, group))?;
            Some(latest.read(handle).map_err(Failure::from).and_then(|bytes| Ok((group, counts::decode(&bytes)?))))
        };
        Counts::restore(latest.id().get(), (0..GROUPS).filter_map(group))
    }

    /// The counts of all workers together.
    pub(crate) fn totals(&self) -> Result<WordCounts, Failure> {
        let mut totals = WordCounts::new();
        let Some(latest) = &self.latest else { return Ok(totals) };
        for (_, handle) in latest.manifest().states().filter(|(name, _)| name.contains("/group-")) {
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

impl Record {
    /// That of a state that begins.
    fn new(input: u64, arguments: &Arguments) -> Result<Self, Failure> {
        let cores = || Ok(thread::available_parallelism()?.get());
        let workers = arguments.workers.map_or_else(cores, Ok::<_, Failure>)?;
        Ok(Self { workers, groups: GROUPS, input, passes: arguments.passes, restarts: 0 })
    }

    /// Refuses whatever would make positions and counts mean something else than when they were written. The number of
    /// passes may grow: the workers then just go on.
    fn go_on(self, input: u64, arguments: &Arguments) -> Result<Self, Failure> {
        let Self { workers, groups, .. } = self;
        let refuse = |why: String| Err(format!("{why}, or begin anew with another --state").into());
        if let Some(wanted) = arguments.workers.filter(|wanted| *wanted != workers) {
            let begun = format!("this state was begun with {workers} workers, --workers says {wanted}");
            return refuse(format!("{begun}; leave --workers out"));
        }
        if groups != GROUPS {
            return refuse(format!("this state has {groups} key groups, this program {GROUPS}; take another program"));
        }
        if input != self.input {
            return refuse("this state was begun with other input (paths or lengths differ); give it the same".into());
        }
        Ok(Self { passes: self.passes.max(arguments.passes), ..self })
    }

    fn read(manifest: &Manifest) -> Result<Self, Failure> {
        let record = manifest.metadata(RECORD).map(|bytes| bincode::decode_from_slice(bytes, config::standard()));
        let foreign =
            || format!("checkpoint {} is not one of a word count: its metadata has no {RECORD}", manifest.id());
        Ok(record.and_then(Result::ok).ok_or_else(foreign)?.0)
    }
}
