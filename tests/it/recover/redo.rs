//! States that a record has, so that their segments need no sync. What is fenced off here: a checkpoint that was committed,
//! and of which a power cut takes states.

use std::path::Path;

use piton::{
    Checkpoint, CheckpointId, Claim, Error, Maintenance, Manifest, Options, Scope, StateHandle, Store,
    disk::{At, Disk},
    list_segment,
    testing::{Call, Fault, SimDisk, Survival},
};

use crate::support::{
    ROOT, bytes, commit_states,
    hooked::{HookedDisk, set},
    log, open, read_states,
};

const EIO: i32 = 5;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

/// A checkpoint with one more state than the newest one has.
fn add(store: &Store, seed: u64) -> Checkpoint {
    let pending = store.begin_next().unwrap();
    let state = pending.write(Scope::Shared, &bytes(seed, 3000)).unwrap();
    let newest = store.latest().unwrap();
    let base = newest.map_or_else(Manifest::builder, |newest| Manifest::based_on(newest.manifest()));
    pending.commit(base.state(format!("{seed:04}"), state)).unwrap()
}

/// Whether a checkpoint has the states up to this one, with their bytes.
fn has_all(checkpoint: &Checkpoint, last: u64) -> bool {
    let expected: Vec<_> = (1..=last).map(|seed| (format!("{seed:04}"), bytes(seed, 3000))).collect();
    read_states(checkpoint).unwrap() == expected
}

/// A store in whose segment states were synced, and then one more checkpoint with states that are in the log alone for
/// certain. The power is cut then.
fn cut() -> SimDisk {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    (1..=3).for_each(|seed| drop(add(&store, seed)));
    disk.cut_power(Survival::Nothing)
}

#[test]
fn small_checkpoint_is_one_sync_of_the_log_and_survives_a_power_cut() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    add(&store, 1);
    for seed in 2..6 {
        let before = (disk.count(Call::SyncData), disk.count(Call::SyncDir), disk.count(Call::CreateTemp));
        add(&store, seed);
        let after = (disk.count(Call::SyncData), disk.count(Call::SyncDir), disk.count(Call::CreateTemp));
        assert_eq!(after, (before.0 + 1, before.1, before.2), "{seed}");
    }
    let disk = disk.cut_power(Survival::Nothing);
    let store = open(&disk).unwrap();
    assert_eq!((store.checkpoint_ids().len(), store.open_report().redone), (5, 4));
    assert!(store.open_report().to_string().contains("wrote 4 states again"), "{}", store.open_report());
    assert!(store.open_report().damaged.is_empty(), "{}", store.open_report());
    assert!(has_all(&store.latest().unwrap().unwrap(), 5));
    // What was redone is durable, and is redone by each open until a base takes the place of the records.
    let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
    assert_eq!(store.open_report().redone, 4);
    assert!(has_all(&store.latest().unwrap().unwrap(), 5));
}

#[test]
fn checkpoint_with_more_than_its_record_may_have_syncs_its_segment() {
    for (redo, syncs) in [(Some(0), 2), (Some(3038), 2), (Some(3039), 1), (None, 1)] {
        let disk = SimDisk::new();
        let options = Options::new().disk(disk.clone());
        let store = redo.map_or(options.clone(), |redo| options.redo_size(redo)).open(ROOT).unwrap();
        add(&store, 1);
        let before = disk.count(Call::SyncData);
        add(&store, 2);
        assert_eq!(disk.count(Call::SyncData) - before, syncs, "{redo:?}");
        assert!(has_all(&open(&disk.cut_power(Survival::Nothing)).unwrap().latest().unwrap().unwrap(), 2));
    }
}

#[test]
fn states_that_older_checkpoints_wrote_are_redone_although_those_were_forgotten() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).retain(1).open(ROOT).unwrap();
    (1..=8).for_each(|seed| drop(add(&store, seed)));
    let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
    assert_eq!(store.checkpoint_ids(), [id(8)]);
    assert!(has_all(&store.latest().unwrap().unwrap(), 8));
}

#[test]
fn states_that_nobody_names_any_more_are_not_redone_nor_are_files_made_again_for_them() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    (1..=3).for_each(|seed| drop(commit_states(&store, &[bytes(seed, 3000)]).unwrap()));
    let _ = store.prune(1).unwrap();
    commit_states(&store, &[]).unwrap();
    let last = store.begin_next().unwrap().commit(Manifest::builder()).unwrap();
    let _ = store.prune(1).unwrap();
    assert_eq!(store.checkpoint_ids(), [last.id()]);
    drop((last, store));
    for disk in [disk.kill(), disk.cut_power(Survival::Nothing)] {
        let store = open(&disk).unwrap();
        assert_eq!((store.open_report().redone, store.open_report().damaged.len()), (0, 0));
        assert_eq!(store.usage().physical_files, 0);
    }
}

