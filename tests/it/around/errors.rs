//! "Cannot be read now" is not "is damaged". What is fenced off here: out of descriptors, or without the right to read the
//! newest segment, recovery chose an older checkpoint or none, and the job began anew.

use std::sync::atomic::Ordering;

use piton::{
    CheckpointId, Maintenance, Manifest, Options, Result, Store, Validation,
    contract::CheckpointStore,
    testing::{Call, Fault, SimDisk, Survival},
};

use crate::support::{
    ROOT, bytes, commit_states,
    hooked::{HookedDisk, set},
    log::logs_on,
};

/// `EPERM`, `EINTR`, `ENOMEM`, `EACCES`, `ENFILE`, `EMFILE`, `ESTALE`.
const OF_THE_CALLER: [i32; 7] = [1, 4, 12, 13, 23, 24, 116];
/// Where a log has its records.
const BEHIND_THE_HEADERS: std::ops::Range<u64> = 2 * 4096..u64::MAX;

/// `EIO`, `ENODATA`, `EBADMSG`, `EUCLEAN`.
const OF_THE_MEDIUM: [i32; 4] = [5, 61, 74, 117];

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

fn three_checkpoints() -> (SimDisk, Store) {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    for seed in 1..=3 {
        commit_states(&store, &[bytes(seed, 5000), bytes(seed + 10, 7000)]).unwrap();
    }
    (disk, store)
}

/// Every open from the n-th on fails with this code.
fn deny(disk: &SimDisk, from: u64, code: i32) {
    (from..from + 5000).for_each(|nth| disk.fail_nth(Call::Open, nth, Fault::Error(code)));
}

/// What a search answers: the newest, an older one, or an error.
type Search = fn(&SimDisk, &Store) -> Result<Option<CheckpointId>>;

/// The first two open no file: an open store knows what its checkpoints consist of.
const SEARCHES: [(&str, Search); 6] = [
    ("latest", |_, store| Ok(store.latest()?.map(|checkpoint| checkpoint.id()))),
    ("load_latest", |_, store| Ok(store.load_latest()?.map(|manifest| manifest.id()))),
    ("recover", |_, store| Ok(store.recover_latest_validated()?.chosen)),
    ("validate", |_, store| Ok(store.validate(id(3), Validation::Full)?.is_valid().then_some(id(3)))),
    ("read-only latest", |disk, _| {
        let reader = Options::new().disk(disk.clone()).open_read_only(ROOT)?;
        Ok(reader.latest()?.map(|checkpoint| checkpoint.id()))
    }),
    ("read-only recover", |disk, _| {
        Ok(Options::new().disk(disk.clone()).open_read_only(ROOT)?.recover_latest_validated()?.chosen)
    }),
];

#[test]
fn errors_that_say_nothing_of_a_checkpoint_are_returned_and_never_remembered() {
    for code in OF_THE_CALLER {
        for (name, search) in SEARCHES {
            for from in 1..=6 {
                let (disk, store) = three_checkpoints();
                deny(&disk, from, code);
                match search(&disk, &store) {
                    Ok(found) => assert_eq!(found, Some(id(3)), "{name}: error {code} from open {from} on"),
                    Err(error) => assert_eq!(error.raw_os_error(), Some(code), "{name}, open {from}: {error}"),
                }
                disk.heal();
                assert!(store.damaged().is_empty(), "{name}: {:?}", store.damaged());
                assert_eq!(search(&disk, &store).unwrap(), Some(id(3)), "{name}");
            }
        }
    }
}

#[test]
fn bad_medium_is_passed_over_and_never_pruned_for() {
    for code in OF_THE_MEDIUM {
        for (name, search) in SEARCHES {
            let (disk, store) = three_checkpoints();
            // One of the first opens is that of a log, or of the segment of the newest checkpoint.
            let found = (1..=4).map(|from| {
                deny(&disk, from, code);
                let found = search(&disk, &store);
                disk.heal();
                found
            });
            let found: Vec<_> = found.collect();
            let passed = |found: &Result<Option<CheckpointId>>| match found {
                Ok(found) => *found != Some(id(3)),
                Err(error) => error.raw_os_error() == Some(code),
            };
            let opens = !matches!(name, "latest" | "load_latest");
            assert_eq!(found.iter().any(passed), opens, "{name}: {code}: {found:?}");
            assert!(store.damaged().is_empty(), "{name}: {:?}", store.damaged());
            assert_eq!(store.prune(3).unwrap().checkpoints, [], "{name}");
        }
    }
}

