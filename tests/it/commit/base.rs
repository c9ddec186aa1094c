//! Checkpoints that go on from an earlier one. What is fenced off here: a state that is kept without being named and is lost,
//! one that is kept although it must not be, and work for what did not change.

use std::{path::Path, sync::Arc};

use piton::{
    Artifact, Checkpoint, Claim, ConnectorOffset, Manifest, ManifestBuilder, OperatorState, Options, PartitionState,
    Scope, SinkCommitStatus, StateHandle, Store,
    disk::{At, Disk},
    testing::SimDisk,
};

use crate::support::{
    ROOT, allocations, bytes,
    hooked::{HookedDisk, set},
    read_states,
};

fn open(disk: &(impl Disk + Clone)) -> Store {
    Options::new().disk(disk.clone()).inline_threshold(0).open(ROOT).unwrap()
}

fn named(checkpoint: &Checkpoint) -> Vec<(String, Vec<u8>)> {
    read_states(checkpoint).unwrap()
}

/// Commits these states anew, on top of a content.
fn commit(store: &Store, manifest: ManifestBuilder, states: &[(&str, u64)]) -> Checkpoint {
    let pending = store.begin_next().unwrap();
    let write = |seed| pending.write(Scope::Shared, &bytes(seed, 3000)).unwrap();
    let manifest = states.iter().fold(manifest, |manifest, (name, seed)| manifest.state(*name, write(*seed)));
    pending.commit(manifest).unwrap()
}

fn content(states: &[(&str, u64)]) -> Vec<(String, Vec<u8>)> {
    states.iter().map(|(name, seed)| ((*name).to_owned(), bytes(*seed, 3000))).collect()
}

#[test]
fn states_that_are_not_touched_are_kept_when_the_base_is_forgotten_and_the_store_reopened() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let first = commit(&store, Manifest::builder(), &[("a", 1), ("b", 2), ("c", 3)]);
    let base = Manifest::based_on(first.manifest()).remove_state("b").remove_state("never there");
    let second = commit(&store, base, &[("c", 4), ("d", 5)]);
    let expected = content(&[("a", 1), ("c", 4), ("d", 5)]);
    assert_eq!(named(&second), expected);
    let first = { first }.id();
    let gone = store.forget(first).unwrap();
    assert_eq!(gone.checkpoints, [first]);
    assert_eq!(store.usage().logical_files, 3, "what the base alone named is gone");
    drop((second, store));
    assert_eq!(named(&open(&disk).latest().unwrap().unwrap()), expected);
}

#[test]
fn base_may_be_an_older_checkpoint_or_one_that_was_rolled_back_to_and_what_died_meanwhile_lives_again() {
    let store = open(&SimDisk::new());
    let first = commit(&store, Manifest::builder(), &[("a", 1), ("b", 2)]);
    let second = commit(&store, Manifest::based_on(first.manifest()).remove_state("a"), &[("b", 3)]);
    store.rollback_to(first.id()).unwrap();
    let latest = store.latest().unwrap().unwrap();
    let third = commit(&store, Manifest::based_on(latest.manifest()), &[("c", 4)]);
    let (first, second) = ({ first }.id(), { second }.id());
    drop(latest);
    let _ = store.forget(second).unwrap();
    let _ = store.forget(first).unwrap();
    assert_eq!(named(&third), content(&[("a", 1), ("b", 2), ("c", 4)]));
    assert_eq!(store.usage().logical_files, 3);
}

#[test]
fn base_that_was_forgotten_cannot_bring_back_what_is_gone() {
    let store = open(&SimDisk::new());
    let first = commit(&store, Manifest::builder(), &[("a", 1), ("b", 2)]);
    let (base, id) = (first.manifest().clone(), first.id());
    drop(first);
    commit(&store, Manifest::builder(), &[("b", 3)]);
    let _ = store.forget(id).unwrap();
    let error = store.begin_next().unwrap().commit(Manifest::based_on(&base)).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let pending = error.into_pending().expect("nothing was tried");
    pending.commit(Manifest::based_on(&base).remove_state("a").remove_state("b")).unwrap();
}

