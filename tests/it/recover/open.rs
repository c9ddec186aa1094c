//! Creating, foreign names, leftovers, refusals.

use std::{ffi::OsString, path::Path};

use piton::{
    Maintenance, Options, Store,
    disk::{At, Disk},
    testing::{Fault, SimDisk, Survival},
};

use crate::support::{ROOT, bytes, commit_states, log, on_every_disk, open, read_states};

#[test]
fn store_is_created_with_everything_above_it_and_found_again() {
    on_every_disk(|options, root| {
        let root = root.join("a/b/c");
        let store = options.clone().open(&root).unwrap();
        assert!(store.open_report().created && store.root() == root);
        assert!(store.latest().unwrap().is_none());
        let (id, generation) = (store.id(), store.generation());
        let manifest = commit_states(&store, &[bytes(1, 5000)]).unwrap().manifest().clone();
        drop(store);
        let store = options.open(&root).unwrap();
        assert!(!store.open_report().created);
        assert_eq!((store.id(), store.generation()), (id, generation + 1));
        assert_eq!(store.latest().unwrap().unwrap().manifest(), &manifest);
    });
}

#[test]
fn new_store_is_durable_up_to_the_root_also_after_an_interrupted_first_open() {
    let root = "/deep/er/state";
    let calls = {
        let disk = SimDisk::new();
        Options::new().disk(disk.clone()).open(root).unwrap();
        disk.calls()
    };
    for call in 1..=calls {
        let disk = SimDisk::new();
        disk.fail(call, Fault::PowerCut);
        let _ = Options::new().disk(disk.clone()).open(root);
        let disk = disk.kill();
        let store = Options::new().disk(disk.clone()).open(root).unwrap();
        commit_states(&store, &[bytes(1, 5000)]).unwrap();
        let store = Options::new().disk(disk.cut_power(Survival::Nothing)).open(root).unwrap();
        assert_eq!(store.checkpoint_ids().len(), 1, "killed at call {call}");
    }
}

#[test]
fn commit_is_durable_also_in_a_store_that_was_created_without_syncs() {
    let disk = SimDisk::new();
    let options = Options::new().disk(disk.clone());
    let store = options.clone().durability(piton::Durability::None).open("/deep/er/state").unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    drop(store);
    let second = commit_states(&options.open("/deep/er/state").unwrap(), &[bytes(2, 5000)]).unwrap().id();
    let store = Options::new().disk(disk.cut_power(Survival::Nothing)).open("/deep/er/state").unwrap();
    assert_eq!(read_states(&store.checkpoint(second).unwrap()).unwrap()[0].1, bytes(2, 5000));
}

#[test]
fn logs_that_were_written_without_syncs_are_durable_once_they_were_found() {
    let disk = SimDisk::new();
    let options = Options::new().disk(disk.clone()).log_size(128 << 10).maintenance(Maintenance::Manual);
    let store = options.clone().durability(piton::Durability::None).open(ROOT).unwrap();
    // More than a log takes.
    (0..40).for_each(|_| drop(commit_states(&store, &[]).unwrap()));
    drop(store);
    commit_states(&options.clone().open(ROOT).unwrap(), &[]).unwrap();
    let store = Options::new().disk(disk.cut_power(Survival::Nothing)).open(ROOT).unwrap();
    assert_eq!(store.checkpoint_ids().len(), 41);
    assert!(store.open_report().lost.is_empty() && store.open_report().damaged.is_empty(), "{}", store.open_report());
}

#[test]
fn foreign_names_are_reported_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let foreign = ["notes.txt", "shared/README", "shared/1-2-3.seg", "manifests/7.manifest", "exclusive/.tmp-x"];
    for name in foreign {
        std::fs::write(dir.path().join(name), b"theirs").unwrap();
    }
    std::fs::create_dir(dir.path().join("shared/00000001-000-0000000009.seg")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("shared/00000001-000-0000000008.seg")).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.open_report().foreign.len(), foreign.len() + 2);
    assert!(store.open_report().removed.is_empty() && store.open_report().cleanup_skipped.is_none());
    for name in foreign {
        assert_eq!(std::fs::read(dir.path().join(name)).unwrap(), b"theirs");
    }
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
}

#[test]
fn leftovers_of_a_killed_process_are_removed_and_named() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let pending = store.begin_next().unwrap();
    pending.write(piton::Scope::Shared, &bytes(1, 5000)).unwrap();
    let mut writer = pending.writer(piton::Scope::Exclusive).unwrap();
    std::io::Write::write_all(&mut writer, &bytes(2, 2_000_000)).unwrap();
    let store = open(&disk.kill()).unwrap();
    let removed: Vec<OsString> = store.open_report().removed.iter().map(|name| name.clone().into_os_string()).collect();
    assert_eq!(removed.len(), 2, "{removed:?}");
    assert_eq!(removed[0], "exclusive/00000001-000-0000000002.seg", "of a state that was streamed");
    assert_eq!(removed[1], "shared/00000001-001-0000000001.seg", "of a lane");
}