#[test]
fn base_takes_the_place_of_records_only_when_their_states_are_durable() {
    // At every length of the log: a base comes every so many records.
    let mut bases = 0;
    for last in 10..60 {
        let disk = SimDisk::new();
        let store = open(&disk).unwrap();
        (1..=last).for_each(|seed| drop(add(&store, seed)));
        let disk = disk.cut_power(Survival::Nothing);
        let entries = disk.list(At::new("/state/manifests".as_ref())).unwrap();
        bases += entries.iter().filter(|entry| entry.name.to_str().unwrap().contains(".base")).count();
        let store = open(&disk).unwrap();
        assert!(has_all(&store.latest().unwrap().unwrap(), last), "{last}");
    }
    assert!(bases > 20, "{bases}");
}

#[test]
fn segment_that_cannot_be_synced_for_a_base_makes_the_store_reopen_and_loses_nothing() {
    let mut refused = 0;
    for nth in 1..6 {
        let disk = SimDisk::new();
        let store = Options::new().disk(disk.clone()).maintenance(Maintenance::Manual).open(ROOT).unwrap();
        (1..=20).for_each(|seed| drop(add(&store, seed)));
        disk.fail_nth(Call::SyncData, nth, Fault::Error(EIO));
        let done = store.maintain(0).unwrap();
        let is_of_segment = |error: &Error| error.path().is_some_and(|path| path.starts_with("/state/shared"));
        if done.failures.iter().any(is_of_segment) {
            refused += 1;
            assert!(store.begin_next().unwrap_err().is_poisoned());
        }
        drop(store);
        let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
        assert!(has_all(&store.latest().unwrap().unwrap(), 20), "{nth}");
    }
    assert_eq!(refused, 1, "the segment is synced once");
}

#[test]
fn export_of_states_that_wait_for_their_sync_is_whole_after_a_power_cut() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    (1..=3).for_each(|seed| drop(add(&store, seed)));
    store.export(id(3), "/export").unwrap();
    let disk = disk.cut_power(Survival::Nothing);
    let exported = Options::new().disk(disk.clone()).open_read_only("/export").unwrap();
    assert!(has_all(&exported.latest().unwrap().unwrap(), 3));
}

#[test]
fn duplicate_of_states_that_wait_for_their_sync_is_whole_after_a_power_cut() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    (1..=3).for_each(|seed| drop(add(&store, seed)));
    let newest = store.latest().unwrap().unwrap();
    let handles: Vec<StateHandle> = newest.manifest().states().map(|(_, state)| state.clone()).collect();
    let pending = store.begin_next().unwrap();
    let copies = pending.duplicate(&handles, Scope::Exclusive).unwrap();
    let manifest =
        copies.into_iter().zip(1..).fold(Manifest::builder(), |m, (copy, seed)| m.state(format!("{seed:04}"), copy));
    pending.commit(manifest).unwrap();
    // Nothing names the originals any more.
    let _ = store.prune(1).unwrap();
    drop((newest, store));
    let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
    assert!(has_all(&store.latest().unwrap().unwrap(), 3));
}

#[test]
fn duplicate_that_has_its_file_already_syncs_what_came_into_that_meanwhile() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let first = add(&store, 1);
    let other = store.begin_next().unwrap();
    let late = other.write(Scope::Shared, &bytes(2, 3000)).unwrap();
    let pending = store.begin(CheckpointId::new(9).unwrap()).unwrap();
    let first = pending.duplicate(&[first.manifest().state("0001").unwrap().clone()], Scope::Exclusive).unwrap();
    other.commit(Manifest::builder().state("late", late.clone())).unwrap();
    let second = pending.duplicate(&[late], Scope::Exclusive).unwrap();
    let manifest = Manifest::builder().state("0001", first[0].clone()).state("0002", second[0].clone());
    pending.commit(manifest).unwrap();
    let _ = store.prune(1).unwrap();
    drop(store);
    let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
    assert!(has_all(&store.latest().unwrap().unwrap(), 2));
}

