//! Whether checkpoints are whole, and which one to come back to. What is fenced off: a damaged checkpoint that is taken for
//! a good one, a good one that is passed over.

mod flips;

use std::path::{Path, PathBuf};

use piton::{
    CheckpointId, Issue, Manifest, Options, Scope, Skipped, Store, Validation, contract::CheckpointStore,
    testing::SimDisk,
};

use crate::support::{ROOT, bytes, commit_states, log, open};

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

/// Cuts the data of a checkpoint off, and has the store look.
fn hurt(disk: &SimDisk, store: &Store, number: u64) -> PathBuf {
    let data = data_files(store, number).remove(0);
    disk.damage(&data, |bytes| bytes.truncate(1000)).unwrap();
    assert!(!store.validate(id(number), Validation::Quick).unwrap().is_valid());
    data
}

/// Where the data of each named state is.
fn data_files(store: &Store, number: u64) -> Vec<PathBuf> {
    let checkpoint = store.checkpoint(id(number)).unwrap();
    let handles = checkpoint.manifest().states().map(|(_, handle)| handle.to_string());
    handles.map(|handle| Path::new(ROOT).join(segment_of(&handle))).collect()
}

pub(super) fn segment_of(handle: &str) -> String {
    let (scope, rest) = handle.split_once(':').unwrap();
    let rest = rest.split_once(':').unwrap().1;
    let numbers: Vec<u64> = rest.split('@').next().unwrap().split('.').map(|number| number.parse().unwrap()).collect();
    format!("{scope}/{:08}-{:03}-{:010}.seg", numbers[0], numbers[1], numbers[2])
}

/// Three checkpoints of one state each, none shared, in files of their own.
fn three() -> (SimDisk, Store) {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).merging(piton::Merging::Off).open(ROOT).unwrap();
    (1..=3).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    (disk, store)
}

#[test]
fn quick_look_finds_what_is_missing_and_a_full_one_every_byte() {
    type Damage = fn(&mut Vec<u8>);
    let cut: Damage = |bytes| bytes.truncate(5000);
    let flip: Damage = |bytes| bytes[4000] ^= 1;
    for (damage, quick_is_valid) in [(cut, false), (flip, true)] {
        let (disk, store) = three();
        let data = data_files(&store, 3).remove(0);
        disk.damage(&data, damage).unwrap();
        let reader = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
        for (depth, valid) in [(Validation::Quick, quick_is_valid), (Validation::Full, false)] {
            for report in [reader.validate(id(3), depth).unwrap(), store.validate(id(3), depth).unwrap()] {
                assert_eq!(report.is_valid(), valid, "{depth:?}: {:?}", report.issues);
                let named = report.fatal().all(|issue| match issue {
                    Issue::State { name, error } => name == "state \"0\"" && error.path() == Some(&*data),
                    _ => false,
                });
                assert!(named, "{:?}", report.issues);
            }
        }
        assert_eq!(store.latest().unwrap().unwrap().id(), id(2), "what was found is remembered");
        assert_eq!(store.recover_latest_validated().unwrap().chosen, Some(id(2)));
    }
}

#[test]
fn recovery_passes_over_whatever_cannot_be_used_and_says_why() {
    let (disk, store) = three();
    let data = data_files(&store, 2).remove(0);
    let cut = hurt(&disk, &store, 3);
    disk.damage(&data, |bytes| bytes[100] ^= 1).unwrap();
    let reader = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
    for report in [store.recover_latest_validated().unwrap(), reader.recover_latest_validated().unwrap()] {
        assert_eq!((report.chosen, &report.examined[..]), (Some(id(1)), &[3, 2, 1].map(id)[..]));
        let paths = report.skipped.iter().map(|(number, why)| match why {
            Skipped::Invalid(issues) => match &issues[..] {
                [Issue::NoTimestamp, Issue::State { error, .. }] => (number.get(), error.path()),
                issues => panic!("{issues:?}"),
            },
            why => panic!("{why:?}"),
        });
        let paths: Vec<_> = paths.collect();
        assert_eq!(paths, [(3, Some(&*cut)), (2, Some(&*data))]);
    }
    assert_eq!(store.load_latest().unwrap().unwrap().id(), id(1));
    assert_eq!(store.list_ids().unwrap(), [1, 2, 3].map(id), "damaged ones are listed");
    assert!(store.load_by_id(id(3)).unwrap_err().is_corrupt());
}

