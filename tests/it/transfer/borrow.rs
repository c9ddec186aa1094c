//! Files of others, referred to where they are.

use std::{fs, path::Path, sync::atomic::Ordering};

use piton::{Claim, Manifest, Options, Scope, Store, Validation, disk::Disk, testing::SimDisk};

use super::{
    TARGET, assert_whole, commit_all_kinds, content, files, go_on, handles, longest, options, remove_all, source,
};
use crate::support::{
    ROOT, bytes,
    hooked::{HookedDisk, set},
};

const OURS: &str = "/ours";

#[test]
fn borrowed_states_are_copied_by_reuse_whatever_that_takes() {
    let disk = SimDisk::new();
    let expected = source(&disk).1;
    let store = options(&disk).write_buffer(100).open(OURS).unwrap();
    let imported = store.import(ROOT, Claim::Borrow).unwrap().checkpoint;
    let [lender] = &store.lenders()[..] else { panic!("{:?}", store.lenders()) };
    assert_eq!((lender.root(), lender.checkpoint().get()), (ROOT.as_ref(), 2));
    assert_eq!(imported.manifest().lenders().collect::<Vec<_>>(), [lender]);
    let usage = store.usage();
    assert_eq!((usage.physical_files, usage.physical_bytes, usage.logical_files), (0, 0, 0));
    assert!(usage.borrowed_files > 0 && usage.borrowed_bytes > 50_000, "{usage:?}");

    let pending = store.begin_next().unwrap();
    let old = handles(&imported);
    assert!(old.iter().all(|handle| handle.is_inline() || !pending.could_reuse(handle)));
    let new = pending.reuse(&old).unwrap();
    assert!(old.iter().zip(&new).all(|(old, new)| old.is_inline() || old != new));
    let names = imported.manifest().states().map(|(name, _)| name);
    let manifest = Manifest::builder().metadata("seed", expected.0.clone());
    pending.commit(names.zip(new).fold(manifest, |manifest, (name, new)| manifest.state(name, new))).unwrap();
    drop(imported);
    let _ = store.prune(1).unwrap();
    assert!(store.lenders().is_empty());
    assert_eq!(store.usage().borrowed_files, 0);
    remove_all(&disk, ROOT);
    assert_eq!(content(&store.latest().unwrap().unwrap()), expected);
}

#[test]
fn handles_alone_go_on_borrowing_until_a_checkpoint_does_without() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let store = options(&disk).open(OURS).unwrap();
    let imported = store.import(ROOT, Claim::Borrow).unwrap().checkpoint;
    let [a, b] = ["5", "6"].map(|name| imported.manifest().state(name).unwrap().clone());
    let commit = |store: &Store, states: &[(&str, &piton::StateHandle)]| {
        let pending = store.begin_next().unwrap();
        let new = pending.write(Scope::Shared, &bytes(8, 900)).unwrap();
        let manifest = Manifest::builder().state("new", new);
        let named = |manifest: piton::ManifestBuilder, (name, handle): &(&str, &piton::StateHandle)| {
            manifest.state(*name, (*handle).clone())
        };
        pending.commit(states.iter().fold(manifest, named))
    };
    commit(&store, &[("a", &a), ("b", &b)]).unwrap();
    drop((imported, store));
    let store = options(&disk).open(OURS).unwrap();
    let third = commit(&store, &[("a", &a)]).unwrap();
    assert_eq!(third.read(&a).unwrap().len() as u64, a.len());
    assert_eq!(store.lenders().len(), 1);
    let error = commit(&store, &[("a", &a), ("b", &b)]).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains(&b.to_string()), "{error}");
    commit(&store, &[]).unwrap();
    assert!(commit(&store, &[("a", &a)]).unwrap_err().is_not_found(), "nothing new refers to it");
    let pending = store.begin_next().unwrap();
    assert!(pending.reuse(std::slice::from_ref(&a)).unwrap_err().is_not_found());
    drop(pending);
    // Whoever goes back to a checkpoint that borrows may go on from it.
    store.rollback_to(third.id()).unwrap();
    commit(&store, &[("a", &a)]).unwrap();
    assert_whole(&store);
}

