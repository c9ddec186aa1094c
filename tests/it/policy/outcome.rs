//! G2: which checkpoints stay when the job ends.

use piton::{
    CheckpointKind::{self, Checkpoint, Savepoint},
    ExternalizedCheckpointCleanup::{
        self as Cleanup, DeleteOnCancellation, NoExternalizedCheckpoints, RetainOnCancellation,
    },
    JobOutcome::{self, Cancelled, Failed, Finished, Suspended},
    Manifest, Options,
    testing::{Call, Fault, SimDisk, Survival},
};

use crate::support::{ROOT, commit_states, log::spoil_on};

/// Whether a checkpoint stays.
const ROWS: [(Cleanup, JobOutcome, bool); 12] = [
    (NoExternalizedCheckpoints, Finished, false),
    (NoExternalizedCheckpoints, Cancelled, false),
    (NoExternalizedCheckpoints, Failed, false),
    (NoExternalizedCheckpoints, Suspended, false),
    (DeleteOnCancellation, Finished, false),
    (DeleteOnCancellation, Cancelled, false),
    (DeleteOnCancellation, Failed, true),
    (DeleteOnCancellation, Suspended, false),
    (RetainOnCancellation, Finished, false),
    (RetainOnCancellation, Cancelled, true),
    (RetainOnCancellation, Failed, true),
    (RetainOnCancellation, Suspended, true),
];

fn commit(store: &piton::Store, kind: CheckpointKind) -> piton::CheckpointId {
    let pending = store.begin_next().unwrap();
    let state = pending.write(piton::Scope::Shared, &[7; 5000]).unwrap();
    pending.commit(Manifest::builder().kind(kind).state("it", state)).unwrap().id()
}

#[test]
fn checkpoints_stay_as_the_rule_says_and_savepoints_and_pinned_ones_always() {
    for (cleanup, outcome, stays) in ROWS {
        assert_eq!(cleanup.keeps(outcome, Checkpoint), stays, "{cleanup:?} {outcome:?}");
        assert!(cleanup.keeps(outcome, Savepoint), "{cleanup:?} {outcome:?}");

        let options = Options::new().disk(SimDisk::new());
        let store = options.clone().open(ROOT).unwrap();
        let (first, savepoint) = (commit(&store, Checkpoint), commit(&store, Savepoint));
        let (pinned, last) = (commit(&store, Checkpoint), commit(&store, Checkpoint));
        store.pin(pinned).unwrap();
        let report = store.end_job(outcome, cleanup).unwrap();
        assert_eq!(report.checkpoints, if stays { vec![] } else { vec![first, last] }, "{cleanup:?} {outcome:?}");
        assert!(report.failures.is_empty() && report.files == 0, "the others share the file: {report:?}");

        let store = options.open(ROOT).unwrap();
        let left = if stays { vec![first, savepoint, pinned, last] } else { vec![savepoint, pinned] };
        assert_eq!(store.checkpoint_ids(), left, "{cleanup:?} {outcome:?}");
        assert!(store.open_report().removed.is_empty(), "{:?}", store.open_report());
        assert_eq!(store.usage().logical_files, left.len() as u64);
        // Ids of what is gone are not given out again.
        assert_eq!(store.next_id().unwrap().get(), 5);
    }
}

#[test]
fn what_is_not_known_to_be_no_savepoint_stays() {
    let disk = SimDisk::new();
    let options = Options::new().disk(disk.clone());
    let store = options.clone().open(ROOT).unwrap();
    commit(&store, Checkpoint);
    let damaged = commit(&store, Savepoint);
    drop(store);
    spoil_on(&disk, damaged.get());
    let store = options.clone().open(ROOT).unwrap();
    assert!(store.checkpoint(damaged).unwrap_err().is_corrupt());
    let _ = store.end_job(Finished, NoExternalizedCheckpoints).unwrap();
    assert_eq!(options.open(ROOT).unwrap().checkpoint_ids(), [damaged]);
}

