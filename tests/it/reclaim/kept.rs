//! States that a checkpoint keeps by going on from another: the commit moves them out of files that should go. What is fenced
//! off here: a kind of state that stays behind for ever, one that is moved although the engine named it, and a commit
//! that fails for it.

use std::collections::BTreeMap;

use piton::{
    Artifact, Checkpoint, Manifest, ManifestBuilder, OperatorState, Options, PartitionState, Scope, StateHandle, Store,
    disk::MemoryDisk,
};

use crate::support::{ROOT, bytes};

/// Four states of 5,000 bytes fill a segment.
const SEGMENT: u64 = 64 + 4 * 5056;

fn open() -> Store {
    let options = Options::new().disk(MemoryDisk::new()).segment_size(SEGMENT).punch_holes(false);
    options.max_space_amplification(Some(1.0)).open(ROOT).unwrap()
}

/// The handles of a checkpoint by what they are called.
fn handles(checkpoint: &Checkpoint) -> BTreeMap<String, StateHandle> {
    checkpoint.manifest().all_states().map(|state| (state.name.to_string(), state.handle.clone())).collect()
}

/// One state of each kind, in a segment of which nothing else is alive once the fillers are gone.
fn one_of_each_kind(store: &Store) -> Checkpoint {
    let pending = store.begin_next().unwrap();
    let mut fillers = Manifest::builder();
    let mut seed = 0;
    let mut write = || {
        let [kept, ..] = [0; 4].map(|_: i32| {
            seed += 1;
            pending.write(Scope::Shared, &bytes(seed, 5000)).unwrap()
        });
        kept
    };
    let [named, coordinator, sidecar, snapshot, delta, of_partition] = [0; 6].map(|_: i32| write());
    // The fillers are written, and not named: their segments are full of garbage from the beginning.
    let partition = PartitionState {
        snapshot: Some(Artifact::from(snapshot)),
        deltas: vec![delta.into()],
        states: [("timers".to_owned(), of_partition)].into(),
        ..PartitionState::default()
    };
    let operator = OperatorState {
        coordinator: Some(coordinator),
        partitions: [(3, partition)].into(),
        ..OperatorState::default()
    };
    fillers = fillers.state("named", named).operator("window", operator).sidecar(sidecar);
    pending.commit(fillers).unwrap()
}

/// Goes on from the newest checkpoint a few times, and forgets the others.
fn go_on(store: &Store, change: impl Fn(ManifestBuilder) -> ManifestBuilder) -> Checkpoint {
    for round in 0..6 {
        let latest = store.latest().unwrap().unwrap();
        let pending = store.begin_next().unwrap();
        let new = pending.write(Scope::Shared, &bytes(100 + round, 5000)).unwrap();
        let manifest = change(Manifest::based_on(latest.manifest()).state("new", new));
        pending.commit(manifest).unwrap();
        drop(latest);
        let _ = store.prune(1).unwrap();
    }
    store.latest().unwrap().unwrap()
}

#[test]
fn states_of_every_kind_are_moved_out_of_files_that_should_go() {
    let store = open();
    let first = handles(&one_of_each_kind(&store));
    assert_eq!(first.len(), 6);
    assert!(store.usage().marked_files >= 5, "{:?}", store.usage());
    let last = go_on(&store, |manifest| manifest);
    let now = handles(&last);
    for (name, old) in &first {
        assert!(now[name] != *old, "{name} is where it was");
        assert_eq!(*last.read(&now[name]).unwrap(), *bytes(u64::from(seed_of(&first, name)), 5000), "{name}");
    }
    let usage = store.usage();
    assert!(usage.physical_files <= 4, "seven states need two files: {usage:?}");
}

