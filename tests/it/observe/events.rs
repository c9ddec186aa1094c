//! Which events there are, in which order, and what they say.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use piton::{
    CheckpointId, Claim, Durability, Manifest, ManifestChanges, Merging, Options, Scope,
    disk::{At, Disk},
    observe::{Event, Weight},
    testing::{Call, Fault, SimDisk},
};

use super::Told;
use crate::support::{ROOT, bytes, commit_states};

const EIO: i32 = 5;

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

#[test]
fn life_of_a_store_is_told_in_order() {
    let (told, disk) = (Told::default(), SimDisk::new());
    let open = || told.to(Options::new().disk(disk.clone()).merging(Merging::Off)).open(ROOT).unwrap();
    let store = open();
    assert_eq!(told.names(), ["opened"]);
    let first = commit_states(&store, &[bytes(1, 5000), bytes(2, 10)]).unwrap().id();
    assert_eq!(told.names(), ["begun", "written", "written", "committed"]);
    store.pin(first).unwrap();
    store.pin(first).unwrap();
    assert_eq!(told.names(), ["pinned"]);
    let second = commit_states(&store, &[bytes(3, 5000)]).unwrap().id();
    assert_eq!(told.names(), ["begun", "written", "committed"]);
    store.rollback_to(first).unwrap();
    assert_eq!(told.names(), ["rolled_back"]);
    let _ = store.forget(second).unwrap();
    assert_eq!(told.names(), ["removed", "forgotten"]);
    drop(store.begin_next().unwrap());
    assert_eq!(told.names(), ["begun", "aborted"]);
    let _ = store.export(first, "/export").unwrap();
    assert_eq!(told.names(), ["exported"]);
    drop(store.import("/export", Claim::Copy).unwrap());
    assert_eq!(told.names(), ["begun", "committed", "imported"]);
    store.close().unwrap();
    assert!(told.names().is_empty());
    drop(open());
    let events = told.take();
    assert!(matches!(events[..], [Event::Opened { generation: 2, checkpoints: 2, created: false, .. }]), "{events:?}");
}

#[test]
fn commit_says_what_it_cost() {
    let told = Told::default();
    let store = told.to(Options::new().disk(SimDisk::new())).open(ROOT).unwrap();
    commit_states(&store, &[bytes(1, 5000), bytes(2, 6000), bytes(3, 20)]).unwrap();
    commit_states(&store, &[bytes(4, 4000)]).unwrap();
    let committed = told.take().into_iter().filter_map(|event| match event {
        Event::Committed { checkpoint, new_states, new_bytes, syncs, took, usage, .. } => {
            assert!(took.total() >= took.publish && took.publish > Duration::ZERO);
            Some((checkpoint.get(), new_states, new_bytes, syncs, usage.logical_bytes))
        }
        _ => None,
    });
    // The first one has a new segment, whose name is made durable.
    let committed: Vec<_> = committed.collect();
    assert_eq!(committed[0], (1, 2, 11_000, committed[0].3, 11_000));
    assert_eq!(committed[1], (2, 1, 4000, 1, 15_000), "one sync");
}

#[test]
fn retention_is_told_with_the_commit_that_it_came_with() {
    let told = Told::default();
    let store = told.to(Options::memory().retain(1).merging(Merging::Off)).open(ROOT).unwrap();
    for seed in 1..=2 {
        commit_states(&store, &[bytes(seed, 5000)]).unwrap();
    }
    let retained = told.take().into_iter().find_map(|event| match event {
        Event::Retained { forgotten, in_use, .. } => Some((forgotten, in_use)),
        _ => None,
    });
    assert_eq!(retained, Some((vec![id(1)], vec![])));
}

#[test]
fn attempt_that_fails_is_aborted_and_one_that_is_refused_is_not() {
    let (told, disk) = (Told::default(), SimDisk::new());
    let store = told.to(Options::new().disk(disk.clone())).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let writer = pending.writer(Scope::Shared).unwrap();
    let pending = pending.commit(Manifest::builder()).unwrap_err().into_pending().unwrap();
    assert_eq!(told.names(), ["opened", "begun"]);
    drop(writer);
    disk.fail_nth(Call::SyncData, 1, Fault::Error(EIO));
    let error = pending.commit(Manifest::builder()).unwrap_err();
    let names = told.names();
    assert_eq!(names.contains(&"poisoned"), store.begin_next().is_err(), "{error}: {names:?}");
    assert_eq!(names.last(), Some(&"aborted"));
}

#[test]
fn store_that_must_be_reopened_says_so_once() {
    let (told, disk) = (Told::default(), SimDisk::new());
    let store = told.to(Options::new().disk(disk.clone()).merging(Merging::Off).redo_size(0)).open(ROOT).unwrap();
    disk.fail_nth(Call::SyncDir, 1, Fault::Error(EIO));
    for seed in 0..2 {
        assert!(commit_states(&store, &[bytes(seed, 5000)]).is_err());
    }
    assert_eq!(told.names().into_iter().filter(|name| *name == "poisoned").count(), 1);
}