#[test]
fn operators_partitions_and_everything_else_are_kept_and_can_be_taken_out() {
    let store = open(&SimDisk::new());
    let pending = store.begin_next().unwrap();
    let write = |seed| pending.write(Scope::Shared, &bytes(seed, 2000)).unwrap();
    let partition = |seed| PartitionState { snapshot: Some(Artifact::from(write(seed))), ..PartitionState::default() };
    let operator = |seeds: [u64; 2]| OperatorState {
        parallelism: 2,
        coordinator: Some(write(seeds[0] + 50)),
        partitions: seeds.map(|seed| (u32::try_from(seed).unwrap(), partition(seed))).into(),
        ..OperatorState::default()
    };
    let offset = ConnectorOffset { epoch: 7, ..ConnectorOffset::default() };
    let manifest = Manifest::builder()
        .operator("window", operator([1, 2]))
        .operator("join", operator([3, 4]))
        .sidecar(write(9))
        .source_offset("in", offset.clone())
        .table_offset("dim", offset)
        .sink_epoch("out", 3)
        .sink_status("out", SinkCommitStatus::Committed)
        .source_watermark_ms("in", 5)
        .source("in")
        .sink("out")
        .metadata("k", b"v")
        .epoch(77)
        .timestamp_ms(5);
    let first = pending.commit(manifest).unwrap();

    let pending = store.begin_next().unwrap();
    let new = PartitionState {
        snapshot: Some(pending.write(Scope::Shared, &bytes(6, 2000)).unwrap().into()),
        ..PartitionState::default()
    };
    let base = || Manifest::based_on(first.manifest());
    let second = pending.commit(base().partition("window", 2, new).remove_partition("join", 3)).unwrap();
    let manifest = second.manifest();
    assert_eq!(
        (manifest.epoch(), manifest.timestamp_ms()),
        (second.id().get(), 0),
        "these are of one checkpoint alone"
    );
    let bytes_of = |operator: &str, number: u32| {
        let partition = manifest.operator(operator).unwrap().partitions.get(&number).cloned();
        partition
            .map(|partition: Arc<PartitionState>| second.read_artifact(partition.snapshot.as_ref().unwrap()).unwrap())
    };
    assert_eq!(bytes_of("window", 1), Some(bytes(1, 2000)));
    assert_eq!(bytes_of("window", 2), Some(bytes(6, 2000)));
    assert_eq!((bytes_of("join", 3), bytes_of("join", 4)), (None, Some(bytes(4, 2000))));
    assert_eq!(*second.read(manifest.sidecar().unwrap()).unwrap(), *bytes(9, 2000));
    assert_eq!((manifest.source_offsets()["in"].epoch, manifest.sink_epochs()["out"]), (7, 3));

    let third = store.begin_next().unwrap().commit(emptied(base())).unwrap();
    let nothing = store.begin_next().unwrap().commit(Manifest::builder()).unwrap();
    assert!(same(third.manifest(), nothing.manifest()) && !same(first.manifest(), nothing.manifest()));
    drop((first, second, third));
    let _ = store.prune(1).unwrap();
    assert_eq!(store.usage().logical_files, 0);
}

/// All of the above taken out again.
fn emptied(manifest: ManifestBuilder) -> ManifestBuilder {
    manifest
        .remove_operator("window")
        .remove_operator("join")
        .remove_sidecar()
        .remove_source_offset("in")
        .remove_table_offset("dim")
        .remove_sink_epoch("out")
        .remove_sink_status("out")
        .remove_source_watermark("in")
        .remove_source("in")
        .remove_sink("out")
        .remove_metadata("k")
}