#[test]
fn segment_that_a_larger_checkpoint_cannot_sync_makes_the_store_reopen_and_loses_nothing() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    (1..=3).for_each(|seed| drop(add(&store, seed)));
    let pending = store.begin_next().unwrap();
    let large = pending.write(Scope::Shared, &bytes(9, 50_000)).unwrap();
    disk.fail_nth(Call::SyncData, 1, Fault::Error(EIO));
    assert_eq!(pending.commit(Manifest::builder().state("large", large)).unwrap_err().raw_os_error(), Some(EIO));
    assert!(store.begin_next().unwrap_err().is_poisoned(), "the page cache may lose what the log has");
    drop(store);
    let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
    assert!(has_all(&store.latest().unwrap().unwrap(), 3));
}

#[test]
fn states_that_a_bad_medium_does_not_take_are_in_the_log_and_no_older_checkpoint_is_taken_instead() {
    let probe = cut();
    let before = probe.count(Call::WriteAt);
    drop(open(&probe).unwrap());
    let mut refused = 0;
    for nth in 1..=probe.count(Call::WriteAt) - before {
        let disk = cut();
        disk.fail_nth(Call::WriteAt, nth, Fault::Error(EIO));
        let Ok(store) = open(&disk) else { continue };
        if !store.damaged().is_empty() {
            refused += 1;
            assert!(store.latest().unwrap_err().is_unrecovered(), "{:?}", store.damaged());
            assert!(store.open_report().failures.iter().any(|error| error.raw_os_error() == Some(EIO)));
        }
        drop(store);
        assert!(has_all(&open(&disk).unwrap().latest().unwrap().unwrap(), 3));
    }
    assert!(refused > 0);
}

#[test]
fn sync_that_a_full_disk_refused_is_not_trusted_before_all_was_written_again() {
    let mut refused = 0;
    for nth in 1..12 {
        // With a capacity there is room that can be given up.
        let disk = SimDisk::new();
        disk.set_capacity(Some(64 << 20));
        let store = open(&disk).unwrap();
        (1..=3).for_each(|seed| drop(add(&store, seed)));
        let disk = disk.kill();
        disk.set_capacity(Some(64 << 20));
        disk.fail_nth(Call::SyncData, nth, Fault::Error(ENOSPC));
        let Ok(store) = open(&disk) else { continue };
        disk.heal();
        refused += 1;
        if store.damaged().is_empty() {
            (4..=40).for_each(|seed| drop(add(&store, seed)));
            let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
            assert!(has_all(&store.latest().unwrap().unwrap(), 40), "{nth}");
        }
    }
    assert!(refused > 0);
}

#[test]
fn borrowing_needs_no_sync_where_a_file_system_has_none() {
    for nth in 1..=2 {
        let disk = SimDisk::new();
        let source = open(&disk).unwrap();
        (1..=3).for_each(|seed| drop(add(&source, seed)));
        drop(source);
        let store = Options::new().disk(disk.clone()).open("/other").unwrap();
        // The log of the source, then its segment.
        disk.fail_nth(Call::SyncData, nth, Fault::Error(EINVAL));
        assert!(has_all(&store.import(ROOT, Claim::Borrow).unwrap().checkpoint, 3), "{nth}");
    }
}

#[test]
fn no_more_segments_wait_than_may_be_open() {
    for (limit, syncs) in [(None, 1), (Some(4), 3)] {
        let disk = HookedDisk { open_file_limit: limit, ..HookedDisk::new() };
        let store = Options::new().disk(disk.clone()).log_size(128 << 10).open(ROOT).unwrap();
        let commit = |seed| {
            let pending = store.begin_next().unwrap();
            let [one, other] =
                [Scope::Shared, Scope::Exclusive].map(|scope| pending.write(scope, &bytes(seed, 3000)).unwrap());
            pending.commit(Manifest::builder().state("one", one).state("other", other)).unwrap()
        };
        commit(1);
        let before = disk.disk.count(Call::SyncData);
        commit(2);
        assert_eq!(disk.disk.count(Call::SyncData) - before, syncs, "two segments: {limit:?}");
    }
}

#[test]
fn segment_that_waits_is_closed_when_it_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let removed = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let paths = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        let ours = paths.filter(|path| path.starts_with(dir.path()));
        ours.filter(|path| path.to_string_lossy().ends_with(".seg (deleted)")).count()
    };
    let store = Options::new().segment_size(10_000).open(dir.path()).unwrap();
    (1..=2).for_each(|seed| drop(commit_states(&store, &[bytes(seed, 3000)]).unwrap()));
    // The segment is full: what comes goes to another one.
    (3..=4).for_each(|seed| drop(commit_states(&store, &[bytes(seed, 6000)]).unwrap()));
    let _ = store.forget(id(1)).unwrap();
    assert!(store.forget(id(2)).unwrap().files > 0);
    assert_eq!(removed(), 0);
}

