//! What others do in the middle of a commit, of forgetting, or of a change.

use std::{
    io,
    sync::{Arc, Mutex},
};

use piton::{
    CheckpointId, Manifest, Options, Scope,
    disk::{At, Disk},
};

use crate::support::{
    ROOT, bytes, commit_states,
    hooked::{HookedDisk, set, take_over},
    read_states,
};

#[test]
fn lower_id_is_refused_when_a_higher_one_is_committed_while_it_syncs() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let lower = store.begin_next().unwrap();
    let handle = lower.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    let higher = store.begin_next().unwrap();
    set(&disk.before_data_sync, move || drop(higher.commit(Manifest::builder()).unwrap()));
    let error = lower.commit(Manifest::builder().state("s", handle)).unwrap_err();
    assert!(error.is_invalid() && !error.is_indeterminate(), "{error}");
    assert_eq!(store.checkpoint_ids(), [CheckpointId::new(2).unwrap()]);
}

#[test]
fn lower_id_is_refused_before_anything_is_synced() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let lower = store.begin_next().unwrap();
    lower.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    commit_states(&store, &[]).unwrap();
    let syncs = disk.disk.count(piton::testing::Call::SyncData);
    assert!(lower.commit(Manifest::builder()).unwrap_err().is_invalid());
    assert_eq!(disk.disk.count(piton::testing::Call::SyncData), syncs);
}

#[test]
fn taken_over_before_the_manifest_is_published_a_commit_is_fenced() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let pending = store.begin_next().unwrap();
    let handle = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    let other = disk.clone();
    set(&disk.before_data_sync, move || drop(take_over(&other)));
    let error = pending.commit(Manifest::builder().state("s", handle)).unwrap_err();
    assert!(error.is_fenced() && !error.is_indeterminate(), "{error}");
    drop(store);
    assert!(disk.open().checkpoint_ids().is_empty());
}

#[test]
fn taken_over_before_the_commit_point_a_commit_reports_no_success_and_nothing_is_broken() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let other = disk.clone();
    set(&disk.before_sync_of_manifests, move || drop(take_over(&other)));
    let error = commit_states(&store, &[bytes(1, 5000)]).unwrap_err();
    assert!(error.is_indeterminate() && error.is_fenced(), "{error}");
    drop(store);
    // The successor saw the manifest, because it scanned after it was published.
    let store = disk.open();
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(1, 5000));
}

#[test]
fn taken_over_while_it_forgets_a_writer_leaves_the_data_alone() {
    let disk = HookedDisk::new();
    let store = disk.open();
    drop(commit_states(&store, &[bytes(1, 5000)]).unwrap());
    drop(commit_states(&store, &[bytes(2, 5000)]).unwrap());
    let other = disk.clone();
    set(&disk.before_sync_of_manifests, move || drop(take_over(&other)));
    let reclaimed = store.prune(1).unwrap();
    assert_eq!((reclaimed.checkpoints.len(), reclaimed.files), (1, 0));
    assert!(reclaimed.failures[0].is_fenced(), "{reclaimed:?}");
}

#[test]
fn taken_over_while_it_raises_the_floor_a_stalled_writer_does_not_bring_its_generation_back() {
    let disk = HookedDisk::new();
    let store = disk.open();
    drop(store.begin_next().unwrap());
    let other = disk.clone();
    // After the temporary identity was written, before it is renamed.
    set(&disk.before_data_sync, move || drop(take_over(&other)));
    assert!(store.close().unwrap_err().is_fenced());
    disk.disk.break_locks();
    assert_eq!(disk.open().generation(), 3, "that of the successor was not undone");
}

#[test]
fn newest_checkpoint_that_is_forgotten_while_it_is_opened_is_replaced_by_its_successor() {
    let disk = HookedDisk::new();
    let store = Options::new().disk(disk.clone()).retain(1).open(ROOT).unwrap();
    let first = commit_states(&store, &[]).unwrap().id();
    let other = store.clone();
    set(&disk.before_open_of_a_manifest, move || drop(commit_states(&other, &[]).unwrap()));
    assert_eq!(store.latest().unwrap().unwrap().id(), first.next().unwrap());
    assert!(store.damaged().is_empty() && store.checkpoint(first).unwrap_err().is_not_found());
}

#[test]
fn writer_fails_fast_once_its_checkpoint_has_ended() {
    let store = HookedDisk::new().open();
    let pending = store.begin_next().unwrap();
    let mut writer = pending.writer(Scope::Shared).unwrap();
    drop(pending);
    let error = io::Write::write_all(&mut writer, b"too late").unwrap_err();
    assert!(error.to_string().contains("aborted"), "{error}");
}

#[test]
fn file_that_the_ended_checkpoint_does_not_take_is_removed() {
    let disk = HookedDisk::new();
    let store = Options::new().disk(disk.clone()).durability(piton::Durability::PerState).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let mut writer = pending.writer(Scope::Shared).unwrap();
    io::Write::write_all(&mut writer, &bytes(1, 2_000_000)).unwrap();
    // The abort falls between the check and the hand-over: into the write of the trailer.
    set(&disk.before_write, move || drop(pending));
    assert!(writer.finish().unwrap_err().is_invalid());
    assert!(disk.disk.list(At::new("/state/shared".as_ref())).unwrap().is_empty());
}

