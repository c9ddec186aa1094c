//! What others do in the middle of a commit, of forgetting, or of a change.

use std::{
    io,
    sync::{Arc, Mutex},
};

use piton::{
    CheckpointId, Error, Maintenance, Manifest, Options, Scope,
    disk::{At, Disk},
};

use crate::support::{
    ROOT, bytes, commit_states,
    hooked::{HookedDisk, set, take_over},
    log::logs_on,
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

/// Another process takes the store over during the next sync of the log, after its bytes were made durable or before.
fn take_over_during_a_sync(disk: &HookedDisk, after: bool) {
    let other = disk.clone();
    set(if after { &disk.after_data_sync } else { &disk.before_data_sync }, move || drop(take_over(&other)));
}

#[test]
fn taken_over_at_the_commit_point_a_commit_reports_no_success_and_is_there_or_not() {
    for after in [false, true] {
        let disk = HookedDisk::new();
        let store = disk.open();
        drop(commit_states(&store, &[]).unwrap());
        let pending = store.begin_next().unwrap();
        take_over_during_a_sync(&disk, after);
        let error = pending.commit(Manifest::builder()).unwrap_err();
        assert!(error.is_indeterminate() && error.is_fenced(), "{error}");
        assert!(store.begin_next().unwrap_err().is_poisoned());
        drop(store);
        // The successor saw the record, because it was written before the successor looked.
        assert_eq!(disk.open().checkpoint_ids().len(), 2);
    }
}

#[test]
fn record_that_a_stalled_writer_appends_after_its_successor_has_begun_counts_for_nothing() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let first = commit_states(&store, &[bytes(1, 5000)]).unwrap().id();
    let pending = store.begin_next().unwrap();
    let other = disk.clone();
    let (taken, kept) = (Arc::new(Mutex::new(None)), CheckpointId::new(2).unwrap());
    let slot = Arc::clone(&taken);
    // After the last look at the identity, before the record is written.
    set(&disk.before_write, move || {
        let second = take_over(&other);
        let _ = second.forget(CheckpointId::FIRST).unwrap();
        assert_eq!(commit_states(&second, &[bytes(2, 5000)]).unwrap().id(), CheckpointId::new(2).unwrap());
        *slot.lock().unwrap() = Some(second);
    });
    let error = pending.commit(Manifest::builder().metadata("stale", b"")).unwrap_err();
    assert!(error.is_indeterminate() && error.is_fenced(), "{error}");
    assert!(store.forget(first).unwrap_err().is_poisoned());
    let reader = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
    drop((store, taken));
    disk.disk.break_locks();
    let third = disk.open();
    for (ids, latest) in [
        (third.checkpoint_ids(), third.latest().unwrap().unwrap()),
        (reader.checkpoint_ids().unwrap(), reader.latest().unwrap().unwrap()),
    ] {
        assert_eq!((&ids[..], latest.manifest().metadata("stale")), (&[kept][..], None));
        assert_eq!(read_states(&latest).unwrap()[0].1, bytes(2, 5000));
    }
}

#[test]
fn taken_over_while_it_forgets_a_writer_leaves_the_data_alone() {
    for after in [false, true] {
        let disk = HookedDisk::new();
        let store = Options::new().disk(disk.clone()).merging(piton::Merging::Off).open(ROOT).unwrap();
        drop(commit_states(&store, &[bytes(1, 5000)]).unwrap());
        drop(commit_states(&store, &[bytes(2, 5000)]).unwrap());
        take_over_during_a_sync(&disk, after);
        let error = store.prune(1).unwrap_err();
        assert!(error.is_fenced() && error.is_indeterminate(), "{error}");
        assert_eq!(store.checkpoint_ids().len(), 2, "as far as this writer knows");
        let data = disk.disk.list(At::new("/state/shared".as_ref())).unwrap();
        assert_eq!(data.len(), 1, "the successor has removed it: it saw the record");
    }
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
        // Too long to be gathered.
        io::Write::write_all(&mut writer, &bytes(2, 30_000)).unwrap();
        writer
    };
    set(&disk.before_write, move || drop(pending));
    assert!(writer.finish().unwrap_err().is_invalid());
    let usage = store.usage();
    let listed = disk.disk.list(At::new("/state/shared".as_ref())).unwrap();
    assert_eq!((listed.len(), listed[0].metadata.len), (1, usage.physical_bytes));
    assert_eq!((usage.logical_bytes, usage.open_files), (5000, 1));
    assert!(usage.dead_bytes >= 30_000);
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
    // Long ones alone, and short ones together.
    for (len, often) in [(30_000, 200), (10_000, 600)] {
        let before = disk.hinted.lock().unwrap().len();
        (0..often).for_each(|n| drop(pending.write(Scope::Shared, &bytes(n, len)).unwrap()));
        let hinted = disk.hinted.lock().unwrap().len() - before;
        assert!((4..=5).contains(&hinted), "{hinted}, after each MiB of 6,000,000 bytes");
    }
    let hinted = disk.hinted.lock().unwrap().clone();
    assert_eq!(hinted[0].0, 0);
    assert!(hinted.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{hinted:?}");
}