#[test]
fn reader_after_a_power_cut_is_told_that_a_writer_must_open_the_store_first() {
    let disk = cut();
    let reader = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
    assert_eq!(reader.checkpoint_ids().unwrap().len(), 3);
    for error in
        [reader.latest().unwrap_err(), reader.checkpoint(id(2)).unwrap_err(), reader.checkpoint(id(3)).unwrap_err()]
    {
        assert!(error.is_unrecovered() && !error.is_damage(), "{error}");
        assert!(error.to_string().contains("open the store for writing"), "{error}");
    }
    assert!(has_all(&reader.checkpoint(id(1)).unwrap(), 1), "this one was synced");
    drop(open(&disk).unwrap());
    assert!(has_all(&reader.latest().unwrap().unwrap(), 3), "the same reader");
}

#[test]
fn reader_beside_a_writer_reads_states_that_wait_for_their_sync() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let reader = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
    for seed in 1..=30 {
        add(&store, seed);
        assert!(has_all(&reader.latest().unwrap().unwrap(), seed));
    }
}

#[test]
fn import_after_a_power_cut_takes_a_store_that_a_writer_has_opened_and_no_other() {
    let import = |disk: &SimDisk, claim: Claim| -> Result<Checkpoint, Error> {
        let store = Options::new().disk(disk.clone()).open("/other").unwrap();
        store.import(ROOT, claim).map(|imported| imported.checkpoint)
    };
    for claim in [Claim::Copy, Claim::Borrow] {
        let disk = cut();
        assert!(import(&disk, claim).unwrap_err().is_unrecovered(), "{claim:?}");
        drop(open(&disk).unwrap());
        assert!(has_all(&import(&disk, claim).unwrap(), 3), "{claim:?}");
        let store = Options::new().disk(disk.cut_power(Survival::Nothing)).open("/other").unwrap();
        assert!(has_all(&store.latest().unwrap().unwrap(), 3), "{claim:?}");
    }
}

#[test]
fn import_of_a_store_that_was_closed_just_now_is_whole_after_a_power_cut() {
    for claim in [Claim::Copy, Claim::Borrow, Claim::Move] {
        let disk = SimDisk::new();
        let source = open(&disk).unwrap();
        (1..=3).for_each(|seed| drop(add(&source, seed)));
        drop(source);
        let store = Options::new().disk(disk.clone()).open("/other").unwrap();
        drop(store.import(ROOT, claim).unwrap());
        drop(store);
        let store = Options::new().disk(disk.cut_power(Survival::Nothing)).open("/other").unwrap();
        assert!(has_all(&store.latest().unwrap().unwrap(), 3), "{claim:?}");
    }
}

#[test]
fn states_for_which_a_full_disk_has_no_room_stay_in_the_log_until_there_is_some() {
    let disk = cut();
    // In the writing of the states: at once, and with the room that is kept.
    let probe = cut();
    drop(open(&probe).unwrap());
    let mut kept = 0;
    for nth in 1..=probe.count(Call::WriteAt) {
        let disk = cut();
        for again in nth..nth + 12 {
            disk.fail_nth(Call::WriteAt, again, Fault::Error(ENOSPC));
        }
        let Ok(store) = open(&disk) else { continue };
        let damaged = store.damaged();
        assert!(damaged.iter().all(|(_, error)| error.is_no_space()), "{nth}: {damaged:?}");
        kept += usize::from(!damaged.is_empty());
        // Nothing of that is taken for lost: what the log has stays there, however much is committed.
        disk.heal();
        assert!(
            damaged.is_empty() || store.latest().unwrap_err().is_no_space(),
            "{nth}: no older one is taken instead"
        );
        assert!(has_all(&store.checkpoint(id(1)).unwrap(), 1));
        (0..40).for_each(|seed| drop(commit_states(&store, &[bytes(seed, 3000)]).unwrap()));
        let _ = store.maintain(u64::MAX).unwrap();
        drop(store);
        let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
        assert!(store.damaged().is_empty(), "{nth}: {:?}", store.damaged());
        assert!(has_all(&store.checkpoint(id(3)).unwrap(), 3), "{nth}");
    }
    assert!(kept > 0);
    assert!(has_all(&open(&disk).unwrap().latest().unwrap().unwrap(), 3));
}