#[test]
fn checkpoint_that_another_process_reads_stays_at_the_end() {
    let options = Options::new().disk(SimDisk::new());
    let store = options.clone().open(ROOT).unwrap();
    commit(&store, Checkpoint);
    let read = commit(&store, Checkpoint);
    let reader = options.clone().open_read_only(ROOT).unwrap().checkpoint(read).unwrap();
    let report = store.end_job(Finished, NoExternalizedCheckpoints).unwrap();
    assert_eq!((report.checkpoints.len(), report.in_use), (1, vec![read]));
    let store = options.clone().open(ROOT).unwrap();
    assert_eq!((store.checkpoint_ids(), store.next_id().unwrap().get()), (vec![read], 3));
    drop(reader);
    let report = store.end_job(Finished, NoExternalizedCheckpoints).unwrap();
    assert_eq!((report.checkpoints, report.files), (vec![read], 1));
    assert!(report.bytes > 10_000);
    assert!(options.open(ROOT).unwrap().checkpoint_ids().is_empty());
}

#[test]
fn failing_removal_of_data_is_no_error_of_the_end() {
    // While states are still appended to the file, and once it is sealed, when it is tried earlier.
    for reopened in [false, true] {
        let disk = SimDisk::new();
        let options = Options::new().disk(disk.clone());
        let mut store = options.clone().open(ROOT).unwrap();
        commit(&store, Checkpoint);
        if reopened {
            store.close().unwrap();
            store = options.open(ROOT).unwrap();
        }
        // The checkpoint goes, its data does not, however often it is tried.
        (1..20).for_each(|nth| disk.fail_nth(Call::Remove, nth, Fault::Error(5)));
        let report = store.end_job(Finished, NoExternalizedCheckpoints).unwrap();
        assert_eq!((report.checkpoints.len(), report.failures.len()), (1, 1), "{report:?}");
        assert_eq!(report.failures[0].raw_os_error(), Some(5));
        let store = Options::new().disk(disk.cut_power(Survival::Everything)).open(ROOT).unwrap();
        assert_eq!((store.usage().physical_files, store.open_report().removed.len()), (0, 1));
    }
}

#[test]
fn ids_that_cannot_be_noted_at_the_end_are_in_the_report() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    commit(&store, Savepoint);
    drop(store.begin_next().unwrap());
    disk.fail_nth(Call::SyncData, 1, Fault::Error(5));
    let report = store.end_job(Finished, NoExternalizedCheckpoints).unwrap();
    assert_eq!((report.failures.len(), report.failures[0].raw_os_error()), (1, Some(5)), "{report:?}");
}

#[test]
fn store_that_must_be_reopened_says_so_at_the_end() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    commit(&store, Checkpoint);
    // The record, and all that would make it void.
    (1..9).for_each(|nth| disk.fail_nth(Call::SyncData, nth, Fault::Error(5)));
    assert!(store.clone().end_job(Finished, NoExternalizedCheckpoints).unwrap_err().is_indeterminate());
    assert!(store.end_job(Finished, NoExternalizedCheckpoints).unwrap_err().is_poisoned());
}

#[test]
fn end_of_the_job_is_durable_and_closes_the_store() {
    let disk = SimDisk::new();
    let options = Options::new().disk(disk.clone());
    let store = options.open(ROOT).unwrap();
    commit_states(&store, &[vec![1; 5000], vec![2; 50]]).unwrap();
    let pending = store.begin_next().unwrap();
    let written = pending.write(piton::Scope::Shared, &[3; 5000]).unwrap();
    assert!(!written.is_inline());
    drop(pending);
    let report = store.end_job(Cancelled, NoExternalizedCheckpoints).unwrap();
    assert_eq!((report.files, report.bytes > 10_000), (1, true), "the file was still open: {report:?}");
    let disk = disk.cut_power(Survival::Nothing);
    let store = Options::new().disk(disk).open(ROOT).unwrap();
    assert!(store.checkpoint_ids().is_empty() && store.latest().unwrap().is_none());
    assert_eq!((store.usage().physical_files, store.next_id().unwrap().get()), (0, 3));
}
