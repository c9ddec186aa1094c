//! What is no regular file, under every name that a store opens. What is fenced off here: a FIFO in place of a file of the
//! manifest log made opening wait for ever.

use std::{
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::Duration,
};

use piton::{CheckpointId, Claim, Options, Result, Store, Validation};

use crate::support::{bytes, commit_states, read_states};

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

/// What is put in place of a file.
type Special = fn(&Path);

const SPECIALS: [(&str, Special); 6] = [
    ("FIFO", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
    ("socket", |path| drop(UnixListener::bind(path).unwrap())),
    ("directory", |path| std::fs::create_dir(path).unwrap()),
    ("link to itself", |path| symlink(path, path).unwrap()),
    ("link to a device", |path| symlink("/dev/zero", path).unwrap()),
    ("link to nothing", |path| symlink("/nowhere/at/all", path).unwrap()),
];

/// Three checkpoints, each in a log and with its data in a segment of its own. The newest is pinned.
fn fixture() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    for seed in 1..=3 {
        let store = Store::open(&root).unwrap();
        commit_states(&store, &[bytes(seed, 5000)]).unwrap();
        if seed == 3 {
            store.pin(id(3)).unwrap();
        }
    }
    let mut segments: Vec<_> =
        std::fs::read_dir(root.join("shared")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    let newest = segments.pop().unwrap();
    (dir, root, newest)
}

fn replace(path: &Path, special: Special) {
    let _ = std::fs::remove_file(path);
    special(path);
}

/// Nothing that this does may wait for anything.
fn at_once<T: Send>(what: &str, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let (done, wait) = mpsc::channel();
        scope.spawn(move || done.send(act()));
        match wait.recv_timeout(Duration::from_mins(1)) {
            Ok(done) => done,
            // A thread that waits for ever cannot be ended in any other way.
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{what}: see above"),
            Err(mpsc::RecvTimeoutError::Timeout) => std::process::abort(),
        }
    })
}

#[test]
fn special_file_in_place_of_a_segment_damages_the_checkpoint_that_needs_it_and_no_other() {
    for (kind, special) in SPECIALS {
        let (_dir, root, segment) = fixture();
        replace(&segment, special);
        at_once(kind, || {
            let reader = Options::new().open_read_only(&root).unwrap();
            assert_eq!(reader.latest().unwrap().map(|found| found.id()), Some(id(2)), "{kind}");
            let store = Store::open(&root).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(store.latest().unwrap().map(|found| found.id()), Some(id(2)), "{kind}");
            let error = store.checkpoint(id(3)).unwrap_err();
            assert!(error.is_corrupt(), "{kind}: {error}");
            for depth in [Validation::Quick, Validation::Full] {
                assert!(!store.validate(id(3), depth).unwrap().is_valid(), "{kind}");
                assert!(!reader.validate(id(3), depth).unwrap().is_valid(), "{kind}");
            }
            assert_eq!(store.recover_latest_validated().unwrap().chosen, Some(id(2)), "{kind}");
            assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(2, 5000));
            commit_states(&store, &[bytes(4, 5000)]).unwrap();
        });
    }
}

fn begun_log(root: &Path, generation: u64) -> PathBuf {
    root.join(format!("manifests/{generation:08}-0000000001.log"))
}