/// The newest in the order of publication is another one than the newest that is valid.
#[test]
fn base_that_borrows_and_was_rolled_back_is_refused_before_anything_is_tried() {
    let disk = SimDisk::new();
    drop(source(&disk));
    // Without relocation, which would look first.
    let store = options(&disk).relocation(false).open(OURS).unwrap();
    let first = store.begin_next().unwrap().commit(Manifest::builder()).unwrap();
    let imported = store.import(ROOT, Claim::Borrow).unwrap().checkpoint;
    store.rollback_to(first.id()).unwrap();
    let error = store.begin_next().unwrap().commit(Manifest::based_on(imported.manifest())).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let pending = error.into_pending().expect("nothing was tried");
    pending.commit(Manifest::based_on(first.manifest())).unwrap();
}

#[test]
fn lender_that_is_lost_is_damage_of_what_borrows_alone_and_opens_nothing_to_removal() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let store = options(&disk).open(OURS).unwrap();
    let own = commit_all_kinds(&store, 5).unwrap();
    let expected = content(&own);
    let _ = store.import(ROOT, Claim::Borrow).unwrap();
    drop((own, store));
    let all = files(&disk, ROOT.as_ref());
    let segment = all.keys().find(|path| path.extension().is_some_and(|found| found == "seg")).unwrap();
    Disk::rename(&disk, segment.into(), Path::new("/ours/shared/kept").into()).unwrap();
    let store = options(&disk).open(OURS).unwrap();
    let [(damaged, why)] = &store.open_report().damaged[..] else { panic!("{:?}", store.open_report()) };
    assert!(damaged.get() == 2 && why.is_unavailable() && why.path() == Some(segment), "{why}");
    assert_eq!(content(&store.latest().unwrap().unwrap()), expected);
    assert!(!store.validate(*damaged, Validation::Quick).unwrap().is_valid());
    drop(store);
    Disk::rename(&disk, Path::new("/ours/shared/kept").into(), segment.into()).unwrap();
    let store = options(&disk).open(OURS).unwrap();
    assert_eq!(store.latest().unwrap().unwrap().id().get(), 2);
    assert_whole(&store);
}

#[test]
fn lender_of_which_no_file_is_left_is_not_kept_from_forgetting_its_checkpoint() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let store = options(&disk).open(OURS).unwrap();
    let _ = store.import(ROOT, Claim::Borrow).unwrap();
    drop(store);
    let all = files(&disk, ROOT.as_ref());
    for segment in all.keys().filter(|path| path.extension().is_some_and(|found| found == "seg")) {
        Disk::remove(&disk, segment.into()).unwrap();
    }
    let store = options(&disk).open(OURS).unwrap();
    assert_eq!(store.damaged().len(), 1);
    let lender = options(&disk).open(ROOT).unwrap();
    let lent = *lender.checkpoint_ids().last().unwrap();
    assert_eq!(lender.forget(lent).unwrap().checkpoints, [lent]);
}

#[test]
fn lender_whose_files_cannot_be_looked_at_for_a_while_is_kept() {
    let disk = HookedDisk::new();
    let expected = source(&disk.disk).1;
    let options = || Options::new().disk(disk.clone());
    let _ = options().open(OURS).unwrap().import(ROOT, Claim::Borrow).unwrap();
    disk.denied.store(true, Ordering::Relaxed);
    let store = options().open(OURS).unwrap();
    assert!(store.latest().is_err() && !store.damaged()[0].1.is_corrupt(), "{:?}", store.damaged());
    disk.denied.store(false, Ordering::Relaxed);
    let lender = options().open(ROOT).unwrap();
    assert_eq!(lender.prune(1).unwrap().in_use.len(), 0, "that is the newest");
    let lent = *lender.checkpoint_ids().last().unwrap();
    assert!(lender.forget(lent).unwrap_err().is_in_use());
    let _ = store.prune(1).unwrap();
    assert!(lender.forget(lent).unwrap_err().is_in_use());
    drop(store);
    assert_eq!(content(&options().open(OURS).unwrap().latest().unwrap().unwrap()), expected);
}