fn same(a: &Manifest, b: &Manifest) -> bool {
    a.operators() == b.operators()
        && a.sidecar() == b.sidecar()
        && a.source_offsets() == b.source_offsets()
        && a.table_offsets() == b.table_offsets()
        && a.sink_epochs() == b.sink_epochs()
        && a.sink_status() == b.sink_status()
        && a.source_watermarks_ms() == b.source_watermarks_ms()
        && a.source_names().eq(b.source_names())
        && a.sink_names().eq(b.sink_names())
        && a.all_metadata().eq(b.all_metadata())
}

#[test]
fn imported_checkpoint_is_a_base() {
    let disk = SimDisk::new();
    let theirs = Options::new().disk(disk.clone()).inline_threshold(0).open("/theirs").unwrap();
    commit(&theirs, Manifest::builder(), &[("a", 1), ("b", 2)]);
    drop(theirs);
    let store = open(&disk);
    let imported = store.import("/theirs", Claim::Copy).unwrap().checkpoint;
    let next = commit(&store, Manifest::based_on(imported.manifest()), &[("b", 3)]);
    let imported = { imported }.id();
    let _ = store.forget(imported).unwrap();
    assert_eq!(named(&next), content(&[("a", 1), ("b", 3)]));
}

#[test]
fn base_with_a_damaged_state_is_refused_until_that_is_written_anew() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let first = commit(&store, Manifest::builder(), &[("a", 1), ("b", 2)]);
    let damaged = first.manifest().state("a").unwrap().clone();
    let shared = Path::new(ROOT).join("shared");
    let segment = disk.list(At::new(&shared)).unwrap().remove(0).name;
    disk.damage(&shared.join(segment), |bytes| bytes[64] ^= 1).unwrap();
    assert!(first.read(&damaged).unwrap_err().is_corrupt());
    let error = store.begin_next().unwrap().commit(Manifest::based_on(first.manifest())).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains(&damaged.to_string()), "{error}");
    drop(error);
    let second = commit(&store, Manifest::based_on(first.manifest()), &[("a", 3)]);
    assert_eq!(named(&second), content(&[("a", 3), ("b", 2)]));
}

/// Nobody knows what became of a name whose bytes are not there: the newest checkpoint cannot vouch for it.
#[test]
fn base_of_which_a_file_is_lost_is_refused_although_it_is_the_newest() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let first = commit(&store, Manifest::builder(), &[("a", 1)]);
    let pending = store.begin_next().unwrap();
    let lost = pending.write(Scope::Exclusive, &bytes(2, 3000)).unwrap();
    let second = pending.commit(Manifest::based_on(first.manifest()).state("b", lost.clone())).unwrap();
    let base = second.manifest().clone();
    drop((first, second, store));
    let exclusive = Path::new(ROOT).join("exclusive");
    let segment = disk.list(At::new(&exclusive)).unwrap().remove(0).name;
    disk.remove(At::new(&exclusive.join(segment))).unwrap();
    let store = open(&disk);
    assert_eq!(store.damaged().len(), 1);
    let error = store.begin_next().unwrap().commit(Manifest::based_on(&base)).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains(&lost.to_string()), "{error}");
    let third = commit(&store, Manifest::based_on(&base), &[("b", 3)]);
    assert_eq!(named(&third), content(&[("a", 1), ("b", 3)]));
}

/// Another checkpoint is published between the comparison with the newest one and the publication.
#[test]
fn checkpoint_that_is_overtaken_while_it_is_committed_keeps_what_its_base_named() {
    let disk = HookedDisk::new();
    let store = open(&disk);
    let first = commit(&store, Manifest::builder(), &[("a", 1), ("b", 2)]);
    let (second, third) = (store.begin_next().unwrap(), store.begin_next().unwrap());
    let new = third.write(Scope::Exclusive, &bytes(3, 3000)).unwrap();
    let other = second.write(Scope::Shared, &bytes(4, 3000)).unwrap();
    let overtaking = Manifest::based_on(first.manifest()).remove_state("a").state("d", other);
    set(&disk.before_data_sync, move || drop(second.commit(overtaking).unwrap()));
    let third = third.commit(Manifest::based_on(first.manifest()).state("c", new)).unwrap();
    assert_eq!(store.checkpoint_ids().len(), 3, "the second one was published meanwhile");
    drop(first);
    let _ = store.prune(1).unwrap();
    assert_eq!(store.usage().logical_files, 3, "what the second one alone named is gone");
    assert_eq!(named(&third), content(&[("a", 1), ("b", 2), ("c", 3)]));
    drop((third, store));
    let latest = open(&disk).latest().unwrap().unwrap();
    assert_eq!(named(&latest), content(&[("a", 1), ("b", 2), ("c", 3)]));
}

