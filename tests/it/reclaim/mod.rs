//! Forgetting and pruning: what goes is exactly what nobody refers to, and what stays stays readable.

mod kept;
mod model;
mod prune;
mod reuse;
mod rules;
mod space;
mod stress;

use std::{
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use piton::{
    Checkpoint, CheckpointId, Manifest, Merging, Options, Scope, Store,
    disk::{At, Disk, MemoryDisk},
    testing::{Call, Fault, SimDisk},
};

use crate::support::{
    ROOT, bytes, commit_states,
    hooked::{HookedDisk, set},
    log, on_every_disk, open, open_unmerged, read_states,
};

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

/// Commits a checkpoint that reuses every state of the one before, and has a new one.
fn commit_on_top(store: &Store) -> Checkpoint {
    let pending = store.begin_next().unwrap();
    let mut manifest = Manifest::builder();
    if let Some(latest) = store.latest().unwrap() {
        for (name, handle) in latest.manifest().states() {
            let kept = pending.reuse(std::slice::from_ref(handle)).unwrap().remove(0);
            manifest = manifest.state(name, kept);
        }
    }
    let n = pending.id().get();
    let new = pending.write(Scope::Shared, &bytes(n, 4000)).unwrap();
    pending.commit(manifest.state(n.to_string(), new)).unwrap()
}

#[test]
fn forgetting_in_any_order_leaves_the_others_readable_and_in_the_end_nothing() {
    for order in [[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3], [3, 1, 4, 2]] {
        on_every_disk(|options, root| {
            let store = options.clone().merging(Merging::Off).open(root).unwrap();
            (0..4).for_each(|_| drop(commit_on_top(&store)));
            let mut left = vec![1, 2, 3, 4];
            let (mut files, mut freed) = (0, 0);
            for gone in order {
                let reclaimed = store.forget(id(gone)).unwrap();
                assert_eq!(reclaimed.checkpoints, [id(gone)]);
                (files, freed) = (files + reclaimed.files, freed + reclaimed.bytes);
                left.retain(|other| *other != gone);
                assert_eq!(store.checkpoint_ids(), left.iter().copied().map(id).collect::<Vec<_>>());
                for other in &left {
                    for (name, read) in read_states(&store.checkpoint(id(*other)).unwrap()).unwrap() {
                        assert!(read == bytes(name.parse().unwrap(), 4000), "{name} of {other} after {order:?}");
                    }
                }
            }
            assert_eq!((files, freed), (4, 4 * (64 + 4000 + 48)), "{order:?}");
            drop(store);
            assert!(options.open(root).unwrap().open_report().removed.is_empty());
        });
    }
}

#[test]
fn unknown_checkpoint_is_not_found_and_nothing_happens() {
    let store = open(&MemoryDisk::new()).unwrap();
    commit_on_top(&store);
    assert!(store.forget(id(9)).unwrap_err().is_not_found());
    assert!(store.checkpoint(id(9)).unwrap_err().is_not_found());
    assert_eq!(store.checkpoint_ids(), [id(1)]);
}

#[test]
fn prune_keeps_the_newest_and_never_the_last_one_goes() {
    let store = open(&MemoryDisk::new()).unwrap();
    (0..5).for_each(|_| drop(commit_on_top(&store)));
    assert_eq!(store.prune(9).unwrap().checkpoints, []);
    assert_eq!(store.prune(3).unwrap().checkpoints, [id(1), id(2)]);
    assert_eq!(store.prune(0).unwrap().checkpoints, [id(3), id(4)]);
    assert_eq!(store.checkpoint_ids(), [id(5)]);
}

#[test]
fn retention_after_each_commit_keeps_what_was_asked_for() {
    on_every_disk(|options, root| {
        let store = options.retain(2).open(root).unwrap();
        (0..5).for_each(|_| drop(commit_on_top(&store)));
        assert_eq!(store.checkpoint_ids(), [id(4), id(5)]);
        assert_eq!(store.last_retention().checkpoints, [id(3)]);
        assert_eq!(read_states(&store.checkpoint(id(4)).unwrap()).unwrap().len(), 4);
    });
}

#[test]
fn there_is_a_newest_checkpoint_at_every_moment_while_others_come_and_go() {
    on_every_disk(|options, root| {
        let store = options.retain(1).open(root).unwrap();
        drop(commit_states(&store, &[bytes(0, 2000)]).unwrap());
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                (1..200).for_each(|n| drop(commit_states(&store, &[bytes(n, 2000)]).unwrap()));
                done.store(true, Ordering::Relaxed);
            });
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let latest = store.latest().unwrap().unwrap();
                assert!(latest.id().get() >= last);
                last = latest.id().get();
                assert_eq!(read_states(&latest).unwrap()[0].1, bytes(last - 1, 2000));
            }
        });
        assert!(store.damaged().is_empty());
    });
}