#[test]
fn prune_that_cannot_look_at_the_newest_removes_nothing() {
    for code in OF_THE_CALLER {
        let (disk, store) = three_checkpoints();
        deny(&disk, 1, code);
        assert_eq!(store.prune(1).unwrap_err().raw_os_error(), Some(code));
        disk.heal();
        assert_eq!(store.checkpoint_ids(), [id(1), id(2), id(3)]);
        assert_eq!(store.prune(1).unwrap().checkpoints, [id(1), id(2)]);
    }
}

#[test]
fn opening_fails_where_a_log_cannot_be_opened_now() {
    for code in OF_THE_CALLER {
        for from in 1..=20 {
            let (disk, store) = three_checkpoints();
            drop(store);
            deny(&disk, from, code);
            match Options::new().disk(disk.clone()).open(ROOT) {
                Ok(store) => assert!(store.damaged().is_empty(), "{:?}", store.damaged()),
                Err(error) => assert_eq!(error.raw_os_error(), Some(code), "open {from}: {error}"),
            }
            disk.heal();
            let store = Options::new().disk(disk).open(ROOT).unwrap();
            assert_eq!(store.latest().unwrap().unwrap().id(), id(3));
        }
    }
}

/// A cable, or a network, that fails in the middle of opening.
#[test]
fn opening_takes_no_log_that_cannot_be_read_for_a_blank_one() {
    let disk = SimDisk::new();
    let options = Options::new().log_size(128 << 10).maintenance(Maintenance::Manual);
    let open = |disk: &SimDisk| options.clone().disk(disk.clone()).open(ROOT);
    let store = open(&disk).unwrap();
    // The newest ones are in the second log, and there is no base.
    (1..=16).for_each(|seed| drop(commit_states(&store, &[bytes(seed, 5000)]).unwrap()));
    drop(store);
    for code in OF_THE_CALLER.into_iter().chain(OF_THE_MEDIUM) {
        for (from, reads) in (1..=30).flat_map(|from| [1, 2, 5, 20, 40, 5000].map(|reads| (from, reads))) {
            let disk = disk.cut_power(Survival::Everything);
            (from..from + reads).for_each(|nth| disk.fail_nth(Call::ReadAt, nth, Fault::Error(code)));
            let opened = open(&disk).map(|store| store.checkpoint_ids().len());
            disk.heal();
            let what = format!("error {code} from read {from} on, {reads} times");
            assert!(opened.as_ref().is_err() || opened.as_ref().is_ok_and(|found| *found == 16), "{what}: {opened:?}");
            let store = open(&disk).unwrap();
            assert_eq!(store.latest().unwrap().map(|latest| latest.id()), Some(id(16)), "{what}");
            assert!(store.damaged().is_empty() && store.open_report().lost.is_empty(), "{what}");
        }
    }
}

#[test]
fn opening_takes_no_log_that_the_medium_does_not_give_for_a_blank_one() {
    // What is interrupted is repeated.
    for code in OF_THE_CALLER.into_iter().chain(OF_THE_MEDIUM).filter(|code| *code != 4) {
        let disk = HookedDisk::new();
        let options = || Options::new().disk(disk.clone()).log_size(128 << 10).maintenance(Maintenance::Manual);
        let store = options().open(ROOT).unwrap();
        // The newest ones are in the second log, and there is no base.
        (1..=16).for_each(|seed| drop(commit_states(&store, &[bytes(seed, 5000)]).unwrap()));
        drop(store);
        let begun = logs_on(&disk.disk).swap_remove(1);
        *disk.unreadable.lock().unwrap() = Some((begun.file_name().unwrap().to_owned(), (BEHIND_THE_HEADERS, code)));
        match options().open(ROOT) {
            Err(error) => assert!(error.raw_os_error() == Some(code) || error.is_corrupt(), "error {code}: {error}"),
            Ok(store) => {
                let report = store.open_report();
                assert!(!report.lost.is_empty(), "error {code}: {:?} {report}", store.checkpoint_ids());
                assert!(
                    report.cleanup_skipped.is_some() && store.next_id().unwrap() > id(16),
                    "error {code}: {report}"
                );
            }
        }
        *disk.unreadable.lock().unwrap() = None;
        let store = options().open(ROOT).unwrap();
        assert_eq!((store.checkpoint_ids().len(), store.damaged().len()), (16, 0), "error {code}");
        assert_eq!(*store.latest().unwrap().unwrap().get("0").unwrap(), *bytes(16, 5000), "error {code}");
    }
}

