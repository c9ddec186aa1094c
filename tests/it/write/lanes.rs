//! Many states in one segment: who appends where, and what a writer that fails leaves to the others.
//!
//! What is fenced off here: two states whose bytes are mixed up, a lane that nobody gets any more, a failure that spreads
//! to states of others.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
};

use piton::{
    Durability, Manifest, Merging, Options, Scope, Store,
    disk::{At, Disk, MemoryDisk, OsDisk},
    list_segment,
    testing::{Call, Fault, SimDisk, Survival},
};

use crate::support::{ROOT, bytes, commit_states, on_every_disk, open, read_states};

const EIO: i32 = 5;

/// Where the states of a checkpoint are, by the text of their handles: file, then where in it.
fn places(checkpoint: &piton::Checkpoint) -> BTreeMap<String, BTreeSet<(u64, u64)>> {
    let mut places: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (_, handle) in checkpoint.manifest().states() {
        let text = handle.to_string();
        let (file, range) = text.split_once('@').unwrap();
        let (offset, rest) = range.split_once('+').unwrap();
        let (len, _) = rest.split_once('#').unwrap();
        assert!(places.entry(file.to_owned()).or_default().insert((offset.parse().unwrap(), len.parse().unwrap())));
    }
    places
}

#[test]
fn twelve_threads_append_at_once_and_no_state_overlaps_another() {
    for lanes in [1, 3, 12, 100] {
        for merging in [Merging::WithinCheckpoint, Merging::AcrossCheckpoints] {
            on_every_disk(|options, root| {
                let options = options.lanes(lanes).merging(merging).segment_size(100_000).write_buffer(5_000);
                let store = options.open(root).unwrap();
                let pending = store.begin_next().unwrap();
                let barrier = Barrier::new(12);
                let len = |thread: u64, n: u64| 1100 + (thread * 37 + n * 101) as usize % 6_000;
                let written: Vec<_> = thread::scope(|scope| {
                    let work = |thread: u64| {
                        barrier.wait();
                        let write = |n: u64| pending.write(Scope::Shared, &bytes(thread * 1000 + n, len(thread, n)));
                        (0..30).map(|n| (format!("{thread}/{n}"), write(n).unwrap())).collect::<Vec<_>>()
                    };
                    let threads: Vec<_> = (0..12).map(|n| scope.spawn(move || work(n))).collect();
                    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
                });
                let manifest = written.into_iter().fold(Manifest::builder(), |m, (name, h)| m.state(name, h));
                let checkpoint = pending.commit(manifest).unwrap();
                for (name, read) in read_states(&checkpoint).unwrap() {
                    let (thread, n) = name.split_once('/').unwrap();
                    let (thread, n) = (thread.parse().unwrap(), n.parse().unwrap());
                    assert!(read == bytes(thread * 1000 + n, len(thread, n)), "{name} with {lanes} lanes");
                }
                let places = places(&checkpoint);
                for (file, ranges) in &places {
                    let ranges: Vec<_> = ranges.iter().collect();
                    let apart = ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 + 48 <= pair[1].0);
                    assert!(apart, "{file}: {ranges:?}");
                }
                let open: BTreeSet<_> = places.keys().filter_map(|file| file.split('.').nth(1)).collect();
                assert!(open.len() <= usize::from(lanes) + 1, "lanes and lane 0: {open:?}");
                assert!(store.usage().open_files <= u64::from(lanes));
            });
        }
    }
}

#[test]
fn no_segment_is_longer_than_its_size_unless_it_has_one_state_alone() {
    let disk = MemoryDisk::new();
    for size in [1_u64, 64, 1_000, 5_000, 5_112, 5_113, 20_000] {
        let root = format!("/{size}");
        let store = Options::new().disk(disk.clone()).segment_size(size).open(&root).unwrap();
        let states: Vec<_> = (0..40).map(|n| bytes(n, 1025 + (n as usize * 523) % 4_000)).collect();
        let checkpoint = commit_states(&store, &states).unwrap();
        for (name, read) in read_states(&checkpoint).unwrap() {
            assert!(read == states[name.parse::<usize>().unwrap()], "{name}");
        }
        let lengths: BTreeMap<_, _> = disk
            .list(At::new(&Path::new(&root).join("shared")))
            .unwrap()
            .into_iter()
            .map(|entry| (entry.name.into_string().unwrap(), entry.metadata.len))
            .collect();
        for (file, ranges) in places(&checkpoint) {
            let [generation, lane, sequence] = [0, 1, 2]
                .map(|at| file.rsplit(':').next().unwrap().split('.').nth(at).unwrap().parse::<u64>().unwrap());
            let len = lengths[&format!("{generation:08}-{lane:03}-{sequence:010}.seg")];
            assert!(len <= size || ranges.len() == 1, "{file} has {len} bytes");
        }
    }
}