#[test]
fn failed_retention_is_a_report_and_the_next_commit_makes_up_for_it() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).retain(1).open(ROOT).unwrap();
    commit_states(&store, &[bytes(1, 4000)]).unwrap();
    // Whether a reader has the checkpoint cannot be told.
    disk.fail_nth(Call::LockExclusive, 1, Fault::Error(13));
    commit_states(&store, &[bytes(2, 4000)]).unwrap();
    let report = store.last_retention();
    assert!(report.checkpoints.is_empty() && report.failures[0].raw_os_error() == Some(13), "{report:?}");
    assert_eq!(store.checkpoint_ids(), [id(1), id(2)]);
    commit_states(&store, &[bytes(3, 4000)]).unwrap();
    assert_eq!(store.checkpoint_ids(), [id(3)]);
}

#[test]
fn what_retention_gives_up_is_gone_although_its_data_cannot_be_removed() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).merging(Merging::Off).retain(2).open(ROOT).unwrap();
    (1..=2).for_each(|n| drop(commit_states(&store, &[bytes(n, 4000)]).unwrap()));
    disk.fail_nth(Call::Remove, 1, Fault::Error(13));
    commit_states(&store, &[bytes(3, 4000)]).unwrap();
    let report = store.last_retention();
    assert_eq!((&report.checkpoints[..], report.files), (&[id(1)][..], 0));
    assert!(matches!(&report.failures[..], [error] if error.raw_os_error() == Some(13)), "{report:?}");
    assert_eq!(store.checkpoint_ids(), [id(2), id(3)]);
    commit_states(&store, &[bytes(4, 4000)]).unwrap();
    assert_eq!(disk.list(At::new(&Path::new(ROOT).join("shared"))).unwrap().len(), 2);
}

#[test]
fn data_of_what_retention_gives_up_is_gone_with_the_commit_and_reported() {
    for keep in [3, 2, 1] {
        let disk = SimDisk::new();
        let store = Options::new().disk(disk.clone()).merging(Merging::Off).retain(keep).open(ROOT).unwrap();
        (0..keep as u64).for_each(|n| drop(commit_states(&store, &[bytes(n, 4000)]).unwrap()));
        for n in 10..13 {
            commit_states(&store, &[bytes(n, 4000)]).unwrap();
            assert_eq!(disk.list(At::new(&Path::new(ROOT).join("shared"))).unwrap().len(), keep);
            let report = store.last_retention();
            assert_eq!((report.checkpoints.len(), report.files, report.bytes), (1, 1, 64 + 4000 + 48), "keep {keep}");
        }
    }
}

#[test]
fn data_file_that_cannot_be_removed_is_reported_and_removed_by_the_next_sweep() {
    let disk = SimDisk::new();
    let store = open_unmerged(&disk).unwrap();
    drop(commit_states(&store, &[bytes(1, 4000)]).unwrap());
    drop(commit_states(&store, &[bytes(2, 4000)]).unwrap());
    disk.fail_nth(Call::Remove, 1, Fault::Error(5));
    let reclaimed = store.prune(1).unwrap();
    assert_eq!((reclaimed.checkpoints.len(), reclaimed.files, reclaimed.failures.len()), (1, 0, 1));
    let files = || disk.list(At::new(&Path::new(ROOT).join("shared"))).unwrap().len();
    assert_eq!(files(), 2);
    assert!(store.prune(1).unwrap().failures.is_empty());
    assert_eq!(files(), 1);
}

#[test]
fn failed_look_at_the_owner_refuses_a_pruning_or_leaves_it_unknown_and_no_data_goes() {
    let (mut refused, mut unknown) = (0, 0);
    for nth in 1..=10 {
        let disk = SimDisk::new();
        let store = open_unmerged(&disk).unwrap();
        (1..=2).for_each(|n| drop(commit_states(&store, &[bytes(n, 4000)]).unwrap()));
        let files = || disk.list(At::new(&Path::new(ROOT).join("shared"))).unwrap().len();
        disk.fail_nth(Call::Open, nth, Fault::Error(24));
        match store.prune(1) {
            Ok(reclaimed) => {
                assert_eq!((&reclaimed.checkpoints[..], reclaimed.failures.len()), (&[id(1)][..], 0));
                assert_eq!(files(), 1);
                continue;
            }
            Err(error) if error.is_indeterminate() => {
                unknown += 1;
                assert!(store.prune(1).unwrap_err().is_poisoned());
            }
            Err(error) => {
                refused += 1;
                assert_eq!(error.raw_os_error(), Some(24), "{error}");
                assert_eq!(store.checkpoint_ids(), [id(1), id(2)]);
                commit_states(&store, &[]).unwrap();
            }
        }
        assert_eq!(files(), 2, "open {nth}");
        drop(store);
        let store = open_unmerged(&disk).unwrap();
        assert_eq!(store.checkpoint_ids().contains(&id(1)), files() == 2, "open {nth}");
        assert!(store.damaged().is_empty() && read_states(&store.checkpoint(id(2)).unwrap()).is_ok());
    }
    assert!(refused > 0 && unknown > 0, "{refused} were refused, {unknown} are unknown");
}

