//! A source that is taken over: what becomes of it, whatever happens in between.

use std::path::Path;

use piton::{
    Claim, Options, Store,
    disk::Disk,
    testing::{Call, Fault, SimDisk, Survival},
};

use super::{TARGET, assert_whole, commit_all_kinds, content, files, go_on, names, options, remove_all, source};
use crate::support::ROOT;

const OURS: &str = "/ours";

fn is_gone(disk: &SimDisk, root: &str) -> bool {
    disk.metadata(root.as_ref()).is_err()
}

/// Whether it is noted in our store that another one is to go.
fn is_noted(disk: &SimDisk) -> bool {
    files(disk, OURS.as_ref()).keys().any(|path| path.extension().is_some_and(|found| found == "source"))
}

#[test]
fn source_goes_with_its_last_checkpoint_and_what_was_not_taken_stays() {
    let disk = SimDisk::new();
    let (store, expected) = source(&disk);
    drop(store);
    let store = options(&disk).open(OURS).unwrap();
    let imported = store.import(ROOT, Claim::Move).unwrap();
    assert_eq!((content(&imported.checkpoint), imported.failures.len()), (expected, 0));
    let left = options(&disk).open(ROOT).unwrap();
    assert_eq!(left.checkpoint_ids(), [super::id(1)], "it had another one");
    assert_whole(&left);
    left.close().unwrap();
    store.import(ROOT, Claim::Move).unwrap();
    assert!(is_gone(&disk, ROOT) && !is_noted(&disk));
    assert_whole(&store);
}

#[test]
fn what_is_not_the_sources_stays_in_its_directory() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let (name, _) = disk.create_temp(ROOT.as_ref()).unwrap();
    disk.rename(&Path::new(ROOT).join(name), &Path::new(ROOT).join("letter")).unwrap();
    options(&disk).open(ROOT).unwrap().forget(super::id(1)).unwrap();
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
    options(&disk).open(ROOT).unwrap().forget(super::id(1)).unwrap();
    let store = options(&disk).open(OURS).unwrap();
    // The power goes after the commit, before anything of the source is removed.
    disk.fail_nth(Call::Claim, 1, Fault::PowerCut);
    let imported = store.import(ROOT, Claim::Move).unwrap();
    assert_eq!(imported.failures.len(), 1);
    let disk = disk.cut_power(Survival::Everything);
    assert!(is_noted(&disk));
    remove_all(&disk, ROOT);
    let new = options(&disk).open(ROOT).unwrap();
    commit_all_kinds(&new, 8).unwrap();
    drop(new);
    let store = options(&disk).open(OURS).unwrap();
    assert!(store.open_report().failures.is_empty() && !is_noted(&disk));
    assert_eq!(options(&disk).open(ROOT).unwrap().checkpoint_ids().len(), 1);
    assert_whole(&store);
}

#[test]
fn damaged_checkpoint_is_no_reason_to_remove_where_it_came_from() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let store = options(&disk).open(OURS).unwrap();
    disk.fail_nth(Call::Claim, 1, Fault::PowerCut);
    store.import(ROOT, Claim::Move).unwrap();
    let disk = disk.cut_power(Survival::Everything);
    let ours =
        files(&disk, OURS.as_ref()).into_keys().find(|path| path.extension().is_some_and(|e| e == "seg")).unwrap();
    disk.remove(&ours).unwrap();
    let store = options(&disk).open(OURS).unwrap();
    assert_eq!(store.open_report().damaged.len(), 1);
    assert!(is_noted(&disk), "for when it is whole again");
    let source = options(&disk).open(ROOT).unwrap();
    assert_eq!(source.checkpoint_ids().len(), 2);
    assert_whole(&source);
}

#[test]
fn note_without_a_checkpoint_is_a_leftover_and_the_source_stays() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let store = options(&disk).open(OURS).unwrap();
    disk.fail_nth(Call::RenameNew, 1, Fault::PowerCut);
    store.import(ROOT, Claim::Move).unwrap_err();
    let disk = disk.cut_power(Survival::Everything);
    assert!(is_noted(&disk), "the manifest is the first file that is renamed so");
    let store = options(&disk).open(OURS).unwrap();
    assert!(store.checkpoint_ids().is_empty() && !is_noted(&disk));
    assert!(names(&disk, OURS.as_ref()).is_empty());
    assert_eq!(options(&disk).open(ROOT).unwrap().checkpoint_ids().len(), 2);
    store.import(ROOT, Claim::Move).unwrap();
    go_on(&store, 2, 9).unwrap();
    assert_whole(&store);
}

#[test]
fn note_that_names_another_store_is_not_followed() {
    let disk = SimDisk::new();
    drop(source(&disk));
    let store = options(&disk).open(OURS).unwrap();
    disk.fail_nth(Call::Claim, 1, Fault::PowerCut);
    store.import(ROOT, Claim::Move).unwrap();
    let disk = disk.cut_power(Survival::Everything);
    let note =
        files(&disk, OURS.as_ref()).into_iter().find(|(path, _)| path.extension().is_some_and(|e| e == "source"));
    let (path, bytes) = note.unwrap();
    // Somebody copies it, with a checkpoint of the same id, into another store.
    let other = options(&disk).open(TARGET).unwrap();
    commit_all_kinds(&other, 1).unwrap();
    drop(other);
    let dir = Path::new(TARGET).join("manifests");
    let (name, file) = disk.create_temp(&dir).unwrap();
    file.write_at(&bytes, 0).unwrap();
    disk.rename(&dir.join(name), &dir.join(path.file_name().unwrap())).unwrap();
    drop(options(&disk).open(TARGET).unwrap());
    assert_eq!(options(&disk).open(ROOT).unwrap().checkpoint_ids().len(), 2);
}