#[test]
fn what_is_lent_stays_as_long_as_the_borrower_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let [theirs, ours] = ["theirs", "ours"].map(|name| dir.path().join(name));
    let lender = Store::open(&theirs).unwrap();
    let first = commit_all_kinds(&lender, 1).unwrap();
    let expected = content(&first);
    drop(first);
    let borrower = Store::open(&ours).unwrap();
    let _ = borrower.import(&theirs, Claim::Borrow).unwrap();
    commit_all_kinds(&lender, 2).unwrap();
    assert_eq!(lender.prune(1).unwrap().in_use.len(), 1);
    drop(borrower);
    let borrower = Store::open(&ours).unwrap();
    assert_eq!(lender.prune(1).unwrap().in_use.len(), 1, "after a restart as well");
    assert_eq!(content(&borrower.latest().unwrap().unwrap()), expected);
    go_on(&borrower, 1, 5).unwrap();
    let _ = borrower.prune(1).unwrap();
    assert_eq!(lender.prune(1).unwrap().checkpoints.len(), 1, "nobody needs it any more");
    assert_whole(&borrower);
    assert_whole(&lender);
}

#[test]
fn reader_of_a_borrower_keeps_the_lender_too() {
    let dir = tempfile::tempdir().unwrap();
    let [theirs, ours] = ["theirs", "ours"].map(|name| dir.path().join(name));
    let lender = Store::open(&theirs).unwrap();
    commit_all_kinds(&lender, 1).unwrap();
    let _ = Store::open(&ours).unwrap().import(&theirs, Claim::Borrow).unwrap();
    let reader = Options::new().open_read_only(&ours).unwrap();
    let open = reader.latest().unwrap().unwrap();
    commit_all_kinds(&lender, 2).unwrap();
    assert_eq!(lender.prune(1).unwrap().in_use.len(), 1);
    drop(open);
    assert_eq!(lender.prune(1).unwrap().checkpoints.len(), 1);
}

#[test]
fn export_of_a_checkpoint_that_borrows_is_self_contained_and_so_is_a_copy_of_it() {
    let disk = SimDisk::new();
    let expected = source(&disk).1;
    let store = options(&disk).open(OURS).unwrap();
    let imported = store.import(ROOT, Claim::Borrow).unwrap().checkpoint;
    store.export(imported.id(), TARGET).unwrap();
    let second = options(&disk).open("/second").unwrap();
    let _ = second.import(OURS, Claim::Borrow).unwrap();
    assert_eq!(second.lenders()[0].root().to_str(), Some(ROOT), "the owner, and not whoever borrowed before");
    let third = options(&disk).open("/third").unwrap();
    let copied = third.import(OURS, Claim::Copy).unwrap().checkpoint;
    assert!(third.lenders().is_empty() && copied.manifest().lenders().next().is_none());
    drop((copied, third, imported, store));
    assert_eq!(content(&second.latest().unwrap().unwrap()), expected);
    remove_all(&disk, ROOT);
    for root in [TARGET, "/third"] {
        let reader = options(&disk).open_read_only(root).unwrap();
        assert_eq!(content(&reader.latest().unwrap().unwrap()), expected, "{root}");
    }
}

#[test]
fn borrower_can_be_moved_and_the_lender_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let [theirs, ours, moved] = ["theirs", "ours", "moved"].map(|name| dir.path().join(name));
    let lender = Store::open(&theirs).unwrap();
    let first = commit_all_kinds(&lender, 1).unwrap();
    let expected = content(&first);
    drop((first, lender));
    let _ = Store::open(&ours).unwrap().import(&theirs, Claim::Borrow).unwrap();
    fs::rename(&ours, &moved).unwrap();
    assert_eq!(content(&Store::open(&moved).unwrap().latest().unwrap().unwrap()), expected);
    fs::rename(&theirs, dir.path().join("away")).unwrap();
    let store = Store::open(&moved).unwrap();
    let error = store.latest().unwrap_err();
    assert!(error.is_unavailable() && error.path().unwrap().starts_with(&theirs), "{error}");
}

