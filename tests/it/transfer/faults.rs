//! The power is cut at every call of an export and of an import, and every call fails once.

use std::{collections::BTreeSet, ffi::OsStr, path::Path};

use piton::{
    Claim, Options, Store, Validation,
    disk::{At, Disk},
    testing::{Call, Fault, SimDisk, Survival},
};

use super::{
    Content, EXDEV, TARGET, assert_whole, commit_all_kinds, content, files, go_on, is_noted, names, refuse_all,
};
use crate::support::ROOT;

const OURS: &str = "/ours";
const ENOSPC: i32 = 28;

/// Which calls are refused, so that each way is taken.
const WAYS: [&[Call]; 3] = [&[], &[Call::Link], &[Call::Link, Call::Reflink, Call::CopyRanges]];

const SURVIVALS: [Survival; 6] = [
    Survival::Nothing,
    Survival::Everything,
    Survival::Random(1),
    Survival::Random(2),
    Survival::Random(3),
    Survival::Random(4),
];

fn options(disk: &SimDisk) -> Options {
    super::options(disk).segment_size(60_000)
}

/// A store with two checkpoints, closed.
fn source(ways: &[Call]) -> (SimDisk, Content) {
    source_of(2, ways)
}

/// A store with one checkpoint or two, closed.
fn source_of(checkpoints: usize, ways: &[Call]) -> (SimDisk, Content) {
    let disk = SimDisk::new();
    let store = options(&disk).open(ROOT).unwrap();
    commit_all_kinds(&store, 1).unwrap();
    let expected = content(&go_on(&store, 2, 2).unwrap());
    if checkpoints == 1 {
        let _ = store.prune(1).unwrap();
    }
    store.close().unwrap();
    refuse_all(&disk, ways, EXDEV);
    (disk, expected)
}

fn latest(disk: &SimDisk, root: &str) -> Option<Content> {
    Some(content(&options(disk).open(root).unwrap().latest().unwrap()?))
}

fn is_of_store(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    matches!(extension, Some("seg" | "log" | "base" | "copy"))
}

/// An export is complete, or nobody opens it; it can be made again; the source is what it was.
fn check_export(disk: &SimDisk, expected: &Content, returned: bool) {
    let found = options(disk).open_read_only(TARGET);
    let is_there = found.as_ref().is_ok_and(|reader| {
        let checkpoint = reader.latest().unwrap().unwrap();
        assert!(reader.validate(checkpoint.id(), Validation::Full).unwrap().is_valid());
        assert_eq!(&content(&checkpoint), expected);
        true
    });
    assert!(is_there || !returned, "{found:?}");
    if !is_there && disk.metadata(At::new(TARGET.as_ref())).is_ok() {
        // Without a mark there is nothing of a store: neither data nor a log.
        let is_marked = disk.metadata(At::new(&Path::new(TARGET).join("piton.partial"))).is_ok();
        let left: Vec<_> = files(disk, TARGET.as_ref()).into_keys().filter(|path| is_of_store(path)).collect();
        assert!(is_marked || left.is_empty(), "{left:?}");
        if is_marked {
            options(disk).rebuild_identity(true).open(TARGET).unwrap_err();
        }
    }
    let store = options(disk).open(ROOT).unwrap();
    assert_eq!(store.checkpoint_ids().len(), 2);
    assert_whole(&store);
    if !is_there {
        store.export(super::id(2), TARGET).unwrap();
        assert_eq!(latest(disk, TARGET).as_ref(), Some(expected));
        assert!(options(disk).open(TARGET).unwrap().open_report().foreign.is_empty());
    }
}

fn calls_of(disk: &SimDisk, act: impl FnOnce()) -> std::ops::RangeInclusive<u64> {
    let before = disk.calls();
    act();
    before + 1..=disk.calls()
}

#[test]
fn export_that_is_interrupted_at_any_call_is_complete_or_no_store_and_can_be_made_again() {
    for ways in WAYS {
        let (disk, _) = source(ways);
        let store = options(&disk).open(ROOT).unwrap();
        let calls = calls_of(&disk, || drop(store.export(super::id(2), TARGET).unwrap()));
        assert!(calls.clone().count() > 40);
        for call in calls {
            for survival in SURVIVALS {
                let (disk, expected) = source(ways);
                let store = options(&disk).open(ROOT).unwrap();
                disk.fail(call, Fault::PowerCut);
                let returned = store.export(super::id(2), TARGET).is_ok();
                check_export(&disk.cut_power(survival), &expected, returned);
            }
        }
    }
}

#[test]
fn export_is_complete_if_the_power_goes_when_it_has_returned() {
    for ways in WAYS {
        for survival in SURVIVALS {
            let (disk, expected) = source(ways);
            options(&disk).open(ROOT).unwrap().export(super::id(2), TARGET).unwrap();
            check_export(&disk.cut_power(survival), &expected, true);
        }
    }
}