#[test]
fn failed_append_in_the_middle_of_a_shared_segment_costs_that_state_alone() {
    for fault in [Fault::Error(EIO), Fault::Error(28), Fault::ErrorAfter(EIO)] {
        let disk = SimDisk::new();
        let store = open(&disk).unwrap();
        let pending = store.begin_next().unwrap();
        let before = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
        disk.fail_nth(Call::WriteAt, 1, fault);
        // Written at once, with the one before.
        let error = pending.write(Scope::Shared, &bytes(2, 50_000)).unwrap_err();
        assert!(error.raw_os_error().is_some() && error.path().unwrap().starts_with("/state/shared"), "{error}");
        let usage = store.usage();
        assert_eq!((usage.open_files, usage.logical_files), (0, 1), "nobody knows what lies behind the first state");
        let torn = disk.list(At::new("/state/shared".as_ref())).unwrap()[0].metadata.len;
        assert_eq!(usage.physical_bytes, torn, "what was torn is there, and counted");
        let after = pending.write(Scope::Shared, &bytes(3, 5000)).unwrap();
        pending.commit(Manifest::builder().state("a", before).state("b", after)).unwrap();
        drop(store);
        let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
        let read = read_states(&store.latest().unwrap().unwrap()).unwrap();
        assert_eq!((&read[0].1, &read[1].1), (&bytes(1, 5000), &bytes(3, 5000)));
    }
}

#[test]
fn small_states_that_could_not_be_written_fail_their_checkpoint_and_cost_others_nothing() {
    for fault in [Fault::Error(EIO), Fault::Error(28), Fault::ErrorAfter(EIO)] {
        for redo in [0, 1 << 20] {
            let disk = SimDisk::new();
            let store = Options::new().disk(disk.clone()).redo_size(redo).open(ROOT).unwrap();
            let old = commit_states(&store, &[bytes(1, 5000)]).unwrap();
            let [first, second] = [2, 3].map(|seed| {
                let pending = store.begin_next().unwrap();
                let manifest =
                    Manifest::builder().state("s", pending.write(Scope::Shared, &bytes(seed, 5000)).unwrap());
                (pending, manifest)
            });
            let gathered = store.usage().gathered_bytes;
            assert!((2 * 5048..2 * 5112).contains(&gathered), "payloads, trailers and padding: {gathered}");
            disk.fail_nth(Call::WriteAt, 1, fault);
            let error = first.0.commit(first.1).unwrap_err().into_error();
            assert!(!error.is_indeterminate() && error.path().unwrap().starts_with("/state/shared"), "{error}");
            let second = second.0.commit(second.1).unwrap();
            let usage = store.usage();
            assert_eq!((usage.gathered_bytes, usage.logical_files), (0, 2), "{usage:?}");
            let third = commit_states(&store, &[bytes(4, 5000)]).unwrap();
            let files = disk.list(At::new("/state/shared".as_ref())).unwrap();
            assert_eq!(
                (files.len() as u64, store.usage().open_files),
                (2, 1),
                "nothing more goes to the one that failed"
            );
            let len: u64 = files.iter().map(|file| file.metadata.len).sum();
            assert_eq!(len, store.usage().physical_bytes, "{:?}", store.usage());
            drop((old, second, third, store));
            let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
            let read = |id: piton::CheckpointId| read_states(&store.checkpoint(id).unwrap()).unwrap().remove(0).1;
            let found: Vec<_> = store.checkpoint_ids().into_iter().map(read).collect();
            assert_eq!(found, [bytes(1, 5000), bytes(3, 5000), bytes(4, 5000)]);
        }
    }
}

