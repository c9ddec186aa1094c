//! Artifacts in numbers, and damaged ones.

use std::thread;

use piton::{
    Artifact, CheckpointId, Digest, Manifest, OperatorState, Options, PartitionState, Scope, StateHandle, Store,
    Validation, contract::Checkpointer, testing::SimDisk,
};

use crate::support::{ROOT, bytes, log::change_on, memory};

const ID: CheckpointId = CheckpointId::FIRST;

#[test]
fn ten_thousand_partitions_of_one_operator_all_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let data = |n: u32| bytes(u64::from(n), 1000 + n as usize % 500);
    (0..10_000).for_each(|n| drop(store.save_snapshot(ID, "../window", n, &data(n)).unwrap()));
    store.save_manifest(&Manifest::builder().timestamp_ms(1).build(ID)).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert!(store.validate(ID, Validation::Full).unwrap().issues.is_empty());
    for n in (0..10_000).step_by(97) {
        assert_eq!(store.load_artifact(&format!("1/operators/../window/partition-{n}.snap")).unwrap(), data(n));
    }
    assert!(dir.path().parent().unwrap().join("window").symlink_metadata().is_err());
}

#[test]
fn thousand_deltas_of_one_partition_keep_their_order() {
    let store = memory();
    (0..1000_u64).for_each(|n| drop(store.save_delta(ID, "o", 7, &bytes(n, 1500)).unwrap()));
    store.save_manifest(&Manifest::builder().parent(ID).timestamp_ms(1).build(ID)).unwrap();
    for n in 0..1000 {
        let path = format!("1/operators/o/partition-7.{}.delta", n + 1);
        assert_eq!(store.load_artifact(&path).unwrap(), bytes(n, 1500));
    }
    assert!(store.validate(ID, Validation::Full).unwrap().issues.is_empty());
}

#[test]
fn artifacts_of_two_hundred_threads_are_all_in_the_checkpoint_that_is_saved_after_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for round in 1..=3_u64 {
        let id = CheckpointId::new(round).unwrap();
        thread::scope(|scope| {
            for n in 0..200_u32 {
                let store = &store;
                scope.spawn(move || {
                    let data = bytes(round * 1000 + u64::from(n), 1100 + n as usize * 10);
                    let digest = store.save_snapshot(id, "o", n, &data).unwrap();
                    assert_eq!(digest, Digest::of(&data).to_string());
                    store.save_delta(id, "o", n, &data[..1050]).unwrap();
                });
            }
        });
        store.save_manifest(&Manifest::builder().build(id)).unwrap();
        for n in 0..200_u32 {
            let data = bytes(round * 1000 + u64::from(n), 1100 + n as usize * 10);
            assert_eq!(store.load_artifact(&format!("{id}/operators/o/partition-{n}.snap")).unwrap(), data);
            assert_eq!(store.load_artifact(&format!("{id}/operators/o/partition-{n}.delta")).unwrap(), data[..1050]);
        }
        assert!(store.validate(id, Validation::Full).unwrap().is_valid());
    }
}

#[test]
fn saving_the_manifest_while_artifacts_arrive_takes_each_whole_or_refuses_it() {
    for _ in 0..50 {
        let store = memory();
        let saved: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8_u32)
                .map(|n| {
                    let store = &store;
                    scope.spawn(move || store.save_snapshot(ID, "o", n, &bytes(u64::from(n), 3000)).is_ok())
                })
                .collect();
            // Somebody has to be first.
            while store.save_manifest(&Manifest::builder().build(ID)).is_err() {}
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (n, saved) in (0..).zip(saved) {
            let found = store.load_artifact(&format!("1/operators/o/partition-{n}.snap"));
            assert_eq!(found.is_ok(), saved, "partition {n}");
            assert!(found.map_or_else(|error| error.is_not_found(), |found| found == bytes(n, 3000)));
        }
        assert!(store.validate(ID, Validation::Full).unwrap().is_valid());
    }
}

#[test]
fn artifact_with_the_right_checksum_and_another_digest_is_damaged() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    store.save_snapshot(ID, "o", 0, &bytes(1, 3000)).unwrap();
    store.save_snapshot(ID, "o", 1, b"inline").unwrap();
    store.save_manifest(&Manifest::builder().build(ID)).unwrap();
    drop(store);
    // Another digest in the record, and its checksum made right again.
    for data in [&bytes(1, 3000)[..], b"inline"] {
        change_on(&disk, ID.get(), |record| {
            let digest = Digest::of(data);
            let at = record.windows(32).position(|window| window == digest.as_bytes()).unwrap();
            record[at] ^= 1;
        });
    }
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    let error = store.load_artifact("1/operators/o/partition-1.snap").unwrap_err();
    assert!(error.is_corrupt() && error.path().unwrap().ends_with("manifests"), "{error}");
    let report = store.validate(ID, Validation::Full).unwrap();
    let named: Vec<_> = report.fatal().map(ToString::to_string).collect();
    assert_eq!(named.len(), 2, "{named:?}");
    assert!(named[0].contains("partition 1") && named[0].contains("manifests"), "{named:?}");
    assert!(named[1].contains("partition 0") && named[1].contains(".seg") && named[1].contains("digest"), "{named:?}");
}

#[test]
fn digest_that_one_checkpoint_has_wrong_is_no_damage_of_others_with_the_same_state() {
    let store = memory();
    let pending = store.begin(ID).unwrap();
    let handle = pending.write(Scope::Shared, &bytes(1, 3000)).unwrap();
    pending.commit(Manifest::builder().state("s", handle.clone())).unwrap();
    let wrong = |handle: StateHandle| {
        let artifact = Artifact { handle, digest: Some(Digest::of(b"something else")) };
        let partition = PartitionState { snapshot: Some(artifact), ..PartitionState::default() };
        let operator = OperatorState { partitions: [(0, partition)].into(), ..OperatorState::default() };
        Manifest::builder().operator("o", operator)
    };
    store.begin_next().unwrap().commit(wrong(handle.clone())).unwrap();
    let pending = store.begin_next().unwrap();
    let inline = pending.write(Scope::Shared, b"inline").unwrap();
    pending.commit(wrong(inline)).unwrap();
    assert_eq!(store.recover_latest_validated().unwrap().chosen, Some(ID));
    assert_eq!(store.latest().unwrap().unwrap().id(), ID, "what was found is remembered");
    assert_eq!(store.damaged().len(), 2);
    assert!(store.begin_next().unwrap().reuse(&[handle]).is_ok());
}
