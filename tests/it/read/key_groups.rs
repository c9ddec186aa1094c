//! Key groups: which partitions hold them, and what is read of the states. What is fenced off here: a worker that gets a key
//! group of another one, a group that is missing without an error, and bytes that are read or trusted without need.

use std::{fs, io::Write, ops::Range, path::Path, thread};

use piton::{
    Checkpoint, Durability, Error, KeyGroup, KeyGroupRange, KeyGroupWriter, KeyGroups, Manifest, OperatorState,
    Options, PartitionState, PendingCheckpoint, Scope, StateHandle, Store, Verify,
    contract::{CheckpointStream, CheckpointStreamFactory},
};
use proptest::prelude::*;

use crate::support::{
    ROOT, bytes,
    hooked::{HookedDisk, set},
    memory, on_every_disk,
};

/// How many key groups there are.
const ALL: u32 = 24;

/// What a key group has in the state with this seed: of some key groups nothing.
fn content(seed: u64, group: u32) -> Vec<u8> {
    bytes(seed * 1000 + u64::from(group), (group as usize * 37 + 300) * usize::from(group % 5 != 3))
}

fn write(pending: &PendingCheckpoint, seed: u64, groups: impl IntoIterator<Item = u32>) -> StateHandle {
    let mut writer = KeyGroupWriter::new(pending.writer(Scope::Shared).unwrap());
    for group in groups {
        writer.group(group).unwrap();
        let content = content(seed, group);
        let (one, other) = content.split_at(content.len() / 3);
        writer.write_all(one).unwrap();
        writer.write_all(other).unwrap();
    }
    writer.finish().unwrap()
}

fn range(groups: &Range<u32>) -> KeyGroupRange {
    groups.clone().try_into().unwrap()
}

/// A partition of these states, oldest first.
fn partition(groups: &Range<u32>, states: &[StateHandle]) -> PartitionState {
    let mut artifacts = states.iter().cloned().map(Into::into);
    let (snapshot, deltas) = (artifacts.next(), artifacts.collect());
    PartitionState { snapshot, deltas, key_groups: Some(range(groups)), ..PartitionState::default() }
}

fn commit(pending: PendingCheckpoint, partitions: impl IntoIterator<Item = (u32, PartitionState)>) -> Checkpoint {
    let operator = OperatorState { partitions: partitions.into_iter().collect(), ..OperatorState::default() };
    pending.commit(Manifest::builder().operator("window", operator)).unwrap()
}

/// A checkpoint of an operator of one partition, with these states.
fn commit_one(store: &Store, states: &[(u64, Range<u32>)]) -> Checkpoint {
    let pending = store.begin_next().unwrap();
    let handles: Vec<_> = states.iter().map(|(seed, groups)| write(&pending, *seed, groups.clone())).collect();
    commit(pending, [(0, partition(&(0..ALL), &handles))])
}

/// Ranges of about the same length that follow each other.
fn cut(parts: u32) -> Vec<Range<u32>> {
    (0..parts).map(|n| n * ALL / parts..(n + 1) * ALL / parts).collect()
}

fn read(checkpoint: &Checkpoint, groups: Range<u32>) -> Vec<(u32, Vec<Vec<u8>>)> {
    let all = checkpoint.key_groups("window", groups).unwrap().map(Result::unwrap);
    all.map(|group| (group.number, group.pieces.iter().map(|piece| piece.to_vec()).collect())).collect()
}

/// What these key groups have in states with these seeds.
fn expected(groups: Range<u32>, seeds: &[u64]) -> Vec<(u32, Vec<Vec<u8>>)> {
    groups.map(|group| (group, seeds.iter().map(|seed| content(*seed, group)).collect())).collect()
}

fn refused(checkpoint: &Checkpoint, groups: Range<u32>) -> Error {
    checkpoint.key_groups("window", groups).unwrap_err()
}

