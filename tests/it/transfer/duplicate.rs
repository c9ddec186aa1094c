//! States with the bytes of others, in a scope of their own.

use piton::{
    Manifest, Scope, StateHandle, Validation,
    testing::{Call, Fault, SimDisk, Survival},
};

use super::{
    EIO, REFUSALS, assert_whole, commit_all_kinds, content, go_on, handles, longest, names, options, refuse, refuse_all,
};
use crate::support::{ROOT, bytes, on_every_disk, read_states};

/// Commits a checkpoint with these states under their positions.
fn commit(pending: piton::PendingCheckpoint, states: &[StateHandle]) -> piton::Checkpoint {
    let manifest = states.iter().enumerate().fold(Manifest::builder().timestamp_ms(1), |manifest, (n, handle)| {
        manifest.state(n.to_string(), handle.clone())
    });
    pending.commit(manifest).unwrap()
}

#[test]
fn duplicates_have_the_bytes_of_their_originals_and_live_apart_from_them() {
    on_every_disk(|options, root| {
        let options = options.inline_threshold(64).segment_size(20_000);
        let store = options.clone().open(root).unwrap();
        let first = commit_all_kinds(&store, 1).unwrap();
        let expected = content(&first).1;
        let old = handles(&first);
        for scope in [Scope::Exclusive, Scope::Shared] {
            let pending = store.begin_next().unwrap();
            let new = pending.duplicate(&old, scope).unwrap();
            for (old, new) in old.iter().zip(&new) {
                assert_eq!((old.len(), old.crc32(), old.is_inline()), (new.len(), new.crc32(), new.is_inline()));
                assert!(new.is_inline() || new != old && new.scope() == Some(scope), "{new}");
            }
            commit(pending, &new);
        }
        drop(first);
        let _ = store.forget(super::id(1)).unwrap();
        let _ = store.forget(super::id(2)).unwrap();
        assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap(), expected);
        store.close().unwrap();
        let store = options.open(root).unwrap();
        assert_whole(&store);
        assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap(), expected);
        assert!(store.open_report().removed.is_empty() && store.open_report().damaged.is_empty());
    });
}

#[test]
fn one_link_carries_a_segment_in_however_many_calls_and_duplicates_keep_their_order() {
    let disk = SimDisk::new();
    let store = piton::Options::new().disk(disk.clone()).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let states: Vec<_> = (0..500).map(|n| pending.write(Scope::Shared, &bytes(n, 4096)).unwrap()).collect();
    commit(pending, &states);
    let pending = store.begin_next().unwrap();
    let asked: Vec<_> = (0..500).map(|n| pending.can_fast_duplicate(&states[n], Scope::Exclusive)).collect();
    assert!(asked.into_iter().all(|can| can) && disk.count(Call::Link) == 0, "asking links nothing");
    let mut shuffled = states.clone();
    shuffled.reverse();
    shuffled.extend(states[..3].to_vec());
    let (some, others) = shuffled.split_at(100);
    let mut new = pending.duplicate(some, Scope::Exclusive).unwrap();
    new.extend(pending.duplicate(others, Scope::Exclusive).unwrap());
    assert_eq!(disk.count(Call::Link), 1);
    assert_eq!(disk.count(Call::Reflink) + disk.count(Call::CopyRanges), 0);
    for (old, new) in shuffled.iter().zip(&new) {
        assert_eq!((old.len(), old.crc32()), (new.len(), new.crc32()));
    }
    assert_eq!(pending.duplicate(&[], Scope::Shared).unwrap(), []);
    let checkpoint = commit(pending, &new);
    let read = |n: usize| checkpoint.read(&new[n]).unwrap().to_vec();
    assert_eq!((read(0), read(499), read(502)), (bytes(499, 4096), bytes(0, 4096), bytes(2, 4096)));
}

