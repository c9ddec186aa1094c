//! One checkpoint as a store of its own.

use std::{fs, path::Path};

use piton::{
    Durability, Manifest, Merging, Options, Scope, Store, Validation, Way,
    disk::{At, Disk, OsDisk},
    testing::{Call, SimDisk, Survival},
};

use super::{
    REFUSALS, TARGET, assert_whole, commit_all_kinds, content, files, go_on, handles, longest, names, options, refuse,
    refuse_all, source,
};
use crate::support::{
    ROOT, bytes, commit_states, on_every_disk,
    plain::{PlainDisk, ShortDisk},
    read_states,
};

#[test]
fn export_is_a_store_with_exactly_that_checkpoint() {
    on_every_disk(|options, root| {
        let (state, target) = (root.join("state"), root.join("a/b/savepoint"));
        let options = options.inline_threshold(64).segment_size(20_000);
        let store = options.clone().open(&state).unwrap();
        commit_all_kinds(&store, 1).unwrap();
        let second = go_on(&store, 2, 2).unwrap();
        go_on(&store, 3, 3).unwrap();
        let exported = store.export(second.id(), &target).unwrap();
        assert_eq!(exported.root, target);
        assert!(exported.files.iter().all(|file| file.way == Way::Linked && file.space == 0 && file.len > 0));
        assert_eq!(exported.space(), exported.overhead);

        let reader = options.clone().open_read_only(&target).unwrap();
        assert_eq!((reader.id(), reader.checkpoint_ids().unwrap()), (exported.id, vec![second.id()]));
        assert_ne!(reader.id(), store.id());
        assert!(reader.validate(second.id(), Validation::Full).unwrap().issues.is_empty());
        let found = reader.latest().unwrap().unwrap();
        assert_eq!(content(&found), content(&second));
        // The same places, in another store.
        let (ours, theirs) = (store.id().to_string(), exported.id.to_string());
        let texts = |checkpoint| handles(checkpoint).iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected: Vec<_> = texts(&second).iter().map(|text| text.replace(&ours, &theirs)).collect();
        assert_eq!(texts(&found), expected);
        drop((found, reader));

        let opened = options.open(&target).unwrap();
        assert_eq!(
            (opened.checkpoint_ids(), opened.next_id().unwrap()),
            (vec![second.id()], second.id().next().unwrap())
        );
        assert!(opened.open_report().foreign.is_empty() && opened.open_report().removed.is_empty());
        go_on(&opened, 3, 4).unwrap();
        let _ = opened.prune(1).unwrap();
        assert_whole(&opened);
        assert_whole(&store);
        assert_eq!(store.checkpoint_ids().len(), 3);
    });
}

#[test]
fn export_can_be_exported_and_says_what_was_changed_since_the_checkpoint_was_published() {
    let disk = SimDisk::new();
    let (store, _) = source(&disk);
    let latest = store.latest().unwrap().unwrap();
    let changed = latest.manifest().clone().with_metadata("seed", Some(b"changed".to_vec()));
    store.update_manifest(&changed).unwrap();
    store.pin(latest.id()).unwrap();
    store.export(latest.id(), TARGET).unwrap();
    let first = options(&disk).open(TARGET).unwrap();
    assert!(first.pinned().is_empty());
    let second = first.export(latest.id(), "/exports/again").unwrap();
    assert_ne!(second.id, first.id());
    let again = options(&disk).open("/exports/again").unwrap();
    let found = again.latest().unwrap().unwrap();
    assert_eq!(found.manifest().metadata("seed"), Some(&b"changed"[..]));
    assert_eq!(read_states(&found).unwrap(), read_states(&latest).unwrap());
    assert_whole(&again);
}

