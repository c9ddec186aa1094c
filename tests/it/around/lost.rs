//! Stores that lost a directory, or the manifest log; volumes that are not mounted; predecessors that are just ending. What is
//! fenced off here: a copy without its log lost all its data by being opened, and an unmounted volume became a new store.

use std::{path::Path, process::Command, time::Duration};

use piton::{CheckpointId, Claim, Options, Scope, Store, list_segment};

use crate::support::{
    bytes, commit_states,
    log::{change_in, logs_in, lose_in},
    read_states,
};

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

/// A store with three checkpoints of shared states, closed.
fn closed(root: &Path) {
    let store = Store::open(root).unwrap();
    for seed in 1..=3 {
        commit_states(&store, &[bytes(seed, 5000)]).unwrap();
    }
    store.close().unwrap();
}

#[test]
fn empty_directory_that_was_lost_is_made_again_in_stores_and_exports() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    closed(&root);
    Store::open(&root).unwrap().export(id(3), dir.path().join("export")).unwrap();
    for root in [root, dir.path().join("export")] {
        std::fs::remove_dir(root.join("exclusive")).unwrap();
        let reader = Options::new().open_read_only(&root).unwrap();
        assert_eq!(read_states(&reader.latest().unwrap().unwrap()).unwrap()[0].1, bytes(3, 5000));
        let store = Store::open(&root).unwrap();
        assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(3, 5000));
        let pending = store.begin_next().unwrap();
        let handle = pending.write(Scope::Exclusive, &bytes(4, 5000)).unwrap();
        pending.commit(piton::Manifest::builder().state("0", handle)).unwrap();
    }
    // Without a checkpoint both are empty. The third one never is.
    let root = dir.path().join("new");
    Store::open(&root).unwrap().close().unwrap();
    for name in ["shared", "exclusive"] {
        std::fs::remove_dir(root.join(name)).unwrap();
    }
    assert!(std::fs::remove_dir(root.join("manifests")).is_err());
    assert!(Options::new().open_read_only(&root).unwrap().latest().unwrap().is_none());
    commit_states(&Store::open(&root).unwrap(), &[bytes(1, 5000)]).unwrap();
}

#[test]
fn directory_with_data_that_was_lost_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path());
    let (shared, away) = (dir.path().join("shared"), dir.path().join("away"));
    std::fs::rename(&shared, &away).unwrap();
    for _ in 0..2 {
        let error = Store::open(dir.path()).unwrap_err();
        assert!(error.is_corrupt() && error.path() == Some(&*shared), "{error}");
        assert!(error.to_string().contains("bring it back"), "{error}");
    }
    // A checkpoint of which nothing is known may name files there. So may one of which not even the id is known.
    std::fs::rename(&away, &shared).unwrap();
    std::fs::remove_dir(dir.path().join("exclusive")).unwrap();
    let spoil = |root: &Path| change_in(root, 2, |record| *record.last_mut().unwrap() ^= 0x80);
    let lose = |root: &Path| lose_in(root, 2);
    for damage in [&spoil as &dyn Fn(&Path), &lose] {
        let whole: Vec<_> = logs_in(dir.path()).into_iter().map(|log| (std::fs::read(&log).unwrap(), log)).collect();
        damage(dir.path());
        let error = Store::open(dir.path()).unwrap_err();
        assert!(error.is_corrupt() && error.path().unwrap().ends_with("exclusive"), "{error}");
        for (bytes, log) in whole {
            std::fs::write(log, bytes).unwrap();
        }
    }
    assert_eq!(Store::open(dir.path()).unwrap().checkpoint_ids().len(), 3);
}

#[test]
fn copy_without_its_manifest_log_is_refused_and_keeps_all_its_data() {
    for loses_directory in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        closed(dir.path());
        let manifests = dir.path().join("manifests");
        std::fs::remove_dir_all(&manifests).unwrap();
        if !loses_directory {
            std::fs::create_dir(&manifests).unwrap();
        }
        let segment = std::fs::read_dir(dir.path().join("shared")).unwrap().next().unwrap().unwrap().path();
        for _ in 0..2 {
            let error = Store::open(dir.path()).unwrap_err();
            assert!(error.is_corrupt() && error.to_string().contains("accept_loss"), "{error}");
            let reader = Options::new().open_read_only(dir.path()).and_then(|reader| reader.latest().map(drop));
            assert!(reader.unwrap_err().is_corrupt());
            assert!(Options::new().rebuild_identity(true).open(dir.path()).is_err(), "that is for a lost identity");
        }
        let accepted = Options::new().accept_loss(true).open(dir.path()).unwrap();
        assert!(accepted.open_report().cleanup_skipped.is_some() && accepted.checkpoint_ids().is_empty());
        assert_eq!(list_segment(piton::disk::OsDisk, &segment).unwrap().len(), 3, "what can be saved is there");
        accepted.close().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(!segment.exists());
        commit_states(&store, &[bytes(4, 5000)]).unwrap();
    }
}

