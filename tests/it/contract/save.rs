//! Saving under one id from several sides. What is fenced off: two contents under one id, a loser that believes it has won,
//! and data that a loser leaves behind.

use std::{path::Path, thread};

use piton::{
    CheckpointId, Manifest, Options, Scope, Store,
    contract::{CheckpointStore, Checkpointer},
    testing::{Call, Fault, SimDisk},
};

use crate::support::{ROOT, bytes, memory, open};

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

/// The bytes of every data file, whether or not somebody refers to them.
fn data_bytes(store: &Store) -> u64 {
    store.usage().physical_bytes + store.usage().orphan_bytes
}

#[test]
fn of_four_threads_that_save_one_id_exactly_one_content_wins_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Options::new().durability(piton::Durability::None).merging(piton::Merging::Off).open(dir.path()).unwrap();
    for round in 1..=500_u64 {
        let same = round % 2 == 0;
        let content = |n: u64| if same { 0 } else { n };
        let won: Vec<_> = thread::scope(|scope| {
            let attempt = |n: u64| {
                let store = &store;
                move || {
                    let manifest = Manifest::builder().epoch(1 + content(n)).build(id(round));
                    store.save_with_state(&manifest, Some(&[&bytes(content(n), 2000)]))
                }
            };
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(attempt(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winner = store.load_by_id(id(round)).unwrap().unwrap().epoch() - 1;
        for (n, result) in (0..4).zip(&won) {
            match result {
                Ok(()) => assert_eq!(content(n), winner, "round {round}"),
                Err(error) => assert!(error.is_conflict() && content(n) != winner, "round {round}: {error}"),
            }
        }
        assert_eq!(won.iter().filter(|result| result.is_ok()).count(), if same { 4 } else { 1 }, "round {round}");
        assert_eq!(store.load_state_data(id(round)).unwrap().unwrap(), bytes(winner, 2000));
        assert!(store.validate_checkpoint(id(round)).unwrap().is_valid());
        let _ = store.prune(1).unwrap();
        let names = names(dir.path());
        let with = |end: &str| names.iter().filter(|name| name.extension().is_some_and(|found| found == end)).count();
        let (data, logs, bases) = (with("seg"), with("log"), with("base") + with("copy"));
        // The log that takes records, those that follow the last base, and two blank ones.
        assert!(data == 1 && (3..=5).contains(&logs) && bases <= 2, "round {round}: {names:?}");
        assert_eq!(names.len() - data - logs - bases, 3, "identity, lock, and what readers lock: {names:?}");
    }
}

fn names(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap());
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn save_that_fails_uses_its_id_up_and_leaves_nothing_behind() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).redo_size(0).open(ROOT).unwrap();
    store.save_with_state(&Manifest::builder().build(id(1)), Some(&[&bytes(1, 5000)])).unwrap();
    let before = data_bytes(&store);
    disk.fail_nth(Call::SyncData, 1, Fault::Error(28));
    let manifest = Manifest::builder().build(id(2));
    assert!(store.save_with_state(&manifest, Some(&[&bytes(2, 5000)])).unwrap_err().is_no_space());
    assert!(store.save(&manifest).unwrap_err().is_conflict(), "its id was used");
    assert_eq!((store.next_id().unwrap(), store.checkpoint_ids()), (id(3), vec![id(1)]));
    store.save_with_state(&Manifest::builder().build(id(3)), Some(&[&bytes(3, 5000)])).unwrap();
    let _ = store.prune(1).unwrap();
    assert!(data_bytes(&store) <= before, "{} of {before}", data_bytes(&store));
}

#[test]
fn checkpoint_that_was_committed_by_hand_is_the_same_to_every_verb() {
    let store = memory();
    let pending = store.begin(id(1)).unwrap();
    let handle = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    let content = Manifest::builder().state("s", handle.clone()).epoch(9);
    pending.commit(content.clone()).unwrap();
    store.save(&content.clone().build(id(1))).unwrap();
    assert!(store.save(&content.clone().epoch(8).build(id(1))).unwrap_err().is_conflict());
    assert_eq!(store.list().unwrap(), [(id(1), 9)]);
    // And a state of an earlier one is kept by a later one that names it.
    store.save(&content.build(id(2))).unwrap();
    store.delete_checkpoint(id(1)).unwrap();
    let second = store.checkpoint(id(2)).unwrap();
    assert_eq!(*second.read(&handle).unwrap(), bytes(1, 5000));
}

#[test]
fn attempts_may_begin_in_any_order_and_end_when_a_higher_one_is_committed() {
    let store = memory();
    store.save_state_data(id(7), &[&bytes(7, 5000)]).unwrap();
    store.save_state_data(id(5), &[&bytes(5, 5000)]).unwrap();
    store.save_state_data(id(9), &[&bytes(9, 5000)]).unwrap();
    assert!(store.begin(id(5)).unwrap_err().is_conflict());
    store.save(&Manifest::builder().build(id(5))).unwrap();
    store.save(&Manifest::builder().build(id(7))).unwrap();
    assert_eq!(store.load_state_data(id(5)).unwrap().unwrap(), bytes(5, 5000));
    store.begin(id(10)).unwrap().commit(Manifest::builder()).unwrap();
    assert!(store.save(&Manifest::builder().build(id(9))).unwrap_err().is_invalid());
    assert_eq!(store.checkpoint_ids(), [5, 7, 10].map(id));
    let _ = store.prune(1).unwrap();
    store.close().unwrap();
}

#[test]
fn what_is_still_to_be_saved_is_gone_when_the_store_is_closed() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    store.save_snapshot(id(1), "o", 0, &bytes(1, 5000)).unwrap();
    store.close().unwrap();
    let store = open(&disk).unwrap();
    assert!(store.checkpoint_ids().is_empty() && store.open_report().removed.is_empty());
    assert_eq!(data_bytes(&store), 0);
    assert!(store.save(&Manifest::builder().build(id(1))).unwrap_err().is_invalid(), "its id was used");
}