#[test]
fn rescaled_operator_names_the_same_states_and_each_worker_gets_its_key_groups() {
    on_every_disk(|options, root| {
        let store = options.clone().segment_size(100_000).open(root).unwrap();
        let pending = store.begin_next().unwrap();
        let states = |groups: &Range<u32>| {
            let snapshot = write(&pending, 1, groups.clone());
            [snapshot, write(&pending, 2, groups.clone()), write(&pending, 3, groups.clone())]
        };
        let written: Vec<_> = cut(4).into_iter().map(|groups| (states(&groups), groups)).collect();
        let partitions: Vec<_> = written.iter().map(|(states, groups)| partition(groups, states)).collect();
        let mut checkpoint = commit(pending, cut(4).into_iter().map(|groups| groups.start).zip(partitions));
        let bytes_before = store.usage().written_bytes;
        for parallelism in [6, 2, 1, 24] {
            let pending = store.begin_next().unwrap();
            // A range goes to the states of one partition or of two: then it becomes two partitions.
            let of = |groups: &Range<u32>| -> Vec<_> {
                let inside = |old: &Range<u32>| groups.start.max(old.start)..groups.end.min(old.end);
                let parts = written.iter().map(|(states, old)| (inside(old), states));
                let parts = parts.filter(|(part, _)| !part.is_empty());
                parts.map(|(part, states)| (part.start, partition(&part, states))).collect()
            };
            checkpoint = commit(pending, cut(parallelism).iter().flat_map(of));
            for worker in cut(parallelism) {
                assert!(read(&checkpoint, worker.clone()) == expected(worker.clone(), &[1, 2, 3]), "{worker:?}");
            }
        }
        assert_eq!(store.usage().written_bytes, bytes_before, "not one byte of state");
        let last = checkpoint.id();
        drop((checkpoint, store));
        let store = options.open_read_only(root).unwrap();
        let checkpoint = store.checkpoint(last).unwrap();
        assert!(read(&checkpoint, 0..ALL) == expected(0..ALL, &[1, 2, 3]));
    });
}

#[test]
fn key_group_has_a_piece_of_each_state_that_has_it_and_the_snapshot_first() {
    let store = memory();
    let checkpoint = commit_one(&store, &[(9, 0..ALL), (2, 4..8), (5, 6..7), (1, 0..7)]);
    for (group, seeds) in [(3, vec![9, 1]), (5, vec![9, 2, 1]), (6, vec![9, 2, 5, 1]), (7, vec![9, 2]), (8, vec![9])] {
        assert!(read(&checkpoint, group..group + 1) == expected(group..group + 1, &seeds), "{group}");
    }
    // Without a snapshot.
    let pending = store.begin_next().unwrap();
    let deltas = [write(&pending, 1, 0..12), write(&pending, 2, 6..ALL)].map(Into::into);
    let deltas =
        PartitionState { deltas: deltas.into(), key_groups: Some(range(&(0..ALL))), ..PartitionState::default() };
    let checkpoint = commit(pending, [(0, deltas)]);
    assert!(read(&checkpoint, 5..7) == [expected(5..6, &[1]), expected(6..7, &[1, 2])].concat());
}

#[test]
fn every_cut_of_ranges_gives_every_worker_its_groups() {
    let store = Options::memory().durability(Durability::None).open(ROOT).unwrap();
    proptest!(ProptestConfig::with_cases(40), |(
        cuts in prop::collection::btree_set(1..ALL, 0..6),
        inline in any::<bool>(),
        asked in (0..ALL, 1..=ALL),
    )| {
        let pending = store.begin_next().unwrap();
        let bounds: Vec<_> = [0].into_iter().chain(cuts).chain([ALL]).collect();
        let ranges: Vec<_> = bounds.windows(2).map(|pair| pair[0]..pair[1]).collect();
        let state = |groups: &Range<u32>| {
            let handle = write(&pending, 1, groups.clone());
            if !inline {
                return handle;
            }
            let mut writer = KeyGroupWriter::new(Vec::new());
            for group in groups.clone() {
                writer.group(group).unwrap();
                writer.write_all(&content(1, group)).unwrap();
            }
            StateHandle::inline(&writer.into_inner().unwrap())
        };
        let partitions: Vec<_> = ranges.iter().map(|groups| (groups.start, partition(groups, &[state(groups)]))).collect();
        // A partition without key groups in between is no matter.
        let other = (ALL + 7, PartitionState::default());
        let checkpoint = commit(pending, partitions.into_iter().chain([other]));
        let asked = asked.0..asked.1;
        if asked.is_empty() {
            prop_assert!(refused(&checkpoint, asked).is_invalid());
        } else {
            prop_assert!(read(&checkpoint, asked.clone()) == expected(asked, &[1]));
        }
    });
}