#[test]
fn where_all_are_damaged_nothing_is_chosen_and_it_is_no_empty_store() {
    let (disk, store) = three();
    let cut: Vec<_> = (1..=3).map(|n| hurt(&disk, &store, n)).collect();
    let report = store.recover_latest_validated().unwrap();
    assert_eq!((report.chosen, report.skipped.len(), report.examined.len()), (None, 3, 3));
    let error = store.load_latest().unwrap_err();
    assert!(error.is_corrupt() && error.path() == Some(&*cut[2]) && error.offset().is_some(), "{error}");
    let reader = Options::new().disk(disk).open_read_only(ROOT).unwrap();
    assert!(reader.latest().unwrap_err().is_corrupt());
}

#[test]
fn epoch_zero_is_fatal() {
    let (disk, store) = three();
    drop(store);
    log::change_on(&disk, 3, |record| record[25..33].fill(0));
    let store = open(&disk).unwrap();
    let report = store.validate(id(3), Validation::Quick).unwrap();
    assert!(report.issues.iter().any(|issue| matches!(issue, Issue::ZeroEpoch)), "{:?}", report.issues);
    assert!(!report.is_valid());
    let reader = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
    assert_eq!(reader.latest().unwrap().unwrap().id(), id(2));
    assert_eq!(store.latest().unwrap().unwrap().id(), id(2));
}

#[test]
fn roll_back_lasts_over_restarts_until_a_newer_checkpoint_and_skipped_ones_stay_listed() {
    let (disk, store) = three();
    store.rollback_to(id(1)).unwrap();
    drop(store);
    let store = open(&disk).unwrap();
    let reader = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
    assert_eq!(store.latest().unwrap().unwrap().id(), id(1));
    assert_eq!(reader.latest().unwrap().unwrap().id(), id(1));
    assert_eq!(store.checkpoint_ids(), [1, 2, 3].map(id));
    let report = store.recover_latest_validated().unwrap();
    assert_eq!((report.chosen, &report.examined[..]), (Some(id(1)), &[id(1)][..]));
    assert!(report.skipped.iter().all(|(_, why)| matches!(why, Skipped::RolledBack)) && report.skipped.len() == 2);
    assert_eq!(store.checkpoint(id(3)).unwrap().id(), id(3), "by its id it can be had");
    assert_eq!(store.next_id().unwrap(), id(4));
    commit_states(&store, &[bytes(4, 5000)]).unwrap();
    assert_eq!(reader.latest().unwrap().unwrap().id(), id(4));
    // Should the newer one be damaged, nobody falls back to what was rolled back.
    hurt(&disk, &store, 4);
    assert_eq!(store.latest().unwrap().unwrap().id(), id(1));
    assert_eq!(reader.latest().unwrap().unwrap().id(), id(1));
    assert_eq!(store.prune(1).unwrap().checkpoints, [2, 3, 4].map(id));
    assert!(store.rollback_to(id(2)).unwrap_err().is_not_found());
}

#[test]
fn roll_back_to_the_newest_takes_it_back_and_a_damaged_one_is_refused() {
    let (disk, store) = three();
    store.rollback_to(id(1)).unwrap();
    store.rollback_to(id(3)).unwrap();
    assert_eq!(store.latest().unwrap().unwrap().id(), id(3));
    hurt(&disk, &store, 2);
    assert!(store.rollback_to(id(2)).unwrap_err().is_corrupt());
    assert_eq!(store.latest().unwrap().unwrap().id(), id(3));
    // The one that was rolled back to is damaged later: an older one, not a skipped one.
    let (disk, store) = three();
    store.rollback_to(id(2)).unwrap();
    hurt(&disk, &store, 2);
    assert_eq!(store.latest().unwrap().unwrap().id(), id(1));
}

