//! Every short sequence of verbs, and the power cut at every change that the last one makes to the disk; and every call of
//! the last one fails once. What is fenced off: two verbs that are each right and together wrong.
//!
//! The verbs before the last one are done: a shorter sequence cuts the power in them. A cut is tried before each call that
//! changes the disk and once behind the last one; there everything unsynced survives, nothing does, and each single write
//! or name alone is lost, or alone survives.

use std::collections::BTreeMap;

use piton::{
    Checkpoint, CheckpointId, Manifest, Options, PendingCheckpoint, Result, Scope, StateHandle, Store,
    testing::{Call, Fault, SimDisk, Survival},
};

use crate::support::{ROOT, bytes};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb {
    /// A checkpoint that goes on from the newest one; one of two names that share an extent gets another.
    CommitByBase,
    /// A checkpoint of new states, two names for one of them, and what it reuses.
    CommitAnew,
    /// A checkpoint that is given up while another one, which is committed, has written behind it.
    Abort,
    Forget,
    Prune,
    Pin,
    Update,
    RollBack,
    /// A record that the log has no room for.
    BeginLog,
    WriteBase,
    Export,
    Reopen,
}

use Verb::*;

const VERBS: [Verb; 12] =
    [CommitByBase, CommitAnew, Abort, Forget, Prune, Pin, Update, RollBack, BeginLog, WriteBase, Export, Reopen];

/// What changes what is on the disk. A cut before any other call leaves what a cut before the next of these does.
const CHANGES: [Call; 14] = [
    Call::CreateDir,
    Call::CreateTemp,
    Call::Reserve,
    Call::Rename,
    Call::RenameNew,
    Call::Remove,
    Call::RemoveDir,
    Call::Link,
    Call::CopyRanges,
    Call::PunchHoles,
    Call::SyncDir,
    Call::WriteAt,
    Call::Fill,
    Call::SyncData,
];

const EXPORT: &str = "/export";
/// Longer than a block of the log, and shorter than a log.
const LONG: usize = 40_000;

#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    /// What each state was made from.
    states: BTreeMap<String, u64>,
    changes: u8,
    pinned: bool,
}

#[derive(Clone, Debug, Default)]
struct Model {
    there: BTreeMap<u64, Seen>,
    rolled_back: Vec<(u64, u64)>,
    exported: Option<u64>,
    /// No two states are made from the same number.
    seed: u64,
}

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

fn open(disk: &SimDisk) -> Result<Store> {
    let options = Options::new().disk(disk.clone()).inline_threshold(64).segment_size(20_000).log_size(128 << 10);
    options.redo_size(4096).open(ROOT)
}

impl Model {
    fn newest(&self) -> Option<u64> {
        self.there.keys().rev().copied().find(|number| !self.skips(*number))
    }

    fn oldest(&self) -> u64 {
        *self.there.keys().next().unwrap()
    }

    /// The oldest one that may be forgotten.
    fn oldest_free(&self) -> Option<u64> {
        self.there.iter().find(|(_, seen)| !seen.pinned).map(|(number, _)| *number)
    }

    fn skips(&self, number: u64) -> bool {
        self.rolled_back.iter().any(|(to, from)| (to + 1..=*from).contains(&number))
    }

    /// Whether a verb does anything.
    fn takes(&self, verb: Verb) -> bool {
        match verb {
            CommitAnew | BeginLog | Reopen => true,
            Forget => self.there.len() > 1 && self.oldest_free().is_some(),
            RollBack => self.newest().is_some_and(|newest| newest != self.oldest()),
            CommitByBase | Abort | Prune | Pin | Update | WriteBase => self.newest().is_some(),
            Export => self.newest().is_some() && self.exported.is_none(),
        }
    }

    /// What a new checkpoint has, and what there is then.
    fn after_commit(&self, number: u64, changed: &[&str], anew: bool) -> Self {
        let (mut after, mut seed) = (self.clone(), self.seed);
        let newest = self.newest().filter(|_| !anew);
        let mut states = newest.map(|newest| self.there[&newest].states.clone()).unwrap_or_default();
        for name in changed {
            seed += 1;
            states.insert((*name).to_owned(), seed);
        }
        if anew {
            let shared = states["a"];
            states.insert("also a".to_owned(), shared);
        }
        after.seed = seed;
        after.there.insert(number, Seen { states, ..Seen::default() });
        after
    }