/// The segment has states that are in records alone. These are as safe as before.
#[test]
fn write_that_fails_in_a_segment_that_waits_for_its_sync_does_not_poison_the_store() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let _kept = [1, 2].map(|seed| commit_states(&store, &[bytes(seed, 5000)]).unwrap());
    let pending = store.begin_next().unwrap();
    pending.write(Scope::Shared, &bytes(3, 5000)).unwrap();
    (1..20).for_each(|nth| disk.fail_nth(Call::WriteAt, nth, Fault::Error(28)));
    pending.write(Scope::Shared, &bytes(4, 50_000)).unwrap_err();
    // For want of descriptors the segment, which is sealed now, is to be synced and closed.
    disk.fail_nth(Call::CreateTemp, 1, Fault::Error(24));
    assert!(pending.write(Scope::Shared, &bytes(5, 2_000_000)).unwrap_err().is_no_space());
    drop(pending);
    disk.heal();
    assert_eq!(commit_states(&store, &[bytes(4, 5000)]).unwrap().id().get(), 4);
}

#[test]
fn bytes_that_could_not_be_written_and_that_nobody_needs_any_more_are_no_part_of_their_file() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let _kept = commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let pending = store.begin_next().unwrap();
    (0..3).for_each(|seed| drop(pending.write(Scope::Shared, &bytes(seed, 9000)).unwrap()));
    // The segment is given up; the states before can be written no better.
    (1..20).for_each(|nth| disk.fail_nth(Call::WriteAt, nth, Fault::Error(28)));
    pending.write(Scope::Shared, &bytes(9, 50_000)).unwrap_err();
    drop(pending);
    disk.heal();
    let (usage, file) = (store.usage(), disk.list(At::new("/state/shared".as_ref())).unwrap().remove(0));
    assert_eq!((usage.gathered_bytes, usage.physical_bytes), (0, file.metadata.len), "{usage:?}");
    assert_eq!(usage.allocated_bytes, file.metadata.allocated, "{usage:?}");
}

#[test]
fn states_of_which_nobody_took_the_checkpoint_are_never_written() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let before = disk.count(Call::WriteAt);
    let pending = store.begin_next().unwrap();
    (0..10).for_each(|seed| drop(pending.write(Scope::Shared, &bytes(seed, 5000)).unwrap()));
    drop(pending);
    assert_eq!((disk.count(Call::WriteAt), store.usage().logical_files), (before, 1));
}

#[test]
fn segment_whose_creation_fails_at_any_call_leaves_no_file() {
    for fault in [Fault::Error(EIO), Fault::Error(28), Fault::ErrorAfter(EIO)] {
        for call in [Call::CreateTemp, Call::WriteAt, Call::RenameNew] {
            let disk = SimDisk::new();
            let store = open(&disk).unwrap();
            let pending = store.begin_next().unwrap();
            disk.fail_nth(call, 1, fault);
            assert!(pending.write(Scope::Shared, &bytes(1, 5000)).unwrap_err().raw_os_error().is_some());
            let left = disk.list(At::new("/state/shared".as_ref())).unwrap();
            // A disk that creates a file under a name of its own and says it failed is the only one who knows the name.
            let unknown = usize::from(call == Call::CreateTemp && fault == Fault::ErrorAfter(EIO));
            assert_eq!(left.len(), unknown, "{call:?}, {fault:?}: {left:?}");
            assert_eq!(store.usage().physical_files, 0);
            let again = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
            pending.commit(Manifest::builder().state("s", again)).unwrap();
        }
    }
}

#[test]
fn segment_of_somebody_else_under_our_name_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let theirs = dir.path().join("shared/00000001-001-0000000001.seg");
    std::fs::write(&theirs, b"theirs").unwrap();
    let pending = store.begin_next().unwrap();
    let error = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap_err();
    assert_eq!(error.path(), Some(theirs.as_path()), "{error}");
    let handle = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    pending.commit(Manifest::builder().state("s", handle)).unwrap();
    store.close().unwrap();
    assert_eq!(std::fs::read(theirs).unwrap(), b"theirs");
}