#[test]
fn what_was_saved_for_a_checkpoint_that_can_never_be_is_let_go_of() {
    let store = memory();
    store.save_state_data(id(1), &[&bytes(1, 50_000)]).unwrap();
    assert_eq!(store.usage().logical_files, 1);
    store.begin(id(2)).unwrap().commit(Manifest::builder()).unwrap();
    store.begin(id(3)).unwrap().commit(Manifest::builder()).unwrap();
    assert_eq!(store.usage().logical_files, 0);
}

#[test]
fn calls_whose_outcome_is_unknown_may_all_be_repeated_also_after_a_reopen() {
    let disk = SimDisk::new();
    let save = |store: &Store| {
        store.save_snapshot(id(1), "o", 0, &bytes(1, 3000))?;
        (0..3).try_for_each(|_| store.save_delta(id(1), "o", 0, b"").map(drop))?;
        store.save_delta(id(1), "p", 7, &bytes(2, 3000))?;
        store.save_state_data(id(1), &[&bytes(3, 3000)])?;
        store.save_manifest(&Manifest::builder().epoch(4).build(id(1)))
    };
    save(&open(&disk).unwrap()).unwrap();
    let store = open(&disk).unwrap();
    let manifest = Manifest::builder().epoch(4).build(id(1));
    assert!(store.save(&manifest).unwrap_err().is_conflict(), "nobody knows that the rest came from other calls");
    save(&store).unwrap();
    save(&store).unwrap();
    // And what is there is what is there.
    store.save(&store.load_manifest(id(1)).unwrap()).unwrap();
    assert_eq!(store.load_manifest(id(1)).unwrap().operator("o").unwrap().partitions[&0].deltas.len(), 3);
    store.save_delta(id(1), "o", 0, &bytes(9, 3000)).unwrap_err();
    assert!(store.save(&Manifest::builder().epoch(5).build(id(1))).unwrap_err().is_conflict());
}
