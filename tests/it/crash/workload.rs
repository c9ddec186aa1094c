//! A workload that notes what it was promised, and a check of what is there against these notes.

use std::collections::{BTreeMap, BTreeSet};

use piton::{CheckpointId, Manifest, Merging, Options, Result, Scope, StateHandle, Store, testing::SimDisk};

use crate::support::{ROOT, bytes, read_states};

/// The states of one checkpoint.
type Content = BTreeMap<String, Vec<u8>>;

/// What the engine knows: what it was promised, and what it had asked for when things went wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    /// Committed, and not given to forget.
    committed: BTreeMap<CheckpointId, Content>,
    /// Given to commit, which did not return success.
    asked: BTreeMap<CheckpointId, Content>,
    /// Given to forget, which did not return success; or given up by the retention of a commit, which did not.
    forgetting: BTreeMap<CheckpointId, Content>,
    mode: Mode,
    /// How many bytes the workload relocated.
    pub(crate) relocated: u64,
}

/// How the store is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mode {
    /// What the automatic retention keeps.
    pub(crate) retain: Option<usize>,
    pub(crate) merging: Merging,
}

/// Every merging, without and with automatic retention.
pub(crate) fn modes() -> impl Iterator<Item = Mode> {
    let mergings = [Merging::Off, Merging::WithinCheckpoint, Merging::AcrossCheckpoints];
    mergings.into_iter().flat_map(|merging| [None, Some(2)].map(|retain| Mode { retain, merging }))
}

pub(crate) const CHECKPOINTS: u64 = 10;
const STATES: u64 = 20;
const ABORTED: u64 = 3;
const PRUNE_AFTER: u64 = 8;

impl Notes {
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// Segments are small, so that the workload fills many, and as little as possible may lie fallow, so that files are
    /// marked, states relocated, holes punched.
    pub(crate) fn open(&self, disk: &SimDisk) -> Result<Store> {
        let options =
            Options::new().disk(disk.clone()).inline_threshold(64).write_buffer(2048).merging(self.mode.merging);
        let options = options.segment_size(20_000).max_space_amplification(Some(1.0));
        self.mode.retain.map_or(options.clone(), |keep| options.retain(keep)).open(ROOT)
    }
}

/// Runs the workload until something goes wrong.
pub(crate) fn run(store: &Store, notes: &mut Notes) -> Result<()> {
    (1..=CHECKPOINTS).try_for_each(|round| step(store, round, notes))?;
    notes.relocated = store.usage().relocated_bytes;
    Ok(())
}

/// One checkpoint: written, and then committed or aborted; and once, older ones are pruned.
pub(crate) fn step(store: &Store, round: u64, notes: &mut Notes) -> Result<()> {
    let pending = store.begin_next()?;
    let previous = store.latest()?;
    let mut manifest = Manifest::builder().metadata("round", round.to_string());
    let mut content = Content::new();
    for n in 0..STATES {
        let name = format!("state-{n:02}");
        let kept = previous.as_ref().and_then(|previous| previous.manifest().state(&name));
        let (handle, bytes) = match (kept, n % 5) {
            // Reused: two fifths, but for every third round.
            (Some(handle), 3 | 4) if !round.is_multiple_of(3) => {
                // A bad sector in the manifest of the newest one makes an older one the latest.
                let id = previous.as_ref().map(piton::Checkpoint::id).unwrap();
                let kept = notes.committed.get(&id).or_else(|| notes.forgetting.get(&id));
                (pending.reuse(std::slice::from_ref(handle))?.remove(0), kept.unwrap()[&name].clone())
            }
            _ => new_state(&pending, round, n)?,
        };
        manifest = manifest.state(name.clone(), handle);
        content.insert(name, bytes);
    }
    if round == ABORTED {
        return Ok(());
    }
    let id = pending.id();
    notes.asked.insert(id, content);
    pending.commit(manifest)?;
    notes.committed.extend(notes.asked.remove(&id).map(|content| (id, content)));
    let retention = store.last_retention();
    notes.committed.retain(|id, _| !retention.checkpoints.contains(id));
    // What could not be locked goes with the next one.
    let is_kept = |keep| notes.committed.len() > keep && retention.failures.is_empty();
    assert!(!notes.mode.retain.is_some_and(is_kept), "{:?} of {retention:?}", notes.committed.keys());
    if round == PRUNE_AFTER { prune(store, notes) } else { Ok(()) }
}