#[test]
fn nothing_is_appended_to_what_was_linked() {
    let disk = SimDisk::new();
    let store = options(&disk).open(ROOT).unwrap();
    let first = commit_all_kinds(&store, 1).unwrap();
    let pending = store.begin_next().unwrap();
    let new = pending.duplicate(&handles(&first), Scope::Exclusive).unwrap();
    let before = super::files(&disk, ROOT.as_ref());
    let more: Vec<_> = (0..20).map(|n| pending.write(Scope::Shared, &bytes(n, 300)).unwrap()).collect();
    commit(pending, &[new, more].concat());
    let after = super::files(&disk, ROOT.as_ref());
    for (path, bytes) in before.iter().filter(|(path, _)| path.extension().is_some_and(|found| found == "seg")) {
        assert_eq!(after.get(path), Some(bytes), "{}", path.display());
    }
}

#[test]
fn state_of_the_same_checkpoint_is_durable_as_a_duplicate_alone() {
    for survival in [Survival::Nothing, Survival::Random(3), Survival::Everything] {
        let disk = SimDisk::new();
        let store = options(&disk).open(ROOT).unwrap();
        let pending = store.begin_next().unwrap();
        let shared = [300, 5000, 60_000].map(|len| pending.write(Scope::Shared, &bytes(7, len)).unwrap());
        let own = pending.duplicate(&shared, Scope::Exclusive).unwrap();
        commit(pending, &own);
        let disk = disk.cut_power(survival);
        let store = options(&disk).open(ROOT).unwrap();
        assert_eq!(store.checkpoint_ids().len(), 1);
        assert_whole(&store);
        assert!(names(&disk, ROOT.as_ref()).iter().all(|name| !name.starts_with("shared")), "originals were removed");
    }
}

#[test]
fn without_links_bytes_are_shared_and_without_that_copied() {
    for code in REFUSALS {
        for refused in [&[Call::Link][..], &[Call::Link, Call::Reflink], &[Call::Link, Call::Reflink, Call::CopyRanges]]
        {
            let disk = SimDisk::new();
            let store = options(&disk).open(ROOT).unwrap();
            let first = commit_all_kinds(&store, 1).unwrap();
            let expected = content(&first).1;
            refuse_all(&disk, refused, code);
            let pending = store.begin_next().unwrap();
            let old = handles(&first);
            let mut new = pending.duplicate(&old[..4], Scope::Exclusive).unwrap();
            new.extend(pending.duplicate(&old[4..], Scope::Exclusive).unwrap());
            let told = refused.len() > 1;
            assert_eq!(!pending.can_fast_duplicate(&old[5], Scope::Exclusive), told, "what copying has shown is known");
            let second = commit(pending, &new);
            assert_eq!(content(&second).1, expected, "{code} of {refused:?}");
            drop((first, second));
            let _ = store.prune(1).unwrap();
            store.close().unwrap();
            let store = options(&disk.cut_power(Survival::Nothing)).open(ROOT).unwrap();
            assert_whole(&store);
            assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap(), expected);
        }
    }
}

#[test]
fn any_other_error_of_a_link_is_the_callers() {
    for (calls, last) in [
        (&[][..], Call::Link),
        (&[Call::Link][..], Call::Reflink),
        (&[Call::Link, Call::Reflink][..], Call::CopyRanges),
    ] {
        for code in [EIO, 28, 13, 30] {
            let disk = SimDisk::new();
            let store = options(&disk).open(ROOT).unwrap();
            let first = commit_all_kinds(&store, 1).unwrap();
            refuse_all(&disk, calls, REFUSALS[0]);
            disk.fail_nth(last, 1, Fault::Error(code));
            let pending = store.begin_next().unwrap();
            let error = pending.duplicate(&handles(&first), Scope::Exclusive).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(code), "{error}");
            assert!(error.path().is_some());
            let before = names(&disk, ROOT.as_ref()).len();
            drop(pending);
            assert!(names(&disk, ROOT.as_ref()).len() <= before);
            assert_eq!(go_on(&store, 1, 9).unwrap().id().get(), 3, "the store goes on");
        }
    }
}

#[test]
fn what_is_abandoned_leaves_nothing() {
    let disk = SimDisk::new();
    let store = options(&disk).open(ROOT).unwrap();
    let first = commit_all_kinds(&store, 1).unwrap();
    let before = names(&disk, ROOT.as_ref());
    let usage = store.usage();
    let pending = store.begin_next().unwrap();
    pending.duplicate(&handles(&first), Scope::Exclusive).unwrap();
    assert!(store.usage().logical_files > usage.logical_files && names(&disk, ROOT.as_ref()).len() > before.len());
    drop(pending);
    assert_eq!(names(&disk, ROOT.as_ref()), before);
    assert_eq!(store.usage().logical_files, usage.logical_files);
    assert!(store.cleanup_orphans(true).unwrap().files.is_empty());
}