    /// What there is when a verb is done, which may commit a checkpoint of this number.
    fn after(&self, verb: Verb, number: u64) -> Self {
        let mut after = self.clone();
        let newest = self.newest();
        let of_newest =
            |after: &mut Self, change: fn(&mut Seen)| change(after.there.get_mut(&newest.unwrap()).unwrap());
        match verb {
            CommitByBase | BeginLog => return self.after_commit(number, &["a", "c"], false),
            Abort => return self.after_commit(number + 1, &["b"], false),
            CommitAnew => return self.after_commit(number, &["a", "b"], true),
            Forget => drop(after.there.remove(&self.oldest_free().unwrap())),
            Prune => after.there.retain(|number, seen| seen.pinned || newest == Some(*number)),
            Pin => of_newest(&mut after, |seen| seen.pinned = !seen.pinned),
            Update => of_newest(&mut after, |seen| seen.changes += 1),
            RollBack => {
                let (to, last) = (self.oldest(), number - 1);
                after.rolled_back.retain(|(range, last)| !(range + 1..=*last).contains(&to));
                after.rolled_back.push((to, last));
            }
            Export => after.exported = newest,
            WriteBase | Reopen => {}
        }
        after
    }
}

fn write(pending: &PendingCheckpoint, names: &[&str], mut seed: u64) -> Result<Vec<(String, StateHandle)>> {
    let write = |name: &&str| {
        seed += 1;
        let (scope, len) = if *name == "b" { (Scope::Exclusive, 3000) } else { (Scope::Shared, 300) };
        Ok(((*name).to_owned(), pending.write(scope, &bytes(seed, len))?))
    };
    names.iter().map(write).collect()
}

/// The disk, the store on it, and what is expected of it.
struct Run {
    disk: SimDisk,
    store: Option<Store>,
    model: Model,
}