#[test]
fn data_file_that_could_not_be_removed_is_removed_by_the_next_commit() {
    let disk = SimDisk::new();
    let store = open_unmerged(&disk).unwrap();
    (1..=2).for_each(|n| drop(commit_states(&store, &[bytes(n, 4000)]).unwrap()));
    disk.fail_nth(Call::Remove, 1, Fault::Error(5));
    assert_eq!(store.prune(1).unwrap().failures.len(), 1);
    commit_states(&store, &[]).unwrap();
    assert_eq!(disk.list(At::new(&Path::new(ROOT).join("shared"))).unwrap().len(), 1);
}

#[test]
fn damaged_checkpoints_do_not_count_as_kept_and_go() {
    type Damage = fn(&SimDisk);
    let data = |number: u64| Path::new(ROOT).join(format!("shared/00000001-000-{number:010}.seg"));
    // Its content is unknown, or its data file is cut off. In the second case nothing is lost that may have used ids.
    let damages: [(Damage, bool); 2] = [
        (|disk| log::spoil_on(disk, 5), false),
        (|disk| disk.damage(&Path::new(ROOT).join("shared/00000001-000-0000000005.seg"), Vec::clear).unwrap(), true),
    ];
    for (damage, ids_are_known) in damages {
        let disk = SimDisk::new();
        let store = open_unmerged(&disk).unwrap();
        (0..5).for_each(|_| drop(commit_states(&store, &[bytes(store.next_id().unwrap().get(), 4000)]).unwrap()));
        drop(store);
        damage(&disk);
        let store = open_unmerged(&disk).unwrap();
        // The fourth is found to be damaged by reading it.
        let fourth = store.latest().unwrap().unwrap();
        disk.damage(&data(4), |bytes| bytes[100] ^= 1).unwrap();
        assert!(fourth.read(fourth.manifest().state("0").unwrap()).unwrap_err().is_corrupt());
        drop(fourth);
        assert_eq!(store.latest().unwrap().unwrap().id(), id(3));
        let reclaimed = store.prune(2).unwrap();
        assert_eq!(reclaimed.checkpoints, [id(1), id(4), id(5)]);
        assert_eq!(store.checkpoint_ids(), [id(2), id(3)]);
        let next = store.next_id().unwrap();
        assert!(if ids_are_known { next == id(6) } else { next > id(5) }, "{next}");
    }
}

#[test]
fn damage_of_a_shared_state_is_that_of_every_checkpoint_that_refers_to_it() {
    let disk = SimDisk::new();
    let store = open_unmerged(&disk).unwrap();
    drop(commit_states(&store, &[bytes(1, 4000)]).unwrap());
    drop(commit_states(&store, &[bytes(2, 4000)]).unwrap());
    let third = commit_on_top(&store);
    let shared = third.manifest().state("0").unwrap();
    disk.damage(&Path::new(ROOT).join("shared/00000001-000-0000000002.seg"), |bytes| bytes[100] ^= 1).unwrap();
    assert!(third.read(shared).unwrap_err().is_corrupt());
    let pending = store.begin_next().unwrap();
    assert!(pending.reuse(std::slice::from_ref(shared)).unwrap_err().is_not_found(), "it must be written anew");
    assert_eq!(store.latest().unwrap().unwrap().id(), id(1));
    assert_eq!(store.prune(1).unwrap().checkpoints, [id(2), id(3)]);
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(1, 4000));
}

#[test]
fn state_in_a_file_that_is_too_short_cannot_be_reused() {
    let disk = SimDisk::new();
    let handle = commit_states(&open_unmerged(&disk).unwrap(), &[bytes(1, 4000)])
        .unwrap()
        .manifest()
        .state("0")
        .unwrap()
        .clone();
    let file = Path::new(ROOT).join("shared/00000001-000-0000000001.seg");
    disk.damage(&file, |bytes| bytes.truncate(64 + 4000 + 47)).unwrap();
    let store = open_unmerged(&disk).unwrap();
    assert_eq!(store.damaged().len(), 1);
    assert!(store.begin_next().unwrap().reuse(&[handle]).unwrap_err().is_not_found());
}