#[test]
fn store_whose_checkpoints_were_all_forgotten_has_lost_none() {
    let dir = tempfile::tempdir().unwrap();
    closed(dir.path());
    let store = Store::open(dir.path()).unwrap();
    for number in 1..=3 {
        let _ = store.forget(id(number)).unwrap();
    }
    drop(store);
    assert!(Options::new().open_read_only(dir.path()).unwrap().latest().unwrap().is_none());
    let store = Store::open(dir.path()).unwrap();
    assert!(store.latest().unwrap().is_none() && store.next_id().unwrap() > id(3));
    commit_states(&store, &[bytes(4, 5000)]).unwrap();
    drop(store);
    drop(Store::open(dir.path()).unwrap());
    std::fs::remove_dir_all(dir.path().join("manifests")).unwrap();
    assert!(Store::open(dir.path()).unwrap_err().is_corrupt());
}

#[test]
fn volume_that_is_not_mounted_becomes_no_new_store() {
    let dir = tempfile::tempdir().unwrap();
    let must_exist = || Options::new().must_exist(true);
    for root in [dir.path().to_owned(), dir.path().join("none")] {
        let error = must_exist().open(&root).unwrap_err();
        assert!(error.is_not_found() && error.to_string().contains("must_exist"), "{error}");
        assert_eq!(error.path(), Some(&*root));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
    drop(Store::open(dir.path()).unwrap());
    must_exist().open(dir.path()).unwrap();
}

#[test]
fn restart_waits_for_its_dying_predecessor_and_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = Options::new().wait_for_lock(Duration::from_millis(20)).open(dir.path()).unwrap_err();
    assert!(error.is_locked() && error.holder_pid() == Some(std::process::id()), "{error}");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| Options::new().wait_for_lock(Duration::from_mins(1)).open(dir.path()).map(drop));
        while !waits.is_finished() && std::fs::metadata(dir.path()).is_err() {}
        std::thread::sleep(Duration::from_millis(20));
        drop(store);
        waits.join().unwrap().unwrap();
    });
}

#[test]
fn holder_of_a_lock_is_named_with_host_and_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let _store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    let host = String::from_utf8(Command::new("uname").arg("-n").output().unwrap().stdout).unwrap();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let number = namespace.to_str().unwrap().trim_start_matches("pid:[").trim_end_matches(']').to_owned();
    for part in [&format!("process {}", std::process::id()), host.trim(), &number, "inherited"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

#[test]
fn copy_never_refuses_the_only_writer_of_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let (source, ours) = (dir.path().join("source"), dir.path().join("ours"));
    closed(&source);
    let options = || Options::new().durability(piton::Durability::None);
    let store = options().retain(1).open(&ours).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = store.import(&source, Claim::Copy).unwrap();
            }
        });
        for attempt in 0..5000 {
            match options().open(&source) {
                Ok(store) => drop(store),
                Err(error) => {
                    done.store(true, std::sync::atomic::Ordering::Relaxed);
                    panic!("attempt {attempt}: {error}");
                }
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn copy_links_what_nobody_appends_to_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let ways = |name: &str| {
        let store = Store::open(dir.path().join(name)).unwrap();
        let imported = store.import(&source, Claim::Copy).unwrap();
        imported.files.iter().map(|file| file.way).collect::<Vec<_>>()
    };
    closed(&source);
    assert_eq!(ways("closed"), [piton::Way::Linked]);
    let writer = Store::open(&source).unwrap();
    assert_ne!(ways("written"), [piton::Way::Linked]);
    drop(writer);
    assert_eq!(ways("dropped"), [piton::Way::Linked]);
    // One that was killed is dead, and its lock file still names it.
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let alive = {
        let _writer = Store::open(&source).unwrap();
        std::fs::read_to_string(source.join("piton.lock")).unwrap()
    };
    let dead = alive.replace(&std::process::id().to_string(), &ended.id().to_string());
    std::fs::write(source.join("piton.lock"), &dead).unwrap();
    assert_eq!(ways("killed"), [piton::Way::Linked]);
    std::fs::write(source.join("piton.lock"), dead.replace("on host ", "on host another-")).unwrap();
    assert_ne!(ways("elsewhere"), [piton::Way::Linked], "what runs on another host nobody knows");
}

#[test]
fn export_to_the_root_of_a_fresh_volume_does_not_mind_what_mkfs_made() {
    let dir = tempfile::tempdir().unwrap();
    closed(&dir.path().join("state"));
    let target = dir.path().join("volume");
    std::fs::create_dir_all(target.join("lost+found")).unwrap();
    let store = Store::open(dir.path().join("state")).unwrap();
    store.export(id(3), &target).unwrap();
    assert!(target.join("lost+found").exists());
    Options::new().open_read_only(&target).unwrap().latest().unwrap().unwrap();
    // A file of that name is somebody's.
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("lost+found"), b"x").unwrap();
    assert!(store.export(id(3), &other).unwrap_err().is_invalid());
}
