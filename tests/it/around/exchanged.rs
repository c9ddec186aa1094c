//! Directories that are exchanged under an open store. What is fenced off here: a commit whose manifest went into one
//! directory and whose data into another, and a prune that deleted the only checkpoint of another store.

use std::{
    collections::BTreeMap,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use piton::{
    CheckpointId, Claim, Manifest, Options, Scope, Store, Validation,
    observe::{Progress, Task},
};

use crate::support::{bytes, commit_states, read_states};

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).unwrap();
}

/// Every file below a directory, with its bytes; but for the lock files, which say who has them.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().is_file() && entry.file_name() != "piton.lock");
    files
        .map(|entry| (entry.path().strip_prefix(dir).unwrap().to_owned(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

/// Everything that changes a store, by the name of the verb; each is refused.
fn every_change_is_refused(store: &Store) {
    let commit = || store.begin_next()?.commit(Manifest::builder()).map(drop).map_err(piton::Error::from);
    let verbs: [(&str, piton::Result<()>); 8] = [
        ("commit", commit()),
        ("prune", store.prune(1).map(drop)),
        ("forget", store.forget(id(1)).map(drop)),
        ("pin", store.pin(id(1))),
        ("roll back", store.rollback_to(id(1))),
        ("maintain", store.maintain(u64::MAX).map(drop)),
        ("clean up", store.cleanup_orphans(false).map(drop)),
        ("close", store.clone().close()),
    ];
    for (verb, result) in verbs {
        let Err(error) = result else { panic!("{verb} went on") };
        assert!(error.is_fenced() && error.is_exchanged() && !error.is_indeterminate(), "{verb}: {error}");
        assert!(!error.is_corrupt() && error.to_string().contains("exchanged"), "{verb}: {error}");
    }
}

/// How a store is exchanged for a copy of itself, or of another one.
type Exchange = fn(&Path);

const EXCHANGES: [(&str, Exchange); 5] = [
    ("root", |dir| {
        copy(&dir.join("state"), &dir.join("copy"));
        rename(&dir.join("state"), &dir.join("old"));
        rename(&dir.join("copy"), &dir.join("state"));
    }),
    ("shared", |dir| {
        copy(&dir.join("state/shared"), &dir.join("state/copy"));
        rename(&dir.join("state/shared"), &dir.join("old"));
        rename(&dir.join("state/copy"), &dir.join("state/shared"));
    }),
    ("manifests", |dir| {
        copy(&dir.join("state/manifests"), &dir.join("state/copy"));
        rename(&dir.join("state/manifests"), &dir.join("old"));
        rename(&dir.join("state/copy"), &dir.join("state/manifests"));
    }),
    ("shared for a link", |dir| {
        rename(&dir.join("state/shared"), &dir.join("old"));
        symlink(dir.join("old"), dir.join("state/shared")).unwrap();
    }),
    ("moved away", |dir| rename(&dir.join("state"), &dir.join("old"))),
];

#[test]
fn writer_refuses_every_change_once_a_directory_was_exchanged_and_touches_nothing() {
    for (what, exchange) in EXCHANGES {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("state")).unwrap();
        for seed in 1..=3 {
            commit_states(&store, &[bytes(seed, 5000)]).unwrap();
        }
        let pending = store.begin_next().unwrap();
        // Long enough to be written before the exchange.
        let handle = pending.write(Scope::Shared, &bytes(4, 50_000)).unwrap();
        exchange(dir.path());
        let before = content(dir.path());
        let error = pending.commit(Manifest::builder().state("0", handle)).unwrap_err();
        assert!(error.is_fenced() && error.is_exchanged() && !error.is_indeterminate(), "{what}: {error}");
        every_change_is_refused(&store);
        assert_eq!(content(dir.path()), before, "{what}");
        // What is open is read from where it is.
        let newest = store.latest().unwrap().unwrap();
        assert_eq!(read_states(&newest).unwrap(), [("0".to_owned(), bytes(3, 5000))], "{what}");
        assert!(store.damaged().is_empty(), "{what}: {:?}", store.damaged());
    }
}

#[test]
fn exchange_is_noticed_also_if_nothing_had_changed_for_long_and_names_were_not_looked_at_any_more() {
    let lock = |dir: &Path| std::fs::remove_file(dir.join("state/piton.lock")).unwrap();
    let exchanges: Vec<_> = EXCHANGES.into_iter().chain([("lock file", lock as Exchange)]).collect();
    let open = |_: &_| {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("state")).unwrap();
        commit_states(&store, &[bytes(1, 5000)]).unwrap();
        (dir, store)
    };
    let stores: Vec<_> = exchanges.iter().map(open).collect();
    std::thread::sleep(std::time::Duration::from_millis(3200));
    for ((what, exchange), (dir, store)) in exchanges.iter().zip(&stores) {
        for seed in 2..4 {
            commit_states(store, &[bytes(seed, 5000)]).unwrap();
        }
        exchange(dir.path());
        let error = commit_states(store, &[bytes(4, 5000)]).unwrap_err();
        assert!(error.is_exchanged() && !error.is_indeterminate(), "{what}: {error}");
        every_change_is_refused(store);
    }
}

#[test]
fn writer_goes_on_once_its_directory_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("state")).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    rename(&dir.path().join("state"), &dir.path().join("away"));
    assert!(commit_states(&store, &[bytes(2, 5000)]).unwrap_err().is_exchanged());
    rename(&dir.path().join("away"), &dir.path().join("state"));
    let third = commit_states(&store, &[bytes(3, 5000)]).unwrap().id();
    drop(store);
    let store = Store::open(dir.path().join("state")).unwrap();
    assert_eq!(store.checkpoint_ids(), [id(1), third]);
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(3, 5000));
}