#[test]
fn every_call_of_an_export_fails_once_and_the_store_goes_on_and_the_export_can_be_made_again() {
    for ways in WAYS {
        let (disk, _) = source(ways);
        let store = options(&disk).open(ROOT).unwrap();
        let calls = calls_of(&disk, || drop(store.export(super::id(2), TARGET).unwrap()));
        let mut unknown = BTreeSet::new();
        for call in calls.clone() {
            for fault in [Fault::Error(super::EIO), Fault::Error(ENOSPC), Fault::ErrorAfter(super::EIO)] {
                for then in [None, Some(Survival::Nothing), Some(Survival::Random(1)), Some(Survival::Random(2))] {
                    let (disk, expected) = source(ways);
                    let store = options(&disk).open(ROOT).unwrap();
                    disk.fail(call, fault);
                    let exported = store.export(super::id(2), TARGET);
                    if let Err(error) = &exported {
                        assert!(error.raw_os_error().is_some(), "{error}");
                        if error.is_indeterminate() {
                            unknown.insert(call);
                        } else {
                            assert!(options(&disk).open_read_only(TARGET).is_err(), "it is there: {error}");
                        }
                    }
                    go_on(&store, 1, 9).unwrap();
                    let _ = store.forget(super::id(3)).unwrap();
                    drop(store);
                    let disk = then.map_or(disk.clone(), |survival| disk.cut_power(survival));
                    check_export(&disk, &expected, exported.is_ok());
                }
            }
        }
        // Only from the rename of the identity on.
        assert!(unknown.iter().all(|call| call + 8 > *calls.end()), "{unknown:?} of {calls:?}");
    }
}

/// The checkpoint is ours as a whole or not at all, and the source is there, or gone if the checkpoint is ours.
fn check_import(disk: &SimDisk, (claim, checkpoints): (Claim, usize), expected: &Content, returned: bool) {
    let store = options(disk).open(OURS).unwrap();
    assert!(store.open_report().damaged.is_empty(), "{:?}", store.open_report());
    assert!(store.open_report().failures.is_empty(), "{:?}", store.open_report());
    assert_whole(&store);
    let is_there = match store.latest().unwrap() {
        Some(checkpoint) => {
            assert_eq!(&content(&checkpoint), expected);
            true
        }
        None => false,
    };
    assert!(is_there || !returned);
    assert_eq!(names(disk, OURS.as_ref()).len() as u64, store.usage().physical_files, "nothing leaks");
    assert!(!is_noted(disk, OURS));
    let left = if claim == Claim::Move && is_there { checkpoints - 1 } else { checkpoints };
    if left == 0 {
        // Nothing of it, but for a directory that is empty.
        let left = disk.list(At::new(ROOT.as_ref())).unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
    } else {
        let source = options(disk).open(ROOT).unwrap();
        assert_eq!(source.checkpoint_ids().len(), left, "{claim:?}, imported: {is_there}");
        assert_whole(&source);
    }
    drop(store);
    if !is_there {
        let store = options(disk).open(OURS).unwrap();
        let imported = store.import(ROOT, claim).unwrap();
        assert!(imported.failures.is_empty());
        assert_eq!(&content(&imported.checkpoint), expected);
    }
}

/// What is imported, and how many checkpoints the source has.
const IMPORTS: [(Claim, usize); 4] = [(Claim::Copy, 2), (Claim::Move, 2), (Claim::Move, 1), (Claim::Borrow, 2)];

fn every_call_of_an_import(
    (claim, checkpoints): (Claim, usize),
    ways: &[Call],
    test: impl Fn(&SimDisk, u64, &dyn Fn(&Store) -> bool, &Content),
) {
    let (disk, _) = source_of(checkpoints, ways);
    let store = options(&disk).open(OURS).unwrap();
    let calls = calls_of(&disk, || drop(store.import(ROOT, claim).unwrap()));
    for call in calls {
        let (disk, expected) = source_of(checkpoints, ways);
        test(&disk, call, &|store| store.import(ROOT, claim).is_ok(), &expected);
    }
}

#[test]
fn import_that_is_interrupted_at_any_call_is_all_or_nothing_and_the_source_has_one_owner() {
    for import in IMPORTS {
        for ways in WAYS {
            for survival in SURVIVALS {
                every_call_of_an_import(import, ways, |disk, call, act, expected| {
                    let store = options(disk).open(OURS).unwrap();
                    disk.fail(call, Fault::PowerCut);
                    let returned = act(&store);
                    check_import(&disk.cut_power(survival), import, expected, returned);
                });
            }
        }
    }
}

#[test]
fn what_an_interrupted_move_left_to_the_next_open_may_be_interrupted_as_well() {
    // The power goes before the source is touched; then at each call of the open that goes on.
    let interrupted = || {
        let (disk, expected) = source_of(1, &[]);
        let store = options(&disk).open(OURS).unwrap();
        disk.fail_nth(Call::LockExclusive, 1, Fault::PowerCut);
        let _ = store.import(ROOT, Claim::Move).unwrap();
        (disk.cut_power(Survival::Everything), expected)
    };
    let (disk, _) = interrupted();
    let calls = calls_of(&disk, || drop(options(&disk).open(OURS).unwrap()));
    assert!(calls.clone().count() > 60);
    for call in calls {
        for survival in SURVIVALS {
            let (disk, expected) = interrupted();
            disk.fail(call, Fault::PowerCut);
            let _ = options(&disk).open(OURS);
            check_import(&disk.cut_power(survival), (Claim::Move, 1), &expected, true);
        }
    }
}

#[test]
fn every_call_of_an_import_fails_once_and_a_restart_tidies_up() {
    for import in IMPORTS {
        for ways in WAYS {
            for fault in [Fault::Error(super::EIO), Fault::Error(ENOSPC), Fault::ErrorAfter(super::EIO)] {
                every_call_of_an_import(import, ways, |disk, call, act, expected| {
                    let store = options(disk).open(OURS).unwrap();
                    disk.fail(call, fault);
                    let returned = act(&store);
                    drop(store);
                    check_import(disk, import, expected, returned);
                });
            }
        }
    }
}