#[test]
fn what_is_lent_is_never_linked_because_its_owner_may_go_on_writing() {
    let disk = SimDisk::new();
    let (lender, expected) = source(&disk);
    let store = options(&disk).open(OURS).unwrap();
    let imported = store.import(ROOT, Claim::Borrow).unwrap().checkpoint;
    let old = handles(&imported);
    let pending = store.begin_next().unwrap();
    assert!(old.iter().all(|handle| !pending.can_fast_duplicate(handle, Scope::Exclusive)));
    pending.duplicate(&old, Scope::Exclusive).unwrap();
    drop(pending);
    let exported = store.export(imported.id(), TARGET).unwrap();
    let quiet = options(&disk).open("/quiet").unwrap();
    let _ = quiet.import(OURS, Claim::Borrow).unwrap();
    quiet.close().unwrap();
    let third = options(&disk).open("/third").unwrap();
    let copied = third.import("/quiet", Claim::Copy).unwrap();
    let moved = third.import("/quiet", Claim::Move).unwrap();
    let all = [&exported.files, &copied.files, &moved.files];
    assert!(all.into_iter().flatten().all(|file| file.way != piton::Way::Linked));
    assert_eq!(disk.count(piton::testing::Call::Link), 0);
    let before = files(&disk, TARGET.as_ref());
    go_on(&lender, 3, 8).unwrap();
    assert_eq!(files(&disk, TARGET.as_ref()), before);
    assert_eq!(content(&moved.checkpoint), expected);
}

#[test]
fn much_is_copied_by_reuse_as_well_because_it_is_not_ours() {
    let disk = SimDisk::new();
    let lender = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    let pending = lender.begin_next().unwrap();
    let manifest = (0..8).fold(Manifest::builder(), |manifest, n| {
        manifest.state(n.to_string(), pending.write(Scope::Shared, &bytes(n, 700_000)).unwrap())
    });
    pending.commit(manifest).unwrap();
    lender.close().unwrap();
    let store = options(&disk).write_buffer(1000).open(OURS).unwrap();
    let imported = store.import(ROOT, Claim::Borrow).unwrap().checkpoint;
    let pending = store.begin_next().unwrap();
    let new = pending.reuse(&handles(&imported)).unwrap();
    assert!(handles(&imported).iter().zip(&new).all(|(old, new)| old != new), "5.6 MB, and nothing was written anew");
}

#[test]
fn pending_checkpoint_cannot_commit_what_the_newest_has_done_without_meanwhile() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let store = options(&disk).relocation(false).open(OURS).unwrap();
    let imported = store.import(ROOT, Claim::Borrow).unwrap().checkpoint;
    let lent = imported.manifest().state("6").unwrap().clone();
    let [first, second] = [0, 1].map(|_| store.begin_next().unwrap());
    second.reuse(std::slice::from_ref(&lent)).unwrap();
    first.commit(Manifest::builder()).unwrap();
    let error = second.commit(Manifest::builder().state("s", lent)).unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn borrower_whose_lender_cannot_be_had_is_passed_over_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let [theirs, ours, away] = ["theirs", "ours", "away"].map(|name| dir.path().join(name));
    let expected = content(&commit_all_kinds(&Store::open(&theirs).unwrap(), 1).unwrap());
    let open = || Options::new().retain(1).open(&ours).unwrap();
    let store = open();
    let own = content(&commit_all_kinds(&store, 5).unwrap());
    let _ = store.import(&theirs, Claim::Borrow).unwrap();
    drop(store);
    fs::rename(&theirs, &away).unwrap();
    for in_its_place in [false, true] {
        if in_its_place {
            fs::write(&theirs, b"a file").unwrap();
        }
        let reader = Options::new().open_read_only(&ours).unwrap();
        assert!(reader.latest().unwrap_err().is_unavailable(), "retention has removed the other one");
        let store = open();
        assert_eq!(store.lenders().len(), 1);
        assert!(store.latest().unwrap_err().is_unavailable());
        assert!(store.prune(1).unwrap().checkpoints.is_empty());
        store.close().unwrap();
    }
    let store = open();
    commit_all_kinds(&store, 6).unwrap();
    commit_all_kinds(&store, 7).unwrap();
    assert!(store.checkpoint_ids().contains(&super::id(2)), "it is no damage, and not pruned");
    assert_eq!(Options::new().open_read_only(&ours).unwrap().latest().unwrap().unwrap().id().get(), 4);
    drop(store);
    fs::remove_file(&theirs).unwrap();
    fs::rename(&away, &theirs).unwrap();
    let store = open();
    assert_eq!(content(&store.checkpoint(super::id(2)).unwrap()), expected);
    assert_ne!(own, expected);
    let _ = store.forget(super::id(2)).unwrap();
}