#[test]
fn state_that_the_ended_checkpoint_does_not_take_is_dead_bytes_and_the_lane_goes_on() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let kept = commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let pending = store.begin_next().unwrap();
    let writer = {
        let mut writer = pending.writer(Scope::Shared).unwrap();
        io::Write::write_all(&mut writer, &bytes(2, 3000)).unwrap();
        writer
    };
    set(&disk.before_write, move || drop(pending));
    assert!(writer.finish().unwrap_err().is_invalid());
    let usage = store.usage();
    let listed = disk.disk.list(At::new("/state/shared".as_ref())).unwrap();
    assert_eq!((listed.len(), listed[0].metadata.len), (1, usage.physical_bytes));
    assert_eq!((usage.logical_bytes, usage.open_files), (5000, 1));
    assert!(usage.dead_bytes >= 3000);
    let next = commit_states(&store, &[bytes(3, 4000)]).unwrap();
    assert_eq!(store.usage().physical_files, 1);
    assert_eq!(read_states(&next).unwrap()[0].1, bytes(3, 4000));
    assert_eq!(read_states(&kept).unwrap()[0].1, bytes(1, 5000));
}

#[test]
fn disk_is_told_early_of_what_is_complete_each_byte_once() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let pending = store.begin_next().unwrap();
    (0..200).for_each(|n| drop(pending.write(Scope::Shared, &bytes(n, 30_000)).unwrap()));
    let hinted = disk.hinted.lock().unwrap().clone();
    assert_eq!(hinted.len(), 5, "after each MiB of 6,000,000 bytes: {hinted:?}");
    assert_eq!(hinted[0].0, 0);
    assert!(hinted.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{hinted:?}");
}

#[test]
fn panic_of_the_disk_while_a_manifest_is_published_leaves_its_data_to_the_next_open() {
    let disk = HookedDisk::new();
    let store = Options::new().disk(disk.clone()).merging(piton::Merging::Off).open(ROOT).unwrap();
    set(&disk.before_sync_of_manifests, || panic!("the disk's own bug"));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| commit_states(&store, &[bytes(1, 5000)])));
    assert!(panicked.is_err());
    assert!(store.begin_next().unwrap_err().is_poisoned(), "the manifest may be there or not");
    drop(store);
    let store = disk.open();
    assert!(store.damaged().is_empty());
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(1, 5000));
}

#[test]
fn panic_of_the_disk_in_the_middle_of_an_append_costs_the_segment_and_nothing_else() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let kept = commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let pending = store.begin_next().unwrap();
    set(&disk.before_write, || panic!("the disk's own bug"));
    let panicked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pending.write(Scope::Shared, &bytes(2, 3000))));
    assert!(panicked.is_err() && store.usage().open_files == 0, "nobody knows what is in it");
    let handle = pending.write(Scope::Shared, &bytes(3, 3000)).unwrap();
    let next = pending.commit(Manifest::builder().state("s", handle)).unwrap();
    assert_eq!((store.usage().open_files, store.usage().physical_files), (1, 2));
    assert_eq!(read_states(&next).unwrap()[0].1, bytes(3, 3000));
    assert_eq!(read_states(&kept).unwrap()[0].1, bytes(1, 5000));
}

#[test]
fn change_of_a_writer_that_lost_the_store_meanwhile_is_not_made() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let id = commit_states(&store, &[bytes(1, 5000)]).unwrap().id();
    let (other, taken) = (disk.clone(), Arc::new(Mutex::new(None)));
    let slot = Arc::clone(&taken);
    set(&disk.before_data_sync, move || *slot.lock().unwrap() = Some(take_over(&other)));
    let error = store.pin(id).unwrap_err();
    assert!(error.is_fenced() && !error.is_indeterminate(), "{error}");
    drop((store, taken));
    disk.disk.break_locks();
    assert!(disk.open().pinned().is_empty());
}

#[test]
fn writer_that_loses_the_store_while_it_prunes_stops_before_the_next_manifest() {
    let disk = HookedDisk::new();
    let store = disk.open();
    (1..=4).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    let (other, taken) = (disk.clone(), Arc::new(Mutex::new(None)));
    let slot = Arc::clone(&taken);
    set(&disk.before_exclusive_lock, move || *slot.lock().unwrap() = Some(take_over(&other)));
    let report = store.prune(1).unwrap();
    assert_eq!(report.checkpoints, [CheckpointId::FIRST], "this one it had looked for already");
    assert!(report.failures.iter().all(piton::Error::is_fenced) && !report.failures.is_empty());
    let reader = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
    assert_eq!(reader.checkpoint_ids().unwrap().len(), 3);
    drop((store, taken));
}
