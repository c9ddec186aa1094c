//! Damage of the log, of bases and of the identity: what is there twice is healed; what is lost in both places is told.

use std::path::{Path, PathBuf};

use piton::{
    CheckpointId, Manifest, Options, Store,
    disk::{At, Disk},
    testing::{SimDisk, Survival},
};

use super::damage::{DAMAGES, assert_names};
use crate::support::{ROOT, bytes, commit_states, hooked::HookedDisk, log, open_unmerged, read_states};

const EIO: i32 = 5;

/// At least so many checkpoints are in the base of [`fill_a_log_with_a_base`]: no more than 16 records follow one.
const IN_BASE: u64 = 14;
/// All of its checkpoints.
const ALL: u64 = 31;

/// Opens a store so often, and commits so often, that there is a base in the middle of a log, its copy, later logs, and blank
/// ones.
fn fill_a_log_with_a_base(options: &Options, root: &Path) {
    let open = || options.clone().open(root).unwrap();
    let commit = |store: &Store, n: u64| drop(commit_states(store, &[bytes(n, 5000), bytes(n, 40)]).unwrap());
    for n in 1..=8 {
        let store = open();
        commit(&store, n);
        if n == 5 {
            store.pin(id(3)).unwrap();
            let changed = store.latest().unwrap().unwrap().manifest().clone();
            store.update_manifest(&changed.with_metadata("k", Some(b"v".to_vec()))).unwrap();
        }
    }
    let store = open();
    (9..ALL).for_each(|n| commit(&store, n));
    drop(store);
    let store = open();
    commit(&store, ALL);
    store.rollback_to(id(ALL - 1)).unwrap();
}

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

/// All that the log of [`fill_a_log_with_a_base`] says: nothing of it is lost.
fn assert_nothing_is_lost(store: &Store, what: &str) {
    let report = store.open_report();
    assert!(
        report.lost.is_empty() && report.damaged.is_empty() && report.cleanup_skipped.is_none(),
        "{what}: {report}"
    );
    assert!(report.failures.is_empty() && report.removed.is_empty(), "{what}: {report}");
    assert_eq!(store.checkpoint_ids(), (1..=ALL).map(id).collect::<Vec<_>>(), "{what}");
    (1..=ALL).for_each(|n| assert_is_whole(store, n, what));
    assert_eq!((store.pinned(), store.next_id().unwrap()), (vec![id(3)], id(ALL + 1)), "{what}");
    assert_eq!(store.latest().unwrap().unwrap().id(), id(ALL - 1), "{what}");
    assert_eq!(store.checkpoint(id(5)).unwrap().manifest().metadata("k"), Some(&b"v"[..]), "{what}");
}

fn assert_is_whole(store: &Store, n: u64, what: &str) {
    let states = read_states(&store.checkpoint(id(n)).unwrap()).unwrap();
    assert!(states[0].1 == bytes(n, 5000) && states[1].1 == bytes(n, 40), "{what}: {n}");
}

