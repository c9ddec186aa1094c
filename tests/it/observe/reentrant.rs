//! Observers that use the store.

use std::{
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};

use piton::{
    CheckpointId, Manifest, Merging, Options, Store,
    contract::CheckpointStore,
    observe::Event,
    testing::{Call, Fault, SimDisk},
};

use crate::support::{ROOT, bytes, commit_states};

/// Fails if it takes so long that somebody waits for a lock.
fn in_time(act: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let thread = thread::spawn(move || {
        act();
        done.send(()).unwrap();
    });
    match finished.recv_timeout(Duration::from_mins(1)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("somebody waits for a lock"),
        _ => thread.join().unwrap(),
    }
}

/// Does in each event what needs every lock of the store.
fn store_that_is_used_by_its_observer(options: Options) -> Store {
    let cell: Arc<OnceLock<Store>> = Arc::default();
    let found = Arc::clone(&cell);
    let options = options.observer(move |event| {
        let Some(store) = found.get() else { return };
        let _ = (store.usage(), store.checkpoint_ids(), store.latest());
        if matches!(event, Event::Committed { .. } | Event::Poisoned { .. }) {
            // Each of these takes the turn.
            let newest = store.checkpoint_ids().last().copied().unwrap_or(CheckpointId::FIRST);
            let _ = store.pin(newest).and_then(|()| store.unpin(newest));
        }
        let _ = store.maintain(1 << 20);
        let _ = store.cleanup_orphans(true);
    });
    let store = options.open(ROOT).unwrap();
    cell.set(store.clone()).unwrap();
    store
}

#[test]
fn observer_may_use_the_store() {
    in_time(|| {
        let options = Options::new().disk(SimDisk::new()).merging(Merging::Off).retain(2);
        let store = store_that_is_used_by_its_observer(options);
        for seed in 0..4 {
            commit_states(&store, &[bytes(seed, 5000)]).unwrap();
        }
        let first = store.checkpoint_ids()[0];
        store.rollback_to(first).unwrap();
        drop(store.begin_next().unwrap());
        let _ = store.prune(1).unwrap();
        let membership = store.admit().unwrap();
        let _ = store.dismiss(&membership).unwrap();
    });
}

#[test]
fn observer_may_use_the_store_when_checkpoints_are_saved_by_id() {
    in_time(|| {
        let store = store_that_is_used_by_its_observer(Options::new().disk(SimDisk::new()));
        let contract: &dyn CheckpointStore = &store;
        for number in 1..=3 {
            let id = store.next_id().unwrap();
            contract.save_with_state(&manifest(id), Some(&[&bytes(number, 5000)])).unwrap();
        }
        assert_eq!(store.checkpoint_ids().len(), 3);
    });
}

/// A manifest for this id, from another store.
fn manifest(id: CheckpointId) -> Manifest {
    let other = Options::memory().open("/other").unwrap();
    other.begin(id).unwrap().commit(Manifest::builder()).unwrap().manifest().clone()
}

#[test]
fn observer_may_use_the_store_when_it_must_be_reopened() {
    in_time(|| {
        let disk = SimDisk::new();
        let store = store_that_is_used_by_its_observer(Options::new().disk(disk.clone()));
        commit_states(&store, &[bytes(1, 10)]).unwrap();
        let pending = store.begin_next().unwrap();
        // The record, and every attempt to make it void.
        for nth in 1..10 {
            disk.fail_nth(Call::SyncData, nth, Fault::Error(5));
        }
        assert!(pending.commit(Manifest::builder()).unwrap_err().is_indeterminate());
    });
}
