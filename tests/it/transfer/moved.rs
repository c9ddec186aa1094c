//! A source that is taken over: what becomes of it, whatever happens in between.

use std::path::{Path, PathBuf};

use piton::{
    Claim, Options, Store,
    disk::{At, Disk},
    testing::{Call, Fault, SimDisk, Survival},
};

use super::{assert_whole, commit_all_kinds, content, files, go_on, is_noted, names, options, remove_all, source};
use crate::support::{
    ROOT,
    hooked::{HookedDisk, set},
    log,
};

const OURS: &str = "/ours";

fn is_gone(disk: &SimDisk, root: &str) -> bool {
    disk.metadata(At::new(root.as_ref())).is_err()
}

/// Moves the source of this disk here, and cuts the power after the commit, before anything of the source is removed.
fn interrupt(disk: &SimDisk) -> SimDisk {
    let store = options(disk).open(OURS).unwrap();
    disk.fail_nth(Call::LockExclusive, 1, Fault::PowerCut);
    assert_eq!(store.import(ROOT, Claim::Move).unwrap().failures.len(), 1);
    let disk = disk.cut_power(Survival::Everything);
    assert!(is_noted(&disk, OURS));
    disk
}

/// Moves the source of this disk to this store, and cuts the power after both stores have written down what is agreed, before
/// the checkpoint is committed.
fn interrupt_before_commit(disk: &SimDisk, ours: &str) -> SimDisk {
    let interrupted = (1..).find_map(|nth| {
        let disk = disk.cut_power(Survival::Everything);
        let store = options(&disk).open(ours).unwrap();
        disk.fail_nth(Call::SyncData, nth, Fault::PowerCut);
        store.import(ROOT, Claim::Move).unwrap_err();
        let disk = disk.cut_power(Survival::Nothing);
        assert!(options(&disk).open_read_only(ours).unwrap().checkpoint_ids().unwrap().is_empty());
        is_noted(&disk, ours).then_some(disk)
    });
    let interrupted = interrupted.unwrap();
    assert!(interrupted.metadata(At::new(&Path::new(ROOT).join("piton.departing"))).is_ok());
    interrupted
}

fn interrupted() -> (SimDisk, super::Content) {
    let disk = SimDisk::new();
    let expected = source(&disk).1;
    (interrupt(&disk), expected)
}

#[test]
fn source_goes_with_its_last_checkpoint_and_what_was_not_taken_stays() {
    let disk = SimDisk::new();
    let (store, expected) = source(&disk);
    drop(store);
    let store = options(&disk).open(OURS).unwrap();
    let imported = store.import(ROOT, Claim::Move).unwrap();
    assert_eq!((content(&imported.checkpoint), imported.failures.len()), (expected, 0));
    assert!(disk.metadata(At::new(&Path::new(ROOT).join("piton.departing"))).is_err(), "it goes on");
    let left = options(&disk).open(ROOT).unwrap();
    assert_eq!(left.checkpoint_ids(), [super::id(1)], "it had another one");
    assert_whole(&left);
    left.close().unwrap();
    let _ = store.import(ROOT, Claim::Move).unwrap();
    assert!(is_gone(&disk, ROOT) && !is_noted(&disk, OURS));
    assert_whole(&store);
}

#[test]
fn what_is_not_the_sources_stays_in_its_directory() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let (name, _) = disk.create_temp(At::new(ROOT.as_ref())).unwrap();
    disk.rename(At::new(&Path::new(ROOT).join(name)), At::new(&Path::new(ROOT).join("letter"))).unwrap();
    let _ = options(&disk).open(ROOT).unwrap().forget(super::id(1)).unwrap();
    let store = options(&disk).open(OURS).unwrap();
    let imported = store.import(ROOT, Claim::Move).unwrap();
    assert!(imported.failures.is_empty(), "{:?}", imported.failures);
    assert_eq!(files(&disk, ROOT.as_ref()).into_keys().collect::<Vec<_>>(), [Path::new(ROOT).join("letter")]);
}