#[test]
fn missing_key_groups_are_not_found_by_their_range() {
    let pending = memory().begin_next().unwrap();
    let state = write(&pending, 1, 0..ALL);
    let part = |groups: Range<u32>| (groups.start, partition(&groups, std::slice::from_ref(&state)));
    let checkpoint = commit(pending, [part(4..8), part(8..10), part(14..20)]);
    for (asked, missing) in [(0..24, "0..4"), (0..2, "0..2"), (4..20, "10..14"), (12..13, "12..13"), (16..24, "20..24")]
    {
        let error = refused(&checkpoint, asked.clone());
        let expected = format!(
            "read key groups {}..{} of operator \"window\" of checkpoint 1: no partition holds key groups {missing}",
            asked.start, asked.end
        );
        assert!(error.is_not_found() && error.to_string() == expected, "{error}");
    }
    assert!(read(&checkpoint, 5..10) == expected(5..10, &[1]));
    let error = checkpoint.key_groups("join", 0..1).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("\"join\""), "{error}");
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "it is what is refused")]
fn empty_range_is_invalid() {
    let checkpoint = commit_one(&memory(), &[(1, 0..ALL)]);
    for empty in [3..3, 5..3] {
        let error = refused(&checkpoint, empty);
        assert!(error.is_invalid() && error.to_string().contains("the range is empty"), "{error}");
    }
}

#[test]
fn partitions_that_overlap_or_have_another_number_are_invalid_and_named() {
    let store = memory();
    let built = |partitions: &[(u32, Range<u32>)]| {
        let pending = store.begin_next().unwrap();
        let state = write(&pending, 1, 0..ALL);
        let of = |(number, groups): &(u32, Range<u32>)| (*number, partition(groups, std::slice::from_ref(&state)));
        commit(pending, partitions.iter().map(of))
    };
    for (partitions, asked, named) in [
        (vec![(0, 0..9), (8, 8..12)], 9..10, ["0..9", "8..12"]),
        (vec![(0, 0..9), (8, 8..12)], 2..12, ["0..9", "8..12"]),
        (vec![(0, 0..ALL), (8, 8..12)], 8..10, ["0..24", "8..12"]),
        (vec![(0, 0..8), (9, 8..12)], 0..12, ["partition 9", "8..12"]),
        (vec![(3, 2..12)], 4..5, ["partition 3", "2..12"]),
        (vec![(2, 3..12)], 3..5, ["partition 2", "3..12"]),
    ] {
        let error = refused(&built(&partitions), asked);
        let text = error.to_string();
        assert!(error.is_invalid() && named.iter().all(|name| text.contains(name)), "{partitions:?}: {text}");
    }
    // Others are not looked at.
    assert!(read(&built(&[(0, 0..9), (8, 8..12)]), 0..7) == expected(0..7, &[1]));
}

#[test]
fn key_group_that_no_state_of_its_partition_has_is_named() {
    let store = memory();
    let checkpoint = commit_one(&store, &[(1, 0..7), (2, 8..ALL)]);
    let error = refused(&checkpoint, 2..10);
    let text = error.to_string();
    assert!(error.is_invalid(), "{text}");
    assert!(
        text.contains("partition 0 of operator \"window\" holds key group 7, which none of its states has"),
        "{text}"
    );
    assert!(read(&checkpoint, 2..7) == expected(2..7, &[1]), "others can be read");
    let checkpoint = commit(store.begin_next().unwrap(), [(3, partition(&(3..u32::MAX), &[]))]);
    assert!(refused(&checkpoint, 9..u32::MAX).to_string().contains("holds key group 9"));
}

#[test]
fn groups_are_written_in_ascending_order_and_a_refused_one_changes_nothing() {
    let store = memory();
    let pending = store.begin_next().unwrap();
    let mut writer = KeyGroupWriter::new(pending.writer(Scope::Shared).unwrap());
    let error = Error::from_writer(writer.write_all(b"too early").unwrap_err());
    assert!(error.is_invalid(), "{error}");
    writer.group(0).unwrap();
    writer.group(5).unwrap();
    writer.write_all(&content(1, 5)[..100]).unwrap();
    for group in [5, 4, 0, u32::MAX] {
        let error = writer.group(group).unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains(&format!("key group {group}:")), "{error}");
    }
    writer.write_all(&content(1, 5)[100..]).unwrap();
    writer.group(u32::MAX - 1).unwrap();
    let handle = writer.finish().unwrap();
    let checkpoint = commit(pending, [(5, partition(&(5..6), std::slice::from_ref(&handle)))]);
    assert!(read(&checkpoint, 5..6) == expected(5..6, &[1]));

    let pending = store.begin_next().unwrap();
    let mut used = pending.writer(Scope::Shared).unwrap();
    used.write_all(b"before").unwrap();
    let mut writer = KeyGroupWriter::new(used);
    writer.group(1).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("6 bytes"), "{error}");
}

