//! A checkpoint of another store as one of ours, with files of our own.

use std::path::Path;

use piton::{
    CheckpointKind, Claim, Manifest, Options, Scope, Store, Way,
    disk::{At, Disk},
    observe::Task,
    testing::{Call, SimDisk, Survival},
};

use super::{
    EIO, REFUSALS, TARGET, assert_whole, commit_all_kinds, content, files, go_on, handles, is_noted, names, options,
    refuse_all, remove_all, source,
};
use crate::support::{ROOT, bytes, on_every_disk, read_states, told_to};

const OURS: &str = "/ours";

/// Five checkpoints, the store opened anew after each; then only the last is kept.
fn go_on_five_times_and_prune(open: impl Fn() -> Store) -> Store {
    for seed in 0..5 {
        let store = open();
        assert!(store.open_report().failures.is_empty() && store.open_report().damaged.is_empty());
        assert!(store.open_report().removed.is_empty(), "{:?}", store.open_report().removed);
        go_on(&store, 2 + seed, 50 + seed as u64).unwrap();
        assert_whole(&store);
        store.close().unwrap();
    }
    let store = open();
    let _ = store.prune(1).unwrap();
    store
}

#[test]
fn under_each_claim_exactly_the_files_go_that_it_says() {
    for claim in [Claim::Copy, Claim::Move, Claim::Borrow] {
        on_every_disk(|options, root| {
            let disk = options.clone();
            let (state, target, ours) = (root.join("state"), root.join("savepoint"), root.join("ours"));
            let options = options.inline_threshold(64).segment_size(20_000).relocation(claim == Claim::Borrow);
            let store = options.clone().open(&state).unwrap();
            commit_all_kinds(&store, 1).unwrap();
            let second = go_on(&store, 2, 2).unwrap();
            let expected = content(&second);
            store.export(second.id(), &target).unwrap();
            drop(second);
            store.close().unwrap();
            let there = |root: &Path| disk.clone().open_read_only(root).is_ok();

            let store = options.clone().open(&ours).unwrap();
            commit_all_kinds(&store, 7).unwrap();
            let imported = store.import(&target, claim).unwrap();
            assert!(imported.failures.is_empty(), "{:?}", imported.failures);
            assert_eq!(imported.checkpoint.id().get(), 2);
            assert_eq!(content(&imported.checkpoint), expected);
            assert_eq!(there(&target), claim != Claim::Move);
            let way = if claim == Claim::Borrow { Way::Borrowed } else { Way::Linked };
            assert!(imported.files.iter().all(|file| file.way == way && file.space == 0));
            assert_eq!(imported.space(), 0);
            drop(imported);
            store.close().unwrap();

            let store = go_on_five_times_and_prune(|| options.clone().open(&ours).unwrap());
            assert_eq!(store.checkpoint_ids().len(), 1);
            assert!(store.lenders().is_empty(), "everything was copied or written anew");
            assert!(store.cleanup_orphans(true).unwrap().files.is_empty());
            assert_whole(&store);
            assert_eq!(there(&target), claim != Claim::Move);
            if claim != Claim::Move {
                let reader = options.clone().open_read_only(&target).unwrap();
                assert_eq!(content(&reader.latest().unwrap().unwrap()), expected);
            }
        });
    }
}

#[test]
fn the_source_can_go_and_the_copy_stays() {
    let disk = SimDisk::new();
    let (store, expected) = source(&disk);
    store.export(super::id(2), TARGET).unwrap();
    drop(store);
    let store = options(&disk).open(OURS).unwrap();
    let imported = store.import(TARGET, Claim::Copy).unwrap();
    assert!(imported.files.iter().all(|file| file.way == Way::Linked));
    remove_all(&disk, TARGET);
    assert_eq!(content(&imported.checkpoint), expected);
    assert_whole(&store);
    let exported = store.export(imported.checkpoint.id(), "/exports/third").unwrap();
    let third = options(&disk).open_read_only(exported.root).unwrap();
    assert_eq!(content(&third.latest().unwrap().unwrap()), expected);
}

