//! What was committed without syncs becomes durable when the store is opened with them. What is fenced off: a checkpoint that
//! is promised to be durable and refers to states that are not.

use piton::{
    CheckpointId, Durability, Manifest, Options, Result, Scope, Store,
    testing::{Call, Fault, SimDisk, Survival},
};

use crate::support::{ROOT, bytes, commit_states, read_states};

fn open(disk: &SimDisk, durability: Durability) -> Result<Store> {
    let options = Options::new().disk(disk.clone()).durability(durability).log_size(128 << 10).segment_size(30_000);
    options.open(ROOT)
}

/// A disk on which so many checkpoints were committed without syncs, and nobody has the store open.
fn unsynced(checkpoints: u64) -> SimDisk {
    let disk = SimDisk::new();
    let store = open(&disk, Durability::None).unwrap();
    for seed in 1..=checkpoints {
        let pending = store.begin_next().unwrap();
        let scopes = [("a", Scope::Shared), ("b", Scope::Exclusive)];
        let states = scopes.map(|(name, scope)| (name, pending.write(scope, &bytes(seed, 5000)).unwrap()));
        let manifest =
            states.into_iter().fold(Manifest::builder(), |manifest, (name, handle)| manifest.state(name, handle));
        pending.commit(manifest).unwrap();
    }
    store.close().unwrap();
    disk.kill()
}

fn assert_is_whole(store: &Store, id: CheckpointId) {
    let states = read_states(&store.checkpoint(id).unwrap()).unwrap();
    assert!(states.iter().all(|(_, state)| *state == bytes(id.get(), 5000)), "{id}");
}

#[test]
fn what_was_committed_without_syncs_is_durable_once_the_store_was_opened_with_them() {
    // With so many there is a base.
    for checkpoints in [1, 5, 60] {
        for times in 0..3 {
            let mut disk = unsynced(checkpoints);
            for _ in 0..times {
                let store = open(&disk, Durability::None).unwrap();
                assert_eq!(store.open_report().synced, 0);
                store.close().unwrap();
                disk = disk.kill();
            }
            let store = open(&disk, Durability::PerCheckpoint).unwrap();
            let report = store.open_report();
            assert!(report.synced >= 2 && report.to_string().contains("without syncs"), "{report}");
            drop(store);
            let disk = disk.cut_power(Survival::Nothing);
            let store = open(&disk, Durability::PerCheckpoint).unwrap();
            assert_eq!(store.checkpoint_ids().len() as u64, checkpoints);
            store.checkpoint_ids().into_iter().for_each(|id| assert_is_whole(&store, id));
            assert_eq!(store.open_report().synced, 0, "they are known to be durable");
        }
    }
}

#[test]
fn checkpoint_that_goes_on_from_one_without_syncs_is_durable_as_a_whole() {
    let disk = unsynced(3);
    let store = open(&disk, Durability::PerCheckpoint).unwrap();
    let newest = store.latest().unwrap().unwrap();
    let next = store.begin_next().unwrap().commit(Manifest::based_on(newest.manifest())).unwrap();
    let id = next.id();
    drop((newest, next, store));
    let store = open(&disk.cut_power(Survival::Nothing), Durability::PerCheckpoint).unwrap();
    let states = read_states(&store.checkpoint(id).unwrap()).unwrap();
    assert!(states.len() == 2 && states.iter().all(|(_, state)| *state == bytes(3, 5000)));
}

#[test]
fn opening_fails_or_is_repeated_where_what_was_committed_without_syncs_cannot_be_made_durable() {
    let calls = {
        let disk = unsynced(3);
        drop(open(&disk, Durability::PerCheckpoint).unwrap());
        disk.calls()
    };
    for call in 1..=calls {
        for fault in [Fault::Error(5), Fault::Error(28), Fault::PowerCut] {
            let disk = unsynced(3);
            disk.fail(call, fault);
            let opened = open(&disk, Durability::PerCheckpoint);
            disk.heal();
            let is_durable = opened.is_ok();
            drop(opened);
            let disk = disk.cut_power(if is_durable { Survival::Nothing } else { Survival::Everything });
            let store = open(&disk, Durability::PerCheckpoint).unwrap();
            assert_eq!(store.checkpoint_ids().len(), 3, "call {call}, {fault:?}");
            store.checkpoint_ids().into_iter().for_each(|id| assert_is_whole(&store, id));
        }
    }
}

#[test]
fn files_whose_first_sync_fails_are_written_again() {
    for nth in 1..=12 {
        let disk = unsynced(3);
        disk.fail_nth(Call::SyncData, nth, Fault::Error(5));
        // Opened again, if it cannot be: no sync of that open may count on what the failed one left behind.
        let store = open(&disk, Durability::PerCheckpoint).or_else(|_| open(&disk, Durability::PerCheckpoint)).unwrap();
        let synced = store.open_report().synced;
        drop(store);
        let store = open(&disk.cut_power(Survival::Nothing), Durability::PerCheckpoint).unwrap();
        assert_eq!((store.checkpoint_ids().len(), synced), (3, 2), "sync {nth}");
        store.checkpoint_ids().into_iter().for_each(|id| assert_is_whole(&store, id));
    }
}

#[test]
fn states_that_a_store_without_syncs_has_written_again_from_the_log_become_durable_later() {
    // The first base of the store without syncs takes the place of the records that have them.
    for checkpoints in [0, 60] {
        let disk = SimDisk::new();
        let store = open(&disk, Durability::PerCheckpoint).unwrap();
        for seed in 1..=3 {
            commit_states(&store, &[bytes(seed, 500)]).unwrap();
        }
        drop(store);
        let store = open(&disk, Durability::None).unwrap();
        assert!(store.open_report().redone > 0);
        (0..checkpoints).for_each(|_| drop(commit_states(&store, &[]).unwrap()));
        drop(store);
        drop(open(&disk, Durability::PerCheckpoint).unwrap());
        let store = open(&disk.cut_power(Survival::Nothing), Durability::PerCheckpoint).unwrap();
        for id in store.checkpoint_ids().into_iter().take(3) {
            assert_eq!(
                read_states(&store.checkpoint(id).unwrap()).unwrap()[0].1,
                bytes(id.get(), 500),
                "{checkpoints}"
            );
        }
    }
}

#[test]
fn store_with_syncs_has_nothing_to_make_durable() {
    let disk = SimDisk::new();
    let store = open(&disk, Durability::PerCheckpoint).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    drop(store);
    assert_eq!(open(&disk, Durability::PerCheckpoint).unwrap().open_report().synced, 0);
}