#[test]
fn saving_again_what_cannot_be_read_now_is_no_conflict() {
    for code in OF_THE_CALLER {
        let (disk, store) = three_checkpoints();
        let (manifest, sidecar) = (Manifest::builder().build(id(4)), bytes(4, 5000));
        store.save_with_state(&manifest, Some(&[&sidecar])).unwrap();
        deny(&disk, 1, code);
        let again = store.save_with_state(&manifest, Some(&[&sidecar]));
        assert_eq!(again.unwrap_err().raw_os_error(), Some(code));
        disk.heal();
        store.save_with_state(&manifest, Some(&[&sidecar])).unwrap();
        assert!(store.save_with_state(&manifest, Some(&[&bytes(5, 5000)])).unwrap_err().is_conflict());
    }
}

#[test]
fn length_that_a_file_system_remembers_wrongly_is_no_damage() {
    for maps_lazily in [false, true] {
        let disk = HookedDisk { maps_lazily, ..HookedDisk::new() };
        is_read_although_lengths_are_short(&disk);
    }
}

/// A list of a directory may lack a file that is there, while others change it.
#[test]
fn file_that_only_the_second_look_of_an_open_finds_is_known_as_well() {
    let disk = HookedDisk::new();
    commit_states(&disk.open(), &[bytes(1, 5000)]).unwrap();
    disk.unlisted.store(true, Ordering::Relaxed);
    let store = disk.open();
    disk.unlisted.store(false, Ordering::Relaxed);
    assert!(store.damaged().is_empty());
    assert_eq!((store.usage().logical_files, store.usage().logical_bytes), (1, 5000));
    let first = store.latest().unwrap().unwrap();
    let second = store.begin_next().unwrap().commit(Manifest::based_on(first.manifest())).unwrap();
    drop(first);
    assert_eq!(store.prune(1).unwrap().checkpoints, [id(1)]);
    assert_eq!(*second.get("0").unwrap(), *bytes(1, 5000));
    drop(second);
    commit_states(&store, &[bytes(2, 5000)]).unwrap();
    let _ = store.prune(1).unwrap();
    assert_eq!((store.usage().logical_files, store.usage().physical_files), (1, 1));
}

#[test]
fn where_memory_has_no_room_for_a_whole_file_its_states_are_mapped_each_by_itself() {
    let disk = HookedDisk { maps_lazily: true, most_mapped: 6000, ..HookedDisk::new() };
    let store = disk.open();
    let checkpoint = commit_states(&store, &[bytes(1, 5000), bytes(2, 5000), bytes(3, 6001)]).unwrap();
    for _ in 0..2 {
        assert_eq!(*checkpoint.get("0").unwrap(), *bytes(1, 5000));
        assert_eq!(*checkpoint.get("1").unwrap(), *bytes(2, 5000));
        let error = checkpoint.get("2").unwrap_err();
        assert!(!error.is_corrupt(), "{error}");
    }
    assert!(store.damaged().is_empty());
}

fn is_read_although_lengths_are_short(disk: &HookedDisk) {
    let store = disk.open();
    for seed in 1..=3 {
        commit_states(&store, &[bytes(seed, 5000)]).unwrap();
    }
    *disk.short_by.lock().unwrap() = 6000;
    assert_eq!(store.latest().unwrap().unwrap().id(), id(3));
    let newest = store.latest().unwrap().unwrap();
    let handle = newest.manifest().state("0").unwrap();
    assert_eq!(*newest.read(handle).unwrap(), *bytes(3, 5000));
    assert!(store.validate(id(3), Validation::Quick).unwrap().is_valid());
    assert!(store.recover_latest_validated().unwrap().skipped.is_empty());
    assert_eq!(store.prune(2).unwrap().checkpoints, [id(1)]);
    let reader = Options::new().disk(disk.clone()).open_read_only(ROOT).unwrap();
    assert_eq!(reader.latest().unwrap().unwrap().id(), id(3));
    drop((newest, store));
    let store = disk.open();
    assert!(store.damaged().is_empty(), "{:?}", store.damaged());
    assert_eq!(store.latest().unwrap().unwrap().id(), id(3));
}

#[test]
fn damage_that_the_second_look_does_not_see_is_not_remembered() {
    let disk = HookedDisk::new();
    let store = disk.open();
    for seed in 1..=2 {
        commit_states(&store, &[bytes(seed, 5000)]).unwrap();
    }
    let newest = store.latest().unwrap().unwrap();
    let handle = newest.manifest().state("0").unwrap().clone();
    let once = |disk: &HookedDisk| set(&disk.garble_a_read, || ());
    once(&disk);
    assert_eq!(*newest.read(&handle).unwrap(), *bytes(2, 5000), "read again, through a file that is opened anew");
    drop(newest);
    once(&disk);
    assert!(store.validate(id(2), Validation::Full).unwrap().is_valid());
    once(&disk);
    assert_eq!(store.latest().unwrap().unwrap().id(), id(2));
    assert!(store.damaged().is_empty(), "{:?}", store.damaged());
}