#[test]
fn imported_checkpoint_is_one_to_go_on_from_and_what_its_store_knew_of_it_stays_there() {
    let disk = SimDisk::new();
    let store = options(&disk).open(ROOT).unwrap();
    commit_all_kinds(&store, 1).unwrap();
    let pending = store.begin_next().unwrap();
    let state = pending.write(Scope::Shared, &bytes(5, 5000)).unwrap();
    let manifest = Manifest::builder().state("s", state).epoch(77).kind(CheckpointKind::Savepoint).parent(super::id(1));
    let savepoint = pending.commit(manifest).unwrap();
    store.pin(savepoint.id()).unwrap();
    drop((savepoint, store));
    let store = options(&disk).retain(1).open(OURS).unwrap();
    let imported = store.import(ROOT, Claim::Copy).unwrap().checkpoint;
    let manifest = imported.manifest();
    assert_eq!((manifest.epoch(), manifest.kind(), manifest.parent()), (77, CheckpointKind::Checkpoint, None));
    assert!(store.pinned().is_empty());
    drop(imported);
    commit_all_kinds(&store, 3).unwrap();
    commit_all_kinds(&store, 4).unwrap();
    assert_eq!(store.checkpoint_ids().len(), 1, "retention removes it like any other");
}

#[test]
fn while_somebody_writes_the_source_nothing_is_linked() {
    let disk = SimDisk::new();
    let (writer, expected) = source(&disk);
    let store = options(&disk).open(OURS).unwrap();
    let imported = store.import(ROOT, Claim::Copy).unwrap();
    assert!(imported.files.iter().all(|file| file.way == Way::Reflinked), "{:?}", imported.files);
    assert_eq!(disk.count(Call::Link), 0);
    go_on(&writer, 3, 9).unwrap();
    let _ = writer.prune(1).unwrap();
    assert_eq!(content(&imported.checkpoint), expected);
    let error = store.import(ROOT, Claim::Move).unwrap_err();
    assert!(error.is_locked(), "{error}");
    assert_whole(&writer);
    let own = store.import(OURS, Claim::Copy).unwrap();
    assert_eq!(content(&own.checkpoint), expected, "a store may import from itself");
}

#[test]
fn what_is_no_store_or_has_no_checkpoint_is_said_so_and_left_as_it_is() {
    let disk = SimDisk::new();
    let store = options(&disk).open(OURS).unwrap();
    options(&disk).open("/empty").unwrap().close().unwrap();
    for claim in [Claim::Copy, Claim::Move, Claim::Borrow] {
        let error = store.import("/nowhere", claim).unwrap_err();
        assert!(error.is_not_found() && error.to_string().contains("/nowhere"), "{error}");
        assert!(disk.metadata(At::new("/nowhere".as_ref())).is_err());
        let error = store.import("/empty", claim).unwrap_err();
        assert!(error.is_not_found() && error.to_string().contains("no checkpoint"), "{error}");
        assert!(disk.metadata(At::new("/empty/piton.store".as_ref())).is_ok());
    }
    assert!(store.checkpoint_ids().is_empty() && names(&disk, OURS.as_ref()).is_empty());
}

#[test]
fn source_that_synced_nothing_is_made_durable() {
    for claim in [Claim::Copy, Claim::Move] {
        let disk = SimDisk::new();
        let theirs = options(&disk).durability(piton::Durability::None).open(ROOT).unwrap();
        let expected = content(&commit_all_kinds(&theirs, 1).unwrap());
        drop(theirs);
        let store = options(&disk).open(OURS).unwrap();
        let _ = store.import(ROOT, claim).unwrap();
        let store = options(&disk.cut_power(Survival::Nothing)).open(OURS).unwrap();
        assert_eq!(content(&store.latest().unwrap().unwrap()), expected);
    }
}

