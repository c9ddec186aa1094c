//! What another thread does between two steps. Each test is here because a change that broke it was once noticed by no
//! test: bytes that a sync did not cover counted as durable, an export linked a segment that was still being appended to, a
//! mark came back.

use std::{path::Path, sync::mpsc, time::Duration};

use piton::{
    CheckpointId, Manifest, Options, Scope,
    disk::{At, Disk},
    testing::{SimDisk, Survival},
};

use crate::support::{
    ROOT, bytes, commit_states,
    hooked::{HookedDisk, set},
    open, read_states,
};

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

#[test]
fn sync_covers_what_was_written_before_it_and_nothing_that_came_while_it_ran() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let [first, second] = [1, 2].map(|_| store.begin_next().unwrap());
    let early = first.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    let (tell, late) = mpsc::channel();
    // Appended to the same segment when its bytes are durable already, and its sync has not returned yet.
    set(&disk.after_data_sync, move || {
        let state = second.write(Scope::Shared, &bytes(2, 5000)).unwrap();
        tell.send((second, state)).unwrap();
    });
    first.commit(Manifest::builder().state("early", early)).unwrap();
    let (second, state) = late.recv().unwrap();
    second.commit(Manifest::builder().state("late", state)).unwrap();

    let store = open(&disk.disk.cut_power(Survival::Nothing)).unwrap();
    let latest = store.latest().unwrap().unwrap();
    assert_eq!((latest.id(), read_states(&latest).unwrap()[0].1.clone()), (id(2), bytes(2, 5000)));
}

#[test]
fn export_waits_for_an_append_that_is_under_way() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let exported = commit_states(&store, &[bytes(1, 5000)]).unwrap().id();
    let pending = store.begin_next().unwrap();
    let (done, wait) = mpsc::channel();
    let other = store.clone();
    set(&disk.before_write, move || {
        std::thread::spawn(move || {
            other.export(exported, "/target").unwrap();
            done.send(()).unwrap();
        });
        // Its segment is just being appended to, by the thread that waits here.
        assert!(wait.recv_timeout(Duration::from_millis(300)).is_err(), "it did not wait");
        // Nor for ever: the rest is what the other thread does once this append is over.
    });
    let state = pending.write(Scope::Shared, &bytes(2, 5000)).unwrap();
    pending.commit(Manifest::builder().state("s", state)).unwrap();
}

/// A file with these bytes, durably.
fn put(disk: &SimDisk, dir: &Path, name: &str, bytes: &[u8]) {
    let (temp, file) = disk.create_temp(At::new(dir)).unwrap();
    assert_eq!(file.write_at(bytes, 0).unwrap(), bytes.len());
    file.sync_data().unwrap();
    disk.rename(At::new(&dir.join(temp)), At::new(&dir.join(name))).unwrap();
    disk.sync_dir(At::new(dir)).unwrap();
}

#[test]
fn mark_of_a_departing_store_that_was_taken_back_does_not_return() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    drop(store);
    put(&disk, ROOT.as_ref(), "piton.departing", b"whatever it says");
    drop(Options::new().disk(disk.clone()).open(ROOT).unwrap());
    let disk = disk.cut_power(Survival::Nothing);
    let mark = Path::new(ROOT).join("piton.departing");
    assert!(disk.metadata(At::new(&mark)).is_err(), "it came back");
}