#[test]
fn torn_state_is_dead_bytes_and_passed_over_by_the_scan() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let pending = store.begin_next().unwrap();
    let first = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    disk.fail_nth(Call::WriteAt, 1, Fault::ShortWrite);
    disk.fail_nth(Call::WriteAt, 2, Fault::Error(28));
    pending.write(Scope::Shared, &bytes(2, 60_000)).unwrap_err();
    assert!(store.usage().dead_bytes > 20_000, "{:?}", store.usage());
    let path =
        Path::new(ROOT).join("shared").join(disk.list(At::new("/state/shared".as_ref())).unwrap()[0].name.clone());
    let found: Vec<_> = list_segment(disk, path).unwrap().into_iter().map(|entry| entry.handle).collect();
    assert_eq!(found, [first]);
}

#[test]
fn failing_and_panicking_writers_leave_lane_and_descriptors_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().disk(OsDisk).lanes(2).max_state_size(Some(3_000_000)).open(dir.path()).unwrap();
    // Of this store: other tests run at the same time.
    let ours = |entry: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_link(entry.unwrap().path()).is_ok_and(|file| file.starts_with(dir.path()))
    };
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|e| ours(e).then_some(())).count();
    let pending = store.begin_next().unwrap();
    pending.write(Scope::Shared, &bytes(0, 5000)).unwrap();
    let open = descriptors();
    thread::scope(|scope| {
        for n in 0..12_u64 {
            let pending = &pending;
            scope.spawn(move || {
                for round in 0..20 {
                    let mut writer = pending.writer(Scope::Shared).unwrap();
                    writer.write_all(&bytes(n, if round % 2 == 0 { 2_000 } else { 1_500_000 })).unwrap();
                    match round % 4 {
                        0 => drop(writer.finish().unwrap()),
                        1 => drop(writer),
                        2 => drop(writer.write_all(&vec![0; 4_000_000]).unwrap_err()),
                        _ => {
                            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                                let _writer = writer;
                                std::panic::panic_any("the engine's own bug");
                            }));
                            assert!(panicked.is_err());
                        }
                    }
                }
            });
        }
    });
    assert!(descriptors() <= open + 1, "{} descriptors before, {} after", open, descriptors());
    assert!(store.usage().physical_files <= 2, "{:?}", store.usage());
    let last = pending.write(Scope::Shared, &bytes(99, 5000)).unwrap();
    let checkpoint = pending.commit(Manifest::builder().state("s", last)).unwrap();
    assert_eq!(read_states(&checkpoint).unwrap()[0].1, bytes(99, 5000));
}

#[test]
fn failed_sync_retires_the_segment_and_fails_every_checkpoint_with_unsynced_states_in_it() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).redo_size(0).open(ROOT).unwrap();
    let durable = commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let first = store.begin_next().unwrap();
    let second = store.begin_next().unwrap();
    let manifests = [&first, &second]
        .map(|pending| Manifest::builder().state("s", pending.write(Scope::Shared, &bytes(2, 5000)).unwrap()));
    disk.fail_nth(Call::SyncData, 1, Fault::Error(EIO));
    let [of_first, of_second] = manifests;
    assert_eq!(first.commit(of_first).unwrap_err().raw_os_error(), Some(EIO));
    let syncs = disk.count(Call::SyncData);
    assert_eq!(second.commit(of_second).unwrap_err().raw_os_error(), Some(EIO), "its bytes were marked clean as well");
    assert_eq!(disk.count(Call::SyncData), syncs, "and are not synced again");
    let next = commit_states(&store, &[bytes(3, 5000)]).unwrap();
    assert_eq!(places(&next).len(), 1);
    assert_ne!(places(&next).keys().next(), places(&durable).keys().next(), "the segment takes no more");
    drop((next, durable, store));
    let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
    assert_eq!(store.checkpoint_ids().len(), 2);
    for id in store.checkpoint_ids() {
        read_states(&store.checkpoint(id).unwrap()).unwrap();
    }
}