#[test]
fn special_file_in_place_of_a_log_is_a_log_that_is_lost() {
    // The last log that was begun has the newest checkpoint. What was recorded behind the first one is known by its
    // differences from what that has.
    for (kind, special) in SPECIALS {
        for (generation, ids, newest) in [(3, vec![1, 2], Some(2)), (1, vec![2, 3], None)] {
            let (_dir, root, segment) = fixture();
            let log = begun_log(&root, generation);
            replace(&log, special);
            at_once(kind, || {
                for _ in 0..2 {
                    let reader = Options::new().open_read_only(&root).and_then(|reader| reader.latest().map(drop));
                    for error in [Store::open(&root).map(drop).unwrap_err(), reader.unwrap_err()] {
                        assert!(error.is_corrupt() && error.path() == Some(&log), "{kind} {generation}: {error}");
                        assert!(error.to_string().contains("bring it back"), "{kind} {generation}: {error}");
                    }
                }
                let store = Options::new().accept_loss(true).open(&root).unwrap();
                assert_eq!(store.checkpoint_ids(), ids.into_iter().map(id).collect::<Vec<_>>(), "{kind} {generation}");
                let latest = store.latest().map(|latest| latest.map(|latest| latest.id()));
                match newest {
                    Some(newest) => assert_eq!(latest.unwrap(), Some(id(newest)), "{kind} {generation}"),
                    None => assert!(latest.unwrap_err().is_corrupt(), "{kind} {generation}"),
                }
                assert!(segment.exists(), "its data can be saved");
                let next = commit_states(&store, &[bytes(9, 5000)]).unwrap().id();
                assert!(next > id(3), "{kind} {generation}: {next}");
                drop(store);
                let store = Store::open(&root).unwrap_or_else(|error| panic!("{kind} {generation}: {error}"));
                let latest = store.latest().unwrap().unwrap();
                assert_eq!((latest.id(), read_states(&latest).unwrap()[0].1.clone()), (next, bytes(9, 5000)));
            });
        }
    }
}

fn bases(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join("manifests")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "base")).collect()
}

fn is_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// The store is opened until there is a base.
fn base(root: &Path) -> PathBuf {
    for _ in 0..20 {
        if let Some(base) = bases(root).pop() {
            return base;
        }
        drop(Store::open(root).unwrap());
    }
    panic!("no base was written")
}

#[test]
fn special_file_in_place_of_a_base_is_no_loss_unless_the_copy_is_one_as_well() {
    for (kind, special) in SPECIALS {
        for places in [&["base"][..], &["copy"], &["base", "copy"]] {
            let (_dir, root, _) = fixture();
            let base = base(&root);
            for place in places {
                replace(&base.with_extension(place), special);
            }
            at_once(kind, || {
                let reader = Options::new().open_read_only(&root).and_then(|reader| reader.latest());
                let opened = Store::open(&root);
                if places.len() > 1 {
                    for error in [reader.map(drop).unwrap_err(), opened.map(drop).unwrap_err()] {
                        assert!(error.is_corrupt(), "{kind}: {error}");
                        assert!(error.path().unwrap().starts_with(root.join("manifests")), "{kind}: {error}");
                    }
                    return;
                }
                assert_eq!(reader.unwrap().unwrap().id(), id(3), "{kind}");
                let store = opened.unwrap_or_else(|error| panic!("{kind} as {places:?}: {error}"));
                assert_eq!((store.checkpoint_ids().len(), store.pinned()), (3, vec![id(3)]), "{kind} as {places:?}");
                assert!(store.open_report().lost.is_empty() && store.damaged().is_empty(), "{kind} as {places:?}");
                drop(store);
                // It was written anew, under another name.
                let anew = bases(&root).into_iter().find(|other| *other != base && is_file(other));
                let copy = anew.unwrap_or_else(|| panic!("{kind} as {places:?}")).with_extension("copy");
                assert!(is_file(&copy), "{kind} as {places:?}");
                let store = Store::open(&root).unwrap();
                assert_eq!(store.latest().unwrap().unwrap().id(), id(3), "{kind} as {places:?}");
            });
        }
    }
}

#[test]
fn special_file_in_place_of_the_identity_or_the_lock_is_refused_by_name() {
    for (kind, special) in SPECIALS {
        for place in ["piton.store", "piton.lock", "piton.readers"] {
            let (_dir, root, _) = fixture();
            replace(&root.join(place), special);
            at_once(kind, || {
                let error = Store::open(&root).unwrap_err();
                assert!(error.path().unwrap().ends_with(place), "{kind} as {place}: {error}");
                let reader = Options::new().open_read_only(&root);
                match place {
                    "piton.store" => assert!(reader.unwrap_err().is_corrupt(), "{kind}"),
                    "piton.readers" => {
                        let error = reader.unwrap().latest().unwrap_err();
                        assert!(error.path().unwrap().ends_with(place), "{kind}: {error}");
                    }
                    _ => drop(reader.unwrap().latest().unwrap().unwrap()),
                }
            });
        }
    }
}