#[test]
fn old_copy_of_the_identity_costs_no_checkpoint() {
    let disk = SimDisk::new();
    let identity = Path::new(ROOT).join("piton.store");
    drop(commit_states(&open(&disk).unwrap(), &[bytes(1, 5000)]).unwrap());
    let mut old = Vec::new();
    disk.damage(&identity, |bytes| old.clone_from(bytes)).unwrap();
    (2..=4).for_each(|n| drop(commit_states(&open(&disk).unwrap(), &[bytes(n, 5000)]).unwrap()));
    disk.damage(&identity, |bytes| *bytes = old).unwrap();
    for n in 5..=7 {
        let store = open(&disk).unwrap();
        assert!(store.damaged().is_empty() && store.generation() == n, "{} {:?}", store.generation(), store.damaged());
        let ids = store.checkpoint_ids();
        assert!(
            ids.iter().all(|id| store.validate(*id, Validation::Full).unwrap().is_valid()) && ids.len() as u64 == n - 1
        );
        drop(commit_states(&store, &[bytes(n, 5000)]).unwrap());
    }
}

#[test]
fn what_is_wrong_with_a_manifest_alone_can_be_told_without_a_store() {
    let manifest = Manifest::builder().vnode_count(7).build(id(1));
    assert!(matches!(Issue::of_content(&manifest, 7)[..], [Issue::NoTimestamp]));
    assert!(matches!(
        Issue::of_content(&manifest, 8)[..],
        [Issue::NoTimestamp, Issue::VnodeCount { found: 7, expected: 8 }]
    ));
}

#[test]
fn store_warns_of_other_vnode_counts_than_its_own() {
    let store = Options::memory().vnode_count(64).open(ROOT).unwrap();
    let pending = store.begin(id(1)).unwrap();
    pending.write(Scope::Shared, b"").unwrap();
    pending.commit(Manifest::builder().timestamp_ms(1)).unwrap();
    store.save(&Manifest::builder().timestamp_ms(1).vnode_count(65).build(id(2))).unwrap();
    assert!(store.validate(id(1), Validation::Full).unwrap().issues.is_empty());
    assert!(matches!(
        store.validate(id(2), Validation::Full).unwrap().issues[..],
        [Issue::VnodeCount { found: 65, expected: 64 }]
    ));
    assert_eq!(store.load_by_id(id(1)).unwrap().unwrap().vnode_count(), 64);
}

#[test]
fn second_roll_back_brings_nothing_back_that_the_first_one_skipped() {
    let (disk, store) = three();
    (4..=5).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    store.rollback_to(id(3)).unwrap();
    (6..=7).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    store.rollback_to(id(6)).unwrap();
    drop(store);
    let store = open(&disk).unwrap();
    let newest = |store: &Store| store.latest().unwrap().unwrap().id().get();
    assert_eq!(newest(&store), 6);
    hurt(&disk, &store, 6);
    assert_eq!(newest(&store), 3, "4 and 5 were rolled back");
    assert_eq!(store.prune(2).unwrap().checkpoints, [1, 4, 5, 6, 7].map(id));

    // Nor does one that goes further back and is itself taken back.
    let (_, store) = three();
    (4..=5).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    store.rollback_to(id(2)).unwrap();
    drop(commit_states(&store, &[bytes(6, 5000)]).unwrap());
    store.rollback_to(id(1)).unwrap();
    store.rollback_to(id(6)).unwrap();
    assert_eq!(store.prune(2).unwrap().checkpoints, [1, 3, 4, 5].map(id));

    // Back to one that was skipped: what it was built on counts again, what came after it does not.
    let (_, store) = three();
    (4..=5).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    store.rollback_to(id(1)).unwrap();
    store.rollback_to(id(4)).unwrap();
    assert_eq!(store.prune(2).unwrap().checkpoints, [1, 2, 5].map(id));
}

#[test]
fn roll_backs_have_no_limit() {
    let (disk, store) = three();
    for round in 0..20 {
        let target = store.latest().unwrap().unwrap().id();
        commit_states(&store, &[bytes(round, 5000)]).unwrap();
        store.rollback_to(target).unwrap();
        commit_states(&store, &[bytes(round, 5000)]).unwrap();
    }
    let skipped: Vec<_> = store.recover_latest_validated().unwrap().skipped;
    drop(store);
    let store = open(&disk).unwrap();
    assert_eq!(store.latest().unwrap().unwrap().id(), id(43));
    (0..20).for_each(|n| drop(hurt(&disk, &store, 43 - 2 * n)));
    assert_eq!(store.latest().unwrap().unwrap().id(), id(3), "none that was rolled back");
    assert!(skipped.is_empty());
}

