//! The records of a store that another process may write: read once, and from then on only what is new.
//!
//! # One look, step by step
//!
//! 1. if nothing was begun behind the last record that was read, that is all. A crash of the writer may leave a record that
//!    is not whole: it is looked at again each time;
//! 2. else the logs are read from that record on. Where they do not lead on from there, everything is read anew: another
//!    process took the store over, or wrote a base and removed what came before it;
//! 3. what is new is made durable, for its writer may not have come so far: nothing that was given out may be gone after a
//!    power cut;
//! 4. the identity is looked at. While it is of a later generation than every file, another process is taking the store
//!    over, and decides whether the last records count: the look waits for it, a tenth of a second at most.
//!
//! Records may have states whose segments were not synced. After a power cut a segment may lack them: so they are looked for
//! when their checkpoint is opened, which fails if a writer must open the store first.
//!
//! Nothing is written, and no lock is taken.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;

use super::{
    chain::chain,
    find,
    history::History,
    identity,
    redone::{self, Redone},
    replay::replay,
    survey::Survey,
};
use crate::{
    disk::{
        layout,
        volume::{Volume, cannot_be_synced},
    },
    error::{Cause, Error, Result},
    format::log::{LogId, Position},
    handle::{Extent, StateHandle},
    id::StoreId,
    manifest::Manifest,
};

/// How often the logs are read anew, at most, because files went while they were read, or the store is being taken over.
const MOST_LOOKS: u32 = 100;
/// An opener begins its log at once after it has raised the generation.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// What was read of a store.
#[derive(Debug)]
pub(crate) struct Follower {
    store: StoreId,
    seen: Mutex<Option<Seen>>,
}

#[derive(Clone, Debug)]
struct Seen {
    history: History,
    /// Behind the last record; none for an export that was never opened for writing.
    end: Option<Position>,
    /// The highest generation of all files.
    generation: u64,
    /// States that the log has as well, and in which file of it: their segments may lack them after a power cut.
    in_log: HashMap<Extent, LogId>,
}

impl Follower {
    pub(crate) fn new(store: StoreId) -> Self {
        Self { store, seen: Mutex::default() }
    }

    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    /// Looks something up in what the store has now.
    ///
    /// # Errors
    ///
    /// `is_corrupt` if files are missing, or damaged in all copies. `is_newer_format`. Those of the file system.
    pub(crate) fn look<T>(&self, volume: &Volume, look: impl FnOnce(&History) -> T) -> Result<T> {
        let mut seen = self.seen.lock();
        self.catch_up(volume, &mut seen)?;
        let nothing = History::new(self.store);
        Ok(look(seen.as_ref().map_or(&nothing, |seen| &seen.history)))
    }

    /// Fails if a segment lacks a state of this checkpoint, which the log has: a writer must open the store first. As of
    /// the last look.
    pub(crate) fn check_recovered(&self, volume: &Volume, manifest: &Manifest) -> Result<()> {
        let mut seen = self.seen.lock();
        let Some(seen) = seen.as_mut().filter(|seen| !seen.in_log.is_empty()) else { return Ok(()) };
        for extent in manifest.content.handles().filter_map(StateHandle::extent) {
            if seen.in_log.contains_key(&extent) {
                if redone::is_lacked(volume, self.store, &extent)? {
                    return Err(Error::at("read", &volume.path(layout::segment(extent.file)), Cause::Unrecovered));
                }
                seen.in_log.remove(&extent);
            }
        }
        Ok(())
    }

    fn catch_up(&self, volume: &Volume, seen: &mut Option<Seen>) -> Result<()> {
        let mut gone = None;
        for look in 0..MOST_LOOKS {
            if let Some(seen) = &seen
                && find::nothing_follows(volume, seen.end.as_ref())?
            {
                return Ok(());
            }
            let new =
                match self.go_on(volume, seen.as_ref())?.map_or_else(|| self.read_all(volume), |new| Ok(Ok(new)))? {
                    Ok(new) => new,
                    Err(error) => {
                        gone = Some(error);
                        std::thread::sleep(LOOK_INTERVAL);
                        continue;
                    }
                };
            // If that lasts, the opener has died, and what is there counts.
            let is_last = look + 1 == MOST_LOOKS;
            if is_last || identity::read(volume)?.identity.generation <= new.generation {
                *seen = Some(new);
                return Ok(());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        gone.map_or(Ok(()), Err)
    }

    /// Step 2, as long as the logs lead on.
    fn go_on(&self, volume: &Volume, seen: Option<&Seen>) -> Result<Option<Seen>> {
        let Some((seen, end)) = seen.and_then(|seen| Some((seen, seen.end?))) else { return Ok(None) };
        let names = find::names(volume)?;
        let oldest = names.iter().map(|(log, _)| *log).min();
        let later = names.into_iter().filter(|(log, _)| *log >= end.log);
        let logs = find::read_all(volume, self.store, later)?;
        let chain = chain(&logs);
        if !chain.admits(&logs, &end) || !chain.is_whole_after(Some(&end)) {
            return Ok(None);
        }
        let mut history = seen.history.clone();
        let Some(replayed) = replay(&mut history, &logs, &chain, Some(end)).filter(|new| new.lost.is_empty()) else {
            return Ok(None);
        };
        if replayed.end != end {
            make_durable(volume, end.log, replayed.end.log)?;
        }
        let generation = logs.keys().map(|log| log.generation).max().unwrap_or_default().max(seen.generation);
        // Before a log goes, the states that it has are durable.
        let mut in_log = seen.in_log.clone();
        in_log.retain(|_, log| oldest.is_some_and(|oldest| *log >= oldest));
        in_log.extend(states_of(&replayed.redone));
        Ok(Some(Seen { history, end: Some(replayed.end), generation, in_log }))
    }

    /// Everything; or what is missing.
    fn read_all(&self, volume: &Volume) -> Result<std::result::Result<Seen, Error>> {
        let survey = Survey::read_steady(volume, self.store)?;
        let told = survey.tell(volume, true)?;
        if let Some(missing) = told.missing.into_iter().next() {
            return Ok(Err(missing));
        }
        if let Some(end) = told.end.filter(|end| end.log.generation > 0) {
            make_durable(volume, end.log, end.log)?;
        }
        let generation = survey.newest_generation();
        let in_log = states_of(&told.redone).collect();
        Ok(Ok(Seen { history: told.history, end: told.end, generation, in_log }))
    }
}

fn states_of(redone: &[Redone<'_>]) -> impl Iterator<Item = (Extent, LogId)> {
    redone.iter().flat_map(|redone| redone.states.iter().map(|state| (state.extent, redone.log)))
}

/// Step 3. A file system that is only read has nothing to make durable.
fn make_durable(volume: &Volume, first: LogId, last: LogId) -> Result<()> {
    for LogId { generation, sequence } in if first == last { vec![last] } else { vec![first, last] } {
        let synced = volume.open(layout::log(generation, sequence)).and_then(|file| file.sync());
        match synced {
            Err(error) if error.io_kind().is_some_and(cannot_be_synced) => {}
            // It was superseded meanwhile, and so was durable.
            Err(error) if error.is_not_found() => {}
            synced => synced?,
        }
    }
    Ok(())
}
