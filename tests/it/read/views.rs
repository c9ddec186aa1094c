//! Views of many states: what is kept of a file, in which order all states come, and what `verify` finds. What is fenced off
//! here: bytes that were never compared, a verified state that costs a call, and an order that jumps on the medium.

use std::{collections::BTreeMap, fs, io::Read, path::Path, thread, time::Duration};

use piton::{
    Artifact, Checkpoint, Digest, Durability, Manifest, Merging, OperatorState, Options, PartitionState, Scope,
    StateHandle, StateName, Store, Verify, Views, observe::Task,
};

use crate::support::{allocations, bytes, commit_states, on_every_disk, told_to};

/// Small segments: every one has a few states.
fn options() -> Options {
    Options::new().segment_size(20_000).inline_threshold(100)
}

fn segments(root: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(root.join("shared")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn verified_state_is_given_out_again_without_a_call_or_an_allocation() {
    let dir = tempfile::tempdir().unwrap();
    let store = options().open(dir.path()).unwrap();
    let checkpoint = commit_states(&store, &(0..20).map(|n| bytes(n, 5000)).collect::<Vec<_>>()).unwrap();
    let first = checkpoint.manifest().state("0").unwrap().clone();
    let open = || {
        let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        open.filter(|file| file.starts_with(dir.path().join("shared"))).count()
    };
    let before = open();
    let view = checkpoint.read(&first).unwrap();
    assert_eq!(open(), before, "what is mapped is closed");
    // Whoever looked for the file would find nothing.
    let files = segments(dir.path());
    assert!(files.len() > 2);
    for file in &files {
        fs::remove_file(file).unwrap();
    }
    let allocated = allocations::during(|| {
        for _ in 0..100 {
            assert!(*checkpoint.read(&first).unwrap() == *view);
        }
    });
    assert_eq!(allocated, 0);
    assert!(checkpoint.get("19").unwrap_err().is_corrupt());
    assert!(*view == *bytes(0, 5000));
}

#[test]
fn what_is_known_of_a_state_says_nothing_of_others_that_claim_its_place() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [ours, theirs] = [&dir, &other].map(|dir| {
        let store = Store::open(dir.path()).unwrap();
        commit_states(&store, &[bytes(1, 5000)]).unwrap()
    });
    let [ours_handle, theirs_handle] = [&ours, &theirs].map(|checkpoint| checkpoint.manifest().state("0").unwrap());
    assert_eq!(ours.read(ours_handle).unwrap().len(), 5000);
    assert!(ours.read(theirs_handle).unwrap_err().is_invalid());
    for (from, to) in [("+5000#", "+4000#"), ("+5000#", "+50000#"), ("#", "#0")] {
        let mut text = ours_handle.to_string().replace(from, to);
        if to == "#0" {
            text.pop();
        }
        let Ok(forged) = text.parse::<StateHandle>() else { panic!("{text}") };
        assert!(forged != *ours_handle);
        assert!(ours.read(&forged).unwrap_err().is_not_found(), "{forged}");
    }
}

#[test]
fn trailer_of_another_state_is_damage_also_where_the_file_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let checkpoint = commit_states(&store, &[bytes(1, 5000), bytes(2, 5000)]).unwrap();
    let file = segments(dir.path()).remove(0);
    let mut damaged = fs::read(&file).unwrap();
    damaged[64 + 5000 + 10] ^= 1;
    fs::write(&file, damaged).unwrap();
    let error = checkpoint.get("0").unwrap_err();
    assert!(error.is_corrupt() && error.path() == Some(&file), "{error}");
    assert_eq!(*checkpoint.get("1").unwrap(), *bytes(2, 5000));
}

