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
    let pending = store.begin_next().unwrap();
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

/// The verbs that are made of others pass over damage, and do not hide it if there is nothing else.
#[test]
fn default_of_the_newest_passes_over_damage_and_tells_it_if_there_is_nothing_else() {
    use piton::{CheckpointId, Error, Manifest, Reclaimed, Result, contract::CheckpointStore};
    /// So many checkpoints, of which those above a number are damaged.
    struct Damaged(u64, u64);
    impl CheckpointStore for Damaged {
        fn vnode_count(&self) -> u16 {
            256
        }
        fn next_id(&self) -> Result<CheckpointId> {
            Ok(CheckpointId::new(self.0 + 1).unwrap())
        }
        fn save_with_state(&self, _: &Manifest, _: Option<&[&[u8]]>) -> Result<()> {
            unreachable!()
        }
        fn update_manifest(&self, _: &Manifest) -> Result<()> {
            unreachable!()
        }
        fn load_by_id(&self, id: CheckpointId) -> Result<Option<Manifest>> {
            if id.get() > self.1 {
                return Err(Error::corrupt("load", "a manifest".as_ref(), id.get(), "told so"));
            }
            Ok(Some(Manifest::builder().epoch(id.get()).timestamp_ms(1).build(id)))
        }
        fn list_ids(&self) -> Result<Vec<CheckpointId>> {
            Ok((1..=self.0).filter_map(CheckpointId::new).collect())
        }
        fn prune(&self, _: usize) -> Result<Reclaimed> {
            unreachable!()
        }
        fn save_state_data(&self, _: CheckpointId, _: &[&[u8]]) -> Result<()> {
            unreachable!()
        }
        fn load_state_data(&self, _: CheckpointId) -> Result<Option<Vec<u8>>> {
            unreachable!()
        }
    }
    let two = CheckpointId::new(2);
    let store = Damaged(4, 2);
    assert_eq!(store.load_latest().unwrap().map(|manifest| manifest.id()), two);
    assert_eq!(store.list().unwrap().len(), 2);
    assert!(!store.validate_checkpoint(CheckpointId::new(3).unwrap()).unwrap().is_valid());
    let report = store.recover_latest_validated().unwrap();
    assert_eq!((report.chosen, report.skipped.len(), report.examined.len()), (two, 2, 3));
    let error = Damaged(4, 0).load_latest().unwrap_err();
    assert!(error.is_corrupt() && error.offset() == Some(4), "that of the newest: {error}");
    assert!(Damaged(0, 0).load_latest().unwrap().is_none());
}