#[test]
fn special_file_that_takes_the_place_of_a_segment_while_the_store_is_open_is_damage() {
    for (kind, special) in SPECIALS {
        let (_dir, root, segment) = fixture();
        let store = Store::open(&root).unwrap();
        replace(&segment, special);
        at_once(kind, || {
            let found = store.checkpoint(id(3)).and_then(|found| read_states(&found));
            assert!(found.unwrap_err().is_corrupt(), "{kind}");
            assert_eq!(store.latest().unwrap().unwrap().id(), id(2), "{kind}");
            assert!(store.prune(1).unwrap().failures.len() <= 1);
            let _ = store.cleanup_orphans(false).unwrap();
        });
    }
}

#[test]
fn special_file_that_takes_the_place_of_an_older_log_changes_nothing_for_an_open_store() {
    for (kind, special) in SPECIALS {
        let (_dir, root, _) = fixture();
        let store = Store::open(&root).unwrap();
        (1..=3).for_each(|generation| replace(&begun_log(&root, generation), special));
        at_once(kind, || {
            for number in 1..=3 {
                let found = store.checkpoint(id(number)).unwrap();
                assert_eq!(read_states(&found).unwrap()[0].1, bytes(number, 5000), "{kind}");
            }
            commit_states(&store, &[bytes(4, 5000)]).unwrap();
            store.unpin(id(3)).unwrap();
            assert_eq!(store.prune(1).unwrap().checkpoints, [1, 2, 3].map(id), "{kind}");
            assert!(store.damaged().is_empty(), "{kind}");
            let _ = store.cleanup_orphans(false).unwrap();
        });
    }
}

#[test]
fn commit_whose_log_has_lost_its_name_reports_no_success() {
    let remove = |log: &Path| std::fs::remove_file(log).unwrap();
    let exchange = |log: &Path| {
        let bytes = std::fs::read(log).unwrap();
        remove(log);
        std::fs::write(log, bytes).unwrap();
    };
    for lose in [&remove as &dyn Fn(&Path), &exchange] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        commit_states(&store, &[bytes(1, 5000)]).unwrap();
        let log = begun_log(dir.path(), 1);
        lose(&log);
        let error = commit_states(&store, &[bytes(2, 5000)]).unwrap_err();
        assert!(error.is_indeterminate() && error.is_exchanged() && error.path() == Some(&*log), "{error}");
        assert!(store.begin_next().unwrap_err().is_poisoned());
    }
}

#[test]
fn special_file_beside_the_others_is_foreign_and_left_alone() {
    for (kind, special) in SPECIALS {
        let (_dir, root, _) = fixture();
        let temps = [".tmp-0123456789ab", "shared/.tmp-0123456789ab", "manifests/.tmp-0123456789ab"];
        let names = ["piton.partial", "piton.departing"].into_iter().chain(temps);
        for name in names.clone() {
            special(&root.join(name));
        }
        special(&root.join("shared/00000009-001-0000000009.seg"));
        at_once(kind, || {
            let store = Store::open(&root).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(store.latest().unwrap().unwrap().id(), id(3), "{kind}");
            assert!(store.open_report().foreign.len() >= 5, "{kind}: {:?}", store.open_report());
            store.close().unwrap();
        });
        for name in names {
            assert!(std::fs::symlink_metadata(root.join(name)).is_ok(), "{kind} as {name} is gone");
        }
    }
}

#[test]
fn special_file_in_place_of_a_borrowed_one_is_unavailable() {
    for (kind, special) in SPECIALS {
        let (dir, root, segment) = fixture();
        let ours = dir.path().join("ours");
        let store = Store::open(&ours).unwrap();
        let _ = store.import(&root, Claim::Borrow).unwrap();
        drop(store);
        replace(&segment, special);
        at_once(kind, || {
            let store = Store::open(&ours).unwrap();
            let error = store.latest().and_then(|found| found.map(|found| read_states(&found)).transpose());
            assert!(error.unwrap_err().is_unavailable(), "{kind}");
            let imported: Result<_> = store.import(&root, Claim::Copy);
            assert!(imported.is_err(), "{kind}");
        });
    }
}