#[test]
fn every_other_directory_is_refused_and_left_as_it_is() {
    let disk = SimDisk::new();
    let (store, _) = source(&disk);
    let id = store.latest().unwrap().unwrap().id();
    let put = |path: &str| {
        let dir = Path::new(path).parent().unwrap();
        for dir in dir.ancestors().collect::<Vec<_>>().into_iter().rev() {
            let _ = disk.create_dir(At::new(dir));
        }
        let (name, file) = disk.create_temp(At::new(dir)).unwrap();
        file.write_at(b"dear to somebody", 0).unwrap();
        disk.rename(At::new(&dir.join(name)), At::new(path.as_ref())).unwrap();
    };
    put("/home/letter");
    put("/lost/manifests/00000001-0000000001.log");
    put("/half/piton.partial");
    put("/half/shared/letter");
    put("/odd/piton.partial");
    put("/odd/shared");
    store.export(id, "/other").unwrap();
    for target in [ROOT, "/home", "/lost", "/half", "/odd", "/other"] {
        let before = files(&disk, target.as_ref());
        let error = store.export(id, target).unwrap_err();
        assert!(error.is_invalid() && error.path() == Some(target.as_ref()), "{error}");
        assert!(
            error.to_string().contains("export to an empty") || error.to_string().contains("remove the"),
            "{error}"
        );
        assert_eq!(files(&disk, target.as_ref()), before);
    }
    let error = store.export(id, "/home/letter").unwrap_err();
    assert_eq!(error.path(), Some("/home/letter".as_ref()), "{error}");
    assert!(store.export(super::id(99), TARGET).unwrap_err().is_not_found());
    assert!(disk.metadata(At::new(TARGET.as_ref())).is_err(), "nothing was made of it");
}

#[test]
fn two_exports_to_one_directory_do_not_meet() {
    let disk = SimDisk::new();
    let (store, _) = source(&disk);
    let id = store.latest().unwrap().unwrap().id();
    let lock = {
        disk.create_dir(At::new("/exports".as_ref())).unwrap();
        disk.create_dir(At::new(TARGET.as_ref())).unwrap();
        disk.try_lock(At::new(&Path::new(TARGET).join("piton.lock")), "process 7").unwrap()
    };
    let error = store.export(id, TARGET).unwrap_err();
    assert!(error.is_locked() && error.holder_pid() == Some(7), "{error}");
    drop(lock);
    store.export(id, TARGET).unwrap();
}