#[test]
fn prune_removes_nothing_while_no_checkpoint_is_valid() {
    let disk = SimDisk::new();
    let store = open_unmerged(&disk).unwrap();
    (0..2).for_each(|_| drop(commit_on_top(&store)));
    drop(store);
    // The second one is known only by what differs from the first.
    log::spoil_on(&disk, 1);
    let store = open_unmerged(&disk).unwrap();
    assert!(store.latest().unwrap_err().is_corrupt(), "that is not an empty store");
    assert!(store.prune(1).unwrap().checkpoints.is_empty());
    assert_eq!(store.checkpoint_ids(), [id(1), id(2)]);
}

#[test]
fn once_the_unreadable_checkpoint_is_forgotten_sweeping_goes_on() {
    let disk = SimDisk::new();
    let store = open_unmerged(&disk).unwrap();
    (1..=3).for_each(|n| drop(commit_states(&store, &[bytes(n, 4000)]).unwrap()));
    drop(store);
    log::spoil_on(&disk, 3);
    drop(Options::new().disk(disk.clone()).accept_loss(true).open(ROOT).unwrap());
    let store = open_unmerged(&disk).unwrap();
    assert!(store.open_report().lost.is_empty() && store.open_report().cleanup_skipped.is_some());
    assert_eq!(store.forget(id(1)).unwrap().files, 0, "the third may name it");
    let reclaimed = store.forget(id(3)).unwrap();
    assert_eq!((reclaimed.files, reclaimed.bytes), (2, 2 * (64 + 4000 + 48)), "its own, and that of the first");
    assert_eq!(read_states(&store.checkpoint(id(2)).unwrap()).unwrap()[0].1, bytes(2, 4000));
}

#[test]
fn forgetting_the_unreadable_checkpoint_sweeps_nothing_while_the_lost_record_is_not_accepted() {
    let disk = SimDisk::new();
    let store = open_unmerged(&disk).unwrap();
    (1..=3).for_each(|n| drop(commit_states(&store, &[bytes(n, 4000)]).unwrap()));
    drop(store);
    log::spoil_on(&disk, 3);
    let files = || disk.list(At::new(&Path::new(ROOT).join("shared"))).unwrap().len();
    let store = open_unmerged(&disk).unwrap();
    assert_eq!(store.open_report().lost.len(), 1);
    assert_eq!(store.forget(id(3)).unwrap().files + store.forget(id(1)).unwrap().files, 0);
    assert!(store.damaged().is_empty());
    drop(store);
    for accepts in [false, true] {
        let store = Options::new().disk(disk.clone()).accept_loss(accepts).open(ROOT).unwrap();
        assert!(!store.open_report().lost.is_empty() && store.open_report().cleanup_skipped.is_some());
        assert_eq!((store.checkpoint_ids(), files()), (vec![id(2)], 3), "accepted: {accepts}");
    }
    let store = open_unmerged(&disk).unwrap();
    assert!(store.open_report().lost.is_empty() && store.open_report().cleanup_skipped.is_none());
    assert_eq!((store.open_report().removed.len(), files()), (2, 1));
    assert_eq!(read_states(&store.checkpoint(id(2)).unwrap()).unwrap()[0].1, bytes(2, 4000));
}

#[test]
fn what_an_unreadable_record_may_name_is_not_swept() {
    let disk = SimDisk::new();
    let store = open_unmerged(&disk).unwrap();
    drop(commit_on_top(&store));
    drop(commit_on_top(&store));
    drop(store);
    log::spoil_on(&disk, 2);
    let store = open_unmerged(&disk).unwrap();
    drop(commit_states(&store, &[bytes(3, 4000)]).unwrap());
    assert_eq!(store.forget(id(1)).unwrap().files, 0, "the second checkpoint reuses its state");
    drop(store);
    // What was done to it is undone.
    log::spoil_on(&disk, 2);
    let store = open_unmerged(&disk).unwrap();
    assert_eq!(read_states(&store.checkpoint(id(2)).unwrap()).unwrap().len(), 2);
}

#[test]
fn no_commit_waits_while_data_is_removed_also_if_nothing_was_to_be_forgotten() {
    let disk = HookedDisk::new();
    let store = Options::new().disk(disk.clone()).merging(Merging::Off).open(ROOT).unwrap();
    (1..=2).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    // Its data resists, and is left to the next call.
    disk.disk.fail_nth(Call::Remove, 1, Fault::Error(5));
    assert_eq!(store.forget(id(1)).unwrap().failures.len(), 1);
    let (other, (done, committed)) = (store.clone(), mpsc::channel());
    set(&disk.before_remove, move || {
        thread::spawn(move || done.send(commit_states(&other, &[]).is_ok()));
        assert_eq!(committed.recv_timeout(Duration::from_secs(20)), Ok(true), "the commit waits");
    });
    let reclaimed = store.prune(1).unwrap();
    assert_eq!((reclaimed.checkpoints.len(), reclaimed.files), (0, 1));
    assert_eq!(store.checkpoint_ids(), [id(2), id(3)]);
}