#[test]
fn partition_that_gets_a_delta_in_every_checkpoint_is_moved_as_well_but_not_the_deltas_that_were_named() {
    let store = open();
    let first = handles(&one_of_each_kind(&store));
    let tiny = store.begin_next().unwrap().write(Scope::Exclusive, b"tiny").unwrap();
    let last = go_on(&store, |manifest| manifest.delta("window", 3, tiny.clone()));
    let now = handles(&last);
    let of_partition: Vec<_> = first.iter().filter(|(name, _)| name.contains('3')).collect();
    assert_eq!(of_partition.len(), 3, "{first:?}");
    for (name, old) in of_partition {
        assert!(now[name] != *old, "{name} is where it was");
        assert_eq!(*last.read(&now[name]).unwrap(), *bytes(u64::from(seed_of(&first, name)), 5000), "{name}");
    }
    let named = &first.iter().find(|(name, _)| name.contains("snapshot")).unwrap().1.clone();
    let store = open();
    let first = one_of_each_kind(&store);
    let mine = first.manifest().operator("window").unwrap().partitions[&3].clone();
    drop(first);
    let last = go_on(&store, |manifest| manifest.partition("window", 3, mine.clone()).delta("window", 3, tiny.clone()));
    let partition = &last.manifest().operator("window").unwrap().partitions[&3];
    assert_eq!(partition.snapshot, mine.snapshot, "it was named, as {named} was not");
    let store = open();
    let first = one_of_each_kind(&store);
    let old = first.manifest().operator("window").unwrap().partitions[&3].snapshot.clone().unwrap();
    drop(first);
    let last = go_on(&store, |manifest| {
        manifest.delta("window", 3, tiny.clone()).remove_partition("window", 3).delta("window", 3, old.clone())
    });
    let partition = &last.manifest().operator("window").unwrap().partitions[&3];
    assert_eq!(partition.deltas, [old], "it was named, in a partition that is new");
}

/// Which state it was: they were written four apart, in the order of their offsets.
fn seed_of(first: &BTreeMap<String, StateHandle>, name: &str) -> u8 {
    let content = |seed: u64| crc32fast::hash(&bytes(seed, 5000));
    (1..=24).find(|seed| content(u64::from(*seed)) == first[name].crc32()).unwrap()
}

#[test]
fn states_that_the_engine_names_itself_stay_where_they_are() {
    let store = open();
    let first = one_of_each_kind(&store);
    let old = handles(&first);
    let operator = first.manifest().operator("window").unwrap().clone();
    let (named, sidecar) =
        (first.manifest().state("named").unwrap().clone(), first.manifest().sidecar().unwrap().clone());
    drop(first);
    let last = go_on(&store, |manifest| {
        manifest.state("named", named.clone()).operator("window", operator.clone()).sidecar(sidecar.clone())
    });
    let now = handles(&last);
    for (name, old) in &old {
        assert_eq!(now[name], *old, "{name} was moved");
    }
    let partition = operator.partitions[&3].clone();
    let last = go_on(&store, |manifest| manifest.partition("window", 3, partition.clone()));
    let now = handles(&last);
    for (name, old) in old.iter().filter(|(name, _)| name.contains("partition 3")) {
        assert_eq!(now[name], *old, "{name} was moved");
    }
}

#[test]
fn partition_with_more_states_than_are_looked_at_in_one_commit_is_moved_and_so_is_what_follows() {
    let store = open();
    let pending = store.begin_next().unwrap();
    let [many, _, _, _, after, ..] =
        [1, 2, 3, 4, 5, 6, 7, 8].map(|seed| pending.write(Scope::Shared, &bytes(seed, 5000)).unwrap());
    let states = (0..20_000).map(|n| (n.to_string(), many.clone())).collect();
    let large = PartitionState { states, ..PartitionState::default() };
    let small = PartitionState { snapshot: Some(after.clone().into()), ..PartitionState::default() };
    pending.commit(Manifest::builder().partition("a", 1, large).partition("b", 1, small)).unwrap();
    let last = go_on(&store, |manifest| manifest);
    let partition = |name: &str| last.manifest().operator(name).unwrap().partitions[&1].clone();
    assert!(partition("a").states.values().all(|state| *state != many), "the large partition stays behind");
    assert!(partition("b").snapshot.as_ref().unwrap().handle != after, "what follows it stays behind");
}