#[test]
fn states_that_were_redone_are_durable_when_a_base_takes_the_place_of_their_records() {
    let disk = cut();
    let store = open(&disk).unwrap();
    (4..=40).for_each(|seed| drop(add(&store, seed)));
    let _ = store.maintain(u64::MAX).unwrap();
    let disk = disk.cut_power(Survival::Nothing);
    assert!(has_all(&open(&disk).unwrap().latest().unwrap().unwrap(), 40));
}

#[test]
fn state_that_is_committed_while_its_segment_is_synced_waits_for_the_next_sync() {
    let disk = HookedDisk::new();
    let store =
        Options::new().disk(disk.clone()).log_size(128 << 10).maintenance(Maintenance::Manual).open(ROOT).unwrap();
    (1..=20).for_each(|seed| drop(add(&store, seed)));
    let other = store.clone();
    // The sync has made durable what there was, and has not ended.
    set(&disk.after_segment_sync, move || drop(add(&other, 21)));
    assert!(store.maintain(0).unwrap().failures.is_empty());
    // Records until a base takes their place, and nothing new in that segment.
    for _ in 0..40 {
        let newest = store.latest().unwrap().unwrap();
        assert_eq!(newest.manifest().states().count(), 21);
        store.begin_next().unwrap().commit(Manifest::based_on(newest.manifest())).unwrap();
    }
    assert!(store.maintain(0).unwrap().failures.is_empty());
    let store = open(&disk.disk.cut_power(Survival::Nothing)).unwrap();
    assert!(has_all(&store.latest().unwrap().unwrap(), 21));
}

#[test]
fn entry_that_was_written_again_is_the_one_that_was_lost() {
    let segment = Path::new(ROOT).join("shared/00000001-001-0000000001.seg");
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    (1..=3).for_each(|seed| drop(add(&store, seed)));
    let before = list_segment(disk.clone(), &segment).unwrap();
    drop(store);
    let disk = disk.cut_power(Survival::Nothing);
    assert_eq!(list_segment(disk.clone(), &segment).unwrap().len(), 1);
    drop(open(&disk).unwrap());
    assert_eq!(list_segment(disk.clone(), &segment).unwrap(), before, "for the same checkpoints");
}

#[test]
fn opener_that_is_interrupted_at_any_call_leaves_the_states_to_the_next_one() {
    let probe = cut();
    let before = probe.calls();
    drop(open(&probe).unwrap());
    for call in before + 1..=probe.calls() {
        for survival in [Survival::Nothing, Survival::Everything] {
            let disk = cut();
            disk.fail(disk.calls() + call - before, Fault::PowerCut);
            let _ = open(&disk);
            let store = open(&disk.cut_power(survival)).unwrap();
            assert!(has_all(&store.latest().unwrap().unwrap(), 3), "call {call}, {survival:?}");
        }
    }
}

#[test]
fn record_with_states_that_is_damaged_in_one_half_loses_none_of_them() {
    for which in [0, 1] {
        let disk = cut();
        for path in log::logs_on(&disk) {
            disk.damage(&path, |log| {
                for found in log::records(log) {
                    let at = 8192 + which * log::half(log) + found.offset + 44;
                    if found.publishes().is_some() {
                        log[at + found.record.len() / 2] ^= 4;
                    }
                }
            })
            .unwrap();
        }
        let store = open(&disk).unwrap();
        assert!(has_all(&store.latest().unwrap().unwrap(), 3), "half {which}");
    }
}

#[test]
fn small_checkpoint_relocates_no_more_than_its_record_takes() {
    let disk = SimDisk::new();
    let options = || Options::new().disk(disk.clone()).segment_size(64 + 10 * 3072).punch_holes(false).redo_size(8192);
    let store = options().open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let all: Vec<_> = (0..20).map(|seed| pending.write(Scope::Shared, &bytes(seed, 3000)).unwrap()).collect();
    let named = |handles: &[StateHandle]| {
        handles.iter().enumerate().fold(Manifest::builder(), |m, (n, handle)| m.state(n.to_string(), handle.clone()))
    };
    pending.commit(named(&all)).unwrap();
    let kept = [&all[..2], &all[10..12]].concat();
    store.begin_next().unwrap().commit(named(&kept)).unwrap();
    let _ = store.prune(1).unwrap();
    store.begin_next().unwrap().commit(named(&kept)).unwrap();
    assert!(store.usage().marked_files > 0, "{:?}", store.usage());
    let pending = store.begin_next().unwrap();
    let moved = pending.reuse(&kept).unwrap();
    let count = moved.iter().zip(&kept).filter(|(now, before)| now != before).count();
    assert_eq!(count, 2, "8192 bytes are room for two states of 3,000 bytes");
}
