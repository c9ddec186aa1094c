//! The rules of file merging, one row each: what shares a file with what, and which files are there afterwards.
//!
//! What is fenced off here: a file that leaks, or goes while somebody needs it, because of the order in which checkpoints
//! ended, because an end came twice or never, or because the process was restarted in between.

use std::{collections::BTreeMap, path::Path};

use piton::{
    CheckpointId, Manifest, Merging, Options, PendingCheckpoint, Scope, StateHandle, Store,
    disk::{At, Disk, MemoryDisk},
};

use crate::support::{ROOT, bytes, read_states};

use Scope::{Exclusive, Shared};
use Step::{Abort, Begin, Commit, Forget, Read, Reuse, Unread, Write};

/// What an engine does; numbers are those of checkpoints.
#[derive(Clone, Copy, Debug)]
enum Step {
    Begin(u64),
    /// A new state of so many bytes, under a name.
    Write(u64, Scope, &'static str, usize),
    /// The state of this name that another checkpoint has.
    Reuse(u64, u64, &'static str),
    Commit(u64),
    Abort(u64),
    Forget(u64),
    Read(u64),
    Unread(u64),
}

/// The states of a checkpoint by their names.
type States = BTreeMap<&'static str, (StateHandle, Vec<u8>)>;

/// A store, what is going on in it, and what every checkpoint must have.
struct World {
    options: Options,
    disk: MemoryDisk,
    store: Option<Store>,
    pendings: BTreeMap<u64, (PendingCheckpoint, States)>,
    committed: BTreeMap<u64, States>,
    readers: BTreeMap<u64, piton::Checkpoint>,
}

impl World {
    fn new(options: &Options) -> Self {
        let disk = MemoryDisk::new();
        let options = options.clone().disk(disk.clone()).inline_threshold(0);
        let store = Some(options.clone().open(ROOT).unwrap());
        let (pendings, committed, readers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { options, disk, store, pendings, committed, readers }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Steps of a checkpoint that ended already, or that a restart has ended, do nothing.
    fn run(&mut self, step: Step) {
        match step {
            Begin(n) => {
                let pending = self.store().begin(CheckpointId::new(n).unwrap()).unwrap();
                self.pendings.insert(n, (pending, BTreeMap::new()));
            }
            Write(n, scope, name, len) => {
                let Some((pending, states)) = self.pendings.get_mut(&n) else { return };
                let content = bytes(n * 100 + states.len() as u64, len);
                let handle = pending.write(scope, &content).unwrap();
                states.insert(name, (handle, content));
            }
            Reuse(n, from, name) => {
                let Some((handle, content)) = self.committed.get(&from).map(|states| states[name].clone()) else {
                    return;
                };
                let Some((pending, states)) = self.pendings.get_mut(&n) else { return };
                let handle = pending.reuse(&[handle]).unwrap().remove(0);
                states.insert(name, (handle, content));
            }
            Commit(n) => {
                let Some((pending, states)) = self.pendings.remove(&n) else { return };
                let manifest = states
                    .iter()
                    .fold(Manifest::builder(), |manifest, (name, (h, _))| manifest.state(*name, h.clone()));
                pending.commit(manifest).unwrap();
                self.committed.insert(n, states);
            }
            Abort(n) => drop(self.pendings.remove(&n)),
            Forget(n) => {
                let known = self.committed.remove(&n).is_some();
                let forgotten = self.store().forget(CheckpointId::new(n).unwrap());
                assert_eq!(forgotten.is_ok(), known, "{forgotten:?}");
            }
            Read(n) => drop(self.readers.insert(n, self.store().checkpoint(CheckpointId::new(n).unwrap()).unwrap())),
            Unread(n) => drop(self.readers.remove(&n)),
        }
        self.check();
    }

    /// Everything that is committed or open for reading can be read, and the gauges are those of the disk.
    fn check(&self) {
        for (n, states) in &self.committed {
            let checkpoint = self.store().checkpoint(CheckpointId::new(*n).unwrap()).unwrap();
            let read: BTreeMap<_, _> = read_states(&checkpoint).unwrap().into_iter().collect();
            assert_eq!(read.len(), states.len());
            assert!(states.iter().all(|(name, (_, content))| read[*name] == *content), "checkpoint {n}");
        }
        self.readers.values().for_each(|reader| drop(read_states(reader).unwrap()));
        let usage = self.store().usage();
        let files: Vec<_> = [Exclusive, Shared].into_iter().flat_map(|scope| self.files(scope)).collect();
        let on_disk = usage.physical_bytes - usage.gathered_bytes;
        assert_eq!((usage.physical_files, on_disk), (files.len() as u64, files.iter().sum()), "{usage:?}");
        assert_eq!(usage.orphan_bytes, 0);
    }

    /// The lengths of the data files of a scope.
    fn files(&self, scope: Scope) -> Vec<u64> {
        let dir = if scope == Shared { "shared" } else { "exclusive" };
        self.disk.list(At::new(&Path::new(ROOT).join(dir))).unwrap().iter().map(|entry| entry.metadata.len).collect()
    }

    fn counts(&self) -> (usize, usize) {
        (self.files(Exclusive).len(), self.files(Shared).len())
    }

    /// Everything that is not committed is aborted.
    fn restart(&mut self) {
        self.pendings.clear();
        self.readers.clear();
        self.store = None;
        let store = self.options.clone().open(ROOT).unwrap();
        assert!(store.open_report().removed.is_empty(), "a store that was dropped left something behind");
        self.store = Some(store);
        self.check();
    }

    /// Without checkpoints, pending ones and readers there is no data.
    fn end(mut self) {
        self.pendings.clear();
        self.readers.clear();
        let ids: Vec<_> = self.committed.keys().copied().collect();
        for n in ids {
            self.run(Forget(n));
        }
        assert_eq!(self.store().usage().logical_files, 0);
        self.store.take().unwrap().close().unwrap();
        assert_eq!(self.counts(), (0, 0), "closed, and all is forgotten");
    }
}

fn across() -> Options {
    Options::new()
}

fn within() -> Options {
    Options::new().merging(Merging::WithinCheckpoint)
}

fn off() -> Options {
    Options::new().merging(Merging::Off)
}

/// Three states of 1,000 bytes fill a segment.
fn small() -> Options {
    Options::new().segment_size(64 + 3 * 1088)
}

/// A rule, how the store is opened, what happens, and how many exclusive and shared files there are then.
type Row = (&'static str, fn() -> Options, &'static [Step], (usize, usize));

const ROWS: &[Row] = &[
    (
        "B1 off: every state has a file of its own",
        off,
        &[Begin(1), Write(1, Shared, "a", 9), Write(1, Shared, "b", 9), Write(1, Exclusive, "c", 9), Commit(1)],
        (1, 2),
    ),
    (
        "B1 within: states of one checkpoint share a file, those of two do not",
        within,
        &[
            Begin(1),
            Begin(2),
            Write(1, Shared, "a", 9),
            Write(2, Shared, "b", 9),
            Write(1, Shared, "c", 9),
            Write(2, Shared, "d", 9),
            Commit(1),
            Commit(2),
        ],
        (0, 2),
    ),
    (
        "B1 across: those of two checkpoints share a file as well",
        across,
        &[
            Begin(1),
            Begin(2),
            Write(1, Shared, "a", 9),
            Write(2, Shared, "b", 9),
            Commit(1),
            Commit(2),
            Begin(3),
            Write(3, Shared, "c", 9),
            Commit(3),
        ],
        (0, 1),
    ),
    (
        "B1 scopes share nothing",
        across,
        &[Begin(1), Write(1, Shared, "a", 9), Write(1, Exclusive, "b", 9), Commit(1)],
        (1, 1),
    ),
    (
        "B1 the size of a segment is a hard cap: what does not fit goes to a fresh one",
        small,
        &[
            Begin(1),
            Write(1, Shared, "a", 1000),
            Write(1, Shared, "b", 1000),
            Write(1, Shared, "c", 1000),
            Write(1, Shared, "d", 1000),
            Commit(1),
        ],
        (0, 2),
    ),
    (
        "B1 a state larger than a segment has one of its own, and the lane goes on",
        small,
        &[
            Begin(1),
            Write(1, Shared, "a", 1000),
            Write(1, Shared, "large", 4000),
            Write(1, Shared, "b", 1000),
            Commit(1),
        ],
        (0, 2),
    ),
    (
        "B2 a reopened store never appends to an older segment (see also the restarts)",
        across,
        &[Begin(1), Write(1, Shared, "a", 9), Commit(1)],
        (0, 1),
    ),
    (
        "B3 abort discards only what the checkpoint alone refers to",
        small,
        &[
            Begin(1),
            Write(1, Shared, "a", 3000),
            Commit(1),
            Begin(2),
            Reuse(2, 1, "a"),
            Write(2, Shared, "b", 3000),
            Abort(2),
            Begin(3),
            Write(3, Shared, "c", 3000),
            Commit(3),
        ],
        (0, 2),
    ),
    (
        "B3 forgetting discards what nobody else refers to",
        off,
        &[
            Begin(1),
            Write(1, Shared, "a", 9),
            Write(1, Shared, "b", 9),
            Commit(1),
            Begin(2),
            Reuse(2, 1, "a"),
            Write(2, Shared, "c", 9),
            Commit(2),
            Forget(1),
        ],
        (0, 2),
    ),
    (
        "B3 what a pending checkpoint reuses stays, though its checkpoint is forgotten",
        off,
        &[Begin(1), Write(1, Shared, "a", 9), Commit(1), Begin(2), Reuse(2, 1, "a"), Forget(1), Commit(2)],
        (0, 1),
    ),
    (
        "B3 what a reader has open stays, though its checkpoint is forgotten",
        off,
        &[Begin(1), Write(1, Shared, "a", 9), Commit(1), Read(1), Forget(1)],
        (0, 1),
    ),
    (
        "B3 ... until the reader is dropped",
        off,
        &[Begin(1), Write(1, Shared, "a", 9), Commit(1), Read(1), Forget(1), Unread(1)],
        (0, 0),
    ),
    (
        "B3 forgetting twice, or what was never committed, changes nothing",
        off,
        &[Begin(1), Write(1, Shared, "a", 9), Commit(1), Forget(9), Forget(1), Forget(1), Abort(1)],
        (0, 0),
    ),
    (
        "B4 a sealed file without live states goes at once, an open one stays for the next checkpoint",
        small,
        &[
            Begin(1),
            Write(1, Shared, "a", 1000),
            Write(1, Shared, "b", 1000),
            Write(1, Shared, "c", 1000),
            Write(1, Shared, "d", 1000),
            Abort(1),
        ],
        (0, 1),
    ),
    (
        "B4 within a checkpoint its files go with it",
        within,
        &[Begin(1), Write(1, Shared, "a", 9), Write(1, Exclusive, "b", 9), Abort(1)],
        (0, 0),
    ),
    (
        "B4 a file whose states die while it is open goes when it is full",
        small,
        &[
            Begin(1),
            Write(1, Shared, "a", 1000),
            Abort(1),
            Begin(2),
            Write(2, Shared, "b", 1000),
            Abort(2),
            Begin(3),
            Write(3, Shared, "c", 1000),
            Abort(3),
            Begin(4),
            Write(4, Shared, "d", 1000),
            Commit(4),
        ],
        (0, 1),
    ),
];

#[test]
fn files_are_those_that_the_rules_say() {
    for (rule, options, steps, files) in ROWS {
        let mut world = World::new(&options());
        steps.iter().for_each(|step| world.run(*step));
        assert_eq!(world.counts(), *files, "{rule}");
        world.end();
    }
}

#[test]
fn restart_at_any_step_loses_nothing_committed_and_leaves_nothing_else() {
    for (_, options, steps, _) in ROWS {
        for at in 0..=steps.len() {
            let mut world = World::new(&options());
            steps[..at].iter().for_each(|step| world.run(*step));
            world.restart();
            for step in &steps[at..] {
                // An id that was given to an attempt before the restart may come again.
                if !matches!(step, Read(n) if !world.committed.contains_key(n)) {
                    world.run(*step);
                }
            }
            world.end();
        }
    }
}

fn permutations() -> Vec<[u64; 4]> {
    let mut all = Vec::new();
    for a in 1..=4 {
        for b in (1..=4).filter(|b| *b != a) {
            for c in (1..=4).filter(|c| *c != a && *c != b) {
                all.push([a, b, c, 10 - a - b - c]);
            }
        }
    }
    assert_eq!(all.len(), 24);
    all
}

/// Four checkpoints: each keeps what the one before it had, and has a state of its own that others will keep, and one
/// that nobody will.
fn four_on_top_of_each_other(world: &mut World) {
    const NAMES: [&str; 5] = ["", "one", "two", "three", "four"];
    for n in 1..=4_u64 {
        world.run(Begin(n));
        (1..n).for_each(|from| world.run(Reuse(n, n - 1, NAMES[usize::try_from(from).unwrap()])));
        world.run(Write(n, Shared, NAMES[usize::try_from(n).unwrap()], 700));
        world.run(Write(n, Exclusive, "own", 900));
        world.run(Commit(n));
    }
}

#[test]
fn checkpoints_are_forgotten_in_every_order_with_repeated_and_missing_calls_and_restarts() {
    for options in [across, within, off, small] {
        for order in permutations() {
            for missing in 0..=4 {
                for restart in 0..=4 {
                    let mut world = World::new(&options());
                    four_on_top_of_each_other(&mut world);
                    for (at, n) in order.into_iter().enumerate() {
                        if at == restart {
                            world.restart();
                        }
                        if n != missing {
                            world.run(Forget(n));
                            world.run(Forget(n));
                        }
                    }
                    assert_eq!(world.committed.len(), usize::from(missing != 0));
                    world.end();
                }
            }
        }
    }
}

#[test]
fn attempts_end_in_every_order_each_by_commit_or_abort_with_repeated_and_missing_calls() {
    for options in [across, within, off, small] {
        for order in permutations() {
            for commits in 0..16_u64 {
                let mut world = World::new(&options());
                for n in 1..=4 {
                    world.run(Begin(n));
                    world.run(Write(n, Shared, "a", 700));
                    world.run(Write(n, Exclusive, "b", 900));
                }
                for n in order {
                    world.run(Write(n, Shared, "c", 500));
                    // Ids are published in order: what comes too late is refused, which is an abort.
                    let late = world.committed.keys().any(|committed| *committed > n);
                    if commits >> (n - 1) & 1 == 1 && !late {
                        world.run(Commit(n));
                        world.run(Commit(n));
                    } else {
                        world.run(Abort(n));
                        world.run(Abort(n));
                    }
                }
                world.end();
            }
        }
    }
}