#[test]
fn source_that_somebody_reads_goes_with_a_later_open() {
    let dir = tempfile::tempdir().unwrap();
    let [theirs, ours] = ["theirs", "ours"].map(|name| dir.path().join(name));
    let source = Store::open(&theirs).unwrap();
    let expected = content(&commit_all_kinds(&source, 1).unwrap());
    drop(source);
    let reader = Options::new().open_read_only(&theirs).unwrap();
    let open = reader.latest().unwrap().unwrap();
    let store = Store::open(&ours).unwrap();
    let imported = store.import(&theirs, Claim::Move).unwrap();
    assert!(matches!(&imported.failures[..], [error] if error.is_in_use()), "{:?}", imported.failures);
    assert_eq!(content(&imported.checkpoint), expected);
    drop((imported, store));
    let store = Store::open(&ours).unwrap();
    assert!(matches!(&store.open_report().failures[..], [error] if error.is_in_use()));
    assert_eq!(content(&open), expected);
    drop((open, store));
    let store = Store::open(&ours).unwrap();
    assert!(store.open_report().failures.is_empty() && !theirs.exists());
    assert_eq!(content(&store.latest().unwrap().unwrap()), expected);
}

#[test]
fn store_that_somebody_made_in_its_place_since_is_left_alone() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let _ = options(&disk).open(ROOT).unwrap().forget(super::id(1)).unwrap();
    let disk = interrupt(&disk);
    remove_all(&disk, ROOT);
    let new = options(&disk).open(ROOT).unwrap();
    commit_all_kinds(&new, 8).unwrap();
    drop(new);
    let store = options(&disk).open(OURS).unwrap();
    assert!(store.open_report().failures.is_empty() && !is_noted(&disk, OURS));
    assert_eq!(options(&disk).open(ROOT).unwrap().checkpoint_ids().len(), 1);
    assert_whole(&store);
}

#[test]
fn damaged_checkpoint_is_no_reason_to_remove_where_it_came_from() {
    let (disk, _) = interrupted();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "seg");
    let ours = files(&disk, OURS.as_ref()).into_keys().find(is_segment).unwrap();
    disk.remove(At::new(&ours)).unwrap();
    let store = options(&disk).open(OURS).unwrap();
    assert_eq!(store.open_report().damaged.len(), 1);
    assert!(is_noted(&disk, OURS), "for when it is whole again");
    let source = options(&disk).open(ROOT).unwrap();
    assert_eq!(source.checkpoint_ids().len(), 2);
    assert_whole(&source);
}

#[test]
fn note_without_a_checkpoint_is_a_leftover_and_the_source_stays() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let disk = interrupt_before_commit(&disk, OURS);
    let store = options(&disk).open(OURS).unwrap();
    assert!(store.checkpoint_ids().is_empty() && !is_noted(&disk, OURS));
    assert!(names(&disk, OURS.as_ref()).is_empty());
    assert_eq!(options(&disk).open(ROOT).unwrap().checkpoint_ids().len(), 2);
    let _ = store.import(ROOT, Claim::Move).unwrap();
    go_on(&store, 2, 9).unwrap();
    assert_whole(&store);
}

#[test]
fn note_that_names_another_store_is_not_followed() {
    for is_marked_alike in [false, true] {
        let (disk, _) = interrupted();
        // The body begins with the store that takes over.
        for path in log::logs_under(&disk, OURS.as_ref()) {
            disk.damage(&path, |log| log::change_notes(log, |body| body[0] ^= 1)).unwrap();
        }
        if is_marked_alike {
            let mark = Path::new(ROOT).join("piton.departing");
            disk.damage(&mark, |mark| log::change_frame(mark, |body| body[0] ^= 1)).unwrap();
        }
        let store = options(&disk).open(OURS).unwrap();
        assert!(store.open_report().lost.is_empty() && store.open_report().failures.is_empty());
        assert!(!is_noted(&disk, OURS));
        assert_eq!(options(&disk).open(ROOT).unwrap().checkpoint_ids().len(), 2);
        assert_whole(&store);
    }
}

