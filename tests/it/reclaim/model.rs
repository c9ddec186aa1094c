//! Any sequence of calls against a model that is simple enough to be right: a set of what must be alive.
//!
//! After every step what can be read, the gauges, and the files on disk are those of the model; at the end, when all is
//! forgotten and closed, no segment is left. What is fenced off here: what nobody thought of.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::Write,
    path::Path,
};

use piton::{
    Checkpoint, CheckpointId, Claim, Maintenance, Manifest, Merging, Options, PendingCheckpoint, Scope, StateHandle,
    StateWriter, Store,
    disk::{At, Disk, Metadata},
    testing::SimDisk,
};
use proptest::{prelude::*, test_runner::Config};

use crate::support::{ROOT, bytes};

const HEADER: u64 = 64;
const TRAILER: u64 = 48;

/// A state as the engine knows it: its content is that of this seed and length.
#[derive(Clone, Debug)]
struct State {
    handle: StateHandle,
    seed: u64,
    len: usize,
}

/// What a checkpoint consists of, by name.
type States = BTreeMap<String, State>;

struct Pending {
    checkpoint: PendingCheckpoint,
    /// What its manifest will name.
    states: Vec<State>,
    /// What it keeps alive until it ends.
    refers: Vec<StateHandle>,
    writers: Vec<(StateWriter, u64, usize)>,
}

struct World {
    disk: SimDisk,
    options: Options,
    lanes: u64,
    merging: Merging,
    store: Option<Store>,
    pendings: Vec<Pending>,
    committed: BTreeMap<CheckpointId, States>,
    readers: Vec<(Checkpoint, States)>,
    seed: u64,
}

/// How the store is opened: everything that changes what the paths do.
#[derive(Clone, Debug)]
struct Setting {
    merging: Merging,
    lanes: u16,
    segment_size: u64,
    write_buffer: usize,
    amplification: Option<f64>,
    punch: bool,
    relocation: bool,
    manual: bool,
}

fn settings() -> impl Strategy<Value = Setting> {
    let merging = prop_oneof![
        6 => Just(Merging::AcrossCheckpoints),
        2 => Just(Merging::WithinCheckpoint),
        1 => Just(Merging::Off),
    ];
    let amplification = prop_oneof![3 => Just(Some(1.0)), 3 => Just(Some(1.5)), 1 => Just(None)];
    let sizes = (1_u16..4, prop_oneof![Just(9_000_u64), Just(30_000)], prop_oneof![Just(2_000_usize), Just(8_000)]);
    let flags = [0.7, 0.9, 0.2].map(prop::bool::weighted);
    (merging, sizes, amplification, flags).prop_map(|(merging, sizes, amplification, flags)| {
        let (lanes, segment_size, write_buffer) = sizes;
        let [punch, relocation, manual] = flags;
        Setting { merging, lanes, segment_size, write_buffer, amplification, punch, relocation, manual }
    })
}