#[test]
fn link_on_the_way_that_leads_to_another_store_deletes_nothing_there() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        let store = Store::open(dir.path().join(name).join("state")).unwrap();
        commit_states(&store, &[bytes(1, 5000)]).unwrap();
        store.close().unwrap();
    }
    symlink(dir.path().join("one"), dir.path().join("current")).unwrap();
    let store = Store::open(dir.path().join("current/state")).unwrap();
    commit_states(&store, &[bytes(2, 5000)]).unwrap();
    // The other store is of the same generation: it would pass for this one.
    drop(Store::open(dir.path().join("two/state")).unwrap());
    let theirs = content(&dir.path().join("two"));
    std::fs::remove_file(dir.path().join("current")).unwrap();
    symlink(dir.path().join("two"), dir.path().join("current")).unwrap();
    every_change_is_refused(&store);
    assert_eq!(content(&dir.path().join("two")), theirs);
    drop(store);
    assert_eq!(content(&dir.path().join("two")), theirs);
}

#[test]
fn lock_file_that_was_removed_ends_its_writer() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    std::fs::remove_file(dir.path().join("piton.lock")).unwrap();
    let error = commit_states(&store, &[bytes(2, 5000)]).unwrap_err();
    assert!(error.is_exchanged() && error.path().unwrap().ends_with("piton.lock"), "{error}");
    let next = Store::open(dir.path()).unwrap();
    assert!(commit_states(&store, &[bytes(2, 5000)]).unwrap_err().is_fenced());
    drop(store);
    commit_states(&next, &[bytes(3, 5000)]).unwrap();
    assert!(Store::open(dir.path()).unwrap_err().is_locked(), "the lock of the second is its own");
}

#[test]
fn reader_through_an_exchanged_name_says_so_and_finds_no_damage() {
    for (what, exchange) in EXCHANGES {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("state")).unwrap();
        commit_states(&store, &[bytes(1, 5000)]).unwrap();
        let reader = Options::new().open_read_only(dir.path().join("state")).unwrap();
        let open = reader.latest().unwrap().unwrap();
        assert_eq!(read_states(&open).unwrap()[0].1, bytes(1, 5000));
        exchange(dir.path());
        let errors = [
            reader.latest().unwrap_err(),
            reader.checkpoint(id(1)).unwrap_err(),
            reader.checkpoint_ids().unwrap_err(),
            reader.recover_latest_validated().unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_exchanged() && !error.is_corrupt(), "{what}: {error}");
        }
        assert_eq!(read_states(&open).unwrap()[0].1, bytes(1, 5000), "{what}");
    }
}

