//! Reading: bounds, seeks, pins.

mod key_groups;
mod views;

use std::{
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::Path,
    sync::{Arc, Mutex},
};

use piton::{
    CheckpointId, Maintenance, Manifest, Options, ReadOnlyStore, Scope,
    disk::{At, Disk, MemoryDisk},
    testing::{Call, Fault, Survival},
};

use crate::support::{
    ROOT, bytes, commit_states,
    hooked::{HookedDisk, set},
    log::logs_on,
    on_every_disk, open, read_states,
};

#[test]
fn reader_stays_within_its_state_and_counts_exactly() {
    on_every_disk(|options, root| {
        let store = options.inline_threshold(100).open(root).unwrap();
        let checkpoint = commit_states(&store, &[bytes(1, 5000), bytes(2, 100), Vec::new()]).unwrap();
        for (name, len) in [("0", 5000_u64), ("1", 100), ("2", 0)] {
            let handle = checkpoint.manifest().state(name).unwrap();
            let mut reader = checkpoint.reader(handle).unwrap();
            assert_eq!((reader.len(), reader.is_empty(), reader.remaining()), (len, len == 0, len));
            assert_eq!(reader.read(&mut []).unwrap(), 0);
            assert_eq!(reader.remaining(), len);
            assert_eq!(reader.seek(SeekFrom::End(0)).unwrap(), len);
            assert_eq!(reader.read(&mut [0; 10]).unwrap(), 0, "nothing behind the end");
            for outside in [
                SeekFrom::Start(len + 1),
                SeekFrom::End(1),
                SeekFrom::Current(1),
                SeekFrom::End(-1 - len.cast_signed()),
            ] {
                assert_eq!(reader.seek(outside).unwrap_err().kind(), ErrorKind::InvalidInput);
                assert_eq!(reader.stream_position().unwrap(), len, "a refused seek moves nothing");
            }
            let expected = bytes(name.parse::<u64>().unwrap() + 1, len as usize);
            for start in [0, len / 3, len] {
                assert_eq!(reader.seek(SeekFrom::Start(start)).unwrap(), start);
                let mut rest = Vec::new();
                assert_eq!(reader.read_to_end(&mut rest).unwrap() as u64, len - start);
                assert!(rest == expected[start as usize..]);
                assert_eq!(reader.remaining(), 0);
            }
        }
    });
}

#[test]
fn handle_of_another_checkpoint_is_not_found() {
    let store = open(&MemoryDisk::new()).unwrap();
    let first = commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let second = commit_states(&store, &[bytes(2, 5000)]).unwrap();
    let handle = first.manifest().state("0").unwrap();
    assert!(second.read(handle).unwrap_err().is_not_found());
    assert!(second.reader(handle).unwrap_err().is_not_found());
    let shifted = handle.to_string().replace("@64+5000", "@65+4999").parse().unwrap();
    assert!(first.read(&shifted).unwrap_err().is_not_found(), "a handle that was never given out");
}

#[test]
fn open_checkpoint_stays_readable_while_it_is_forgotten_and_its_data_goes_with_it() {
    on_every_disk(|options, root| {
        let disk = options.clone();
        let store = disk.open(root).unwrap();
        let open = commit_states(&store, &[bytes(1, 5000), bytes(2, 6000)]).unwrap();
        let view = open.read(open.manifest().state("0").unwrap()).unwrap();
        let reclaimed = store.forget(open.id()).unwrap();
        assert_eq!((reclaimed.files, reclaimed.bytes), (0, 0), "an open checkpoint keeps its data");
        assert!(store.checkpoint_ids().is_empty() && store.latest().unwrap().is_none());
        assert_eq!(read_states(&open).unwrap()[1].1, bytes(2, 6000));
        drop(open);
        assert_eq!(*view, *bytes(1, 5000), "a view keeps it, too");
        drop(view);
        drop(store);
        let report = options.open(root).unwrap().open_report().clone();
        assert!(report.removed.is_empty(), "nothing was left behind: {report:?}");
    });
}

#[test]
fn states_are_aligned_for_use_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = piton::Store::open(dir.path()).unwrap();
    let pending = store.begin_next().unwrap();
    let handle = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    let checkpoint = pending.commit(Manifest::builder().state("s", handle.clone())).unwrap();
    assert_eq!(checkpoint.read(&handle).unwrap().as_ptr().align_offset(64), 0);
}

