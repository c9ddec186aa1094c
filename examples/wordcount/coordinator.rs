//! Takes a checkpoint of all workers, again and again.
//!
//! The workers go on counting while a checkpoint is written: they hand over copies. What they handed over is kept until
//! a checkpoint that has it is committed. So if one fails, the next one writes the same groups again, or newer copies
//! of them, while "unchanged" always means unchanged since the last checkpoint that was committed.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant, SystemTime},
};

use piton::{Scope, StateHandle};

use crate::{
    Failure,
    crew::Crew,
    event::Event,
    input::InputFile,
    state::{State, group_name, is_group, position_name},
    worker::{Handover, Position},
};

/// Who wants to know what happens; if that fails, so does the run.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(Event) -> Result<(), Failure>;

/// Counts until all is counted and a last checkpoint says so. A finished state stays as it is.
pub(crate) fn run(state: &mut State, files: &[InputFile], every: Duration, tell: Tell<'_>) -> Result<(), Failure> {
    if state.is_finished()? {
        return Ok(());
    }
    thread::scope(|scope| {
        let crew = Crew::start(scope, state, files)?;
        Coordinator::new(state)?.run(crew, every, tell)
    })
}

struct Coordinator<'a> {
    state: &'a mut State,
    /// Of each worker, as it was last handed over.
    positions: Vec<Position>,
    /// By state name: the groups that were handed over, and that no committed checkpoint has.
    unwritten: BTreeMap<String, Vec<u8>>,
}

impl<'a> Coordinator<'a> {
    fn new(state: &'a mut State) -> Result<Self, Failure> {
        let positions = (0..state.record().workers).map(|worker| state.position(worker));
        let positions = positions.collect::<Result<_, _>>()?;
        Ok(Self { state, positions, unwritten: BTreeMap::new() })
    }

    fn run(mut self, mut crew: Crew<'_>, every: Duration, tell: Tell<'_>) -> Result<(), Failure> {
        let mut next = Instant::now() + every;
        loop {
            let is_last = crew.wait_until(next);
            next = Instant::now() + every;
            self.accept(crew.hand_over()?);
            tell(Event::Begun)?;
            let begun = Instant::now();
            match self.save() {
                Ok(()) => tell(Event::Committed { took: begun.elapsed(), bytes: self.bytes() })?,
                Err(error) if is_last || !may_pass(&error) => return Err(error),
                Err(error) => tell(Event::Failed { why: error.to_string() })?,
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Takes one handover of each worker. A copy that was not written yet is replaced by the newer one.
    fn accept(&mut self, handovers: Vec<Handover>) {
        for (worker, handover) in (0..).zip(handovers) {
            let groups = handover.changed.into_iter();
            self.unwritten.extend(groups.map(|group| (group_name(worker, group.group), group.bytes)));
            if let Some(position) = self.positions.get_mut(worker) {
                *position = handover.position;
            }
        }
    }

    /// Writes what was accepted as one checkpoint, all or none: this is where exactly-once comes from.
    fn save(&mut self) -> Result<(), Failure> {
        let mut record = self.state.record().clone();
        record.checkpoints += 1;
        let store = &self.state.store;
        let pending = store.begin(store.next_id())?;
        let mut manifest = record.manifest().timestamp_ms(now_ms());
        for (name, bytes) in &self.unwritten {
            manifest = manifest.state(name, pending.write(Scope::Shared, bytes)?);
        }
        let (names, handles) = self.unchanged();
        for (name, handle) in names.into_iter().zip(pending.reuse(&handles)?) {
            manifest = manifest.state(name, handle);
        }
        for (worker, position) in self.positions.iter().enumerate() {
            let bytes = bincode::encode_to_vec(position, bincode::config::standard())?;
            manifest = manifest.state(position_name(worker), pending.write(Scope::Exclusive, &bytes)?);
        }
        let checkpoint = pending.commit(manifest)?;
        self.state.advance(checkpoint, record);
        self.unwritten.clear();
        Ok(())
    }

    /// The groups of the last checkpoint of which nobody handed over a newer copy.
    fn unchanged(&self) -> (Vec<String>, Vec<StateHandle>) {
        let last = self.state.latest.iter().flat_map(|latest| latest.manifest().states());
        last.filter(|(name, _)| is_group(name) && !self.unwritten.contains_key(*name))
            .map(|(name, handle)| (name.clone(), handle.clone()))
            .unzip()
    }

    fn bytes(&self) -> u64 {
        self.positions.iter().map(|position| position.bytes).sum()
    }
}

/// Whether another checkpoint may succeed: the disk may be full only now. After other failures the store refuses to
/// write until it is opened again, and the next run does that.
fn may_pass(error: &Failure) -> bool {
    error.downcast_ref().is_some_and(|error: &piton::Error| !error.needs_reopen())
}

fn now_ms() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{arguments::Arguments, counts::EncodedGroup};

    fn handover(offset: u64, groups: &[(usize, u8)]) -> Vec<Handover> {
        // Long enough not to travel inside the manifest.
        let encoded = |(group, byte): &(usize, u8)| EncodedGroup { group: *group, bytes: vec![*byte; 5000] };
        let position = Position { offset, ..Position::default() };
        vec![Handover { position, changed: groups.iter().map(encoded).collect() }]
    }

    /// The first byte of each group of the only worker, and the worker's offset.
    fn saved(state: &State) -> (Vec<(String, u8)>, u64) {
        let latest = state.latest.as_ref().unwrap();
        let groups = latest.manifest().states().filter(|(name, _)| is_group(name));
        let groups = groups.map(|(name, handle)| (name.clone(), latest.read(handle).unwrap()[0]));
        (groups.collect(), state.position(0).unwrap().offset)
    }

    #[test]
    fn what_a_failed_checkpoint_was_to_have_is_in_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = Arguments { workers: Some(1), ..Arguments::default() };
        let mut state = State::open(dir.path(), &arguments, &[]).unwrap();
        let mut coordinator = Coordinator::new(&mut state).unwrap();
        coordinator.accept(handover(1, &[(1, 10), (2, 20), (3, 30)]));
        coordinator.save().unwrap();

        coordinator.accept(handover(2, &[(1, 11), (2, 21)]));
        fs::rename(dir.path().join("manifests"), dir.path().join("away")).unwrap();
        assert!(may_pass(&coordinator.save().unwrap_err()));
        fs::rename(dir.path().join("away"), dir.path().join("manifests")).unwrap();
        let before = [(group_name(0, 1), 10), (group_name(0, 2), 20), (group_name(0, 3), 30)];
        assert_eq!(saved(coordinator.state), (before.to_vec(), 1));

        coordinator.accept(handover(3, &[(2, 22)]));
        coordinator.save().unwrap();
        drop(coordinator);
        drop(state);
        let state = State::open(dir.path(), &arguments, &[]).unwrap();
        let after = [(group_name(0, 1), 11), (group_name(0, 2), 22), (group_name(0, 3), 30)];
        assert_eq!(saved(&state), (after.to_vec(), 3));
        assert_eq!(state.record().checkpoints, 2);
    }
}
