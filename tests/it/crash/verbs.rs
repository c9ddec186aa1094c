//! The power is cut after every call of every verb that changes a checkpoint after it was committed, or goes by ids; and
//! every call fails once. What is fenced off: a change that is half there, lost after it was promised, or given to another
//! checkpoint; a roll-back that is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use piton::{
    CheckpointId, Error, Manifest, Options, Result, SinkCommitStatus, Store, Validation,
    contract::{CheckpointStore, Checkpointer},
    testing::{Fault, SimDisk, Survival},
};

use crate::support::{ROOT, bytes};

#[derive(Clone, Copy, Debug)]
enum Verb {
    Save(u64),
    /// So often was something changed.
    Update(u64, u8),
    Pin(u64, bool),
    RollBack(u64),
    Forget(u64),
}

use Verb::{Forget, Pin, RollBack, Save, Update};

const SCRIPT: [Verb; 22] = [
    Save(1),
    Save(2),
    Update(1, 1),
    Pin(1, true),
    Save(3),
    RollBack(2),
    Update(1, 2),
    Save(4),
    Update(4, 1),
    Update(4, 2),
    Pin(4, true),
    Forget(2),
    Save(5),
    Pin(1, false),
    Forget(1),
    Save(6),
    Forget(6),
    Save(7),
    RollBack(4),
    Pin(4, false),
    Save(9),
    Forget(4),
];

/// What a checkpoint has that can be told from outside.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    changes: u8,
    pinned: bool,
}

#[derive(Clone, Debug, Default)]
struct Model {
    retain: Option<usize>,
    checkpoints: BTreeMap<u64, Seen>,
    /// What was skipped, above the first number of a pair and up to the second.
    roll_backs: Vec<(u64, u64)>,
}

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

fn open(disk: &SimDisk, model: &Model) -> Result<Store> {
    let options = Options::new().disk(disk.clone()).inline_threshold(64).segment_size(20_000);
    model.retain.map_or(options.clone(), |keep| options.retain(keep)).open(ROOT)
}

/// Does it.
fn act(store: &Store, verb: Verb) -> Result<()> {
    match verb {
        Save(number) => {
            store.save_snapshot(id(number), "o", 0, &bytes(number, 1500))?;
            let manifest = Manifest::builder().sink_status("out", SinkCommitStatus::Pending).metadata("changes", [0]);
            store.save_with_state(&manifest.build(id(number)), Some(&[&bytes(100 + number, 700)]))
        }
        Update(number, changes) => {
            let status =
                if changes > 1 { SinkCommitStatus::Committed } else { SinkCommitStatus::Failed("no".to_owned()) };
            let manifest = store.load_manifest(id(number))?.with_metadata("changes", Some(vec![changes]));
            store.update_manifest(&manifest.with_sink_status("out", status))
        }
        Pin(number, true) => store.pin(id(number)),
        Pin(number, false) => store.unpin(id(number)),
        RollBack(number) => store.rollback_to(id(number)),
        Forget(number) => store.forget(id(number)).map(drop),
    }
}

impl Model {
    fn skips(&self, number: u64) -> bool {
        self.roll_backs.iter().any(|(to, from)| *to < number && number <= *from)
    }

    /// The same for a verb that succeeded. What retention could not lock goes with the next checkpoint.
    fn after_success(&self, verb: Verb, store: &Store) -> Self {
        let (mut after, retention) = (self.after(verb), store.last_retention());
        if matches!(verb, Save(_)) && !retention.failures.is_empty() {
            let stays = self.checkpoints.iter().filter(|(number, _)| !retention.checkpoints.contains(&id(**number)));
            after.checkpoints.extend(stays.map(|(number, seen)| (*number, seen.clone())));
        }
        after
    }

    fn after(&self, verb: Verb) -> Self {
        let mut after = self.clone();
        match verb {
            Save(number) => drop(after.checkpoints.insert(number, Seen { changes: 0, pinned: false })),
            Update(number, changes) => after.checkpoints.get_mut(&number).unwrap().changes = changes,
            Pin(number, pinned) => after.checkpoints.get_mut(&number).unwrap().pinned = pinned,
            // Ids that were used count as well.
            RollBack(number) => {
                let newest = (*after.checkpoints.keys().next_back().unwrap()).max(number);
                after.roll_backs.retain(|(to, from)| !(*to < number && number <= *from));
                after.roll_backs.push((number, newest));
            }
            Forget(number) => drop(after.checkpoints.remove(&number)),
        }
        if let (Save(_), Some(keep)) = (verb, self.retain) {
            let counted: Vec<_> =
                after.checkpoints.keys().rev().copied().filter(|number| !after.skips(*number)).collect();
            let kept = &counted[..keep.min(counted.len())];
            let gone = after.checkpoints.iter().filter(|(number, seen)| !seen.pinned && !kept.contains(number));
            let gone: BTreeSet<_> = gone.map(|(number, _)| *number).collect();
            after.checkpoints.retain(|number, _| !gone.contains(number));
        }
        after
    }

    /// What is there is what was promised.
    fn is(&self, store: &Store, there: &BTreeMap<u64, Seen>) -> bool {
        let newest = there.keys().rev().copied().find(|number| !self.skips(*number));
        let latest = match store.latest() {
            Err(error) if error.is_not_found() && !there.is_empty() => None,
            latest => latest.unwrap().map(|latest| latest.id().get()),
        };
        *there == self.checkpoints && latest == newest
    }
}