fn read_only(disk: &HookedDisk) -> ReadOnlyStore {
    Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap()
}

#[test]
fn reader_takes_no_list_for_the_truth_in_which_nothing_is_that_was_the_newest() {
    let disk = HookedDisk::new();
    let store = disk.open();
    (1..=3).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    let reader = read_only(&disk);
    // Somebody keeps the first one; the second and third go while the directory is read, and the fourth comes.
    let held = reader.checkpoint(CheckpointId::FIRST).unwrap();
    let writer = store.clone();
    set(&disk.during_list_of_manifests, move || {
        drop(commit_states(&writer, &[bytes(4, 5000)]).unwrap());
        assert_eq!(writer.prune(1).unwrap().in_use, [CheckpointId::FIRST]);
    });
    assert_eq!(reader.latest().unwrap().unwrap().id().get(), 4);
    let writer = store.clone();
    set(&disk.during_list_of_manifests, move || {
        drop(commit_states(&writer, &[bytes(5, 5000)]).unwrap());
        let _ = writer.prune(1).unwrap();
    });
    assert_eq!(reader.recover_latest_validated().unwrap().chosen.unwrap().get(), 5);
    assert_eq!(read_states(&held).unwrap()[0].1, bytes(1, 5000));
}

#[test]
fn checkpoint_that_is_forgotten_before_its_lock_is_taken_is_not_there() {
    let disk = HookedDisk::new();
    let store = disk.open();
    (1..=2).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    let reader = read_only(&disk);
    let forget = |number: u64| {
        let store = store.clone();
        move || drop(store.forget(CheckpointId::new(number).unwrap()).unwrap())
    };
    // The reader has found it already.
    set(&disk.before_shared_lock, forget(1));
    assert!(reader.checkpoint(CheckpointId::FIRST).unwrap_err().is_not_found());
    set(&disk.before_shared_lock, forget(2));
    assert!(reader.latest().unwrap().is_none(), "and nothing is damaged");
}

#[test]
fn checkpoint_that_is_locked_is_there_whatever_the_writer_wants_and_with_its_last_update() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let first = commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let reader = read_only(&disk);
    let (writer, changed) = (store.clone(), first.manifest().clone().with_metadata("k", Some(vec![1])));
    set(&disk.after_shared_lock, move || {
        assert!(writer.forget(CheckpointId::FIRST).unwrap_err().is_in_use());
        writer.update_manifest(&changed).unwrap();
        writer.pin(CheckpointId::FIRST).unwrap();
    });
    let found = reader.checkpoint(CheckpointId::FIRST).unwrap();
    assert_eq!(found.manifest().metadata("k"), Some(&[1][..]));
    assert_eq!(read_states(&found).unwrap()[0].1, bytes(1, 5000));
}

#[test]
fn reader_whose_log_goes_while_it_is_read_goes_on_from_the_base_that_replaces_it() {
    for known in [false, true] {
        let disk = HookedDisk::new();
        let options = Options::new().disk(disk.clone()).log_size(128 << 10).maintenance(Maintenance::Manual);
        let store = options.open(ROOT).unwrap();
        commit_states(&store, &[bytes(1, 5000)]).unwrap();
        let reader = read_only(&disk);
        if known {
            assert_eq!(reader.latest().unwrap().unwrap().id().get(), 1);
        }
        // More than a log takes.
        (2..=40).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
        let (writer, before) = (store.clone(), logs_on(&disk.disk));
        let oldest = before[0].clone();
        set(&disk.before_open_of_a_log, move || drop(writer.maintain(0).unwrap()));
        let latest = reader.latest().unwrap().unwrap();
        assert_eq!((latest.id().get(), reader.checkpoint_ids().unwrap().len()), (40, 40));
        assert_eq!(read_states(&latest).unwrap()[0].1, bytes(40, 5000));
        assert!(before.len() > 1 && !logs_on(&disk.disk).contains(&oldest), "the base replaced it");
    }
}

#[test]
fn checkpoint_that_is_opened_elsewhere_reads_its_own_states_and_no_others() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let first = commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let second = commit_states(&store, &[bytes(2, 5000)]).unwrap();
    let other = first.manifest().state("0").unwrap();
    let checkpoint = read_only(&disk).latest().unwrap().unwrap();
    assert_eq!(checkpoint.manifest(), second.manifest());
    assert_eq!(read_states(&checkpoint).unwrap()[0].1, bytes(2, 5000));
    assert!(checkpoint.read(other).unwrap_err().is_not_found());
    assert!(checkpoint.reader(other).unwrap_err().is_not_found());
}