#[test]
fn limit_of_the_size_of_a_state_counts_its_index() {
    let store = Options::memory().max_state_size(Some(100)).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    for (len, fits) in [(52, true), (53, false)] {
        let mut writer = KeyGroupWriter::new(pending.writer(Scope::Shared).unwrap());
        writer.group(1).unwrap();
        writer.write_all(&vec![7; len]).unwrap();
        assert_eq!(writer.finish().map_or_else(|error| !error.is_invalid(), |handle| handle.len() == 100), fits);
    }
}

#[test]
fn streams_of_tasks_can_be_split_into_key_groups() {
    let pending = memory().begin_next().unwrap();
    let stream: Box<dyn CheckpointStream> = pending.create_stream(Scope::Shared).unwrap();
    let mut writer = KeyGroupWriter::new(stream);
    for group in 0..ALL {
        writer.group(group).unwrap();
        writer.write_all(&content(1, group)).unwrap();
    }
    let handle = writer.into_inner().unwrap().finish().unwrap();
    let checkpoint = commit(pending, [(0, partition(&(0..ALL), &[handle]))]);
    assert!(read(&checkpoint, 0..ALL) == expected(0..ALL, &[1]));
}

#[test]
fn states_in_handles_are_read_like_those_in_files() {
    let store = Options::memory().inline_threshold(64 << 10).open(ROOT).unwrap();
    let checkpoint = commit_one(&store, &[(1, 0..ALL), (2, 5..6)]);
    assert!(checkpoint.manifest().all_states().all(|state| state.handle.is_inline()));
    assert!(read(&checkpoint, 0..5) == expected(0..5, &[1]) && read(&checkpoint, 5..6) == expected(5..6, &[1, 2]));
    // A few bytes, held in the handle itself, are no state of key groups.
    for none in [&b""[..], b"few", &bytes(1, 3000)] {
        let partition = partition(&(0..1), &[StateHandle::inline(none)]);
        let checkpoint = commit(store.begin_next().unwrap(), [(0, partition)]);
        let error = refused(&checkpoint, 0..1);
        assert!(error.is_invalid() && error.to_string().contains("the snapshot of partition 0"), "{error}");
    }
}

#[test]
fn state_without_an_index_is_no_damage() {
    on_every_disk(|options, root| {
        let store = options.inline_threshold(0).open(root).unwrap();
        for len in [0, 1, 23, 24, 5000] {
            let pending = store.begin_next().unwrap();
            let snapshot = write(&pending, 1, 0..ALL);
            let plain = pending.write(Scope::Shared, &bytes(1, len)).unwrap();
            let checkpoint = commit(pending, [(0, partition(&(0..ALL), &[snapshot, plain]))]);
            let error = refused(&checkpoint, 0..1);
            assert!(error.is_invalid() && error.to_string().contains("delta 1 of partition 0"), "{error}");
            assert!(store.damaged().is_empty());
        }
    });
}

