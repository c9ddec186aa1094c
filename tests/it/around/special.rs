//! What is no regular file, under every name that a store opens. What is fenced off here: a FIFO in place of a manifest
//! made opening wait for ever, and a directory in place of an update refused the whole store.

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

/// Three checkpoints; the newest is pinned, so that it has an update, and its data is in a segment of its own.
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
fn special_file_damages_the_checkpoint_that_needs_it_and_refuses_no_other() {
    for (kind, special) in SPECIALS {
        for place in ["manifest", "update", "segment"] {
            let (_dir, root, segment) = fixture();
            let path = match place {
                "segment" => segment,
                _ => root.join(format!("manifests/00000000000000000003.{place}")),
            };
            replace(&path, special);
            let what = format!("{kind} as {place}");
            at_once(&what, || {
                let reader = Options::new().open_read_only(&root).unwrap();
                assert_eq!(reader.latest().unwrap().map(|found| found.id()), Some(id(2)), "{what}");
                let store = Store::open(&root).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(store.latest().unwrap().map(|found| found.id()), Some(id(2)), "{what}");
                let error = store.checkpoint(id(3)).unwrap_err();
                assert!(error.is_corrupt(), "{what}: {error}");
                for depth in [Validation::Quick, Validation::Full] {
                    assert!(!store.validate(id(3), depth).unwrap().is_valid(), "{what}");
                    assert!(!reader.validate(id(3), depth).unwrap().is_valid(), "{what}");
                }
                assert_eq!(store.recover_latest_validated().unwrap().chosen, Some(id(2)), "{what}");
                assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(2, 5000));
                commit_states(&store, &[bytes(4, 5000)]).unwrap();
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
fn special_file_that_takes_the_place_of_one_while_the_store_is_open_is_damage() {
    for (kind, special) in SPECIALS {
        for place in ["manifest", "update", "segment"] {
            let (_dir, root, segment) = fixture();
            let store = Store::open(&root).unwrap();
            let path = match place {
                "segment" => segment,
                _ => root.join(format!("manifests/00000000000000000003.{place}")),
            };
            replace(&path, special);
            at_once(kind, || {
                let found = store.checkpoint(id(3)).and_then(|found| read_states(&found));
                assert!(found.unwrap_err().is_corrupt(), "{kind} as {place}");
                assert_eq!(store.latest().unwrap().unwrap().id(), id(2), "{kind} as {place}");
                assert!(store.prune(1).unwrap().failures.len() <= 1);
                let _ = store.cleanup_orphans(false).unwrap();
            });
        }
    }
}

#[test]
fn special_file_beside_the_others_is_foreign_and_left_alone() {
    for (kind, special) in SPECIALS {
        let (_dir, root, _) = fixture();
        let names = ["piton.partial", "piton.departing", ".tmp-0123456789ab", "shared/.tmp-0123456789ab"];
        for name in names {
            special(&root.join(name));
        }
        special(&root.join("manifests/00000000000000000003.source"));
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