#[test]
fn change_whose_record_could_not_be_synced_never_was_or_is_unknown() {
    use piton::testing::{Call, Fault, Survival};
    let (disk, store) = three();
    let manifest = store.checkpoint(id(1)).unwrap().manifest().clone().with_metadata("k", Some(vec![1]));
    disk.fail_nth(Call::SyncData, 1, Fault::Error(5));
    let error = store.update_manifest(&manifest).unwrap_err();
    assert!(!error.is_indeterminate() && !error.needs_reopen(), "{error}");
    assert_eq!(store.checkpoint(id(1)).unwrap().manifest().metadata("k"), None);
    let cut = open(&disk.cut_power(Survival::Everything)).unwrap();
    assert_eq!(cut.checkpoint(id(1)).unwrap().manifest().metadata("k"), None, "it was made void");

    let (disk, store) = three();
    (1..9).for_each(|nth| disk.fail_nth(Call::SyncData, nth, Fault::Error(5)));
    assert!(store.rollback_to(id(1)).unwrap_err().is_indeterminate());
    assert!(store.rollback_to(id(1)).unwrap_err().is_poisoned());
}

#[test]
fn where_all_were_rolled_back_it_is_no_empty_store() {
    let (disk, store) = three();
    store.rollback_to(id(1)).unwrap();
    let _ = store.forget(id(1)).unwrap();
    let reader = Options::new().disk(disk).open_read_only(ROOT).unwrap();
    for error in [store.latest().unwrap_err(), reader.latest().unwrap_err()] {
        assert!(error.is_not_found() && error.to_string().contains("rolled back"), "{error}");
    }
    assert!(store.prune(1).unwrap().checkpoints.is_empty(), "they are all there is");
    store.rollback_to(id(3)).unwrap();
    assert_eq!(reader.latest().unwrap().unwrap().id(), id(3));
}

#[test]
fn id_below_a_committed_one_cannot_be_begun() {
    let (_, store) = three();
    for number in [1, 2, 3] {
        assert!(store.begin(id(number)).unwrap_err().is_conflict());
    }
    store.begin(id(9)).unwrap().commit(Manifest::builder()).unwrap();
    for number in [4, 8] {
        assert!(store.begin(id(number)).unwrap_err().is_invalid(), "{number}");
    }
}

#[test]
fn deltas_without_their_base_are_pointed_out_once_the_parent_is_gone() {
    use piton::contract::Checkpointer;
    let store = Options::memory().open(ROOT).unwrap();
    store.save_snapshot(id(1), "o", 0, &bytes(1, 3000)).unwrap();
    store.save_manifest(&Manifest::builder().timestamp_ms(1).build(id(1))).unwrap();
    store.save_delta(id(2), "o", 0, &bytes(2, 3000)).unwrap();
    store.save_manifest(&Manifest::builder().timestamp_ms(1).parent(id(1)).build(id(2))).unwrap();
    // This one names what it goes on from, and keeps it.
    let base = store.load_manifest(id(1)).unwrap().operator("o").unwrap().clone();
    store.save_delta(id(3), "o", 0, &bytes(3, 3000)).unwrap();
    store.save_manifest(&Manifest::builder().timestamp_ms(1).operator("o", base).build(id(3))).unwrap();
    assert!(store.validate(id(2), Validation::Full).unwrap().issues.is_empty());
    let _ = store.forget(id(1)).unwrap();
    let issues = store.validate(id(2), Validation::Full).unwrap().issues;
    assert!(matches!(issues[..], [Issue::IncrementalWithoutParent]), "{issues:?}");
    assert!(store.validate(id(3), Validation::Full).unwrap().issues.is_empty());
    assert_eq!(store.load_artifact("3/operators/o/partition-0.snap").unwrap(), bytes(1, 3000));
    assert_eq!(store.load_artifact("3/operators/o/partition-0.delta").unwrap(), bytes(3, 3000));
}
