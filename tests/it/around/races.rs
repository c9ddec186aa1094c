//! A look without a lock, overtaken by an update, a pin, or a forgetting. What is fenced off here: the first pin of a
//! healthy newest checkpoint made it look damaged, `latest` answered an older one, and `prune(1)` deleted it.

use std::sync::atomic::{AtomicBool, Ordering};

use piton::{Durability, Manifest, Options, Store, Validation};

use crate::support::{
    bytes, commit_states,
    hooked::{HookedDisk, set},
};

/// A store with two checkpoints. The first update of one of them comes in the middle of the next look that opens a file.
fn overtaken(update: impl FnOnce(&Store) + Send + 'static) -> Store {
    let disk = HookedDisk::new();
    let store = disk.open();
    for seed in 1..=2 {
        commit_states(&store, &[bytes(seed, 5000)]).unwrap();
    }
    let other = store.clone();
    set(&disk.before_open_of_a_segment, move || update(&other));
    store
}

fn pin(store: &Store) {
    store.pin(*store.checkpoint_ids().last().unwrap()).unwrap();
}

fn pin_and_unpin(store: &Store) {
    let newest = *store.checkpoint_ids().last().unwrap();
    store.pin(newest).unwrap();
    store.unpin(newest).unwrap();
}

#[test]
fn first_pin_during_a_look_does_not_make_a_checkpoint_look_damaged() {
    for change in [pin as fn(&Store), pin_and_unpin] {
        for look in ["quick", "full", "recover"] {
            let store = overtaken(change);
            let newest = *store.checkpoint_ids().last().unwrap();
            match look {
                "quick" => assert!(store.validate(newest, Validation::Quick).unwrap().is_valid()),
                "full" => assert!(store.validate(newest, Validation::Full).unwrap().is_valid()),
                _ => assert_eq!(store.recover_latest_validated().unwrap().chosen, Some(newest)),
            }
            assert!(store.damaged().is_empty(), "{look}: {:?}", store.damaged());
            assert_eq!(store.latest().unwrap().unwrap().id(), newest);
        }
    }
}

#[test]
fn prune_keeps_the_newest_whose_first_pin_it_overlaps() {
    let store = overtaken(pin_and_unpin);
    let report = store.prune(1).unwrap();
    assert_eq!(report.checkpoints, store_ids(&[1]));
    assert_eq!(store.checkpoint_ids(), store_ids(&[2]));
}

#[test]
fn prune_keeps_what_is_pinned_while_it_looks_at_the_newest() {
    let store = overtaken(|store| store.pin(store.checkpoint_ids()[0]).unwrap());
    assert_eq!(store.prune(1).unwrap().checkpoints, []);
    assert_eq!((store.checkpoint_ids(), store.pinned()), (store_ids(&[1, 2]), store_ids(&[1])));
}

fn store_ids(numbers: &[u64]) -> Vec<piton::CheckpointId> {
    numbers.iter().map(|number| piton::CheckpointId::new(*number).unwrap()).collect()
}

#[test]
fn ten_thousand_first_updates_race_with_looks_and_prunes_and_none_is_taken_for_damage() {
    let store = Options::memory().open("state").unwrap();
    commit_states(&store, &[]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when an assertion fails: the lookers go on until then.
        let _end = SetOnDrop(&done);
        for looker in 0..4 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let Some(newest) = store.checkpoint_ids().last().copied() else { continue };
                    match looker {
                        0 => drop(store.latest().unwrap().unwrap()),
                        1 => assert!(store.checkpoint(newest).is_ok_and(|_| true) || is_gone(store, newest)),
                        2 => drop(store.validate(newest, Validation::Quick).unwrap()),
                        _ => assert!(store.prune(1).unwrap().failures.is_empty()),
                    }
                }
            });
        }
        for round in 0..10_000_u64 {
            let checkpoint = store.begin_next().unwrap().commit(Manifest::builder()).unwrap();
            if round % 2 == 0 {
                store.pin(checkpoint.id()).unwrap();
                store.unpin(checkpoint.id()).unwrap();
            } else {
                let changed = checkpoint.manifest().clone().with_metadata("round", Some(round.to_le_bytes().to_vec()));
                store.update_manifest(&changed).unwrap();
            }
            assert!(store.damaged().is_empty(), "round {round}: {:?}", store.damaged());
            assert!(store.checkpoint_ids().contains(&checkpoint.id()), "round {round}");
        }
    });
    assert!(store.damaged().is_empty());
}

#[test]
fn newest_checkpoint_is_there_at_every_moment_while_retention_gives_it_up_for_a_newer_one() {
    let store = Options::memory().durability(Durability::None).retain(1).open("state").unwrap();
    commit_states(&store, &[]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = SetOnDrop(&done);
        let look = |recovers: bool| {
            let (store, done) = (&store, &done);
            move || {
                let mut missing = 0;
                while !done.load(Ordering::Relaxed) {
                    let is_there = if recovers {
                        store.recover_latest_validated().unwrap().chosen.is_some()
                    } else {
                        store.latest().unwrap().is_some()
                    };
                    missing += u64::from(!is_there);
                }
                missing
            }
        };
        let lookers = [false, true].map(|recovers| scope.spawn(look(recovers)));
        (0..10_000).for_each(|_| drop(store.begin_next().unwrap().commit(Manifest::builder()).unwrap()));
        done.store(true, Ordering::Relaxed);
        let missing = lookers.map(|looker| looker.join().unwrap());
        assert_eq!(missing, [0, 0], "looks of latest and of recover_latest_validated that found no checkpoint");
    });
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn is_gone(store: &Store, id: piton::CheckpointId) -> bool {
    !store.checkpoint_ids().contains(&id)
}