#[test]
fn without_links_what_is_copied_is_what_the_checkpoint_needs() {
    for calls in [&[Call::Link][..], &[Call::Link, Call::Reflink], &[Call::Link, Call::Reflink, Call::CopyRanges]] {
        let disk = SimDisk::new();
        let store = Options::new().disk(disk.clone()).relocation(false).open(ROOT).unwrap();
        let states: Vec<_> = (0..200).map(|n| bytes(n, 10_000)).collect();
        let first = commit_states(&store, &states).unwrap();
        let pending = store.begin_next().unwrap();
        let kept = [3, 90, 91, 150].map(|n: usize| first.manifest().state(&n.to_string()).unwrap().clone());
        let manifest = kept.into_iter().enumerate().fold(Manifest::builder(), |m, (n, h)| m.state(n.to_string(), h));
        let second = pending.commit(manifest).unwrap();
        refuse_all(&disk, calls, REFUSALS[0]);
        let exported = store.export(second.id(), TARGET).unwrap();
        let [file] = &exported.files[..] else { panic!("{exported:?}") };
        let is_shared = calls.len() == 1;
        assert_eq!(file.way, if is_shared { Way::Reflinked } else { Way::Copied });
        let live = files(&disk, TARGET.as_ref()).remove(&file.path).unwrap();
        let copied = live.iter().filter(|byte| **byte != 0).count();
        assert_eq!(is_shared, copied > 1_000_000, "{copied} bytes");
        let reader = options(&disk.cut_power(Survival::Nothing)).open_read_only(TARGET).unwrap();
        let found = reader.latest().unwrap().unwrap();
        let expected = [3, 90, 91, 150].map(|n: usize| states[n].clone());
        assert_eq!(read_states(&found).unwrap().into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn damage_found_while_copying_fails_the_export_and_names_the_file() {
    let disk = SimDisk::new();
    let (store, _) = source(&disk);
    let latest = store.latest().unwrap().unwrap();
    let path = longest(&disk, ROOT.as_ref());
    disk.damage(&path, |bytes| bytes[40_000] ^= 1).unwrap();
    refuse(&disk, Call::Link, REFUSALS[1]);
    refuse(&disk, Call::Reflink, REFUSALS[3]);
    let error = store.export(latest.id(), TARGET).unwrap_err();
    assert!(error.is_corrupt() && error.path() == Some(path.as_path()), "{error}");
    assert_eq!(files(&disk, TARGET.as_ref()).len(), 1, "the lock is left");
}

#[test]
fn what_is_exported_stays_byte_for_byte_while_the_source_goes_on_prunes_and_punches() {
    let dir = tempfile::tempdir().unwrap();
    let (state, target) = (dir.path().join("state"), dir.path().join("savepoint"));
    let options = || Options::new().inline_threshold(64).segment_size(200_000).relocation(false);
    let store = options().open(&state).unwrap();
    let states: Vec<_> = (0..100).map(|n| bytes(n, 8000)).collect();
    let first = commit_states(&store, &states).unwrap();
    let expected = read_states(&first).unwrap();
    let exported = store.export(first.id(), &target).unwrap();
    let before = files(&OsDisk, &target);
    let allocated = |path: &Path| OsDisk.metadata(At::new(path)).unwrap().allocated;
    let taken: Vec<_> = exported.files.iter().map(|file| allocated(&file.path)).collect();
    drop(first);
    let mut punched = false;
    for round in 0..100 {
        let latest = store.latest().unwrap().unwrap();
        let pending = store.begin_next().unwrap();
        let mut manifest = Manifest::builder();
        for (n, (name, handle)) in latest.manifest().states().enumerate() {
            let anew = || pending.write(Scope::Shared, &bytes(round * 1000 + n as u64, 8000)).unwrap();
            manifest = manifest
                .state(name, if (n as u64 * 7 + round * round).is_multiple_of(10) { anew() } else { handle.clone() });
        }
        drop(latest);
        pending.commit(manifest).unwrap();
        let _ = store.prune(2).unwrap();
        let usage = store.usage();
        punched |= usage.allocated_bytes + 100_000 < usage.physical_bytes;
        if round % 20 == 0 {
            assert_eq!(files(&OsDisk, &target), before, "round {round}");
        }
    }
    assert_eq!(files(&OsDisk, &target), before);
    assert_eq!(
        exported.files.iter().map(|file| allocated(&file.path)).collect::<Vec<_>>(),
        taken,
        "no hole was punched"
    );
    assert!(punched || !store.capabilities().unwrap().punch_holes, "in others there were");
    drop(store);
    fs::remove_dir_all(&state).unwrap();
    let moved = dir.path().join("elsewhere");
    fs::rename(&target, &moved).unwrap();
    let reader = options().open_read_only(&moved).unwrap();
    assert_eq!(read_states(&reader.latest().unwrap().unwrap()).unwrap(), expected);
}

#[test]
fn holes_are_punched_again_once_the_export_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (state, target) = (dir.path().join("state"), dir.path().join("savepoint"));
    let store = Options::new().inline_threshold(64).relocation(false).open(&state).unwrap();
    if !store.capabilities().unwrap().punch_holes {
        return;
    }
    let states: Vec<_> = (0..100).map(|n| bytes(n, 8000)).collect();
    let first = commit_states(&store, &states).unwrap();
    store.export(first.id(), &target).unwrap();
    let pending = store.begin_next().unwrap();
    let kept = first.manifest().state("50").unwrap().clone();
    pending.commit(Manifest::builder().state("kept", kept)).unwrap();
    drop(first);
    let before = store.usage().allocated_bytes;
    assert_eq!(store.prune(1).unwrap().punched_bytes, 0);
    fs::remove_dir_all(&target).unwrap();
    assert!(store.maintain(u64::MAX).unwrap().punched_bytes > 700_000);
    assert!(store.usage().allocated_bytes < before / 10);
    assert_whole(&store);
}

#[test]
fn an_open_segment_is_sealed_so_that_the_export_does_not_grow() {
    for merging in [Merging::AcrossCheckpoints, Merging::WithinCheckpoint, Merging::Off] {
        let disk = SimDisk::new();
        let store = options(&disk).merging(merging).open(ROOT).unwrap();
        let first = commit_all_kinds(&store, 1).unwrap();
        store.export(first.id(), TARGET).unwrap();
        let before = files(&disk, TARGET.as_ref());
        commit_all_kinds(&store, 2).unwrap();
        assert_eq!(files(&disk, TARGET.as_ref()), before, "{merging:?}");
    }
}

#[test]
fn export_of_a_store_that_syncs_nothing_is_durable() {
    let disk = SimDisk::new();
    let store = options(&disk).durability(Durability::None).open(ROOT).unwrap();
    let first = commit_all_kinds(&store, 1).unwrap();
    let expected = content(&first);
    store.export(first.id(), TARGET).unwrap();
    let disk = disk.cut_power(Survival::Nothing);
    let reader = options(&disk).open_read_only(TARGET).unwrap();
    assert_eq!(content(&reader.latest().unwrap().unwrap()), expected);
}

#[test]
fn export_costs_one_link_for_each_segment_however_many_states() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let manifest = (0..2000_u64).fold(Manifest::builder(), |manifest, n| {
        manifest.state(n.to_string(), pending.write(Scope::Shared, &bytes(n, 2000)).unwrap())
    });
    let id = pending.commit(manifest).unwrap().id();
    let synced = disk.count(Call::SyncData);
    store.export(id, TARGET).unwrap();
    assert_eq!((disk.count(Call::Link), disk.count(Call::Reflink)), (1, 0));
    assert_eq!(disk.count(Call::SyncData) - synced, 4, "the mark, the base, its copy, the identity");
    assert_eq!(names(&disk, TARGET.as_ref()).len(), 1);
}

#[test]
fn a_store_and_its_export_go_on_apart_with_files_of_the_same_names() {
    let disk = SimDisk::new();
    let (store, expected) = source(&disk);
    let id = store.latest().unwrap().unwrap().id();
    store.export(id, TARGET).unwrap();
    store.close().unwrap();
    let [store, twin] = [ROOT, TARGET].map(|root| options(&disk).open(root).unwrap());
    for seed in 10..15 {
        go_on(&store, 4, seed).unwrap();
        go_on(&twin, 4, seed + 100).unwrap();
    }
    let twice = twin.latest().unwrap().unwrap();
    let imported = store.import(TARGET, piton::Claim::Copy).unwrap().checkpoint;
    assert_eq!(content(&imported), content(&twice));
    assert_eq!(content(&store.checkpoint(id).unwrap()), expected);
    assert_whole(&store);
    assert_whole(&twin);
}

#[test]
fn unfinished_export_is_opened_by_nobody_and_says_what_to_do() {
    let disk = SimDisk::new();
    let (store, _) = source(&disk);
    let id = store.latest().unwrap().unwrap().id();
    disk.fail_nth(Call::Rename, 1, piton::testing::Fault::PowerCut);
    store.export(id, TARGET).unwrap_err();
    let disk = disk.cut_power(Survival::Everything);
    assert!(files(&disk, TARGET.as_ref()).len() > 5, "all but the identity is there");
    let open = [
        options(&disk).open(TARGET).map(drop),
        options(&disk).rebuild_identity(true).open(TARGET).map(drop),
        options(&disk).open_read_only(TARGET).map(drop),
    ];
    for error in open.map(Result::unwrap_err) {
        assert!(error.is_corrupt() && error.to_string().contains("export to it again"), "{error}");
        assert_eq!(error.path(), Some(Path::new(TARGET).join("piton.partial").as_path()));
    }
    let store: Store = options(&disk).open(ROOT).unwrap();
    store.export(id, TARGET).unwrap();
    assert_whole(&options(&disk).open(TARGET).unwrap());
}

#[test]
fn export_of_states_that_an_earlier_open_did_not_sync_is_durable() {
    let disk = SimDisk::new();
    let store = options(&disk).durability(Durability::None).open(ROOT).unwrap();
    let first = commit_all_kinds(&store, 1).unwrap();
    let (id, expected) = (first.id(), content(&first));
    drop((first, store));
    let store = options(&disk).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let first = store.checkpoint(id).unwrap();
    let new = pending.duplicate(&handles(&first), Scope::Exclusive).unwrap();
    let named = first.manifest().states().map(|(name, _)| name).zip(new);
    let manifest = Manifest::builder().metadata("seed", expected.0.clone());
    let duplicates = pending.commit(named.fold(manifest, |manifest, (name, new)| manifest.state(name, new))).unwrap();
    for (id, target) in [(id, TARGET), (duplicates.id(), "/exports/duplicates")] {
        let exported = store.export(id, target).unwrap();
        assert!(exported.files.iter().all(|file| file.way == Way::Linked));
    }
    let disk = disk.cut_power(Survival::Nothing);
    for target in [TARGET, "/exports/duplicates"] {
        let reader = options(&disk).open_read_only(target).unwrap();
        assert_eq!(content(&reader.latest().unwrap().unwrap()), expected);
    }
}

#[test]
fn file_that_is_missing_or_too_short_is_not_linked_and_is_named() {
    type Harm = fn(&SimDisk, &Path);
    let harms: [Harm; 3] = [
        |disk, path| disk.remove(At::new(path)).unwrap(),
        |disk, path| disk.damage(path, |bytes| bytes.truncate(bytes.len() - 10)).unwrap(),
        |disk, path| disk.damage(path, |bytes| bytes[17] ^= 1).unwrap(),
    ];
    for harm in harms {
        let disk = SimDisk::new();
        let (store, _) = source(&disk);
        let latest = store.latest().unwrap().unwrap();
        let path = longest(&disk, ROOT.as_ref());
        harm(&disk, &path);
        let error = store.export(latest.id(), TARGET).unwrap_err();
        assert!(error.is_corrupt() && error.path() == Some(path.as_path()), "{error}");
        let pending = store.begin_next().unwrap();
        if disk.metadata(At::new(&path)).is_err() {
            let error = pending.duplicate(&handles(&latest), Scope::Exclusive).unwrap_err();
            assert!(error.is_corrupt() && error.path() == Some(path.as_path()), "{error}");
        }
    }
}

#[test]
fn roots_have_one_spelling() {
    for (ours, theirs) in [("/ours/", "/exports/x/"), ("//ours", "//exports//x"), ("/ours/.", "/exports/./x")] {
        for claim in [piton::Claim::Copy, piton::Claim::Move, piton::Claim::Borrow] {
            let disk = SimDisk::new();
            let (store, expected) = source(&disk);
            let exported = store.export(super::id(2), theirs).unwrap();
            assert_eq!(exported.root, Path::new("/exports/x"));
            let store = options(&disk).open(ours).unwrap();
            assert_eq!(store.root(), Path::new("/ours"));
            assert!(store.import(theirs, claim).unwrap().failures.is_empty());
            drop(store);
            let store = options(&disk).open(ours).unwrap();
            assert!(store.open_report().damaged.is_empty() && store.open_report().cleanup_skipped.is_none());
            assert_eq!(content(&store.latest().unwrap().unwrap()), expected);
            let reader = options(&disk).open_read_only(ours).unwrap();
            assert_eq!(content(&reader.latest().unwrap().unwrap()), expected);
        }
    }
}

#[test]
fn writer_that_lost_the_store_completes_no_export() {
    let disk = SimDisk::new();
    let (stalled, _) = source(&disk);
    disk.break_locks();
    let successor = options(&disk).open(ROOT).unwrap();
    let error = stalled.export(super::id(2), TARGET).unwrap_err();
    assert!(error.is_fenced(), "{error}");
    assert!(options(&disk).open_read_only(TARGET).unwrap_err().is_not_found());
    successor.export(super::id(2), TARGET).unwrap();
}

#[test]
fn disk_that_can_do_no_more_than_it_must_exports_and_imports_all_the_same() {
    let disk = PlainDisk(SimDisk::new());
    piton::testing::conformance::check(&disk, Path::new("/kit"));
    let store = options(&disk).open(ROOT).unwrap();
    commit_all_kinds(&store, 1).unwrap();
    let second = go_on(&store, 2, 2).unwrap();
    let expected = content(&second);
    assert!(!store.capabilities().unwrap().hard_links);
    // The identity is the only file that is replaced: a first attempt fails when all else is there.
    disk.0.fail_nth(Call::Rename, 1, piton::testing::Fault::Error(super::EIO));
    store.export(second.id(), TARGET).unwrap_err();
    let exported = store.export(second.id(), TARGET).unwrap();
    assert!(exported.files.iter().all(|file| file.way == Way::Copied && file.space > 0));
    let pending = store.begin_next().unwrap();
    assert!(!pending.can_fast_duplicate(&handles(&second)[6], Scope::Exclusive));
    let new = pending.duplicate(&handles(&second), Scope::Exclusive).unwrap();
    pending.commit(Manifest::builder().state("s", new[6].clone())).unwrap();
    assert_whole(&store);
    for claim in [piton::Claim::Copy, piton::Claim::Borrow, piton::Claim::Move] {
        let ours = options(&disk).open(format!("/ours/{claim:?}")).unwrap();
        let imported = ours.import(TARGET, claim).unwrap();
        assert_eq!((content(&imported.checkpoint), imported.failures.len()), (expected.clone(), 0));
    }
    assert!(options(&disk).open_read_only(TARGET).unwrap_err().is_not_found(), "it was moved; directories stay");
}

#[test]
fn reflink_that_shares_too_little_is_not_believed() {
    let disk = ShortDisk(PlainDisk(SimDisk::new()));
    let store = options(&disk).open(ROOT).unwrap();
    let first = commit_all_kinds(&store, 1).unwrap();
    let expected = content(&first);
    let exported = store.export(first.id(), TARGET).unwrap();
    assert!(exported.files.iter().all(|file| file.way == Way::Copied));
    let disk = ShortDisk(PlainDisk(disk.0.0.cut_power(Survival::Nothing)));
    let reader = options(&disk).open_read_only(TARGET).unwrap();
    assert_eq!(content(&reader.latest().unwrap().unwrap()), expected);
}

#[test]
fn retention_punches_holes_again_once_the_export_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (state, target) = (dir.path().join("state"), dir.path().join("savepoint"));
    let store = Options::new().inline_threshold(64).relocation(false).retain(1).open(&state).unwrap();
    if !store.capabilities().unwrap().punch_holes {
        return;
    }
    let states: Vec<_> = (0..100).map(|n| bytes(n, 8000)).collect();
    let first = commit_states(&store, &states).unwrap();
    store.export(first.id(), &target).unwrap();
    let kept = first.manifest().state("50").unwrap().clone();
    drop(first);
    let commit = || drop(store.begin_next().unwrap().commit(Manifest::builder().state("kept", kept.clone())));
    (0..3).for_each(|_| commit());
    let before = store.usage().allocated_bytes;
    assert!(before > 700_000, "the export has them as well: {before}");
    fs::remove_dir_all(&target).unwrap();
    (0..3).for_each(|_| commit());
    assert!(store.usage().allocated_bytes < before / 10, "{:?}", store.usage());
}

#[test]
fn directory_of_a_store_is_no_target() {
    let disk = SimDisk::new();
    let (store, _) = source(&disk);
    options(&disk).open("/other").unwrap().close().unwrap();
    let error = store.export(super::id(2), "/other/exclusive").unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("part of a store"), "{error}");
    assert!(disk.list(At::new("/other/exclusive".as_ref())).unwrap().is_empty());
}