#[test]
fn state_that_is_gone_or_not_ours_is_refused_by_name() {
    let disk = SimDisk::new();
    let store = options(&disk).open(ROOT).unwrap();
    commit_all_kinds(&store, 1).unwrap();
    let gone: StateHandle = format!("shared:{}:1.0.99@64+4096#1a2b3c4d", store.id()).parse().unwrap();
    let pending = store.begin_next().unwrap();
    let error = pending.duplicate(std::slice::from_ref(&gone), Scope::Exclusive).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains(&gone.to_string()), "{error}");
    assert!(!pending.can_fast_duplicate(&gone, Scope::Exclusive));
    let tiny = pending.write(Scope::Shared, b"tiny").unwrap();
    assert!(!pending.can_fast_duplicate(&tiny, Scope::Exclusive), "there is nothing to link");
}

#[test]
fn damage_is_not_copied_and_names_the_original() {
    let disk = SimDisk::new();
    let store = options(&disk).open(ROOT).unwrap();
    let first = commit_all_kinds(&store, 1).unwrap();
    let handle = first.manifest().state("6").unwrap().clone();
    let path = longest(&disk, ROOT.as_ref());
    disk.damage(&path, |bytes| bytes[40_000] ^= 1).unwrap();
    refuse(&disk, Call::Link, REFUSALS[0]);
    refuse(&disk, Call::Reflink, REFUSALS[0]);
    let pending = store.begin_next().unwrap();
    let error = pending.duplicate(&[handle], Scope::Exclusive).unwrap_err();
    assert!(error.is_corrupt() && error.path() == Some(path.as_path()), "{error}");
}

#[test]
fn many_threads_duplicate_while_others_write_to_the_same_lanes() {
    let disk = SimDisk::new();
    let store = options(&disk).lanes(2).open(ROOT).unwrap();
    for round in 0..20 {
        let pending = store.begin_next().unwrap();
        let states = std::thread::scope(|scope| {
            let pending = &pending;
            let write = move |n: u64| {
                let handle = pending.write(Scope::Shared, &bytes(round * 100 + n, 900)).unwrap();
                let new = pending.duplicate(std::slice::from_ref(&handle), Scope::Exclusive).unwrap().remove(0);
                [handle, new]
            };
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || write(n))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let checkpoint = commit(pending, &states);
        assert!(store.validate(checkpoint.id(), Validation::Full).unwrap().is_valid());
    }
    let _ = store.prune(1).unwrap();
    store.close().unwrap();
    let store = options(&disk.kill()).open(ROOT).unwrap();
    assert!(store.open_report().removed.is_empty());
    assert_whole(&store);
}

#[test]
fn duplicate_is_durable_at_once_if_every_state_is_to_be() {
    let disk = SimDisk::new();
    let store = options(&disk).durability(piton::Durability::PerState).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let shared = pending.write(Scope::Shared, &bytes(7, 5000)).unwrap();
    pending.duplicate(&[shared], Scope::Exclusive).unwrap();
    let disk = disk.cut_power(Survival::Nothing);
    let there = names(&disk, ROOT.as_ref());
    assert!(there.len() == 2 && there.iter().any(|name| name.starts_with("exclusive")), "{there:?}");
}

#[test]
fn state_that_is_known_to_be_damaged_is_not_duplicated() {
    let disk = SimDisk::new();
    let store = options(&disk).open(ROOT).unwrap();
    let first = commit_all_kinds(&store, 1).unwrap();
    let handle = first.manifest().state("6").unwrap().clone();
    let path = longest(&disk, ROOT.as_ref());
    disk.damage(&path, |bytes| bytes[40_000] ^= 1).unwrap();
    first.read(&handle).unwrap_err();
    let pending = store.begin_next().unwrap();
    assert!(!pending.can_fast_duplicate(&handle, Scope::Exclusive));
    let error = pending.duplicate(&[handle], Scope::Exclusive).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("damaged"), "{error}");
    assert_eq!(disk.count(Call::Link), 0);
}
