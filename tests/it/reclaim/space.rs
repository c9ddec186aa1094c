//! How much space a store takes. What is fenced off here: a store that grows although what is alive in it does not, and
//! a rewriting that costs more than the writing.
//!
//! `cargo test --release --all-features --test it space -- --nocapture` prints the table of docs/performance.md.

#![expect(clippy::cast_precision_loss, clippy::print_stdout, reason = "ratios, printed as a table")]

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    path::Path,
};

use piton::{
    Durability, Manifest, Options, PendingCheckpoint, Scope, StateHandle, Store,
    disk::{At, Disk, MemoryDisk, OsDisk},
};

use crate::support::{ROOT, bytes, read_states};

const CHECKPOINTS: u64 = 400;
const STATES: u64 = 1000;
const NEW: u64 = STATES / 10;
const RETAINED: usize = 3;

/// What the engine does with a state that did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    /// It passes it through `reuse`, and asks nothing.
    Reuses,
    /// It goes on from the checkpoint before, and does not name it.
    GoesOn,
    /// It writes anew what `could_reuse` refuses, and has relocation switched off.
    Asks,
}

/// A state of the engine: which version it has, and where.
type State = (u64, StateHandle);

struct Run<'a> {
    store: Store,
    disk: &'a dyn Disk,
    shared: std::path::PathBuf,
    engine: Engine,
    len: usize,
    states: BTreeMap<u64, State>,
    /// The states of the retained checkpoints.
    retained: VecDeque<Vec<StateHandle>>,
    random: u64,
    new_bytes: u64,
    rewritten: u64,
}

impl Run<'_> {
    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    /// A tenth of the states, at random; all of them in the first checkpoint.
    fn changed(&mut self) -> HashSet<u64> {
        if self.states.is_empty() {
            return (0..STATES).collect();
        }
        let mut changed = HashSet::new();
        while (changed.len() as u64) < NEW {
            changed.insert(self.random(STATES));
        }
        changed
    }

    fn content(name: u64, version: u64, len: usize) -> Vec<u8> {
        bytes(version * STATES + name, len)
    }

    fn keep(&mut self, pending: &PendingCheckpoint, name: u64) -> State {
        let (version, handle) = self.states[&name].clone();
        if self.engine == Engine::Asks && !pending.could_reuse(&handle) {
            self.rewritten += self.len as u64;
            return (version, pending.write(Scope::Shared, &Self::content(name, version, self.len)).unwrap());
        }
        let kept = pending.reuse(std::slice::from_ref(&handle)).unwrap().remove(0);
        assert!(self.engine == Engine::Reuses || kept == handle);
        (version, kept)
    }

    fn checkpoint(&mut self) {
        let pending = self.store.begin_next().unwrap();
        let version = pending.id().get();
        let changed = self.changed();
        let latest = self.store.latest().unwrap();
        let going_on = self.engine == Engine::GoesOn && latest.is_some();
        let base = latest.as_ref().map(|latest| Manifest::based_on(latest.manifest()));
        let mut manifest = base.filter(|_| going_on).unwrap_or_else(Manifest::builder);
        for name in (0..STATES).filter(|name| !going_on || changed.contains(name)) {
            let state = if changed.contains(&name) {
                self.new_bytes += self.len as u64;
                (version, pending.write(Scope::Shared, &Self::content(name, version, self.len)).unwrap())
            } else {
                self.keep(&pending, name)
            };
            manifest = manifest.state(name.to_string(), state.1.clone());
            self.states.insert(name, state);
        }
        drop(latest);
        let committed = pending.commit(manifest).unwrap();
        for (name, (_, handle)) in &mut self.states {
            let kept = committed.manifest().state(&name.to_string()).unwrap();
            assert!(going_on || kept == handle);
            *handle = kept.clone();
        }
        self.retained.push_back(self.states.values().map(|(_, handle)| handle.clone()).collect());
        if self.retained.len() > RETAINED {
            self.retained.pop_front();
        }
    }

    fn live(&self) -> u64 {
        self.retained.iter().flatten().collect::<HashSet<_>>().iter().map(|handle| handle.len()).sum()
    }

    fn allocated(&self) -> u64 {
        self.disk.list(At::new(&self.shared)).unwrap().iter().map(|entry| entry.metadata.allocated).sum()
    }

    fn check_content(&self) {
        let latest = self.store.latest().unwrap().unwrap();
        for (name, read) in read_states(&latest).unwrap() {
            let name = name.parse().unwrap();
            assert!(read == Self::content(name, self.states[&name].0, self.len), "state {name}");
        }
    }
}

