//! What a checkpoint costs in syncs.

use piton::{
    Manifest, Options, Scope, Store,
    disk::Disk,
    testing::{Call, SimDisk, Survival},
};

use crate::support::{ROOT, bytes, read_states};

fn syncs(disk: &SimDisk) -> (u64, u64) {
    (disk.count(Call::SyncData), disk.count(Call::SyncDir))
}

/// How many files of one pending checkpoint stay open to be synced at the commit.
const MAX_UNSYNCED: u64 = 64;

/// Commits `new` states, of which half are exclusive, and names all of the checkpoint before that are in files.
fn commit(store: &Store, disk: &SimDisk, new: u64) {
    let pending = store.begin(store.next_id()).unwrap();
    let mut manifest = Manifest::builder();
    for (name, handle) in store.latest().unwrap().iter().flat_map(|latest| latest.manifest().states()) {
        if !handle.is_inline() {
            manifest = manifest.state(name.clone(), handle.clone());
        }
    }
    for n in 0..new {
        let scope = if n.is_multiple_of(2) { Scope::Shared } else { Scope::Exclusive };
        let id = pending.id();
        manifest = manifest.state(format!("{id}-{n}"), pending.write(scope, &bytes(n, 4096)).unwrap());
        manifest = manifest.state(format!("{id}-{n}-inline"), pending.write(scope, &bytes(n, 100)).unwrap());
    }
    let synced = disk.count(Call::SyncData);
    pending.commit(manifest).unwrap();
    let at_commit = disk.count(Call::SyncData) - synced;
    assert_eq!(at_commit, 1 + new.min(MAX_UNSYNCED), "a checkpoint must not use up the descriptors");
}

#[test]
fn new_states_cost_one_file_sync_each_and_a_checkpoint_one_more_and_three_directory_syncs() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    for new in [1, 2, 20, 63, 64, 65, 200, 0] {
        let (files, dirs) = syncs(&disk);
        commit(&store, &disk, new);
        let after = syncs(&disk);
        assert_eq!(after.0 - files, new + 1, "file syncs for {new} new states");
        assert_eq!(after.1 - dirs, 1 + new.min(2), "directory syncs for {new} new states");
    }
    let store = Options::new().disk(disk.cut_power(Survival::Nothing)).open(ROOT).unwrap();
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap().len(), 1 + 2 + 20 + 63 + 64 + 65 + 200);
}

#[test]
fn automatic_retention_costs_no_sync() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).retain(2).open(ROOT).unwrap();
    for round in 0..6 {
        let (files, dirs) = syncs(&disk);
        let pending = store.begin(store.next_id()).unwrap();
        let state = pending.write(Scope::Shared, &bytes(round, 4096)).unwrap();
        pending.commit(Manifest::builder().state("s", state)).unwrap();
        assert_eq!(syncs(&disk), (files + 2, dirs + 2), "round {round}");
        // Two retained, and one whose removal the next commit makes durable.
        let files = disk.list("/state/shared".as_ref()).unwrap().len() as u64;
        assert_eq!(files, (round + 1).min(3));
    }
    store.close().unwrap();
    assert_eq!(disk.list("/state/shared".as_ref()).unwrap().len(), 2);
}

#[test]
fn beginning_reusing_and_reading_sync_nothing() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    commit(&store, &disk, 10);
    let before = syncs(&disk);
    let latest = store.latest().unwrap().unwrap();
    read_states(&latest).unwrap();
    let handles: Vec<_> = latest.manifest().states().map(|(_, handle)| handle.clone()).collect();
    let pending = store.begin(store.next_id()).unwrap();
    assert_eq!(pending.reuse(&handles).unwrap(), handles);
    drop(pending);
    assert_eq!(syncs(&disk), before);
}