#[test]
fn second_look_is_at_the_file_that_has_the_name_now() {
    for mapped in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let checkpoint = commit_states(&store, &[bytes(1, 5000), bytes(2, 5000)]).unwrap();
        let read = |name: &str| {
            let handle = checkpoint.manifest().state(name).unwrap();
            if mapped {
                return checkpoint.read(handle).map(|view| view.to_vec());
            }
            let mut bytes = Vec::new();
            checkpoint.reader(handle)?.read_to_end(&mut bytes).unwrap();
            Ok(bytes)
        };
        assert_eq!(read("0").unwrap(), bytes(1, 5000));
        // Somebody restores the file from a copy, and the one that was there goes bad.
        let file = segments(dir.path()).remove(0);
        let restored = dir.path().join("restored");
        fs::copy(&file, &restored).unwrap();
        let mut damaged = fs::read(&file).unwrap();
        damaged[64 + 5000 + 1000] ^= 1;
        fs::write(&file, damaged).unwrap();
        fs::rename(&restored, &file).unwrap();
        assert_eq!(read("1").unwrap(), bytes(2, 5000), "mapped: {mapped}");
        assert!(store.damaged().is_empty());
    }
}

/// Another process cuts a mapped file. An access behind the end would raise SIGBUS.
#[test]
fn what_was_read_ahead_some_time_ago_is_read_again_before_a_look_at_it() {
    let cut = |dir: &Path| {
        let file = segments(dir).remove(0);
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(5200).unwrap();
    };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let states: Vec<_> = (0..10).map(|n| bytes(n, 5000)).collect();
    let checkpoint = commit_states(&store, &states).unwrap();
    checkpoint.verify().unwrap();
    cut(dir.path());
    assert!(checkpoint.verify().unwrap_err().is_corrupt());

    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let checkpoint = commit_states(&store, &states).unwrap();
    for name in ["0", "1"] {
        checkpoint.get(name).unwrap();
    }
    cut(dir.path());
    thread::sleep(Duration::from_millis(20));
    assert!(checkpoint.get("2").unwrap_err().is_corrupt());
    assert_eq!(*checkpoint.get("0").unwrap(), *states[0]);
}

#[test]
fn bytes_that_are_given_out_are_those_of_the_file_that_was_verified() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let states: Vec<_> = (0..3).map(|n| bytes(n, 5000)).collect();
    let checkpoint = commit_states(&store, &states).unwrap();
    assert_eq!(*checkpoint.get("0").unwrap(), *states[0]);
    // An administrator restores the file from a copy. The old file, which is mapped, is cut.
    let file = segments(dir.path()).remove(0);
    let (old, restored) = (fs::OpenOptions::new().write(true).open(&file).unwrap(), dir.path().join("restored"));
    fs::copy(&file, &restored).unwrap();
    fs::rename(&restored, &file).unwrap();
    old.set_len(5200).unwrap();
    thread::sleep(Duration::from_millis(20));
    let mut read = Vec::new();
    checkpoint.reader(checkpoint.manifest().state("1").unwrap()).unwrap().read_to_end(&mut read).unwrap();
    assert!(read == states[1]);
    for _ in 0..2 {
        for name in ["1", "2"] {
            assert!(*checkpoint.get(name).unwrap() == *states[name.parse::<usize>().unwrap()]);
        }
        checkpoint.verify().unwrap();
    }
}

/// The operating system allows some 65,000 mappings.
#[test]
fn no_more_files_stay_mapped_than_there_is_room_for_and_the_others_are_read_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().merging(Merging::Off).durability(Durability::None).inline_threshold(0);
    let store = options.open(dir.path()).unwrap();
    let pending = store.begin_next().unwrap();
    let write = |n: u64| (n.to_string(), pending.write(Scope::Shared, &n.to_le_bytes()).unwrap());
    let states: Vec<_> = (0..(1 << 14) + 500).map(write).collect();
    let named = states.iter().cloned();
    let manifest = named.fold(Manifest::builder(), |manifest, (name, state)| manifest.state(name, state));
    let checkpoint = pending.commit(manifest).unwrap();
    for _ in 0..2 {
        for (state, view) in checkpoint.views() {
            let StateName::Named(name) = state.name else { panic!("{}", state.name) };
            assert_eq!(*view.unwrap(), name.parse::<u64>().unwrap().to_le_bytes());
        }
        let root = dir.path().to_str().unwrap();
        assert_eq!(fs::read_to_string("/proc/self/maps").unwrap().matches(root).count(), 1 << 14);
    }
}