#[test]
fn exactly_the_files_are_there_that_the_claim_says() {
    for claim in [Claim::Copy, Claim::Move, Claim::Borrow] {
        let disk = SimDisk::new();
        let (store, expected) = source(&disk);
        store.export(super::id(2), TARGET).unwrap();
        store.close().unwrap();
        let before = files(&disk, TARGET.as_ref());
        let segments = names(&disk, TARGET.as_ref()).len();
        let store = options(&disk).open(OURS).unwrap();
        let _ = store.import(TARGET, claim).unwrap();
        let ours = names(&disk, OURS.as_ref()).len();
        assert_eq!(ours, if claim == Claim::Borrow { 0 } else { segments }, "{claim:?}");
        store.close().unwrap();
        let store = go_on_five_times_and_prune(|| options(&disk).open(OURS).unwrap());
        let known = store.usage().physical_files;
        assert_eq!(names(&disk, OURS.as_ref()).len() as u64, known, "nothing of the import, nothing else");
        let in_root = files(&disk, OURS.as_ref()).into_keys().filter(|path| path.parent() == Some(OURS.as_ref()));
        assert_eq!(in_root.count(), 3, "identity, lock and what readers lock");
        match claim {
            Claim::Move => assert!(disk.metadata(At::new(TARGET.as_ref())).is_err()),
            _ => assert_eq!(files(&disk, TARGET.as_ref()), before, "{claim:?}"),
        }
        drop(expected);
    }
}

#[test]
fn hostile_source_is_refused_and_leaves_nothing() {
    type Harm = fn(&mut Vec<u8>);
    let harms: [(&str, Harm); 4] = [
        ("another header", |bytes| bytes[20] ^= 1),
        ("too short", |bytes| bytes.truncate(bytes.len() - 100)),
        ("empty", Vec::clear),
        ("zeros", |bytes| bytes.fill(0)),
    ];
    for (what, harm) in harms {
        for claim in [Claim::Copy, Claim::Move, Claim::Borrow] {
            let disk = SimDisk::new();
            drop(source(&disk));
            let store = options(&disk).open(OURS).unwrap();
            let all = files(&disk, ROOT.as_ref());
            let segments = all.iter().filter(|(path, _)| path.extension().is_some_and(|found| found == "seg"));
            let largest = segments.max_by_key(|(_, bytes)| bytes.len()).unwrap().0;
            disk.damage(largest, harm).unwrap();
            let error = store.import(ROOT, claim).unwrap_err();
            assert!(error.is_corrupt(), "{what}, {claim:?}: {error}");
            assert!(error.path().unwrap().starts_with(ROOT), "{what}: {error}");
            assert!(names(&disk, OURS.as_ref()).is_empty(), "{what}: {:?}", names(&disk, OURS.as_ref()));
            assert!(!is_noted(&disk, OURS));
            assert!(disk.metadata(At::new(largest)).is_ok(), "the source stays");
            commit_all_kinds(&store, 1).unwrap();
        }
    }
}

#[test]
fn without_links_bytes_are_shared_and_without_that_copied_durably() {
    for code in REFUSALS {
        for calls in [&[Call::Link][..], &[Call::Link, Call::Reflink], &[Call::Link, Call::Reflink, Call::CopyRanges]] {
            for claim in [Claim::Copy, Claim::Move] {
                let disk = SimDisk::new();
                let expected = source(&disk).1;
                refuse_all(&disk, calls, code);
                let store = options(&disk).open(OURS).unwrap();
                let imported = store.import(ROOT, claim).unwrap();
                let way = if calls.len() == 1 { Way::Reflinked } else { Way::Copied };
                assert!(imported.files.iter().all(|file| file.way == way), "{code}: {:?}", imported.files);
                assert_eq!(imported.space() > 0, way == Way::Copied);
                let disk = disk.cut_power(Survival::Nothing);
                let store = options(&disk).open(OURS).unwrap();
                assert_eq!(content(&store.latest().unwrap().unwrap()), expected);
                assert_whole(&store);
            }
        }
    }
}