#[test]
fn source_that_its_owner_opens_again_is_its_own_again() {
    let (disk, expected) = interrupted();
    let source = options(&disk).open(ROOT).unwrap();
    let own = content(&go_on(&source, 2, 8).unwrap());
    drop(source);
    let disk = disk.cut_power(Survival::Nothing);
    let store = options(&disk).open(OURS).unwrap();
    assert!(store.open_report().failures.is_empty() && !is_noted(&disk, OURS));
    assert_eq!(content(&store.latest().unwrap().unwrap()), expected);
    let source = options(&disk).open(ROOT).unwrap();
    assert_eq!(source.checkpoint_ids().len(), 3);
    assert_eq!(content(&source.latest().unwrap().unwrap()), own);
}

#[test]
fn source_that_is_open_elsewhere_waits_for_a_later_open() {
    let (disk, _) = interrupted();
    let lock = disk.try_lock(At::new(&Path::new(ROOT).join("piton.lock")), "process 7").unwrap();
    let store = options(&disk).open(OURS).unwrap();
    assert!(matches!(&store.open_report().failures[..], [error] if error.is_locked()));
    assert!(is_noted(&disk, OURS));
    drop((lock, store));
    let store = options(&disk).open(OURS).unwrap();
    assert!(store.open_report().failures.is_empty() && !is_noted(&disk, OURS));
    assert_eq!(options(&disk).open(ROOT).unwrap().checkpoint_ids(), [super::id(1)]);
}

#[test]
fn copy_of_the_source_that_was_brought_back_is_left_alone() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let copy = files(&disk, ROOT.as_ref());
    let interrupted = interrupt(&disk);
    remove_all(&interrupted, ROOT);
    for (path, bytes) in &copy {
        let (name, file) = interrupted.create_temp(At::new(path.parent().unwrap())).unwrap();
        file.write_at(bytes, 0).unwrap();
        interrupted.rename(At::new(&path.parent().unwrap().join(name)), At::new(path)).unwrap();
    }
    drop(options(&interrupted).open(OURS).unwrap());
    assert!(!is_noted(&interrupted, OURS));
    let back = options(&interrupted).open(ROOT).unwrap();
    assert_eq!(back.checkpoint_ids().len(), 2);
    assert_whole(&back);
}

#[test]
fn note_of_a_failed_attempt_says_nothing_of_another_checkpoint_with_that_id() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let disk = interrupt_before_commit(&disk, OURS);
    let store = options(&disk).open(OURS).unwrap();
    assert_eq!(commit_all_kinds(&store, 9).unwrap().id().get(), 1, "that of the failed attempt");
    drop(store);
    // What took the note back is damaged.
    let mut lost = 0;
    for path in log::logs_under(&disk, OURS.as_ref()) {
        disk.damage(&path, |log| lost += log::lose_kind(log, 8)).unwrap();
    }
    assert!(lost == 1 && is_noted(&disk, OURS));
    drop(options(&disk).open(OURS).unwrap());
    assert!(!is_noted(&disk, OURS));
    assert_eq!(options(&disk).open(ROOT).unwrap().checkpoint_ids().len(), 2);
}

#[test]
fn commit_that_fails_leaves_no_note_and_the_source_as_it_is() {
    let first = SimDisk::new();
    drop(source(&first));
    let mut was_noted = false;
    for nth in 1..=40 {
        let disk = first.cut_power(Survival::Everything);
        let store = options(&disk).open(OURS).unwrap();
        disk.fail_nth(Call::SyncData, nth, Fault::Error(28));
        // That of the source, for one, need not succeed.
        let Err(error) = store.import(ROOT, Claim::Move) else { continue };
        assert!(error.is_no_space() && !error.is_indeterminate(), "{error}");
        let taken_back = log::logs_under(&disk, OURS.as_ref()).iter().any(|path| {
            let mut log = files(&disk, OURS.as_ref()).remove(path).unwrap();
            log::lose_kind(&mut log, 8) > 0
        });
        was_noted |= taken_back;
        assert!(!is_noted(&disk, OURS) && names(&disk, OURS.as_ref()).is_empty(), "sync {nth}");
        let source = options(&disk).open(ROOT).unwrap();
        assert_eq!(source.checkpoint_ids().len(), 2);
        drop(source);
        assert!(store.import(ROOT, Claim::Move).unwrap().failures.is_empty(), "sync {nth}");
    }
    assert!(was_noted, "one of them is the commit");
}