impl Run {
    fn begin() -> Self {
        let disk = SimDisk::new();
        disk.set_fills(true);
        let (store, model) = (open(&disk).ok(), Model::default());
        let mut run = Self { disk, store, model };
        for verb in [CommitAnew, CommitByBase] {
            run.then(verb).unwrap();
        }
        run
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// The number of the next checkpoint.
    fn next(&self) -> u64 {
        self.store().next_id().unwrap().get()
    }

    /// Does it.
    fn then(&mut self, verb: Verb) -> Result<()> {
        self.prepare(verb);
        let after = self.model.after(verb, self.next());
        self.act(verb)?;
        self.model = after;
        Ok(())
    }

    /// Appends so much that a base is due.
    fn prepare(&self, verb: Verb) {
        if verb == WriteBase {
            let mut manifest = self.newest().manifest().clone();
            for n in 0..5 {
                manifest = manifest.with_metadata("long", Some(vec![n; LONG]));
                self.store().update_manifest(&manifest).unwrap();
            }
        }
    }

    fn newest(&self) -> Checkpoint {
        self.store().checkpoint(id(self.model.newest().unwrap())).unwrap()
    }

    fn commit(&self, names: &[&str], long: usize) -> Result<()> {
        let pending = self.store().begin_next()?;
        let handles = write(&pending, names, self.model.seed)?;
        let newest = self.model.newest().map(|_| self.newest());
        let manifest = newest.map_or_else(Manifest::builder, |newest| Manifest::based_on(newest.manifest()));
        let manifest = manifest.metadata("long", vec![0; long]);
        let manifest = handles.into_iter().fold(manifest, |manifest, (name, handle)| manifest.state(name, handle));
        Ok(pending.commit(manifest.metadata("changes", [0])).map(drop)?)
    }

    fn act(&mut self, verb: Verb) -> Result<()> {
        match verb {
            CommitByBase => self.commit(&["a", "c"], 0),
            BeginLog => self.commit(&["a", "c"], LONG),
            Abort => {
                let given_up = self.store().begin_next()?;
                write(&given_up, &["a", "b"], 1000)?;
                let pending = self.store().begin_next()?;
                let handles = write(&pending, &["b"], self.model.seed)?;
                drop(given_up);
                let manifest = Manifest::based_on(self.newest().manifest()).metadata("changes", [0]);
                let manifest =
                    handles.into_iter().fold(manifest, |manifest, (name, handle)| manifest.state(name, handle));
                Ok(pending.commit(manifest).map(drop)?)
            }
            CommitAnew => {
                let pending = self.store().begin_next()?;
                let handles = write(&pending, &["a", "b"], self.model.seed)?;
                let manifest = Manifest::builder().metadata("changes", [0]).state("also a", handles[0].1.clone());
                let manifest =
                    handles.into_iter().fold(manifest, |manifest, (name, handle)| manifest.state(name, handle));
                Ok(pending.commit(manifest).map(drop)?)
            }
            Forget => self.store().forget(id(self.model.oldest_free().unwrap())).map(drop),
            Prune => self.store().prune(1).map(drop),
            Pin => {
                let newest = self.newest().id();
                let pinned = self.model.there[&newest.get()].pinned;
                if pinned { self.store().unpin(newest) } else { self.store().pin(newest) }
            }
            Update => {
                let changes = self.model.there[&self.model.newest().unwrap()].changes + 1;
                let manifest = self.newest().manifest().clone();
                self.store().update_manifest(&manifest.with_metadata("changes", Some(vec![changes])))
            }
            RollBack => self.store().rollback_to(id(self.model.oldest())),
            WriteBase => self.store().maintain(1 << 20).map(drop),
            Export => self.store().export(self.newest().id(), EXPORT).map(drop),
            Reopen => {
                self.store = None;
                self.store = Some(open(&self.disk)?);
                Ok(())
            }
        }
    }
}

fn look_at(checkpoint: &Checkpoint) -> (BTreeMap<String, u64>, u8) {
    let manifest = checkpoint.manifest();
    let states = manifest.states().map(|(name, _)| {
        let found = checkpoint.get(name).unwrap().to_vec();
        let seed = (1..2000).find(|seed| bytes(*seed, 8) == found[..8]).unwrap();
        assert!(bytes(seed, found.len()) == found, "{name} is not what was written");
        (name.to_owned(), seed)
    });
    (states.collect(), manifest.metadata("changes").unwrap()[0])
}

/// What is there.
fn look(store: &Store) -> BTreeMap<u64, Seen> {
    let pinned = store.pinned();
    let look = |id: CheckpointId| {
        let (states, changes) = look_at(&store.checkpoint(id).unwrap());
        (id.get(), Seen { states, changes, pinned: pinned.contains(&id) })
    };
    store.checkpoint_ids().into_iter().map(look).collect()
}

/// It is as before the verb, or as after it.
fn settle(disk: &SimDisk, store: &Store, candidates: [&Model; 2], what: &str) -> Model {
    let report = store.open_report();
    assert!(report.damaged.is_empty() && report.foreign.is_empty() && report.failures.is_empty(), "{what}: {report}");
    let there = look(store);
    let newest = match store.latest() {
        Err(error) if error.is_not_found() && !there.is_empty() => None,
        latest => latest.unwrap().map(|latest| latest.id().get()),
    };
    let found = candidates.into_iter().find(|model| model.there == there && model.newest() == newest);
    let found = found.unwrap_or_else(|| panic!("{what}: {there:?}, newest {newest:?}, of {candidates:?}"));
    let exported = Options::new().disk(disk.clone()).open_read_only(EXPORT);
    let exported = exported.and_then(|export| export.latest());
    match candidates.map(|model| model.exported) {
        [Some(number), _] | [None, Some(number)] if exported.is_ok() => {
            let exported = exported.unwrap().unwrap();
            assert_eq!(exported.id().get(), number, "{what}");
            look_at(&exported);
        }
        [Some(_), _] => panic!("{what}: the export is lost: {exported:?}"),
        _ => {}
    }
    found.clone()
}

/// A cut before this change of the last verb, or behind all of them.
type Cut = Option<(Call, u64)>;

/// The cuts that there are in the last verb; `None` if some verb has nothing to do.
fn cuts(verbs: &[Verb]) -> Option<Vec<Cut>> {
    let (before, last) = before_last(verbs)?;
    let (disk, mut run) = (before.disk.clone(), before);
    let counts = CHANGES.map(|call| disk.count(call));
    run.act(last).unwrap();
    let cuts = CHANGES
        .iter()
        .zip(counts)
        .flat_map(|(call, count)| (1..=disk.count(*call) - count).map(|nth| Some((*call, nth))));
    Some(cuts.chain([None]).collect())
}

/// Everything before the last verb is done.
fn before_last(verbs: &[Verb]) -> Option<(Run, Verb)> {
    let (last, before) = verbs.split_last()?;
    let mut run = Run::begin();
    for verb in before {
        if !run.model.takes(*verb) {
            return None;
        }
        run.then(*verb).unwrap();
    }
    run.model.takes(*last).then(|| {
        run.prepare(*last);
        (run, *last)
    })
}

fn survivals(disk: &SimDisk) -> impl Iterator<Item = Survival> + use<> {
    let pieces = disk.unsynced();
    let single = (0..pieces).flat_map(|n| [Survival::AllBut(n), Survival::Only(n)]);
    let all = [Survival::Everything, Survival::Nothing];
    // One of one is all, and one of two is all but the other.
    all.into_iter().take(if pieces == 0 { 1 } else { 2 }).chain(single.filter(move |_| pieces > 1))
}

/// How many disks came up again.
fn cut_in_the_last(verbs: &[Verb]) -> u64 {
    let Some(cuts) = cuts(verbs) else { return 0 };
    let mut count = 0;
    for cut in cuts {
        let (mut run, last) = before_last(verbs).unwrap();
        if let Some((call, nth)) = cut {
            run.disk.fail_nth(call, nth, Fault::PowerCut);
        }
        let before = run.model.clone();
        let after = before.after(last, run.next());
        let done = run.act(last);
        assert!(cut.is_some() || done.is_ok(), "{verbs:?}: {done:?}");
        let survivals = survivals(&run.disk);
        for survival in survivals {
            let what = format!("{verbs:?}, {cut:?}, {survival:?}");
            let disk = run.disk.cut_power(survival);
            let store = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            let candidates = if cut.is_none() { [&after, &after] } else { [&before, &after] };
            let model = settle(&disk, &store, candidates, &what);
            if matches!(survival, Survival::Everything | Survival::Nothing) {
                check_works(Run { disk, store: Some(store), model }, &what);
            }
            count += 1;
        }
    }
    count
}

/// The next checkpoint works, and nothing is left to clean.
fn check_works(mut run: Run, what: &str) {
    run.then(CommitAnew).unwrap_or_else(|error| panic!("{what}: {error}"));
    run.then(Reopen).unwrap_or_else(|error| panic!("{what}: {error}"));
    let removed = &run.store().open_report().removed;
    assert!(removed.is_empty(), "{what}: {removed:?}");
    settle(&run.disk, run.store(), [&run.model, &run.model], what);
}

/// Every sequence of so many verbs.
fn sequences(len: u32) -> impl Iterator<Item = Vec<Verb>> {
    let verb = |number: usize, at: u32| VERBS[number / VERBS.len().pow(at) % VERBS.len()];
    (0..VERBS.len().pow(len)).map(move |number| (0..len).map(|at| verb(number, at)).collect())
}

/// Does something with every sequence of up to so many verbs, on all processors, and sums up.
fn with_all(longest: u32, work: impl Fn(&[Verb]) -> u64 + Sync) -> u64 {
    let threads = std::thread::available_parallelism().unwrap().get();
    let all: Vec<_> = (1..=longest).flat_map(sequences).collect();
    let part = &|thread| all.iter().skip(thread).step_by(threads).map(|verbs| work(verbs)).sum::<u64>();
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// `PITON_VERBS=4` for longer ones.
#[test]
#[expect(clippy::print_stdout, reason = "how many there were is worth knowing")]
fn power_cut_in_the_last_of_any_two_verbs_loses_nothing() {
    let longest = std::env::var("PITON_VERBS").map_or(2, |verbs| verbs.parse().unwrap());
    let count = with_all(longest, cut_in_the_last);
    println!("{count} cuts");
    assert!(count > 10_000, "{count} cuts");
}

/// How many calls failed.
fn fail_in_the_last(verbs: &[Verb], fault: Fault) -> u64 {
    let Some((mut run, last)) = before_last(verbs) else { return 0 };
    let first = run.disk.calls() + 1;
    run.act(last).unwrap();
    let calls = first..=run.disk.calls();
    for call in calls.clone() {
        let what = format!("{verbs:?}, call {call}, {fault:?}");
        let (mut run, last) = before_last(verbs).unwrap();
        run.disk.fail(call, fault);
        let (before, after) = (run.model.clone(), run.model.after(last, run.next()));
        let done = run.act(last);
        run.disk.heal();
        if let Err(error) = &done {
            assert!(error.raw_os_error().is_some() || error.needs_reopen(), "{what}: {error}");
        }
        // What cannot be pruned is told of, and is no error.
        let is_known = done.is_ok() && last != Prune;
        let candidates = if is_known { [&after, &after] } else { [&before, &after] };
        // What could not be looked at when the store was opened is told as damage, until it is opened again.
        let goes_on = last != Reopen && !done.is_err_and(|error| error.needs_reopen());
        if let Some(store) = run.store.as_ref().filter(|_| goes_on) {
            settle(&run.disk, store, candidates, &what);
        }
        let disk = run.disk.kill();
        let store = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        let model = settle(&disk, &store, candidates, &what);
        check_works(Run { disk, store: Some(store), model }, &what);
    }
    calls.count() as u64
}

#[test]
fn call_that_fails_in_the_last_of_any_two_verbs_loses_nothing() {
    let faults = [Fault::Error(5), Fault::Error(28), Fault::ErrorAfter(5)];
    let count = with_all(2, |verbs| faults.iter().map(|fault| fail_in_the_last(verbs, *fault)).sum());
    assert!(count > 10_000, "{count} calls");
}