#[test]
fn nobody_borrows_from_oneself_or_without_a_pin() {
    let disk = SimDisk::new();
    let (store, _) = source(&disk);
    assert!(store.import(ROOT, Claim::Borrow).unwrap_err().is_invalid());
    drop(store);
    let ours = options(&disk).open(OURS).unwrap();
    for (code, is_unavailable) in [(5, true), (37, true), (13, false), (24, false)] {
        // The first is that of the reader who opens the source.
        disk.fail_nth(piton::testing::Call::LockShared, 2, piton::testing::Fault::Error(code));
        let error = ours.import(ROOT, Claim::Borrow).unwrap_err();
        assert!(error.path().unwrap().starts_with(ROOT), "{error}");
        // What this process may not or cannot do says nothing of the source.
        assert!(if is_unavailable { error.is_unavailable() } else { error.raw_os_error() == Some(code) }, "{error}");
    }
    assert!(ours.checkpoint_ids().is_empty() && ours.usage().borrowed_files == 0 && ours.lenders().is_empty());
}

#[test]
fn nor_what_it_does_without_while_that_is_just_being_committed() {
    let disk = HookedDisk::new();
    drop(source(&disk.disk));
    let store = options(&disk).relocation(false).open(OURS).unwrap();
    let imported = store.import(ROOT, Claim::Borrow).unwrap().checkpoint;
    let lent = imported.manifest().state("6").unwrap().clone();
    let [first, second] = [0, 1].map(|_| store.begin_next().unwrap());
    let new = second.write(Scope::Shared, &bytes(3, 3000)).unwrap();
    set(&disk.before_data_sync, move || drop(first.commit(Manifest::builder()).unwrap()));
    let error = second.commit(Manifest::builder().state("s", lent).state("new", new)).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert_eq!(store.checkpoint_ids().len(), 2);
}

#[test]
fn what_was_given_up_by_its_owner_is_not_read_although_its_file_is_there() {
    let disk = SimDisk::new();
    let (lender, expected) = source(&disk);
    lender.close().unwrap();
    let store = options(&disk).open(OURS).unwrap();
    let _ = store.import(ROOT, Claim::Borrow).unwrap();
    drop(store);
    let lender = options(&disk).relocation(false).open(ROOT).unwrap();
    go_on(&lender, 0, 2).unwrap();
    assert!(lender.prune(1).unwrap().in_use.is_empty());
    let store = options(&disk).open(OURS).unwrap();
    let error = store.latest().unwrap_err();
    let lent = Path::new(ROOT).join("00000000000000000002");
    assert!(error.is_unavailable() && error.path() == Some(&lent), "{error}");
    assert!(options(&disk).open_read_only(OURS).unwrap().latest().unwrap_err().is_unavailable());
    assert_eq!(content(&lender.latest().unwrap().unwrap()).1, expected.1);
}

