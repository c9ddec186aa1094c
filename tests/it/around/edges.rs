//! The sharp edges of the interface: ids that threads race for, commits that were refused before anything was tried, handles
//! of other stores, small states, ends of jobs.

use std::{collections::BTreeSet, io::Write, sync::Barrier, time::Duration};

use piton::{
    CheckpointId, ExternalizedCheckpointCleanup, JobOutcome, Manifest, Merging, Options, Scope, StateHandle, Store,
    disk::MemoryDisk,
};

use crate::support::{ROOT, bytes, commit_states, log::published_in, memory, read_states};

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

#[test]
fn threads_that_begin_the_next_checkpoint_at_once_get_an_id_each() {
    let store = memory();
    let start = Barrier::new(8);
    let ids: BTreeSet<_> = std::thread::scope(|scope| {
        let begin = || {
            start.wait();
            (0..200).map(|_| store.begin_next().unwrap().id()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(begin)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 1600);
}

#[test]
fn loser_of_a_race_for_an_id_is_told_that_it_is_a_conflict() {
    let store = memory();
    let next = store.next_id().unwrap();
    let winner = store.begin(next).unwrap();
    let error = store.begin(next).unwrap_err();
    assert!(error.is_conflict() && !error.is_invalid() && error.to_string().contains("begin_next"), "{error}");
    winner.commit(Manifest::builder()).unwrap();
    assert!(store.begin(next).unwrap_err().is_conflict());
}

#[test]
fn id_after_the_last_one_is_an_error_and_no_id_that_was_used() {
    let store = memory();
    let last = id(u64::MAX >> 1);
    store.begin(last).unwrap().commit(Manifest::builder()).unwrap();
    let error = store.next_id().unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("9223372036854775807"), "{error}");
    assert!(store.begin_next().unwrap_err().is_invalid());
    assert_eq!((last.next(), id(1).next()), (None, Some(id(2))));
    assert_eq!(store.checkpoint_ids(), [last]);
}

#[test]
fn commit_that_was_refused_before_anything_was_tried_gives_the_pending_checkpoint_back() {
    for merging in [Merging::Off, Merging::WithinCheckpoint, Merging::AcrossCheckpoints] {
        let store = Options::new().disk(MemoryDisk::new()).merging(merging).open(ROOT).unwrap();
        let pending = store.begin_next().unwrap();
        let first = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
        let mut open = pending.writer(Scope::Shared).unwrap();
        open.write_all(&bytes(2, 5000)).unwrap();
        let content = || Manifest::builder().state("first", first.clone());

        let refused = pending.commit(content()).unwrap_err();
        assert!(refused.is_invalid() && refused.to_string().contains("writers"), "{refused}");
        let pending = refused.into_pending().unwrap();
        let second = open.finish().unwrap();

        let gone: StateHandle = first.to_string().replace("@64", "@6400").parse().unwrap();
        let refused = pending.commit(content().state("gone", gone)).unwrap_err();
        assert!(refused.is_not_found(), "{refused}");
        let refused = refused.into_pending().unwrap().commit(content().epoch(0)).unwrap_err();
        assert!(refused.is_invalid() && refused.to_string().contains("epoch"), "{refused}");

        let pending = refused.into_pending().unwrap();
        assert_eq!(pending.id(), id(1), "the id was not burnt");
        let third = pending.write(Scope::Exclusive, &bytes(3, 5000)).unwrap();
        let manifest = content().state("second", second).state("third", third);
        let checkpoint = pending.commit(manifest).unwrap();
        let read: Vec<_> = read_states(&checkpoint).unwrap().into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(read, [bytes(1, 5000), bytes(2, 5000), bytes(3, 5000)], "{merging:?}");
        drop(checkpoint);
        assert!(store.validate(id(1), piton::Validation::Full).unwrap().is_valid());
    }
}

#[test]
fn pending_checkpoint_that_was_given_back_and_dropped_leaves_nothing() {
    let store = memory();
    let pending = store.begin_next().unwrap();
    let handle = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    let refused = pending.commit(Manifest::builder().state("s", handle).epoch(0)).unwrap_err();
    assert_eq!(store.usage().logical_files, 1);
    drop(refused);
    assert_eq!(store.usage().logical_files, 0);
}

#[test]
fn handle_of_another_store_is_refused_as_such_by_whatever_takes_one() {
    let (ours, theirs) = (memory(), memory());
    // The same bytes at the same place: only the store tells them apart.
    let checkpoint = commit_states(&ours, &[bytes(1, 5000)]).unwrap();
    let foreign = commit_states(&theirs, &[bytes(1, 5000)]).unwrap().manifest().state("0").unwrap().clone();
    assert_eq!(
        (foreign.store(), checkpoint.manifest().state("0").unwrap().store()),
        (Some(theirs.id()), Some(ours.id()))
    );
    for handle in [
        foreign.clone(),
        foreign.to_string().parse().unwrap(),
        serde_json::from_str(&serde_json::to_string(&foreign).unwrap()).unwrap(),
    ] {
        let pending = ours.begin_next().unwrap();
        assert!(!pending.could_reuse(&handle) && !pending.can_fast_duplicate(&handle, Scope::Exclusive));
        let errors = [
            checkpoint.read(&handle).map(drop).unwrap_err(),
            checkpoint.reader(&handle).map(drop).unwrap_err(),
            pending.reuse(std::slice::from_ref(&handle)).map(drop).unwrap_err(),
            pending.duplicate(std::slice::from_ref(&handle), Scope::Exclusive).map(drop).unwrap_err(),
            pending.commit(Manifest::builder().state("s", handle)).unwrap_err().into_error(),
        ];
        for error in errors {
            let said = error.to_string();
            assert!(error.is_invalid() && said.contains("of another store") && !said.contains("gone"), "{error}");
            assert!(said.contains(&theirs.id().to_string()), "{error}");
        }
    }
}

#[test]
fn records_do_not_carry_small_shared_states() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let pending = store.begin_next().unwrap();
    let sizes = [0, 64, 65, 1024, 1025];
    let inline = |scope| sizes.map(|len| pending.write(scope, &bytes(1, len)).unwrap().is_inline());
    assert_eq!(inline(Scope::Shared), [true, true, false, false, false]);
    assert_eq!(inline(Scope::Exclusive), [true, true, true, true, false]);
    drop(pending);
    let all: Vec<_> = (0..1000).map(|seed| bytes(seed, 900)).collect();
    let first = commit_states(&store, &all).unwrap();
    let pending = store.begin_next().unwrap();
    let kept = first.manifest().states().fold(Manifest::builder(), |m, (name, state)| m.state(name, state.clone()));
    let second = pending.commit(kept).unwrap();
    let [first, second] = [first.id(), second.id()].map(|id| published_in(dir.path(), id.get()).len());
    assert!(first < 100_000, "{first} bytes, where all states have 900,000");
    assert!(second < 1000, "{second} bytes, where nothing differs");
    let options = Options::memory().inline_threshold(10).inline_threshold_of(Scope::Shared, 20);
    let store = options.open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let is_inline = |scope, len| pending.write(scope, &bytes(1, len)).unwrap().is_inline();
    assert!(is_inline(Scope::Shared, 20) && !is_inline(Scope::Exclusive, 20) && is_inline(Scope::Exclusive, 10));
}

#[test]
fn age_never_removes_the_last_checkpoint_whatever_the_clock_says() {
    for (retain, ages) in [(None, [0, 1]), (Some(2), [0, 1]), (None, [60, 3600])] {
        for age in ages {
            for clock in [[0, 0, 0, 0], [9, 1, 5, 2], [1, u64::MAX / 1000, 2, 3], [u64::MAX / 1000, 1, 1, 1]] {
                let options = Options::memory().retain_for(Duration::from_secs(age));
                let store = retain.map_or(options.clone(), |keep| options.retain(keep)).open(ROOT).unwrap();
                for (number, seconds) in (1..).zip(clock) {
                    let manifest = Manifest::builder().timestamp_ms(seconds * 1000);
                    store.begin_next().unwrap().commit(manifest).unwrap();
                    let left = store.checkpoint_ids();
                    assert_eq!(left.last(), Some(&id(number)), "{retain:?} {age} {clock:?}");
                    assert!(left.len() >= retain.unwrap_or(1).min(usize::try_from(number).unwrap()), "{left:?}");
                }
            }
        }
    }
}

#[test]
fn end_of_a_job_deletes_only_what_the_caller_said() {
    let rows = [
        (ExternalizedCheckpointCleanup::NoExternalizedCheckpoints, 0),
        (ExternalizedCheckpointCleanup::RetainOnCancellation, 2),
    ];
    for (cleanup, left) in rows {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for seed in 1..=2 {
            commit_states(&store, &[bytes(seed, 5000)]).unwrap();
        }
        assert_eq!(store.end_job(JobOutcome::Failed, cleanup).unwrap().checkpoints.len(), 2 - left);
        assert_eq!(Store::open(dir.path()).unwrap().checkpoint_ids().len(), left);
    }
}