/// The one segment of a store, and where in it the first state is.
fn segment(root: &Path) -> (std::path::PathBuf, Vec<u8>) {
    let mut files = fs::read_dir(root.join("shared")).unwrap();
    let path = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

/// Where a key group begins in the file of the first state.
fn place_of(group: u32) -> usize {
    64 + (0..group).map(|group| content(1, group).len()).sum::<usize>()
}

#[test]
fn damage_is_found_in_the_asked_groups_and_in_the_index_alone() {
    let (before, after) = (place_of(5) - 1, place_of(9));
    let end = place_of(ALL);
    for (at, asked_is_whole) in [
        (before, true),
        (place_of(5), false),
        (place_of(7) + 10, false),
        (after - 1, false),
        (after, true),
        (end + 3 * 24 + 4, false),
        (end + 24 * 24 + 3, false),
        (end + 24 * 24 + 12, false),
        (end + 25 * 24 + 12, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let checkpoint = commit_one(&store, &[(1, 0..ALL)]);
        let (path, mut damaged) = segment(dir.path());
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        let groups = checkpoint.key_groups("window", 5..9).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        if asked_is_whole {
            assert_eq!(groups.map_err(|error| format!("{at}: {error}")).unwrap().len(), 4);
            assert!(store.damaged().is_empty());
            continue;
        }
        let error = groups.unwrap_err();
        assert!(error.is_corrupt() && error.path() == Some(&path), "{at}: {error}");
        let offset = error.offset().unwrap();
        assert!(offset.abs_diff(at as u64) < 1000, "{at}: {error}");
        assert_eq!(store.damaged().len(), 1, "the store knows of it");
        assert!(store.latest().unwrap_err().is_corrupt());
    }
}

#[test]
fn damaged_group_is_passed_over_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let checkpoint = commit_one(&store, &[(1, 0..ALL)]);
    let (path, mut damaged) = segment(dir.path());
    damaged[place_of(6) + 1] ^= 1;
    fs::write(&path, damaged).unwrap();
    let mut groups = checkpoint.key_groups("window", 4..9).unwrap();
    let mut read = Vec::new();
    for (group, number) in groups.by_ref().zip(4..) {
        match group {
            Ok(group) => read.push(group.number),
            Err(error) => assert!(error.is_corrupt() && number == 6, "{number}: {error}"),
        }
    }
    assert_eq!(read, [4, 5, 7, 8]);
    let len = |group| content(1, group).len() as u64;
    assert_eq!((groups.bytes(), groups.all_bytes() - groups.bytes()), ([4, 5, 7, 8].map(len).iter().sum(), len(6)));
}

#[test]
fn groups_are_not_compared_where_nothing_is_verified_or_the_whole_state_was() {
    for (verify, verified) in [(Verify::Never, false), (Verify::FirstUse, true)] {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new().verify(verify).open(dir.path()).unwrap();
        let checkpoint = commit_one(&store, &[(1, 0..ALL)]);
        if verified {
            checkpoint.verify().unwrap();
        }
        let (path, mut damaged) = segment(dir.path());
        damaged[place_of(6)] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert_ne!(read(&checkpoint, 6..7), expected(6..7, &[1]));
    }
}

/// The file that is mapped is cut by another process: an access behind its end would raise SIGBUS.
#[test]
fn file_that_was_cut_is_damage_of_the_groups_behind_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let pending = store.begin_next().unwrap();
    let large = |group: u32| bytes(group.into(), 100_000);
    let mut writer = KeyGroupWriter::new(pending.writer(Scope::Shared).unwrap());
    for group in 0..ALL {
        writer.group(group).unwrap();
        writer.write_all(&large(group)).unwrap();
    }
    let handle = writer.finish().unwrap();
    let checkpoint = commit(pending, [(0, partition(&(0..ALL), &[handle]))]);
    let mut groups = checkpoint.key_groups("window", 0..ALL).unwrap();
    assert!(*groups.next().unwrap().unwrap().pieces[0] == *large(0));
    let (path, _) = segment(dir.path());
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(64 + 1_050_000).unwrap();
    thread::sleep(std::time::Duration::from_millis(20));
    let mut whole = 1;
    for (group, number) in groups.zip(1..) {
        match group {
            Ok(group) => {
                assert!(*group.pieces[0] == *large(number));
                whole += 1;
            }
            Err(error) => assert!(error.is_corrupt() && error.path() == Some(&path), "{error}"),
        }
    }
    assert_eq!(whole, 10);
    assert!(refused(&checkpoint, 0..1).is_corrupt(), "the index is gone");
}

#[test]
fn wrong_bytes_are_damage_only_if_a_second_look_finds_them_again() {
    for maps_lazily in [false, true] {
        let disk = HookedDisk { maps_lazily, ..HookedDisk::new() };
        let store = disk.open();
        let checkpoint = commit_one(&store, &[(1, 0..ALL)]);
        // The index is read first.
        set(&disk.garble_a_read, || ());
        let groups = checkpoint.key_groups("window", 5..7).unwrap();
        set(&disk.garble_a_read, || ());
        let groups = groups.map(|group| group.unwrap().pieces[0].to_vec());
        assert!(groups.eq([5, 6].map(|group| content(1, group))));
        assert!(store.damaged().is_empty());
        assert!(maps_lazily || disk.garble_a_read.lock().unwrap().is_none(), "it was garbled");
    }
}