#[test]
fn failed_sync_of_a_state_that_nobody_names_fails_no_checkpoint() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).durability(Durability::PerState).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let first = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    disk.fail_nth(Call::SyncData, 1, Fault::Error(EIO));
    assert_eq!(pending.write(Scope::Shared, &bytes(2, 5000)).unwrap_err().raw_os_error(), Some(EIO));
    let second = pending.write(Scope::Shared, &bytes(2, 5000)).unwrap();
    pending.commit(Manifest::builder().state("1", first).state("2", second)).unwrap();
    let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
    let read = read_states(&store.latest().unwrap().unwrap()).unwrap();
    assert_eq!((&read[0].1, &read[1].1), (&bytes(1, 5000), &bytes(2, 5000)));
}

#[test]
fn state_that_was_appended_after_somebody_elses_sync_is_synced_for_itself() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let (first, second) = (store.begin_next().unwrap(), store.begin_next().unwrap());
    let third = store.begin_next().unwrap();
    let early = third.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    let other = second.write(Scope::Shared, &bytes(2, 5000)).unwrap();
    drop(first);
    second.commit(Manifest::builder().state("s", other)).unwrap();
    let late = third.write(Scope::Shared, &bytes(3, 5000)).unwrap();
    third.commit(Manifest::builder().state("1", early).state("2", late)).unwrap();
    let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
    let read = read_states(&store.latest().unwrap().unwrap()).unwrap();
    assert_eq!((&read[0].1, &read[1].1), (&bytes(1, 5000), &bytes(3, 5000)));
}

/// More segments than stay open for a checkpoint, of states that have one each.
fn write_many(pending: &piton::PendingCheckpoint, scope: Scope, count: u64) -> piton::Result<Vec<piton::StateHandle>> {
    (0..count).map(|n| pending.write(scope, &bytes(n, 5000))).collect()
}

#[test]
fn name_of_a_segment_that_was_synced_early_is_durable_with_the_checkpoint() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).merging(Merging::Off).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let early = write_many(&pending, Scope::Exclusive, 10).unwrap();
    let rest = write_many(&pending, Scope::Shared, 70).unwrap();
    let named = early.into_iter().chain(rest).enumerate();
    pending.commit(named.fold(Manifest::builder(), |m, (n, h)| m.state(n.to_string(), h))).unwrap();
    let store = open(&disk.cut_power(Survival::Nothing)).unwrap();
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap().len(), 80);
}

#[test]
fn early_sync_that_fails_fails_the_checkpoint_whose_states_it_was_to_make_durable() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).merging(Merging::Off).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let early = write_many(&pending, Scope::Shared, 64).unwrap();
    disk.fail_nth(Call::SyncData, 1, Fault::Error(EIO));
    assert_eq!(write_many(&pending, Scope::Shared, 1).unwrap_err().raw_os_error(), Some(EIO));
    let named = early.into_iter().enumerate();
    let manifest = named.fold(Manifest::builder(), |m, (n, h)| m.state(n.to_string(), h));
    assert_eq!(pending.commit(manifest).unwrap_err().raw_os_error(), Some(EIO));
    assert!(open(&disk.cut_power(Survival::Nothing)).unwrap().latest().unwrap().is_none());
}

#[test]
fn segment_of_a_lane_that_nobody_leases_any_more_is_sealed_when_its_sync_failed() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    disk.fail_nth(Call::SyncData, 1, Fault::Error(28));
    assert!(commit_states(&store, &[bytes(1, 5000)]).unwrap_err().is_no_space());
    let usage = store.usage();
    assert_eq!(
        (usage.physical_files, usage.open_files),
        (0, 0),
        "what it took is given back on a full disk: {usage:?}"
    );
}

#[test]
fn state_in_a_shared_segment_is_durable_when_its_writer_finishes_if_asked_so() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).durability(Durability::PerState).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let counts = || (disk.count(Call::SyncData), disk.count(Call::SyncDir));
    let before = counts();
    let handles = [1, 2, 3].map(|n| pending.write(Scope::Shared, &bytes(n, 5000)).unwrap());
    assert_eq!(counts(), (before.0 + 3, before.1 + 1), "one sync a state; the name is synced once");
    let after = disk.cut_power(Survival::Nothing);
    let path =
        Path::new(ROOT).join("shared").join(after.list(At::new("/state/shared".as_ref())).unwrap().remove(0).name);
    let found: Vec<_> = list_segment(after, path).unwrap().into_iter().map(|entry| entry.handle).collect();
    assert_eq!(found, handles);
}