#[test]
fn export_whose_directory_is_exchanged_meanwhile_is_refused_and_goes_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let (target, elsewhere) = (dir.path().join("target"), dir.path().join("elsewhere"));
    let exchanged = AtomicBool::new(false);
    let exchange = {
        let target = target.clone();
        move |progress: Progress| {
            if progress.task == Task::Export && !exchanged.swap(true, Ordering::Relaxed) {
                rename(&target, &elsewhere);
                std::fs::create_dir(&target).unwrap();
                std::fs::write(target.join("theirs"), b"not ours").unwrap();
            }
        }
    };
    let store = Options::new().segment_size(10_000).progress(exchange).open(dir.path().join("state")).unwrap();
    let states: Vec<_> = (0..8).map(|seed| bytes(seed, 5000)).collect();
    let checkpoint = commit_states(&store, &states).unwrap().id();
    let error = store.export(checkpoint, &target).unwrap_err();
    assert!(error.is_exchanged(), "{error}");
    assert_eq!(content(&target), BTreeMap::from([("theirs".into(), b"not ours".to_vec())]));
    assert!(Options::new().open_read_only(dir.path().join("elsewhere")).is_err(), "it is no export");
    store.export(checkpoint, dir.path().join("another")).unwrap();
}

#[test]
fn source_that_is_exchanged_while_it_is_moved_keeps_all_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let (source, other) = (dir.path().join("source"), dir.path().join("other"));
    for (root, seed) in [(&source, 1), (&other, 2)] {
        let store = Store::open(root).unwrap();
        commit_states(&store, &[bytes(seed, 5000)]).unwrap();
        store.close().unwrap();
    }
    let theirs = content(&other);
    let exchange = {
        let (source, away, other) = (source.clone(), dir.path().join("away"), other.clone());
        move |progress: Progress| {
            if progress.task == Task::Import {
                rename(&source, &away);
                rename(&other, &source);
            }
        }
    };
    let store = Options::new().progress(exchange).open(dir.path().join("state")).unwrap();
    let error = store.import(&source, Claim::Move).unwrap_err();
    assert!(error.is_exchanged(), "{error}");
    assert_eq!(content(&source), theirs);
    assert!(store.checkpoint_ids().is_empty());
    let away = Store::open(dir.path().join("away")).unwrap();
    assert_eq!(read_states(&away.latest().unwrap().unwrap()).unwrap()[0].1, bytes(1, 5000));
}

#[test]
fn directory_that_was_removed_and_restored_under_a_store_is_no_damage() {
    for name in ["shared", "manifests"] {
        let dir = tempfile::tempdir().unwrap();
        let (root, backup) = (dir.path().join("state"), dir.path().join("backup"));
        let store = Store::open(&root).unwrap();
        for seed in 1..=2 {
            commit_states(&store, &[bytes(seed, 5000)]).unwrap();
        }
        let reader = Options::new().open_read_only(&root).unwrap();
        assert_eq!(reader.latest().unwrap().unwrap().id(), id(2));
        copy(&root.join(name), &backup);
        std::fs::remove_dir_all(root.join(name)).unwrap();
        rename(&backup, &root.join(name));
        // Every file has its name again, and none of them is in the directory that this store has open.
        let read = || store.latest()?.map(|found| read_states(&found)).transpose();
        let looks = [
            read().map(drop),
            store.validate(id(2), Validation::Quick).map(drop),
            store.validate(id(2), Validation::Full).map(drop),
            store.recover_latest_validated().map(drop),
        ];
        if name == "manifests" {
            // A store that is open reads nothing there.
            assert!(looks.iter().all(Result::is_ok), "{name}: {looks:?}");
            assert_eq!(read().unwrap().unwrap()[0].1, bytes(2, 5000), "{name}");
        }
        let refused = looks.into_iter().filter(|_| name != "manifests").chain([
            store.prune(1).map(drop),
            store.pin(id(1)),
            commit_states(&store, &[bytes(3, 5000)]).map(drop),
            reader.latest().map(drop),
            reader.checkpoint_ids().map(drop),
        ]);
        for error in refused.map(Result::unwrap_err) {
            assert!(error.is_exchanged() && !error.is_damage(), "{name}: {error}");
        }
        assert!(store.damaged().is_empty(), "{name}: {:?}", store.damaged());
        drop(store);
        let store = Store::open(&root).unwrap();
        assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(2, 5000), "{name}");
    }
}