#[test]
fn panic_of_the_disk_while_a_record_is_appended_leaves_its_data_to_the_next_open() {
    let disk = HookedDisk::new();
    let store = disk.open();
    drop(commit_states(&store, &[]).unwrap());
    let pending = store.begin_next().unwrap();
    let state = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    let other = disk.clone();
    // The first sync is that of the segment.
    set(&disk.before_data_sync, move || set(&other.before_data_sync, || panic!("the disk's own bug")));
    let manifest = Manifest::builder().state("0", state);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pending.commit(manifest)));
    assert!(panicked.is_err());
    assert!(store.begin_next().unwrap_err().is_poisoned(), "the record may be there or not");
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
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pending.write(Scope::Shared, &bytes(2, 30_000))));
    assert!(panicked.is_err() && store.usage().open_files == 0, "nobody knows what is in it");
    let handle = pending.write(Scope::Shared, &bytes(3, 3000)).unwrap();
    let next = pending.commit(Manifest::builder().state("s", handle)).unwrap();
    assert_eq!((store.usage().open_files, store.usage().physical_files), (1, 2));
    assert_eq!(read_states(&next).unwrap()[0].1, bytes(3, 3000));
    assert_eq!(read_states(&kept).unwrap()[0].1, bytes(1, 5000));
}

#[test]
fn change_of_a_writer_that_lost_the_store_while_it_was_synced_reports_no_success() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let id = commit_states(&store, &[bytes(1, 5000)]).unwrap().id();
    let (other, taken) = (disk.clone(), Arc::new(Mutex::new(None)));
    let slot = Arc::clone(&taken);
    set(&disk.before_data_sync, move || *slot.lock().unwrap() = Some(take_over(&other)));
    let error = store.pin(id).unwrap_err();
    assert!(error.is_fenced() && error.is_indeterminate(), "{error}");
    drop((store, taken));
    disk.disk.break_locks();
    assert_eq!(disk.open().pinned(), [id], "its successor saw the record");
}

#[test]
fn writer_that_loses_the_store_while_it_writes_a_base_names_and_removes_nothing() {
    let disk = HookedDisk::new();
    let options = Options::new().disk(disk.clone()).log_size(128 << 10).maintenance(Maintenance::Manual);
    let store = options.open(ROOT).unwrap();
    // More than a log takes.
    (0..40).for_each(|_| drop(commit_states(&store, &[]).unwrap()));
    let before = logs_on(&disk.disk);
    let (other, second) = (disk.clone(), Arc::<Mutex<_>>::default());
    let keep = Arc::clone(&second);
    set(&disk.during_list_of_manifests, move || *keep.lock().unwrap() = Some(take_over(&other)));
    let done = store.maintain(0).unwrap();
    assert!(done.failures.iter().any(Error::is_fenced), "{:?}", done.failures);
    let entries = disk.disk.list(At::new("/state/manifests".as_ref())).unwrap();
    let is_ours = |name: &str| name.starts_with("00000001-") && !name.contains(".log");
    assert!(!entries.iter().any(|entry| is_ours(entry.name.to_str().unwrap())));
    // Those that were begun; the successor has removed the blank ones.
    let after = logs_on(&disk.disk);
    assert!(before[..before.len() - 2].iter().all(|log| after.contains(log)), "{before:?} {after:?}");
    let second = second.lock().unwrap().take().unwrap();
    assert_eq!((second.checkpoint_ids().len(), commit_states(&second, &[]).unwrap().id().get()), (40, 41));
}