/// A state of each kind and size, and two names of the same bytes.
fn commit_all(store: &Store) -> Checkpoint {
    let pending = store.begin_next().unwrap();
    let write = |seed: u64| pending.write(Scope::Shared, &bytes(seed, 3000)).unwrap();
    let [last, sidecar, snapshot, delta, timers] = [5, 4, 3, 2, 1].map(write);
    let own = pending.write(Scope::Exclusive, &bytes(6, 50_000)).unwrap();
    let inline = pending.write(Scope::Shared, &bytes(7, 50)).unwrap();
    let digest = Digest::of(&bytes(3, 3000));
    let partition = PartitionState {
        snapshot: Some(Artifact { handle: snapshot, digest: Some(digest) }),
        deltas: vec![delta.into()],
        states: [("timers".to_owned(), timers)].into(),
        ..PartitionState::default()
    };
    let operator = OperatorState { partitions: [(3, partition)].into(), ..OperatorState::default() };
    let manifest = Manifest::builder().state("z", last.clone()).state("a", inline).state("b", own).state("y", last);
    pending.commit(manifest.operator("window", operator).sidecar(sidecar)).unwrap()
}

#[test]
fn views_come_in_the_order_of_the_medium_and_every_name_has_its_turn() {
    on_every_disk(|options, root| {
        let store = options.segment_size(20_000).write_buffer(10_000).inline_threshold(100).open(root).unwrap();
        let checkpoint = commit_all(&store);
        let seeds: BTreeMap<_, _> = [
            (StateName::Named("a"), 7),
            (StateName::Named("b"), 6),
            (StateName::Named("y"), 5),
            (StateName::Named("z"), 5),
            (StateName::Sidecar, 4),
            (StateName::Snapshot("window", 3), 3),
            (StateName::Delta("window", 3, 1), 2),
            (StateName::Partition("window", 3, "timers"), 1),
        ]
        .into();
        let mut seen = Vec::new();
        for (state, view) in checkpoint.views() {
            let view = view.unwrap();
            assert!(*view == *bytes(seeds[&state.name], view.len()), "{}", state.name);
            seen.push(seeds[&state.name]);
        }
        assert_eq!(seen.len(), 8);
        let in_one_file: Vec<_> = seen.iter().copied().filter(|seed| *seed < 6).collect();
        assert_eq!(in_one_file, [5, 5, 4, 3, 2, 1], "they were written in this order");
        assert_eq!(seen[0], 7, "what needs no file comes first");
        checkpoint.verify().unwrap();
    });
}