/// What is there; and everything in it is what it was when it was saved.
fn look(store: &Store) -> BTreeMap<u64, Seen> {
    let pinned = store.pinned();
    let look = |number: u64| {
        let manifest = store.load_by_id(id(number)).unwrap().unwrap();
        let changes = manifest.metadata("changes").unwrap()[0];
        let status = match changes {
            0 => SinkCommitStatus::Pending,
            1 => SinkCommitStatus::Failed("no".to_owned()),
            _ => SinkCommitStatus::Committed,
        };
        assert_eq!(manifest.sink_status()["out"], status, "half of an update");
        assert_eq!(store.load_state_data(id(number)).unwrap().unwrap(), bytes(100 + number, 700));
        let snapshot = store.load_artifact(&format!("{number}/operators/o/partition-0.snap")).unwrap();
        assert_eq!(snapshot, bytes(number, 1500));
        assert!(store.validate(id(number), Validation::Full).unwrap().is_valid());
        (number, Seen { changes, pinned: pinned.contains(&id(number)) })
    };
    store.checkpoint_ids().into_iter().map(|id| look(id.get())).collect()
}

/// It is as before the verb, or as after it; from now on it is known which.
fn settle(store: &Store, model: &mut Model, verb: Option<Verb>, what: &str) {
    assert!(store.damaged().is_empty() && store.open_report().foreign.is_empty(), "{what}: {:?}", store.damaged());
    let there = look(store);
    let candidates = [Some(model.clone()), verb.map(|verb| model.after(verb))];
    let found = candidates.into_iter().flatten().find(|candidate| candidate.is(store, &there));
    *model = found.unwrap_or_else(|| panic!("{what}: {there:?}, and it was {model:?} before {verb:?}"));
}

/// Nothing is left to clean, nor lies about, and the next checkpoint works.
fn check_works(disk: &SimDisk, store: Store, model: &mut Model, what: &str) {
    store.close().unwrap();
    let store = open(disk, model).unwrap();
    assert!(store.open_report().removed.is_empty(), "{what}: {:?}", store.open_report().removed);
    settle(&store, model, None, what);
    let next = Save(store.next_id().unwrap().get());
    act(&store, next).unwrap();
    settle(&store, &mut model.after(next), None, what);
}

fn models() -> [Model; 2] {
    [None, Some(2)].map(|retain| Model { retain, ..Model::default() })
}

/// The script, as far as the model has what it is about.
fn verbs(model: &Model, at: usize) -> Option<Verb> {
    let verb = SCRIPT[at];
    let (Save(number) | Update(number, _) | Pin(number, _) | RollBack(number) | Forget(number)) = verb;
    let there = model.checkpoints.contains_key(&number);
    (matches!(verb, Save(_)) || there).then_some(verb)
}

/// Runs the script until something goes wrong: at which verb.
fn run(store: &Store, model: &mut Model) -> Option<Verb> {
    for at in 0..SCRIPT.len() {
        let Some(verb) = verbs(model, at) else { continue };
        if act(store, verb).is_err() {
            return Some(verb);
        }
        *model = model.after(verb);
    }
    None
}

fn calls(model: &Model) -> u64 {
    let disk = SimDisk::new();
    let mut model = model.clone();
    let store = open(&disk, &model).unwrap();
    assert!(run(&store, &mut model).is_none());
    settle(&store, &mut model, None, "the whole script");
    let calls = disk.calls();
    assert!(calls > 200, "{calls} calls");
    calls
}

#[test]
fn power_cut_after_any_call_leaves_each_verb_done_or_not_done() {
    for start in models() {
        for call in 1..=calls(&start) {
            let disk = SimDisk::new();
            disk.fail(call, Fault::PowerCut);
            let mut before = start.clone();
            let verb = open(&disk, &before).ok().and_then(|store| run(&store, &mut before));
            let random = (1..=4).map(Survival::Random);
            for survival in [Survival::Nothing, Survival::Everything].into_iter().chain(random) {
                let what = format!("call {call}, {survival:?}, retain {:?}", start.retain);
                let (disk, mut model) = (disk.cut_power(survival), before.clone());
                let store = open(&disk, &model).unwrap_or_else(|error| panic!("{what}: {error}"));
                settle(&store, &mut model, verb, &what);
                check_works(&disk, store, &mut model, &what);
            }
        }
    }
}

fn sweep(fault: Fault) {
    for start in models() {
        for call in 1..=calls(&start) {
            let what = format!("call {call}, {fault:?}, retain {:?}", start.retain);
            let disk = SimDisk::new();
            disk.fail(call, fault);
            let mut model = start.clone();
            let again = |model: &Model| open(&disk, model).or_else(|_| open(&disk, model)).unwrap();
            let mut store = again(&model);
            for at in 0..SCRIPT.len() {
                let Some(verb) = verbs(&model, at) else { continue };
                match act(&store, verb) {
                    Ok(()) => model = model.after_success(verb, &store),
                    Err(error) => {
                        assert!(error.raw_os_error().is_some() || error.needs_reopen(), "{what}: {error}");
                        if error.needs_reopen() || store.maintain(0).is_err_and(|error| Error::is_poisoned(&error)) {
                            drop(store);
                            store = again(&model);
                        }
                        settle(&store, &mut model, Some(verb), &what);
                    }
                }
            }
            drop(store);
            // The fault may not have come yet, if less was done than the last time.
            let disk = disk.kill();
            let store = open(&disk, &model).unwrap();
            settle(&store, &mut model, None, &what);
            check_works(&disk, store, &mut model, &what);
        }
    }
}

#[test]
fn every_call_of_every_verb_fails_once() {
    [Fault::Error(5), Fault::Error(28), Fault::ErrorAfter(5)].into_iter().for_each(sweep);
}