#[test]
fn bad_sector_in_other_groups_harms_nothing() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let checkpoint = commit_one(&store, &[(1, 0..ALL)]);
    let segment = format!("{:08}-{:03}-{:010}.seg", 1, 1, 1).into();
    let bad = place_of(10) as u64..place_of(11) as u64;
    *disk.unreadable.lock().unwrap() = Some((segment, (bad, 5)));
    assert!(read(&checkpoint, 0..10) == expected(0..10, &[1]) && read(&checkpoint, 11..ALL) == expected(11..ALL, &[1]));
    let error = checkpoint.key_groups("window", 9..12).unwrap().collect::<Result<Vec<KeyGroup>, _>>().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
}

#[test]
fn bytes_are_counted_and_nothing_but_the_groups_and_the_index_is_read() {
    let disk = HookedDisk::new();
    let store = disk.open();
    let checkpoint = commit_one(&store, &[(1, 0..ALL), (2, 6..ALL)]);
    disk.touched.lock().unwrap().clear();
    let mut groups = checkpoint.key_groups("window", 5..9).unwrap();
    assert_eq!((groups.len(), groups.bytes()), (4, 0));
    let lens =
        [(1, 5..9), (2, 6..9)].map(|(seed, groups)| groups.map(|group| content(seed, group).len()).sum::<usize>());
    let len = lens.iter().sum::<usize>() as u64;
    assert_eq!(groups.all_bytes(), len);
    assert_eq!(groups.by_ref().map(|group| group.unwrap().pieces.len()).collect::<Vec<_>>(), [1, 2, 2, 2]);
    assert_eq!((groups.len(), groups.bytes()), (0, len));
    let first = place_of(5)..place_of(9);
    let touched = disk.touched.lock().unwrap().clone();
    let in_payload: Vec<_> =
        touched.iter().filter(|part| part.start >= 64 && part.end <= place_of(ALL) as u64).collect();
    assert!(!in_payload.is_empty(), "{touched:?}");
    for part in &in_payload {
        assert!(first.start as u64 <= part.start && part.end <= first.end as u64, "{part:?} is not in {first:?}");
    }
    // Each byte is read once to compare it, and mapped once; beside that there are headers, indexes and trailers.
    let all: u64 = touched.iter().map(|part| part.end - part.start).sum();
    assert!(all <= 2 * len + 2 * (24 * u64::from(ALL) + 24 + 48) + 64 * 20, "{all} bytes for {len}");
}

#[test]
fn threads_read_ranges_of_their_own_at_once() {
    fn is_send<T: Send>(_: &T) {}
    on_every_disk(|options, root| {
        let store = options.open(root).unwrap();
        let checkpoint = commit_one(&store, &[(1, 0..ALL), (2, 0..ALL)]);
        thread::scope(|scope| {
            for worker in cut(4) {
                let groups: KeyGroups = checkpoint.key_groups("window", worker.clone()).unwrap();
                is_send(&groups);
                scope.spawn(move || {
                    let read = groups.map(Result::unwrap).map(|KeyGroup { number, pieces }| {
                        (number, pieces.iter().map(|piece| piece.to_vec()).collect())
                    });
                    assert!(read.collect::<Vec<_>>() == expected(worker, &[1, 2]));
                });
            }
        });
    });
}

#[test]
fn groups_outlive_their_checkpoint() {
    on_every_disk(|options, root| {
        let store = options.open(root).unwrap();
        let checkpoint = commit_one(&store, &[(1, 0..ALL)]);
        let mut groups = checkpoint.key_groups("window", 1..3).unwrap();
        let first = groups.next().unwrap().unwrap();
        let _ = store.forget(checkpoint.id()).unwrap();
        drop(checkpoint);
        assert!(*groups.next().unwrap().unwrap().pieces[0] == *content(1, 2));
        drop(groups);
        assert!(*first.pieces[0] == *content(1, 1), "a view keeps it, too");
    });
}