#[test]
fn store_that_syncs_nothing_takes_nothing_over() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let store = options(&disk).durability(piton::Durability::None).open(OURS).unwrap();
    assert!(store.import(ROOT, Claim::Move).unwrap_err().is_invalid());
    let _ = store.import(ROOT, Claim::Copy).unwrap();
    assert_eq!(options(&disk).open(ROOT).unwrap().checkpoint_ids().len(), 2);
}

#[test]
fn old_copy_of_the_importing_store_may_have_files_of_the_very_same_names() {
    let dir = tempfile::tempdir().unwrap();
    let [ours, twin, export] = ["ours", "twin", "export"].map(|name| dir.path().join(name));
    Store::open(&ours).unwrap().close().unwrap();
    assert!(std::process::Command::new("cp").arg("-r").args([&ours, &twin]).status().unwrap().success());
    let store = Store::open(&twin).unwrap();
    let first = commit_all_kinds(&store, 1).unwrap();
    let expected = content(&first);
    store.export(first.id(), &export).unwrap();
    drop((first, store));
    let store = Store::open(&ours).unwrap();
    assert!(store.import(&export, Claim::Move).unwrap().failures.is_empty());
    drop(store);
    let store = Store::open(&ours).unwrap();
    assert_eq!(content(&store.latest().unwrap().unwrap()), expected);
    assert_whole(&store);
}

#[test]
fn source_that_is_to_go_to_somebody_else_since_is_left_alone() {
    let (disk, _) = interrupted();
    let disk = interrupt_before_commit(&disk, "/other");
    assert!(is_noted(&disk, OURS));
    drop(options(&disk).open(OURS).unwrap());
    assert!(!is_noted(&disk, OURS));
    let source = options(&disk).open(ROOT).unwrap();
    assert_eq!(source.checkpoint_ids().len(), 2);
    assert_whole(&source);
}

#[test]
fn store_that_is_opened_to_sync_nothing_removes_nothing_elsewhere() {
    let (disk, expected) = interrupted();
    let store = options(&disk).durability(piton::Durability::None).open(OURS).unwrap();
    assert_eq!(content(&store.latest().unwrap().unwrap()), expected);
    drop(store);
    assert!(is_noted(&disk, OURS));
    drop(options(&disk).open(OURS).unwrap());
    assert_eq!(options(&disk).open(ROOT).unwrap().checkpoint_ids(), [super::id(1)]);
}

#[test]
fn file_in_the_place_of_the_source_is_not_what_was_agreed_on() {
    let dir = tempfile::tempdir().unwrap();
    let [theirs, ours] = ["theirs", "ours"].map(|name| dir.path().join(name));
    commit_all_kinds(&Store::open(&theirs).unwrap(), 1).unwrap();
    let reader = Options::new().open_read_only(&theirs).unwrap().latest().unwrap();
    let imported = Store::open(&ours).unwrap().import(&theirs, Claim::Move).unwrap();
    assert_eq!(imported.failures.len(), 1, "somebody reads it");
    drop((imported, reader));
    std::fs::remove_dir_all(&theirs).unwrap();
    std::fs::write(&theirs, b"a file").unwrap();
    let store = Store::open(&ours).unwrap();
    assert!(store.open_report().failures.is_empty(), "{:?}", store.open_report().failures);
    assert_eq!(std::fs::read(&theirs).unwrap(), b"a file");
    let logs: Vec<_> = log::logs_in(&ours).iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(log::departing(logs.iter().map(|log| &log[..])).is_empty(), "the note is gone");
}

#[test]
fn whoever_took_the_source_over_meanwhile_keeps_it() {
    let disk = HookedDisk::new();
    drop(source(&disk.disk));
    let store = options(&disk).open(OURS).unwrap();
    let other = disk.clone();
    // When the source is open already, and looked at.
    set(&disk.after_shared_lock, move || {
        other.disk.break_locks();
        drop(options(&other).open(ROOT).unwrap());
    });
    let error = store.import(ROOT, Claim::Move).unwrap_err();
    assert!(error.is_fenced(), "{error}");
    assert!(!is_noted(&disk.disk, OURS) && disk.metadata(At::new(&Path::new(ROOT).join("piton.departing"))).is_err());
    assert_whole(&options(&disk).open(ROOT).unwrap());
}