impl World {
    fn new(setting: &Setting) -> Self {
        let disk = SimDisk::new();
        let options = Options::new().disk(disk.clone()).merging(setting.merging).lanes(setting.lanes);
        let options =
            options.segment_size(setting.segment_size).write_buffer(setting.write_buffer).inline_threshold(20);
        let options = options.max_space_amplification(setting.amplification).punch_holes(setting.punch);
        let maintenance = if setting.manual { Maintenance::Manual } else { Maintenance::Inline };
        let options = options.relocation(setting.relocation).maintenance(maintenance);
        let store = Some(options.clone().open(ROOT).unwrap());
        let (pendings, committed, readers) = (Vec::new(), BTreeMap::new(), Vec::new());
        let (lanes, merging) = (u64::from(setting.lanes), setting.merging);
        Self { disk, options, lanes, merging, store, pendings, committed, readers, seed: 0 }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// One call or a few, chosen by three bytes.
    fn step(&mut self, [what, a, b]: [u8; 3]) {
        let (a, b) = (usize::from(a), usize::from(b));
        match what % 18 {
            0 | 1 if self.pendings.len() < 3 => self.begin(),
            2 | 3 => (0..=b % 5).for_each(|n| self.write(a, b + n)),
            5 if b % 2 == 0 => self.open_writer(a, b),
            4 | 5 => self.begin_on_top(a),
            6 => self.finish_writer(a),
            7 => drop(pick(&mut self.pendings, a).and_then(|pending| pending.writers.pop())),
            8 | 9 => self.reuse(a, b),
            // The oldest first: ids are published in order.
            10 => self.commit(if b % 4 == 0 { a } else { 0 }, None),
            11 => self.commit(if b % 4 == 0 { a } else { 0 }, Some(b)),
            12 if b % 3 == 0 => drop(remove(&mut self.pendings, a)),
            12 => self.forget(0),
            13 => self.forget(a),
            14 if b % 2 == 0 => self.open_reader(a),
            14 => drop(remove(&mut self.readers, a)),
            15 if b % 4 == 0 => self.reopen(),
            15 => drop(self.store().maintain(b as u64 * 500).unwrap()),
            16 if b % 3 == 0 => self.import(a),
            16 | 17 => self.roll_back(a),
            _ => {}
        }
    }

    fn begin(&mut self) {
        let checkpoint = self.store().begin(self.store().next_id().unwrap()).unwrap();
        let (states, refers, writers) = (Vec::new(), Vec::new(), Vec::new());
        self.pendings.push(Pending { checkpoint, states, refers, writers });
    }

    /// What an engine does in one go: some states anew, some kept, the oldest checkpoint forgotten.
    fn begin_on_top(&mut self, a: usize) {
        self.begin();
        let last = self.pendings.len() - 1;
        (0..4).for_each(|n| self.write(last, a + n));
        self.reuse(last, self.committed.len().saturating_sub(1) + self.committed.len().max(1) * 3);
        self.commit(last, a.is_multiple_of(3).then_some(self.committed.len().saturating_sub(1)));
        if self.committed.len() > 2 {
            self.forget(0);
        }
    }

    fn next_state(&mut self, b: usize) -> (u64, usize) {
        self.seed += 1;
        (self.seed, [0, 10, 21, 300, 1_500, 3_000, 5_000, 12_000][b % 8] + b / 8)
    }

    fn write(&mut self, a: usize, b: usize) {
        let (seed, len) = self.next_state(b);
        let Some(pending) = pick(&mut self.pendings, a) else { return };
        let handle = pending.checkpoint.write(scope(seed), &bytes(seed, len)).unwrap();
        pending.add(State { handle, seed, len });
    }

    fn open_writer(&mut self, a: usize, b: usize) {
        let (seed, len) = self.next_state(b);
        let Some(pending) = pick(&mut self.pendings, a) else { return };
        let mut writer = pending.checkpoint.writer(scope(seed)).unwrap();
        bytes(seed, len).chunks(700).for_each(|piece| writer.write_all(piece).unwrap());
        pending.writers.push((writer, seed, len));
    }

    fn finish_writer(&mut self, a: usize) {
        let Some(pending) = pick(&mut self.pendings, a) else { return };
        let Some((writer, seed, len)) = pending.writers.pop() else { return };
        let handle = writer.finish().unwrap();
        pending.add(State { handle, seed, len });
    }

    /// All states of some checkpoint, or one, with the old handles or the new.
    fn reuse(&mut self, a: usize, b: usize) {
        let mut committed: Vec<_> = self.committed.values().collect();
        let Some(states) = pick(&mut committed, b).map(|states| states.values().cloned().collect::<Vec<_>>()) else {
            return;
        };
        let Some(pending) = pick(&mut self.pendings, a) else { return };
        let states =
            states.into_iter().enumerate().filter(|(n, _)| !(n + a + b).is_multiple_of(3)).map(|(_, state)| state);
        let states: Vec<_> = states.take(8).collect();
        let old: Vec<_> = states.iter().map(|state| state.handle.clone()).collect();
        let new = pending.checkpoint.reuse(&old).unwrap();
        for (state, kept) in states.into_iter().zip(new) {
            pending.refers.push(state.handle.clone());
            let handle = if b % 7 == 6 {
                pending.refers.push(kept);
                state.handle.clone()
            } else {
                kept
            };
            pending.add(State { handle, ..state });
        }
    }

    /// The content of a checkpoint that is there, or that a reader still has, and what the manifest says of it.
    fn base(&self, b: usize) -> Option<(Manifest, States)> {
        if let Some((checkpoint, states)) = self.readers.get(b % 5) {
            return Some((checkpoint.manifest().clone(), states.clone()));
        }
        let (id, states) = self.committed.iter().nth(b % self.committed.len().max(1))?;
        Some((self.store().checkpoint(*id).unwrap().manifest().clone(), states.clone()))
    }

    /// From nothing, or from a base, with some of its names taken out.
    fn commit(&mut self, a: usize, base: Option<usize>) {
        let newest = self.committed.keys().last().copied();
        let base = base.and_then(|b| Some((b, self.base(b)?)));
        let Some(Pending { checkpoint, states, writers, .. }) = remove(&mut self.pendings, a) else { return };
        let (id, busy) = (checkpoint.id(), !writers.is_empty());
        let (mut manifest, mut named) = (Manifest::builder(), States::new());
        if let Some((b, (earlier, states))) = base {
            (manifest, named) = (Manifest::based_on(&earlier), states);
            for gone in [b % 7, b % 13] {
                manifest = manifest.remove_state(&gone.to_string());
                named.remove(&gone.to_string());
            }
        }
        let mut kept: BTreeSet<_> = named.keys().cloned().collect();
        for (n, state) in states.into_iter().enumerate() {
            kept.remove(&n.to_string());
            manifest = manifest.state(n.to_string(), state.handle.clone());
            named.insert(n.to_string(), state);
        }
        match checkpoint.commit(manifest) {
            Ok(checkpoint) => {
                assert!(!busy && newest.is_none_or(|newest| newest < id));
                assert!(checkpoint.manifest().states().map(|(name, _)| name).eq(named.keys()));
                for (name, state) in &mut named {
                    // One that is kept may have been moved; one that was named may not.
                    let handle = checkpoint.manifest().state(name).unwrap().clone();
                    assert!(kept.contains(name) || handle == state.handle, "{handle} instead of {}", state.handle);
                    assert_eq!((handle.len(), handle.crc32()), (state.handle.len(), state.handle.crc32()));
                    state.handle = handle;
                }
                drop(checkpoint);
                self.committed.insert(id, named);
            }
            // A writer is open, or a later checkpoint was committed: also one that is forgotten by now.
            Err(error) => assert!(error.is_invalid(), "{error}"),
        }
    }

    fn forget(&mut self, a: usize) {
        let mut ids: Vec<_> = self.committed.keys().copied().collect();
        if let Some(id) = remove(&mut ids, a) {
            self.committed.remove(&id);
            assert_eq!(self.store().forget(id).unwrap().checkpoints, [id]);
        }
    }

    /// What it was rolled back from is still there, and may be a base like any other.
    fn roll_back(&mut self, a: usize) {
        let mut ids: Vec<_> = self.committed.keys().copied().collect();
        let Some(id) = remove(&mut ids, a) else { return };
        match self.store().rollback_to(id) {
            Ok(()) => assert_eq!(self.store().latest().unwrap().unwrap().id(), id),
            Err(error) => assert!(error.is_invalid() && error.to_string().contains("four roll-backs"), "{error}"),
        }
    }

    /// From a store that another engine has left behind.
    fn import(&mut self, a: usize) {
        self.seed += 1;
        let root = format!("/theirs-{}", self.seed);
        let theirs = self.options.clone().open(&root).unwrap();
        let (mut manifest, mut named) = (Manifest::builder(), States::new());
        let pending = theirs.begin_next().unwrap();
        for n in 0..=a % 4 {
            let (seed, len) = self.next_state(a + n);
            let handle = pending.write(scope(seed), &bytes(seed, len)).unwrap();
            // One that is written and not named is dead in the file that is taken over.
            if n != 1 {
                manifest = manifest.state(n.to_string(), handle.clone());
                named.insert(n.to_string(), State { handle, seed, len });
            }
        }
        pending.commit(manifest).unwrap();
        drop(theirs);
        let imported = self.store().import(&root, Claim::Copy).unwrap().checkpoint;
        for (name, state) in &mut named {
            state.handle = imported.manifest().state(name).unwrap().clone();
        }
        self.committed.insert(imported.id(), named);
    }

    fn open_reader(&mut self, a: usize) {
        let mut ids: Vec<_> = self.committed.keys().copied().collect();
        if let Some(id) = remove(&mut ids, a) {
            self.readers.push((self.store().checkpoint(id).unwrap(), self.committed[&id].clone()));
        }
    }

    /// Without closing: what is pending is aborted, what is open is dropped.
    fn reopen(&mut self) {
        self.pendings.clear();
        self.readers.clear();
        self.store = None;
        let store = self.options.clone().open(ROOT).unwrap();
        assert!(store.damaged().is_empty() && store.open_report().failures.is_empty());
        self.store = Some(store);
    }

    /// The handles of everything that must be alive, each once.
    fn alive(&self) -> HashMap<String, u64> {
        let pending = self.pendings.iter().flat_map(|pending| &pending.refers);
        let states =
            self.committed.values().chain(self.readers.iter().map(|(_, states)| states)).flat_map(BTreeMap::values);
        let all = pending.chain(states.map(|state| &state.handle)).filter(|handle| !handle.is_inline());
        all.map(|handle| (handle.to_string(), handle.len())).collect()
    }

    fn check(&self) {
        self.check_contents();
        let (usage, alive) = (self.store().usage(), self.alive());
        let logical = (alive.len() as u64, alive.values().sum());
        assert_eq!((usage.logical_files, usage.logical_bytes), logical, "{usage:?}, {alive:?}");
        let files = self.files();
        let needed: BTreeSet<_> = alive.keys().map(|text| file_of(text)).collect();
        assert!(needed.iter().all(|file| files.contains_key(file)), "{needed:?} of {files:?}");
        let idle = files.keys().filter(|file| !needed.contains(*file)).count() as u64;
        let orphans = files.len() as u64 - usage.physical_files;
        assert!(idle - orphans <= usage.open_files, "{usage:?}: of {files:?}, only {needed:?} are needed");
        let writers: usize = self.pendings.iter().map(|pending| pending.writers.len()).sum();
        let pools = if self.merging == Merging::WithinCheckpoint { self.pendings.len() as u64 } else { 1 };
        assert!(usage.open_files <= 2 * self.lanes * pools + writers as u64);
        let (len, allocated) = files.values().fold((0, 0), |sum, file| (sum.0 + file.len, sum.1 + file.allocated));
        assert_eq!(usage.physical_bytes + usage.orphan_bytes - usage.gathered_bytes, len, "{usage:?}, {files:?}");
        let (least, most) = (usage.allocated_bytes.saturating_sub(usage.gathered_bytes), usage.allocated_bytes);
        let least = if usage.gathered_bytes == 0 { most } else { least.saturating_sub(usage.physical_files * 4096) };
        assert!(orphans > 0 || (least..=most).contains(&allocated), "{usage:?}, {files:?}");
        let live: u64 = alive.values().map(|len| len + TRAILER).sum();
        assert_eq!(usage.dead_bytes, usage.physical_bytes - usage.physical_files * HEADER - live, "{usage:?}");
    }

    fn check_contents(&self) {
        let open = self.readers.iter().map(|(checkpoint, states)| (checkpoint.clone(), states));
        let committed = self.committed.iter().map(|(id, states)| (self.store().checkpoint(*id).unwrap(), states));
        for (checkpoint, states) in open.chain(committed) {
            for state in states.values() {
                assert!(*checkpoint.read(&state.handle).unwrap() == *bytes(state.seed, state.len), "{state:?}");
            }
        }
    }

    /// The data files on disk, by the text that handles name them with.
    fn files(&self) -> BTreeMap<String, Metadata> {
        let mut files = BTreeMap::new();
        for scope in ["exclusive", "shared"] {
            for entry in self.disk.list(At::new(&Path::new(ROOT).join(scope))).unwrap() {
                let name = entry.name.into_string().unwrap();
                let numbers = name.strip_suffix(".seg").unwrap().split('-').map(|part| part.parse::<u64>().unwrap());
                let numbers: Vec<_> = numbers.map(|number| number.to_string()).collect();
                files.insert(format!("{scope}:{}", numbers.join(".")), entry.metadata);
            }
        }
        files
    }

    fn end(mut self) {
        self.pendings.clear();
        self.readers.clear();
        while !self.committed.is_empty() {
            self.forget(0);
        }
        let store = self.store.take().unwrap();
        let _ = store.maintain(u64::MAX).unwrap();
        assert_eq!((store.usage().logical_files, store.usage().orphan_bytes), (0, 0));
        let clone = store.clone();
        store.close().unwrap();
        let _ = clone.maintain(u64::MAX).unwrap();
        assert_eq!(clone.usage().physical_files, 0);
        drop(clone);
        assert!(self.files().is_empty(), "{:?}", self.files());
    }
}

impl Pending {
    fn add(&mut self, state: State) {
        self.refers.push(state.handle.clone());
        self.states.push(state);
    }
}

fn scope(seed: u64) -> Scope {
    if seed.is_multiple_of(3) { Scope::Exclusive } else { Scope::Shared }
}

fn file_of(handle: &str) -> String {
    let (scope, rest) = handle.split_once(':').unwrap();
    let (_store, file) = rest.split_once('@').unwrap().0.split_once(':').unwrap();
    format!("{scope}:{file}")
}

fn pick<T>(all: &mut [T], n: usize) -> Option<&mut T> {
    let len = all.len().max(1);
    all.get_mut(n % len)
}

fn remove<T>(all: &mut Vec<T>, n: usize) -> Option<T> {
    (!all.is_empty()).then(|| all.remove(n % all.len()))
}

fn run(setting: &Setting, steps: &[[u8; 3]]) {
    let mut world = World::new(setting);
    for step in steps {
        world.step(*step);
        world.check();
    }
    world.end();
}

/// A quarter of the cases each, so that they run at the same time.
macro_rules! quarters {
    ($($name:ident)*) => {
        proptest! {
            #![proptest_config(Config { cases: 2500, failure_persistence: None, ..Config::default() })]
            $(
                #[test]
                fn $name(setting in settings(), steps in prop::collection::vec(any::<[u8; 3]>(), 1..160)) {
                    run(&setting, &steps);
                }
            )*
        }
    };
}

quarters! {
    any_sequence_of_calls_is_what_the_model_says_first_quarter
    any_sequence_of_calls_is_what_the_model_says_second_quarter
    any_sequence_of_calls_is_what_the_model_says_third_quarter
    any_sequence_of_calls_is_what_the_model_says_fourth_quarter
}