/// Inline, empty, of one write, larger than the buffer; both scopes.
fn new_state(pending: &piton::PendingCheckpoint, round: u64, n: u64) -> Result<(StateHandle, Vec<u8>)> {
    let len = [40 + n, 0, 1900 + n, 5000 + n, 1000][usize::try_from(n % 5).unwrap()];
    let bytes = bytes(round * 100 + n, usize::try_from(len).unwrap());
    let scope = if n.is_multiple_of(2) { Scope::Shared } else { Scope::Exclusive };
    Ok((pending.write(scope, &bytes)?, bytes))
}

fn prune(store: &Store, notes: &mut Notes) -> Result<()> {
    while notes.committed.len() > 2 {
        notes.forgetting.extend(notes.committed.pop_first());
    }
    let reclaimed = store.prune(2)?;
    let gone: BTreeSet<_> = reclaimed.checkpoints.iter().collect();
    notes.forgetting.retain(|id, _| !gone.contains(id));
    match reclaimed.failures.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// What is there is what was promised, and nothing else; what nobody can know becomes known.
pub(crate) fn check(store: &Store, notes: &mut Notes) {
    let report = store.open_report();
    assert!(report.damaged.is_empty() && report.foreign.is_empty() && report.failures.is_empty(), "{report:?}");
    let ids = store.checkpoint_ids();
    for id in &ids {
        let known = [&notes.committed, &notes.asked, &notes.forgetting].into_iter().find_map(|notes| notes.get(id));
        let content = known.unwrap_or_else(|| panic!("checkpoint {id} was never given to commit"));
        let checkpoint = store.checkpoint(*id).unwrap();
        let read: Content = read_states(&checkpoint).unwrap().into_iter().collect();
        assert!(read == *content, "checkpoint {id} is not what was committed");
    }
    // A commit whose outcome is unknown took effect with its retention, or not at all.
    let effective = notes.asked.keys().find(|id| ids.contains(id));
    let given_up = |id: &CheckpointId| {
        let newer = notes.committed.keys().filter(|other| *other > id).count() + usize::from(effective.is_some());
        effective.is_some() && notes.mode.retain.is_some_and(|keep| newer >= keep)
    };
    for id in notes.committed.keys() {
        assert!(ids.contains(id) || given_up(id), "committed checkpoint {id} is lost, there are {ids:?}");
        assert!(!ids.contains(id) || !given_up(id), "checkpoint {id} was to go with the commit: {ids:?}");
    }
    assert_eq!(store.latest().unwrap().map(|checkpoint| checkpoint.id()), ids.last().copied());
    notes.settle(&ids);
}

impl Notes {
    /// What nobody could know is known now: these checkpoints are there.
    pub(crate) fn settle(&mut self, ids: &[CheckpointId]) {
        self.committed.retain(|id, _| ids.contains(id));
        let asked = std::mem::take(&mut self.asked);
        let forgetting = std::mem::take(&mut self.forgetting);
        self.committed.extend(asked.into_iter().chain(forgetting).filter(|(id, _)| ids.contains(id)));
    }
}

/// The store takes a checkpoint, gives it back, and has nothing left to clean.
pub(crate) fn check_works(disk: &SimDisk, store: Store, notes: &mut Notes) {
    // With automatic retention the last removal waits for a commit, or for this.
    store.close().unwrap();
    let store = notes.open(disk).unwrap();
    assert!(store.open_report().removed.is_empty(), "the second open found {:?}", store.open_report().removed);
    check(&store, notes);
    step(&store, CHECKPOINTS + 1, notes).unwrap();
    check(&store, notes);
}