#[test]
fn state_is_not_called_durable_once_a_directory_sync_has_failed_for_anybody() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).durability(Durability::PerState).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let mut writer = pending.writer(Scope::Shared).unwrap();
    writer.write_all(&bytes(1, 2_000_000)).unwrap();
    disk.fail_nth(Call::SyncDir, 1, Fault::Error(EIO));
    assert_eq!(pending.write(Scope::Shared, &bytes(2, 5000)).unwrap_err().raw_os_error(), Some(EIO));
    // The next sync of the same directory would seem to succeed.
    assert!(writer.finish().unwrap_err().is_poisoned());
}

#[test]
fn alignment_is_kept_and_anything_else_is_refused_before_anything_is_touched() {
    for alignment in [64, 128, 512, 4096] {
        on_every_disk(|options, root| {
            let store = options.alignment(alignment).write_buffer(4000).open(root).unwrap();
            let states: Vec<_> = (0..20).map(|n| bytes(n, 1025 + n as usize * 300)).collect();
            let checkpoint = commit_states(&store, &states).unwrap();
            let at = places(&checkpoint).into_values().flatten().map(|(offset, _)| offset).collect::<Vec<_>>();
            assert!(at.len() == 20 && at.iter().all(|offset| offset.is_multiple_of(u64::from(alignment))), "{at:?}");
            for (name, read) in read_states(&checkpoint).unwrap() {
                assert!(read == states[name.parse::<usize>().unwrap()]);
            }
        });
    }
    let dir = tempfile::tempdir().unwrap();
    let refused: [(Options, &str); 9] = [
        (Options::new().alignment(0), "alignment"),
        (Options::new().alignment(32), "32"),
        (Options::new().alignment(96), "96"),
        (Options::new().alignment(8192), "8192"),
        (Options::new().segment_size(0), "segment_size"),
        (Options::new().lanes(0), "lanes"),
        (Options::new().max_space_amplification(Some(0.99)), "0.99"),
        (Options::new().max_space_amplification(Some(f64::NAN)), "NaN"),
        (Options::new().max_space_amplification(Some(f64::INFINITY)), "inf"),
    ];
    for (options, name) in refused {
        let error = options.open(dir.path().join("s")).unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains(name), "{error}");
        assert!(!dir.path().join("s").exists());
    }
}

fn data_files(root: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(root.join("shared")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn views_of_one_segment_share_its_mapping_for_as_long_as_the_checkpoint_or_one_of_them_lives() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = commit_states(&store, &(0..50).map(|n| bytes(n, 3000)).collect::<Vec<_>>()).unwrap();
    let root = dir.path().to_str().unwrap();
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().matches(root).count();
    let mapped = |checkpoint: &piton::Checkpoint| {
        let states = checkpoint.manifest().states();
        states.map(|(_, handle)| checkpoint.read(handle).unwrap()).collect::<Vec<_>>()
    };
    let views = mapped(&first);
    assert_eq!(mappings(), 1, "fifty views");
    let again = store.checkpoint(first.id()).unwrap();
    let more = mapped(&again);
    assert_eq!(mappings(), 2, "each open checkpoint has its own");
    let second = commit_states(&store, &[bytes(50, 3000)]).unwrap();
    let grown = mapped(&second);
    assert_eq!((mappings(), data_files(dir.path()).len()), (3, 1), "the file has grown beyond the first");
    assert_eq!(*grown[0], *bytes(50, 3000));
    for (handle, view) in first.manifest().states().zip(&views) {
        assert_eq!(**view, *bytes(handle.0.parse().unwrap(), 3000));
    }
    drop((first, again));
    assert_eq!(mappings(), 3, "the views keep them");
    drop((views, more, grown));
    assert_eq!(mappings(), 1, "and so does a checkpoint");
    drop(second);
    assert_eq!(mappings(), 0);
}
