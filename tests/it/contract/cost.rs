//! What the verbs cost in syncs.

use piton::{
    CheckpointId, Manifest,
    contract::CheckpointStore,
    testing::{Call, SimDisk},
};

use crate::support::{bytes, open};

fn syncs(disk: &SimDisk) -> u64 {
    disk.count(Call::SyncData) + disk.count(Call::SyncDir)
}

#[test]
fn checkpoint_with_a_state_of_one_mebibyte_costs_seven_syncs_at_first_and_then_two() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let state = bytes(1, 1 << 20);
    let chunks: Vec<_> = state.chunks(100_000).collect();
    for number in 1..=10 {
        let before = syncs(&disk);
        let manifest = Manifest::builder().build(CheckpointId::new(number).unwrap());
        store.save_with_state(&manifest, Some(&chunks)).unwrap();
        // The data and the log; and at first the name of the data, and two blank logs with their names.
        assert_eq!(syncs(&disk) - before, if number == 1 { 7 } else { 2 }, "checkpoint {number}");
    }
    assert_eq!(store.load_state_data(CheckpointId::FIRST).unwrap().unwrap(), state);
}

#[test]
fn update_and_pin_cost_one_sync_each_and_nothing_if_nothing_changes() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    store.save(&Manifest::builder().build(CheckpointId::FIRST)).unwrap();
    let manifest = store.load_latest().unwrap().unwrap().with_metadata("k", Some(vec![1]));
    for (expected, again) in [(1, "first"), (0, "again")] {
        let before = syncs(&disk);
        store.update_manifest(&manifest).unwrap();
        assert_eq!(syncs(&disk) - before, expected, "{again}");
        store.pin(CheckpointId::FIRST).unwrap();
        assert_eq!(syncs(&disk) - before, 2 * expected, "{again}");
    }
}
