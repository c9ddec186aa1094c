//! The verbs that address checkpoints by id: what every implementation promises, and what `Store` promises beyond that.

mod artifacts;
mod cost;
mod save;
mod toy;

use piton::{Options, Store, disk::MemoryDisk, testing::SimDisk, testing::contracts};

use crate::support::ROOT;

/// A store in a directory of its own, which goes with it.
struct OnDisk {
    store: Store,
    _dir: tempfile::TempDir,
}

impl OnDisk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Store::open(dir.path()).unwrap(), _dir: dir }
    }
}

#[test]
fn store_keeps_every_promise_of_a_checkpoint_store_on_every_disk() {
    contracts::check_store(|| Options::memory().open(ROOT).unwrap());
    contracts::check_store(|| Options::new().disk(SimDisk::new()).open(ROOT).unwrap());
    for (_, test) in contracts::STORE_TESTS {
        test(&OnDisk::new().store);
    }
}

#[test]
fn store_keeps_every_promise_of_a_checkpointer_on_every_disk() {
    contracts::check_checkpointer(|| Options::new().disk(MemoryDisk::new()).open(ROOT).unwrap());
    contracts::check_checkpointer(|| Options::new().disk(SimDisk::new()).open(ROOT).unwrap());
    for (_, test) in contracts::CHECKPOINTER_TESTS {
        test(&OnDisk::new().store);
    }
}

#[test]
fn promises_can_be_kept_by_another_implementation() {
    contracts::check_store(toy::Toy::default);
    contracts::check_checkpointer(toy::Toy::default);
}

/// Every interface that an engine programs against can be had as `dyn`: else this does not compile.
#[test]
fn contracts_are_dyn_compatible() {
    use piton::contract::{
        CheckpointStorage, CheckpointStore, CheckpointStream, CheckpointStreamFactory, Checkpointer, MemoryStorage,
        SnapshotResources, SnapshotStrategy, StateObject,
    };
    type Dyn<R, S> = dyn SnapshotStrategy<Resources = R, State = S>;
    let storage: Box<dyn CheckpointStorage> = Box::new(MemoryStorage::default());
    let store = storage.open().unwrap();
    let pending = store.begin(store.next_id()).unwrap();
    let (by_id, artifacts): (Box<dyn CheckpointStore>, Box<dyn Checkpointer>) =
        (Box::new(store.clone()), Box::new(store.clone()));
    let streams: Box<dyn CheckpointStreamFactory> = Box::new(pending.streams());
    let stream: Box<dyn CheckpointStream> = streams.create_stream(piton::Scope::Shared).unwrap();
    let mut state: Box<dyn StateObject> = Box::new(stream.finish().unwrap());
    let mut resources: Box<dyn SnapshotResources> = Box::new(());
    resources.release();
    state.discard().unwrap();
    assert_eq!((by_id.list_ids().unwrap().len(), artifacts.read_latest().unwrap()), (0, None));
    assert_eq!(size_of::<&Dyn<(), piton::StateHandle>>(), 2 * size_of::<usize>());
}