#[test]
fn file_that_readers_lock_is_made_by_writers_and_exports_and_where_it_is_lost_readers_make_none() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let checkpoint = commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let export = Path::new("/export");
    let _ = store.export(checkpoint.id(), export).unwrap();
    drop((checkpoint, store));
    for root in [Path::new(ROOT), export] {
        let readers = root.join("piton.readers");
        let is_there = || disk.metadata(At::new(&readers)).is_ok();
        assert!(is_there(), "{}", root.display());
        disk.remove(At::new(&readers)).unwrap();
        let options = Options::new().disk(disk.clone());
        let open = options.clone().open_read_only(root).unwrap().latest().unwrap().unwrap();
        assert_eq!(read_states(&open).unwrap()[0].1, bytes(1, 5000));
        assert!(!is_there(), "a reader creates nothing");
        drop(options.open(root).unwrap());
        assert!(is_there());
    }
}

#[test]
fn record_that_a_reader_has_seen_survives_a_power_cut_although_its_writer_did_not_come_so_far() {
    for known in [false, true] {
        let disk = HookedDisk::new();
        let store = disk.open();
        commit_states(&store, &[]).unwrap();
        let reader = read_only(&disk);
        if known {
            assert_eq!(reader.latest().unwrap().unwrap().id().get(), 1);
        }
        let (sim, after) = (disk.disk.clone(), Arc::<Mutex<_>>::default());
        let cut = Arc::clone(&after);
        // The record is written, and its sync has not begun.
        set(&disk.before_data_sync, move || {
            assert_eq!(reader.latest().unwrap().unwrap().id().get(), 2);
            *cut.lock().unwrap() = Some(sim.cut_power(Survival::Nothing));
        });
        let error = store.begin_next().unwrap().commit(Manifest::builder()).unwrap_err();
        assert!(error.is_indeterminate(), "{error}");
        let after = after.lock().unwrap().take().unwrap();
        assert_eq!(open(&after).unwrap().checkpoint_ids().len(), 2, "known: {known}");
    }
}

#[test]
fn record_that_is_being_made_void_is_given_to_no_reader() {
    let disk = HookedDisk::new();
    let store = disk.open();
    commit_states(&store, &[]).unwrap();
    let second = CheckpointId::new(2).unwrap();
    let (reader, void) = (read_only(&disk), Arc::clone(&disk.before_write));
    disk.disk.fail_nth(Call::SyncData, 1, Fault::Error(5));
    let again = reader.clone();
    // From the lock to the first byte of the record that makes it void, and behind it.
    set(&disk.before_exclusive_lock, move || {
        set(&void, move || assert!(again.checkpoint(second).unwrap_err().is_not_found()));
    });
    let error = store.begin_next().unwrap().commit(Manifest::builder()).unwrap_err();
    assert!(!error.is_indeterminate(), "{error}");
    assert!(disk.before_write.lock().unwrap().is_none(), "the reader has looked");
    assert!(reader.checkpoint(second).unwrap_err().is_not_found());
    assert_eq!(commit_states(&store, &[]).unwrap().id().get(), 3);
    assert_eq!(reader.latest().unwrap().unwrap().id().get(), 3);
}

#[test]
fn record_that_a_reader_has_open_is_not_made_void() {
    let disk = HookedDisk::new();
    let store = disk.open();
    commit_states(&store, &[]).unwrap();
    let (reader, opened) = (read_only(&disk), Arc::<Mutex<_>>::default());
    disk.disk.fail_nth(Call::SyncData, 1, Fault::Error(5));
    let keep = Arc::clone(&opened);
    set(&disk.before_exclusive_lock, move || {
        *keep.lock().unwrap() = Some(reader.checkpoint(CheckpointId::new(2).unwrap()).unwrap());
    });
    let error = store.begin_next().unwrap().commit(Manifest::builder()).unwrap_err();
    assert!(error.is_indeterminate() && store.begin_next().unwrap_err().is_poisoned(), "{error}");
    drop((store, opened));
    assert_eq!(disk.open().checkpoint_ids().len(), 2);
}