#[test]
fn damage_that_is_found_while_a_checkpoint_is_committed_is_found_in_that_one_too() {
    let disk = HookedDisk::new();
    let store = open(&disk);
    let first = commit(&store, Manifest::builder(), &[("a", 1)]);
    let segments = Path::new(ROOT).join("shared");
    let [segment] = &Disk::list(&disk.disk, (&*segments).into()).unwrap()[..] else { panic!() };
    let (segment, medium) = (segments.join(&segment.name), disk.disk.clone());
    let pending = store.begin_next().unwrap();
    let new = pending.write(Scope::Exclusive, &bytes(2, 3000)).unwrap();
    let manifest = Manifest::based_on(first.manifest()).state("b", new);
    set(&disk.before_data_sync, move || {
        medium.damage(&segment, |bytes| bytes[1000] ^= 1).unwrap();
        assert!(first.get("a").unwrap_err().is_corrupt());
    });
    let second = pending.commit(manifest).unwrap();
    let damaged: Vec<_> = store.damaged().into_iter().map(|(id, _)| id.get()).collect();
    assert_eq!(damaged, [1, 2]);
    assert!(second.get("a").unwrap_err().is_corrupt() && store.latest().is_err());
}

#[test]
fn state_of_another_store_in_a_base_is_refused() {
    let disk = SimDisk::new();
    let theirs = Options::new().disk(disk.clone()).inline_threshold(0).open("/theirs").unwrap();
    let foreign = commit(&theirs, Manifest::builder(), &[("a", 1)]);
    let store = open(&disk);
    let error = store.begin_next().unwrap().commit(Manifest::based_on(foreign.manifest())).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("another store"), "{error}");
}

/// How often a commit allocates if 100 of so many states are new, without the manifest's bytes.
fn allocations_of_a_commit(states: usize, apart: usize) -> u64 {
    let store = Options::memory().inline_threshold(0).open("state").unwrap();
    let pending = store.begin_next().unwrap();
    let one = pending.write(Scope::Shared, &[7; 100]).unwrap();
    let name = |n: usize| format!("state-{n:08}");
    let manifest = (0..states).fold(Manifest::builder(), |manifest, n| manifest.state(name(n), one.clone()));
    let first = pending.commit(manifest).unwrap();
    let pending = store.begin_next().unwrap();
    let new: Vec<StateHandle> = (0..100).map(|_| pending.write(Scope::Shared, &[8; 100]).unwrap()).collect();
    let mut committed = None;
    let count = allocations::during(|| {
        let base = Manifest::based_on(first.manifest());
        let manifest = new.into_iter().enumerate().fold(base, |m, (n, new)| m.state(name(n * apart), new));
        committed = Some(pending.commit(manifest).unwrap());
    });
    assert_eq!(committed.unwrap().manifest().states().len(), states);
    count
}

#[test]
fn commit_allocates_for_what_changed_and_not_for_what_is_there() {
    let (small, large) = (allocations_of_a_commit(1_000, 1), allocations_of_a_commit(100_000, 1));
    // The tree is two nodes higher; the bytes of the manifest grow by doubling.
    assert!(large <= small + 60, "{small} for 1,000 states, {large} for 100,000");
    let spread = allocations_of_a_commit(100_000, 1_000);
    assert!(spread <= small + 100 * 10, "{small} side by side, {spread} far apart");
}