/// What was seen over a run.
struct Figures {
    /// The highest ratio of allocated bytes to what may be allocated.
    of_bound: f64,
    /// The highest and the mean ratio of allocated to live bytes.
    highest: f64,
    mean: f64,
    /// Bytes copied or written anew for space, per byte that was new.
    rewritten: f64,
}

fn run(
    disk: &(impl Disk + Clone),
    root: &Path,
    (len, segment_size): (usize, u64),
    engine: Engine,
    punch: bool,
) -> Figures {
    let options = Options::new().disk(disk.clone()).durability(Durability::None).inline_threshold(0).retain(RETAINED);
    let options = options.segment_size(segment_size).punch_holes(punch).relocation(engine != Engine::Asks);
    let store = options.open(root).unwrap();
    let (states, retained) = (BTreeMap::new(), VecDeque::new());
    let shared = root.join("shared");
    let (random, new_bytes, rewritten) = (len as u64, 0, 0);
    let mut run = Run { store, disk, shared, engine, len, states, retained, random, new_bytes, rewritten };
    let mut figures = Figures { of_bound: 0.0, highest: 0.0, mean: 0.0, rewritten: 0.0 };
    for checkpoint in 1..=CHECKPOINTS {
        run.checkpoint();
        let (live, allocated) = (run.live(), run.allocated());
        let bound = 2 * live + segment_size;
        assert!(allocated < bound, "{len} bytes, punching {punch}, {engine:?}, {checkpoint}: {allocated} of {bound}");
        let ratio = allocated as f64 / live as f64;
        figures.of_bound = figures.of_bound.max(allocated as f64 / bound as f64);
        figures.highest = figures.highest.max(ratio);
        figures.mean += ratio / CHECKPOINTS as f64;
    }
    run.check_content();
    let usage = run.store.usage();
    let rewritten = run.rewritten + usage.relocated_bytes;
    assert_eq!(usage.written_bytes, run.new_bytes + run.rewritten);
    assert!(rewritten < run.new_bytes, "{rewritten} bytes rewritten for {} new ones", run.new_bytes);
    figures.rewritten = rewritten as f64 / run.new_bytes as f64;
    run.store.close().unwrap();
    figures
}

/// 400 checkpoints of 1,000 states, of which a tenth is new, three retained: on a real disk, with holes where it can punch
/// them, and in memory, where nothing can.
fn four_hundred_checkpoints(size: (usize, u64)) {
    for engine in [Engine::Reuses, Engine::GoesOn, Engine::Asks] {
        let dir = tempfile::tempdir().unwrap();
        let punched = run(&OsDisk, dir.path(), size, engine, true);
        let whole = run(&MemoryDisk::new(), ROOT.as_ref(), size, engine, true);
        for (figures, how) in [(punched, "punching"), (whole, "no punching")] {
            let Figures { of_bound, highest, mean, rewritten } = figures;
            println!("| {} | {engine:?} | {how} | {mean:.2} | {highest:.2} | {of_bound:.2} | {rewritten:.2} |", size.0);
        }
    }
}

#[test]
fn space_is_bounded_for_states_of_200_bytes() {
    four_hundred_checkpoints((200, 1 << 20));
}

#[test]
fn space_is_bounded_for_states_of_1000_bytes() {
    four_hundred_checkpoints((1000, 1 << 20));
}

#[test]
fn space_is_bounded_for_states_of_4_kib() {
    four_hundred_checkpoints((4096, 32 << 20));
}

#[test]
fn space_is_bounded_for_states_of_64_kib() {
    four_hundred_checkpoints((65_536, 32 << 20));
}