/// What the log that is lost does not have is there, no id that it may have had comes back, and the loss is told once.
fn assert_rest_is_there(open: impl Fn(bool) -> Store, what: &str) {
    let store = open(true);
    let report = store.open_report();
    assert!(
        !report.lost.is_empty() && report.cleanup_skipped.is_some() && report.removed.is_empty(),
        "{what}: {report}"
    );
    let (ids, damaged) = (store.checkpoint_ids(), store.damaged());
    assert!((1..=IN_BASE).all(|n| ids.contains(&id(n))), "{what}: {ids:?}");
    let whole = ids.iter().filter(|id| !damaged.iter().any(|(damaged, _)| damaged == *id));
    let whole: Vec<_> = whole.map(|id| id.get()).collect();
    assert!(whole.iter().filter(|n| **n <= IN_BASE).count() as u64 == IN_BASE, "{what}: {damaged:?}");
    for n in &whole {
        assert_is_whole(&store, *n, what);
    }
    assert_eq!(store.pinned(), [id(3)], "{what}");
    let next = store.next_id().unwrap();
    assert!(next > id(ALL), "{what}: {next} comes back");
    drop(store);
    let store = open(false);
    assert!(store.open_report().lost.is_empty(), "{what}: {}", store.open_report());
    assert!(store.checkpoint_ids() == ids && store.next_id().unwrap() >= next, "{what}");
    commit_states(&store, &[bytes(50, 5000)]).unwrap();
    for n in &whole {
        assert_is_whole(&store, *n, what);
    }
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in walkdir::WalkDir::new(dir).min_depth(1) {
        let entry = entry.unwrap();
        let to = copy.path().join(entry.path().strip_prefix(dir).unwrap());
        if entry.file_type().is_dir() {
            std::fs::create_dir(to).unwrap();
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
    copy
}

/// The names in the directory of the log, ascending, and the bytes of each.
fn files_of_log(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(root.join("manifests")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    files.sort();
    files
}

fn is_a(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

#[test]
fn damage_of_one_file_of_the_log_loses_nothing_or_names_the_log_that_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new().log_size(1 << 17);
    fill_a_log_with_a_base(&options, dir.path());
    let files = files_of_log(dir.path());
    let count = |extension| files.iter().filter(|(path, _)| is_a(path, extension)).count();
    assert_eq!((count("base"), count("copy")), (1, 1), "{files:?}");
    let is_begun = |(path, bytes): &&(PathBuf, Vec<u8>)| is_a(path, "log") && !log::records(bytes).is_empty();
    let last_begun = &files.iter().rfind(is_begun).unwrap().0;
    let mut refused = 0;
    for (path, _) in &files {
        for (name, damage) in DAMAGES {
            let copy = copy_of(dir.path());
            let open = |accepts| options.clone().accept_loss(accepts).open(copy.path());
            let path = copy.path().join(path.strip_prefix(dir.path()).unwrap());
            let what = format!("{name}: {}", path.display());
            damage(&path);
            let is_lost = is_a(&path, "log") && ["empty", "zero", "remove"].contains(&name);
            // What the last log may have had at its end is not known.
            let is_cut = name == "truncate" && path.file_name() == last_begun.file_name();
            let healed = match open(false) {
                Ok(store) => {
                    // A lost log was a blank one then, or all of it is in the base.
                    assert_nothing_is_lost(&store, &what);
                    store.open_report().healed.len()
                }
                Err(error) => {
                    refused += 1;
                    assert!(is_lost || is_cut, "{what}: {error}");
                    assert_names(&error, &path, &what);
                    assert!(error.to_string().contains("accept_loss"), "the remedy is named: {error}");
                    let reader = Options::new().open_read_only(copy.path()).and_then(|reader| reader.latest());
                    assert_names(&reader.unwrap_err(), &path, &what);
                    assert_rest_is_there(|accepts| open(accepts).unwrap(), &what);
                    continue;
                }
            };
            // What was damaged is there twice again. Behind a header there are bytes that say nothing.
            let store = open(false).unwrap();
            assert!(store.open_report().healed.is_empty(), "{what}: {}", store.open_report());
            assert_nothing_is_lost(&store, &what);
            drop(store);
            let files = files_of_log(copy.path());
            let of = |extension: &str| {
                files
                    .iter()
                    .filter(|(path, _)| is_a(path, extension))
                    .map(|(_, bytes)| bytes.clone())
                    .collect::<Vec<_>>()
            };
            let is_twice = of("base") == of("copy") && !of("base").is_empty();
            assert!(is_twice || healed == 0 && name == "flip a bit in the middle", "{what}: {healed}");
        }
    }
    assert!(refused >= 2 * 3, "the log in which the base stands, and the last one");
}

/// A disk with the store of [`fill_a_log_with_a_base`], and its files that are not of data, with their lengths.
fn log_with_a_base() -> (SimDisk, Vec<(usize, PathBuf)>) {
    let whole = SimDisk::new();
    fill_a_log_with_a_base(&Options::new().disk(whole.clone()), ROOT.as_ref());
    let manifests = Path::new(ROOT).join("manifests");
    let entries = whole.list(At::new(&manifests)).unwrap();
    let names = entries.iter().map(|entry| manifests.join(&entry.name));
    let with_len = |path: PathBuf| (whole.metadata(At::new(&path)).unwrap().len as usize, path);
    let files: Vec<_> = names.chain([Path::new(ROOT).join("piton.store")]).map(with_len).collect();
    assert!(["base", "copy", "log"].iter().all(|end| files.iter().any(|(_, path)| is_a(path, end))), "{files:?}");
    (whole, files)
}

/// Nothing is lost for a reader, nor for an opener, which says how much it healed.
fn healed_without_loss(options: &Options, what: &str) -> usize {
    let reader = options.clone().open_read_only(ROOT).unwrap();
    assert_eq!(reader.latest().unwrap().unwrap().id(), id(ALL - 1), "{what}");
    let store = options.clone().open(ROOT).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_nothing_is_lost(&store, what);
    store.open_report().healed.len()
}

#[test]
fn damage_of_one_sector_or_block_or_bit_of_the_log_or_the_identity_loses_nothing_and_is_healed() {
    let (whole, files) = log_with_a_base();
    let mut healed = 0;
    for (len, path) in files {
        for at in (0..len).step_by(512) {
            let sector = at..len.min(at + 512);
            let block = (at % 4096 == 0).then(|| (at..len.min(at + 4096), None));
            let bit = at + (at / 512 * 89) % sector.len();
            let damages = [(sector.clone(), Some(0xa5)), (sector, None), (bit..bit + 1, Some(1 << (bit % 8)))];
            for (damaged, by) in damages.into_iter().chain(block) {
                let what = format!("{}, {damaged:?}, {}", path.display(), by.map_or("zeros", |_| "changed"));
                let disk = whole.cut_power(Survival::Everything);
                let change = |byte: &mut u8| *byte = by.map_or(0, |by| *byte ^ by);
                disk.damage(&path, |bytes| bytes[damaged].iter_mut().for_each(change)).unwrap();
                let options = Options::new().disk(disk);
                healed += healed_without_loss(&options, &what);
                let store = options.open(ROOT).unwrap();
                assert!(store.open_report().healed.is_empty(), "{what}: {}", store.open_report());
                assert_nothing_is_lost(&store, &what);
            }
        }
    }
    assert!(healed > 20, "only {healed}");
}

#[test]
fn block_of_the_log_or_the_identity_that_the_medium_does_not_give_loses_nothing_and_is_healed() {
    let (whole, files) = log_with_a_base();
    let mut healed = 0;
    for (len, path) in files {
        for at in (0..len as u64).step_by(4096) {
            let what = format!("{}, block at {at}", path.display());
            let disk = HookedDisk { disk: whole.cut_power(Survival::Everything), ..HookedDisk::new() };
            let name = path.file_name().unwrap().to_owned();
            *disk.unreadable.lock().unwrap() = Some((name, (at..at + 4096, EIO)));
            healed += healed_without_loss(&Options::new().disk(disk.clone()), &what);
            // Also if it is given again later.
            *disk.unreadable.lock().unwrap() = None;
            assert_nothing_is_lost(&disk.open(), &what);
        }
    }
    assert!(healed > 20, "only {healed}");
}

#[test]
fn record_that_is_damaged_in_both_halves_is_lost_alone_and_told_until_that_is_accepted() {
    let disk = SimDisk::new();
    let store = open_unmerged(&disk).unwrap();
    (1..=4).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    store.pin(id(1)).unwrap();
    drop(store);
    log::lose_on(&disk, 2);
    let files = || disk.list(At::new(&Path::new(ROOT).join("shared"))).unwrap().len();
    for accepts in [false, false, true] {
        let store = Options::new().disk(disk.clone()).accept_loss(accepts).open(ROOT).unwrap();
        let report = store.open_report();
        let [lost] = &report.lost[..] else { panic!("{report}") };
        assert!(lost.is_corrupt() && is_a(lost.path().unwrap(), "log"), "{lost}");
        assert!(report.cleanup_skipped.is_some() && report.removed.is_empty(), "{report}");
        assert_eq!((store.checkpoint_ids(), store.pinned(), files()), ([1, 3, 4].map(id).to_vec(), vec![id(1)], 4));
        // They are known only by what differs from the one before.
        assert_eq!(store.damaged().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 4].map(id));
        assert_eq!(store.latest().unwrap().unwrap().id(), id(1));
        assert!(store.next_id().unwrap() > id(4));
    }
    let store = open_unmerged(&disk).unwrap();
    assert!(store.open_report().lost.is_empty() && store.open_report().cleanup_skipped.is_some());
    assert_eq!((store.damaged().len(), files()), (2, 4));
    let _ = store.forget_above(id(1)).unwrap();
    assert_eq!((store.checkpoint_ids(), files()), (vec![id(1)], 1));
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(1, 5000));
}

#[test]
fn loss_is_told_however_much_is_committed_until_it_is_accepted() {
    let disk = SimDisk::new();
    let open = || Options::new().disk(disk.clone()).log_size(128 << 10).open(ROOT).unwrap();
    let store = open();
    (1..=4).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    drop(store);
    log::lose_on(&disk, 2);
    let store = open();
    // More than a log takes, several times: a base would be due.
    (5..=60).for_each(|n| drop(commit_states(&store, &[bytes(n, 5000)]).unwrap()));
    let _ = store.maintain(0).unwrap();
    drop(store);
    let store = open();
    assert!(store.open_report().lost.len() == 1 && store.open_report().cleanup_skipped.is_some());
}

#[test]
fn id_far_above_all_others_does_not_come_back_although_its_record_is_lost() {
    let (disk, far) = (SimDisk::new(), id(1 << 40));
    let store = open_unmerged(&disk).unwrap();
    commit_states(&store, &[]).unwrap();
    drop(store.begin(far).unwrap().commit(Manifest::builder()).unwrap());
    // So that the record is not the last one.
    store.pin(id(1)).unwrap();
    drop(store);
    log::lose_on(&disk, far.get());
    let store = open_unmerged(&disk).unwrap();
    assert_eq!(store.open_report().lost.len(), 1);
    assert!(store.next_id().unwrap() > far);
}