#[test]
fn lent_file_that_is_cut_short_while_we_are_open_lets_nothing_of_ours_go() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let store = options(&disk).open(OURS).unwrap();
    commit_all_kinds(&store, 5).unwrap();
    let imported = store.import(ROOT, Claim::Borrow).unwrap().checkpoint;
    let handle = imported.manifest().state("6").unwrap().clone();
    let path = longest(&disk, ROOT.as_ref());
    let mut kept = Vec::new();
    disk.damage(&path, |bytes| kept = bytes.split_off(1000)).unwrap();
    let pending = store.begin_next().unwrap();
    let errors = [
        imported.read(&handle).unwrap_err(),
        pending.reuse(std::slice::from_ref(&handle)).unwrap_err(),
        pending.duplicate(std::slice::from_ref(&handle), Scope::Shared).unwrap_err(),
        store.export(imported.id(), TARGET).unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_unavailable() && error.path() == Some(path.as_path()), "{error}");
    }
    drop(pending);
    assert!(!store.validate(imported.id(), Validation::Full).unwrap().is_valid());
    drop(imported);
    assert!(store.prune(1).unwrap().checkpoints.is_empty(), "one cannot be had now, the other is kept instead");
    disk.damage(&path, |bytes| bytes.extend(kept)).unwrap();
    assert_eq!(store.latest().unwrap().unwrap().id().get(), 2);
    assert_whole(&store);
    assert_eq!(store.prune(1).unwrap().checkpoints.len(), 1);
}

#[test]
fn store_under_another_name_is_still_oneself() {
    let dir = tempfile::tempdir().unwrap();
    let [ours, link] = ["ours", "link"].map(|name| dir.path().join(name));
    let store = Store::open(&ours).unwrap();
    commit_all_kinds(&store, 1).unwrap();
    std::os::unix::fs::symlink(&ours, &link).unwrap();
    assert!(store.import(&link, Claim::Borrow).unwrap_err().is_invalid());
    let other = Store::open(dir.path().join("other")).unwrap();
    let _ = other.import(&ours, Claim::Borrow).unwrap();
    assert!(store.import(other.root(), Claim::Borrow).unwrap_err().is_invalid());
    let _ = store.import(other.root(), Claim::Copy).unwrap();
    assert_whole(&store);
}

#[test]
fn descriptors_that_have_run_out_are_no_reason_to_pass_over_a_checkpoint() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let store = options(&disk).open(OURS).unwrap();
    commit_all_kinds(&store, 5).unwrap();
    let _ = store.import(ROOT, Claim::Borrow).unwrap();
    drop(store);
    disk.fail_nth(piton::testing::Call::LockShared, 1, piton::testing::Fault::Error(24));
    assert_eq!(options(&disk).open(OURS).unwrap_err().raw_os_error(), Some(24));
    let store = options(&disk).open(OURS).unwrap();
    assert_eq!(store.latest().unwrap().unwrap().id().get(), 2);
    let reader = options(&disk).open_read_only(OURS).unwrap();
    disk.fail_nth(piton::testing::Call::LockShared, 2, piton::testing::Fault::Error(24));
    assert_eq!(reader.latest().unwrap_err().raw_os_error(), Some(24));
}

#[test]
fn checkpoint_that_its_store_forgets_just_before_it_is_locked_is_not_lent() {
    let disk = HookedDisk::new();
    drop(source(&disk.disk));
    let store = options(&disk).open(OURS).unwrap();
    commit_all_kinds(&store, 5).unwrap();
    let _ = store.import(ROOT, Claim::Borrow).unwrap();
    drop(store);
    let other = disk.disk.clone();
    set(&disk.before_shared_lock, move || {
        let lender = options(&other).open(ROOT).unwrap();
        assert_eq!(lender.forget(super::id(2)).unwrap().checkpoints, [super::id(2)]);
    });
    let store = options(&disk).open(OURS).unwrap();
    let damaged = &store.open_report().damaged;
    assert!(matches!(&damaged[..], [(id, error)] if id.get() == 2 && error.is_unavailable()), "{damaged:?}");
    assert_eq!(store.latest().unwrap().unwrap().id().get(), 1);
}
