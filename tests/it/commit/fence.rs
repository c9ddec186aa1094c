//! A writer that was stalled while another one took the store over: its lock was removed by a careless person, or by
//! NFS. It must find out before it publishes or deletes.

use piton::{
    Manifest, Scope, Store,
    testing::{Call, Fault, SimDisk},
};

use crate::support::{bytes, commit_states, open, read_states};

/// A store, and a second one that took over while the first lives.
fn stalled() -> (SimDisk, Store, Store) {
    let disk = SimDisk::new();
    let first = open(&disk).unwrap();
    commit_states(&first, &[bytes(1, 5000)]).unwrap();
    disk.break_locks();
    let second = open(&disk).unwrap();
    (disk, first, second)
}

#[test]
fn stalled_writer_is_fenced_and_cannot_publish_forget_or_close() {
    let (_, first, second) = stalled();
    let pending = first.begin_next().unwrap();
    pending.write(Scope::Shared, &bytes(2, 5000)).unwrap();
    let error = pending.commit(Manifest::builder()).unwrap_err();
    assert!(error.is_fenced() && !error.is_indeterminate() && error.to_string().contains("generation 2"), "{error}");
    let id = first.checkpoint_ids()[0];
    assert!(first.forget(id).unwrap_err().is_fenced());
    assert!(first.prune(1).unwrap_err().is_fenced());
    assert!(first.close().unwrap_err().is_fenced(), "it must not write the identity of its successor");
    commit_states(&second, &[bytes(3, 5000)]).unwrap();
    assert_eq!(second.checkpoint_ids().len(), 2);
}

#[test]
fn stalled_writer_forgets_nothing_of_its_successor() {
    let disk = SimDisk::new();
    let first = open(&disk).unwrap();
    (1..=2).for_each(|n| drop(commit_states(&first, &[bytes(n, 5000)]).unwrap()));
    disk.break_locks();
    let second = open(&disk).unwrap();
    assert!(first.forget(first.checkpoint_ids()[0]).unwrap_err().is_fenced());
    assert_eq!(read_states(&second.checkpoint(second.checkpoint_ids()[0]).unwrap()).unwrap()[0].1, bytes(1, 5000));
}

#[test]
fn commit_whose_last_look_at_the_identity_fails_reports_no_success() {
    let disk = SimDisk::new();
    let first = open(&disk).unwrap();
    // The first look is before the record is written, the second behind its sync.
    disk.fail_nth(Call::Open, 2, Fault::Error(5));
    let error = commit_states(&first, &[bytes(1, 5000)]).unwrap_err();
    assert!(error.is_indeterminate(), "{error}");
    assert!(first.begin_next().unwrap_err().is_poisoned());
    drop(first);
    read_states(&open(&disk).unwrap().latest().unwrap().unwrap()).unwrap();
}

#[test]
fn second_writer_is_refused_at_once_and_the_holder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(error.is_locked(), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    store.close().unwrap();
    Store::open(dir.path()).unwrap();
}

#[test]
fn lock_is_held_as_long_as_anybody_can_write_or_read() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let checkpoint = commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let view = checkpoint.read(checkpoint.manifest().state("0").unwrap()).unwrap();
    let pending = store.begin_next().unwrap();
    drop(store);
    assert!(open(&disk).unwrap_err().is_locked());
    drop(pending);
    assert!(open(&disk).unwrap_err().is_locked());
    drop(checkpoint);
    assert!(open(&disk).unwrap_err().is_locked(), "another process would be free to delete what the view shows");
    drop(view);
    open(&disk).unwrap();
}