#[test]
fn any_other_error_is_the_callers_and_nothing_is_left() {
    for claim in [Claim::Copy, Claim::Move] {
        let disk = SimDisk::new();
        drop(source(&disk));
        let store = options(&disk).open(OURS).unwrap();
        disk.fail_nth(Call::Link, 2, piton::testing::Fault::Error(EIO));
        let error = store.import(ROOT, claim).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EIO), "{error}");
        assert!(names(&disk, OURS.as_ref()).is_empty());
        let latest = |root: &str| options(&disk).open_read_only(root).unwrap().latest().unwrap();
        assert!(latest(ROOT).is_some() && latest(OURS).is_none());
        let _ = store.import(ROOT, claim).unwrap();
        assert_whole(&store);
    }
}

#[test]
fn duplicated_imported_and_reused_states_keep_their_bytes_over_many_generations() {
    let disk = SimDisk::new();
    let mut expected = source(&disk).1;
    let mut root = ROOT.to_owned();
    for round in 0..5 {
        let next = format!("/stores/{round}");
        let store = options(&disk).open(&next).unwrap();
        let imported = store.import(&root, if round % 2 == 0 { Claim::Copy } else { Claim::Move }).unwrap().checkpoint;
        assert_eq!(content(&imported), expected);
        let pending = store.begin_next().unwrap();
        let new = pending.duplicate(&handles(&imported), [Scope::Exclusive, Scope::Shared][round % 2]).unwrap();
        let names = imported.manifest().states().map(|(name, _)| name);
        let manifest = Manifest::builder().metadata("seed", expected.0.clone());
        pending.commit(names.zip(new).fold(manifest, |manifest, (name, new)| manifest.state(name, new))).unwrap();
        drop(imported);
        let _ = store.prune(1).unwrap();
        let latest = go_on(&store, 1, 30 + round as u64).unwrap();
        expected = content(&latest);
        drop(latest);
        let _ = store.prune(1).unwrap();
        store.close().unwrap();
        root = next;
    }
    let store = options(&disk.cut_power(Survival::Nothing)).open(&root).unwrap();
    assert_eq!(content(&store.latest().unwrap().unwrap()), expected);
    assert_whole(&store);
}

#[test]
fn readers_of_other_processes_read_what_was_imported() {
    let dir = tempfile::tempdir().unwrap();
    let [theirs, ours] = ["theirs", "ours"].map(|name| dir.path().join(name));
    let store = Store::open(&theirs).unwrap();
    let first = commit_all_kinds(&store, 1).unwrap();
    let expected = read_states(&first).unwrap();
    drop((first, store));
    let store = Store::open(&ours).unwrap();
    for claim in [Claim::Copy, Claim::Borrow] {
        let _ = store.import(&theirs, claim).unwrap();
        let reader = Options::new().open_read_only(&ours).unwrap();
        assert_eq!(read_states(&reader.latest().unwrap().unwrap()).unwrap(), expected);
        assert!(reader.recover_latest_validated().unwrap().skipped.is_empty());
    }
}

#[test]
fn progress_is_told_after_each_file_up_to_all_of_them() {
    let disk = SimDisk::new();
    let (store, _) = source(&disk);
    let root = store.root().to_owned();
    drop(store);
    let (told, options_of_it) = told_to(options(&disk));
    let store = options_of_it.open(root).unwrap();
    let exported = store.export(super::id(2), TARGET).unwrap();
    let all = told.of(Task::Export);
    for claim in [Claim::Copy, Claim::Borrow, Claim::Move] {
        let (told, options) = told_to(options(&disk));
        let _ = options.open(OURS).unwrap().import(TARGET, claim).unwrap();
        let told = told.of(Task::Import);
        let as_export = told.into_iter().map(|mut progress| {
            progress.task = Task::Export;
            progress
        });
        assert_eq!(as_export.collect::<Vec<_>>(), all, "{claim:?}");
    }
    assert_eq!(
        all.iter().map(|progress| progress.items).collect::<Vec<_>>(),
        (1..=exported.files.len() as u64).collect::<Vec<_>>()
    );
    let last = all.last().unwrap();
    assert!(last.items == last.all_items && last.bytes == last.all_bytes && last.all_bytes > 50_000, "{last:?}");
}