#[test]
fn parts_of_views_have_every_state_once_in_order_and_about_as_many_bytes() {
    on_every_disk(|options, root| {
        let store = options.segment_size(200_000).inline_threshold(100).open(root).unwrap();
        let lens = (0..300).map(|n| if n % 50 == 0 { 60_000 } else { n * 7 % 3000 });
        let states: Vec<_> = (0..).zip(lens).map(|(seed, len)| bytes(seed, len)).collect();
        let checkpoint = commit_states(&store, &states).unwrap();
        let whole: Vec<_> = checkpoint.views().map(|(state, _)| state.name).collect();
        let all: usize = states.iter().map(Vec::len).sum();
        for parts in [0, 1, 2, 3, 7, 1000] {
            let split = checkpoint.views().split(parts);
            assert_eq!(split.len(), parts.max(1));
            let seen: Vec<Vec<_>> = thread::scope(|scope| {
                let threads = split.into_iter().map(|part| {
                    scope.spawn(move || part.map(|(state, view)| (state.name, view.unwrap().to_vec())).collect())
                });
                threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            for part in &seen {
                let len: usize = part.iter().map(|(_, bytes)| bytes.len()).sum();
                assert!(len <= all / parts.max(1) + 60_000 + 300 * 256, "{len} of {all} bytes in one of {parts} parts");
            }
            let seen: Vec<_> = seen.into_iter().flatten().collect();
            assert_eq!(seen.iter().map(|(name, _)| *name).collect::<Vec<_>>(), whole);
            for (name, bytes) in seen {
                let StateName::Named(name) = name else { panic!("{name}") };
                assert!(bytes == states[name.parse::<usize>().unwrap()]);
            }
        }
        let mut views = checkpoint.views();
        assert_eq!(views.len(), 300);
        views.nth(199);
        assert_eq!(views.split(4).iter().map(Views::len).sum::<usize>(), 100, "what is left");
    });
}

#[test]
fn damaged_state_is_found_by_verify_whatever_was_looked_at_before_and_the_others_are_still_there() {
    for verify in [Verify::FirstUse, Verify::Never] {
        let dir = tempfile::tempdir().unwrap();
        let store = options().verify(verify).open(dir.path()).unwrap();
        let checkpoint = commit_states(&store, &(0..20).map(|n| bytes(n, 5000)).collect::<Vec<_>>()).unwrap();
        checkpoint.verify().unwrap();
        let file = segments(dir.path()).swap_remove(2);
        let mut damaged = fs::read(&file).unwrap();
        damaged[64 + 100] ^= 1;
        fs::write(&file, damaged).unwrap();
        let error = checkpoint.verify().unwrap_err();
        assert!(error.is_corrupt() && error.path() == Some(&file), "{error}");
        assert_eq!(store.damaged().len(), 1);
        let wrong = checkpoint.views().filter(|(state, view)| {
            let StateName::Named(name) = state.name else { panic!("{}", state.name) };
            view.as_ref().is_ok_and(|view| **view != *bytes(name.parse().unwrap(), 5000))
        });
        assert!(wrong.count() <= 1, "the others are whole");
    }
}

#[test]
fn state_with_another_digest_than_its_artifact_is_found_by_verify() {
    on_every_disk(|options, root| {
        let store = options.open(root).unwrap();
        let pending = store.begin_next().unwrap();
        let handle = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
        let wrong = Artifact { handle, digest: Some(Digest::of(b"something else")) };
        let partition = PartitionState { snapshot: Some(wrong), ..PartitionState::default() };
        let checkpoint = pending.commit(Manifest::builder().partition("window", 1, partition)).unwrap();
        assert!(checkpoint.verify().unwrap_err().is_corrupt());
    });
}

#[test]
fn progress_of_verify_only_grows_and_ends_with_all() {
    on_every_disk(|options, root| {
        let (told, options) = told_to(options);
        let store = options.segment_size(4 << 20).open(root).unwrap();
        let checkpoint = commit_states(&store, &(0..30).map(|n| bytes(n, 500_000)).collect::<Vec<_>>()).unwrap();
        checkpoint.verify().unwrap();
        let told = told.of(Task::Verify);
        assert!(told.len() >= 3 && told.is_sorted_by_key(|progress| (progress.items, progress.bytes)), "{told:?}");
        let last = told.last().unwrap();
        assert_eq!((last.items, last.bytes), (30, 15_000_000));
        assert!(told.iter().all(|progress| (progress.all_items, progress.all_bytes) == (30, 15_000_000)));
    });
    let (told, options) = told_to(Options::memory());
    let nothing = commit_states(&options.open("state").unwrap(), &[]).unwrap();
    nothing.verify().unwrap();
    assert_eq!(told.of(Task::Verify).len(), 1);
}

#[test]
fn threads_that_read_a_checkpoint_at_once_for_the_first_time_all_see_what_was_written() {
    on_every_disk(|options, root| {
        let store = options.segment_size(40_000).open(root).unwrap();
        let id = commit_states(&store, &(0..200).map(|n| bytes(n, 3000)).collect::<Vec<_>>()).unwrap().id();
        for _ in 0..5 {
            let checkpoint = store.checkpoint(id).unwrap();
            thread::scope(|scope| {
                for thread in 0..4_u64 {
                    let checkpoint = &checkpoint;
                    scope.spawn(move || {
                        for n in 0..200 {
                            // Each goes another way through the files.
                            let n = (n * (2 * thread + 1) + thread * 50) % 200;
                            assert!(*checkpoint.get(&n.to_string()).unwrap() == *bytes(n, 3000));
                        }
                    });
                }
            });
        }
    });
}