#[test]
fn leftover_that_cannot_be_removed_is_reported_and_the_next_open_removes_it() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let pending = store.begin_next().unwrap();
    pending.write(piton::Scope::Shared, &bytes(1, 5000)).unwrap();
    let disk = disk.kill();
    // Opening tries, and closing tries again.
    (1..=2).for_each(|nth| disk.fail_nth(piton::testing::Call::Remove, nth, Fault::Error(5)));
    let report = open(&disk).unwrap().open_report().clone();
    assert_eq!((report.removed.len(), report.failures.len()), (0, 1));
    assert!(report.failures[0].path().unwrap().ends_with("shared/00000001-001-0000000001.seg"));
    assert_eq!(open(&disk).unwrap().open_report().removed.len(), 1);
}

#[test]
fn directory_that_has_vanished_is_an_error_each_time_and_nothing_is_cleaned_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    drop(store);
    let manifests = dir.path().join("manifests");
    std::fs::rename(&manifests, dir.path().join("elsewhere")).unwrap();
    for _ in 0..2 {
        let error = Store::open(dir.path()).unwrap_err();
        assert!(error.is_corrupt() && error.path() == Some(manifests.as_path()), "{error}");
        assert!(error.to_string().contains("bring it back"), "the remedy is named: {error}");
    }
    std::fs::rename(dir.path().join("elsewhere"), &manifests).unwrap();
    let store = Store::open(dir.path()).unwrap();
    read_states(&store.latest().unwrap().unwrap()).unwrap();
}

#[test]
fn root_that_is_a_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    for root in [file.clone(), file.join("below")] {
        let error = Store::open(&root).unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
    assert_eq!(std::fs::read(file).unwrap(), b"x");
}

#[test]
fn directory_that_is_a_link_or_a_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let shared = dir.path().join("shared");
    std::fs::remove_dir(&shared).unwrap();
    std::os::unix::fs::symlink("/tmp", &shared).unwrap();
    assert_eq!(Store::open(dir.path()).unwrap_err().path(), Some(shared.as_path()));
}

#[test]
fn lock_file_that_is_a_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let precious = dir.path().join("precious");
    std::fs::write(&precious, b"not a lock").unwrap();
    std::fs::create_dir(dir.path().join("store")).unwrap();
    let lock = dir.path().join("store/piton.lock");
    std::os::unix::fs::symlink(&precious, &lock).unwrap();
    assert_eq!(Store::open(dir.path().join("store")).unwrap_err().path(), Some(lock.as_path()));
    assert_eq!(std::fs::read(precious).unwrap(), b"not a lock");
}

#[test]
fn store_of_a_newer_format_is_refused_and_untouched() {
    let disk = SimDisk::new();
    commit_states(&open(&disk).unwrap(), &[bytes(1, 5000)]).unwrap();
    // Either of the two records counts.
    disk.damage(&Path::new(ROOT).join("piton.store"), |bytes| {
        let len = bytes.len() - 4096;
        for record in [0, 4096].map(|place| place..place + len) {
            let record = &mut bytes[record];
            record[8] = 9;
            let crc = crc32fast::hash(&record[..len - 4]);
            record[len - 4..].copy_from_slice(&crc.to_le_bytes());
        }
    })
    .unwrap();
    let before = disk.list(At::new(Path::new(ROOT))).unwrap();
    let error = open(&disk).unwrap_err();
    assert!(error.is_newer_format() && error.to_string().contains("version 9"), "{error}");
    assert_eq!(disk.list(At::new(Path::new(ROOT))).unwrap(), before);
}

#[test]
fn log_that_cannot_be_read_for_want_of_rights_fails_the_open_and_is_no_damage() {
    let disk = SimDisk::new();
    commit_states(&open(&disk).unwrap(), &[bytes(1, 5000)]).unwrap();
    let mut refused = 0;
    for nth in 1..=20 {
        disk.fail_nth(piton::testing::Call::Open, nth, Fault::Error(13));
        match open(&disk) {
            Ok(store) => assert!(store.damaged().is_empty() && store.open_report().lost.is_empty()),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(13), "{error}");
                refused += usize::from(error.path().unwrap().extension().is_some_and(|end| end == "log"));
            }
        }
    }
    assert!(refused > 0);
    assert!(open(&disk).unwrap().damaged().is_empty());
}

#[test]
fn leftovers_of_writing_go_also_while_a_record_cannot_be_read() {
    let disk = SimDisk::new();
    commit_states(&open(&disk).unwrap(), &[bytes(1, 5000)]).unwrap();
    log::spoil_on(&disk, 1);
    let (name, _) = disk.create_temp(At::new(&Path::new(ROOT).join("shared"))).unwrap();
    let store = open(&disk).unwrap();
    assert!(store.open_report().cleanup_skipped.is_some());
    assert_eq!(store.open_report().removed, [Path::new("shared").join(name)]);
}

#[test]
fn log_that_is_a_link_is_a_lost_one_and_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    commit_states(&Store::open(dir.path()).unwrap(), &[bytes(1, 5000)]).unwrap();
    let (log, moved) = (log::logs_in(dir.path()).remove(0), dir.path().join("moved"));
    std::fs::rename(&log, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &log).unwrap();
    let before = std::fs::read(&moved).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(error.is_corrupt() && error.path() == Some(&log), "{error}");
    let store = Options::new().accept_loss(true).open(dir.path()).unwrap();
    assert!(store.checkpoint_ids().is_empty() && store.next_id().unwrap().get() > 1);
    assert!(std::fs::read(&moved).unwrap() == before);
}