#[test]
fn store_that_another_process_took_over_says_so_once() {
    let (told, disk) = (Told::default(), SimDisk::new());
    let store = told.to(Options::new().disk(disk.clone())).open(ROOT).unwrap();
    disk.break_locks();
    let _other = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    for seed in 0..2 {
        assert!(commit_states(&store, &[bytes(seed, 5000)]).is_err());
    }
    let fenced: Vec<_> = told.take().into_iter().filter(|event| event.name() == "fenced").collect();
    assert!(fenced.len() == 1 && fenced[0].weight() == Weight::Error, "{fenced:?}");
}

#[test]
fn damage_is_told_for_each_checkpoint_that_has_it_once() {
    let (told, disk) = (Told::default(), SimDisk::new());
    let store = told.to(Options::new().disk(disk.clone()).durability(Durability::None)).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let weights = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    let first = pending.commit(Manifest::builder().state("weights", weights.clone())).unwrap();
    let pending = store.begin_next().unwrap();
    pending.commit(Manifest::builder().state("weights", weights.clone())).unwrap();
    disk.damage(&the_segment(&disk), |bytes| bytes[4096] ^= 1).unwrap();
    told.take();
    for _ in 0..2 {
        assert!(first.read(&weights).unwrap_err().is_corrupt());
    }
    let damaged = told.take().into_iter().map(|event| match event {
        Event::Damaged { checkpoint, error, .. } => (checkpoint.get(), error.is_corrupt()),
        other => panic!("{other}"),
    });
    assert_eq!(damaged.collect::<Vec<_>>(), [(1, true), (2, true)]);
}

/// The only segment there is.
fn the_segment(disk: &SimDisk) -> PathBuf {
    let dir = Path::new(ROOT).join("shared");
    let names = disk.list(At::new(&dir)).unwrap();
    dir.join(&names.into_iter().find(|entry| entry.name.to_string_lossy().ends_with(".seg")).unwrap().name)
}

#[test]
fn what_cannot_be_removed_is_told_as_left_over() {
    let (told, disk) = (Told::default(), SimDisk::new());
    let store = told.to(Options::new().disk(disk.clone()).merging(Merging::Off)).open(ROOT).unwrap();
    let first = commit_states(&store, &[bytes(1, 5000)]).unwrap().id();
    commit_states(&store, &[bytes(2, 5000)]).unwrap();
    told.take();
    disk.fail_nth(Call::Remove, 1, Fault::Error(EIO));
    let _ = store.forget(first).unwrap();
    assert_eq!(told.names(), ["left_over", "forgotten"]);
    let _ = store.maintain(u64::MAX).unwrap();
    assert_eq!(told.names(), ["removed"]);
}

#[test]
fn members_are_told_of() {
    let (told, disk) = (Told::default(), SimDisk::new());
    let store = told.to(Options::new().disk(disk.clone())).open(ROOT).unwrap();
    let membership = store.admit().unwrap();
    let member = Options::new().disk(disk).join(ROOT, &membership).unwrap();
    let part = member.begin(id(1), None).unwrap().prepare(ManifestChanges::new()).unwrap();
    let pending = store.begin(id(1)).unwrap();
    pending.accept(&part).unwrap();
    pending.accept(&part).unwrap();
    pending.commit(Manifest::builder()).unwrap();
    let _ = store.dismiss(&membership).unwrap();
    assert_eq!(told.names(), ["opened", "admitted", "begun", "accepted", "committed", "dismissed"]);
}

#[test]
fn members_tell_what_they_write() {
    let (told, disk) = (Told::default(), SimDisk::new());
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    let membership = store.admit().unwrap();
    let member = told.to(Options::new().disk(disk)).join(ROOT, &membership).unwrap();
    let part = member.begin(id(1), None).unwrap();
    part.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    assert_eq!(told.names(), ["written"]);
}

#[test]
fn second_observer_is_told_after_the_first() {
    let (one, other) = (Told::default(), Told::default());
    drop(other.to(one.to(Options::memory())).open(ROOT).unwrap());
    assert_eq!((one.names(), other.names()), (vec!["opened"], vec!["opened"]));
}

#[test]
fn panic_of_an_observer_reaches_the_caller_of_a_commit_that_is_done() {
    let told = Told::default();
    let panics = AtomicBool::new(true);
    let options = told.to(Options::memory()).observer(move |event| {
        assert!(event.name() != "committed" || !panics.swap(false, Ordering::Relaxed), "the observer failed");
    });
    let store = options.open(ROOT).unwrap();
    let commit = || commit_states(&store, &[bytes(1, 5000)]);
    assert!(catch_unwind(AssertUnwindSafe(commit)).is_err());
    assert_eq!(store.checkpoint_ids(), [id(1)]);
    told.take();
    commit_states(&store, &[bytes(2, 5000)]).unwrap();
    assert_eq!(told.names(), ["begun", "written", "committed"]);
}

#[test]
fn names_and_texts_of_events_fit_one_line() {
    let told = Told::default();
    let store = told.to(Options::memory()).open(ROOT).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    for event in told.take() {
        let text = event.to_string();
        assert!(!text.is_empty() && !text.contains('\n') && event.name().is_ascii(), "{text}");
    }
}
