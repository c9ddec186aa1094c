//! Damage by hand: every kind of file, flipped, truncated, emptied, zeroed, removed. An error names the file, no wrong
//! byte is given out, and the next older checkpoint still opens.

use std::path::{Path, PathBuf};

use piton::{
    CheckpointId, Error, Manifest, Merging, Options, Result, Store,
    disk::{At, Disk, OsDisk},
    testing::{SimDisk, Survival},
};

use crate::support::{ROOT, bytes, commit_states, log, open_unmerged, read_states};

/// A store with two checkpoints that share nothing, in a directory of its own.
struct Fixture {
    dir: tempfile::TempDir,
}

type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 7] = [
    ("flip the first bit", |path| change(path, |bytes| bytes[0] ^= 1)),
    ("flip a bit in the middle", |path| change(path, |bytes| flip_middle(bytes))),
    ("flip the last bit", |path| change(path, |bytes| *bytes.last_mut().unwrap() ^= 0x80)),
    ("truncate", |path| change(path, |bytes| bytes.truncate(bytes.len() - 1))),
    ("empty", |path| change(path, Vec::clear)),
    ("zero", |path| change(path, |bytes| bytes.fill(0))),
    ("remove", |path| std::fs::remove_file(path).unwrap()),
];

fn flip_middle(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new().merging(Merging::WithinCheckpoint).open(dir.path()).unwrap();
        commit_states(&store, &[bytes(1, 5000), bytes(11, 100)]).unwrap();
        commit_states(&store, &[bytes(2, 5000), bytes(22, 60)]).unwrap();
        Self { dir }
    }

    fn open(&self) -> Result<Store> {
        Store::open(self.dir.path())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn newest_data(&self) -> PathBuf {
        self.path("shared/00000001-001-0000000002.seg")
    }
}

fn assert_names(error: &Error, path: &Path, damage: &str) {
    assert!(error.is_corrupt(), "{damage}: {error}");
    assert!(error.path() == Some(path) && error.to_string().contains(path.to_str().unwrap()), "{damage}: {error}");
}

fn assert_first_is_whole(store: &Store) {
    let checkpoint = store.latest().unwrap().unwrap();
    assert_eq!(checkpoint.id().get(), 1);
    let states = read_states(&checkpoint).unwrap();
    assert_eq!((&states[0].1, &states[1].1), (&bytes(1, 5000), &bytes(11, 100)));
}

#[test]
fn damaged_data_file_is_named_and_the_older_checkpoint_opens() {
    for (name, damage) in DAMAGES {
        let fixture = Fixture::new();
        damage(&fixture.newest_data());
        let store = fixture.open().unwrap();
        let id = store.checkpoint_ids()[1];
        let error = store.checkpoint(id).and_then(|checkpoint| read_states(&checkpoint)).unwrap_err();
        assert_names(&error, &fixture.newest_data(), name);
        assert_first_is_whole(&store);
    }
}

#[test]
fn data_file_damaged_while_the_checkpoint_is_open_is_named_by_views_and_readers() {
    for (name, damage) in DAMAGES {
        let fixture = Fixture::new();
        let store = fixture.open().unwrap();
        let checkpoint = store.latest().unwrap().unwrap();
        let handle = checkpoint.manifest().state("0").unwrap();
        damage(&fixture.newest_data());
        assert_names(&checkpoint.read(handle).unwrap_err(), &fixture.newest_data(), name);
        assert_names(&checkpoint.reader(handle).unwrap_err(), &fixture.newest_data(), name);
        assert_eq!(*checkpoint.read(checkpoint.manifest().state("1").unwrap()).unwrap(), *bytes(22, 60));
        assert_first_is_whole(&store);
    }
}

#[test]
fn identity_that_is_damaged_in_one_of_two_records_is_healed() {
    for (name, damage) in &DAMAGES[..4] {
        let fixture = Fixture::new();
        let id = fixture.open().unwrap().id();
        let identity = fixture.path("piton.store");
        damage(&identity);
        let store = fixture.open().unwrap();
        // Between the records there is nothing.
        let healed: &[Error] = &store.open_report().healed;
        if *name == "flip a bit in the middle" {
            assert!(healed.is_empty(), "{healed:?}");
        } else {
            assert!(healed.len() == 1 && healed[0].path() == Some(&identity), "{name}: {healed:?}");
        }
        assert_eq!((store.id(), store.generation(), store.checkpoint_ids().len()), (id, 3, 2), "{name}");
        drop(store);
        assert!(fixture.open().unwrap().open_report().healed.is_empty(), "{name}");
    }
}

#[test]
fn damaged_identity_is_named_and_can_be_made_again_from_the_log() {
    let both: Damage = ("flip a bit of both records", |path| {
        change(path, |bytes| [20, 4096 + 20].into_iter().for_each(|at| bytes[at] ^= 1));
    });
    for (name, damage) in DAMAGES.into_iter().skip(4).chain([both]) {
        let fixture = Fixture::new();
        let id = fixture.open().unwrap().id();
        let identity = fixture.path("piton.store");
        damage(&identity);
        let error = fixture.open().unwrap_err();
        assert_names(&error, &identity, name);
        assert!(error.to_string().contains("rebuild_identity"), "the remedy is named: {error}");
        let store = Options::new().rebuild_identity(true).open(fixture.dir.path()).unwrap();
        assert_eq!(store.id(), id);
        assert!(store.generation() > 2, "a generation that was used would give file names out again");
        assert_eq!(store.checkpoint_ids().len(), 2);
        read_states(&store.latest().unwrap().unwrap()).unwrap();
        commit_states(&store, &[bytes(3, 5000)]).unwrap();
    }
}

#[test]
fn rebuilt_identity_is_above_the_generation_of_every_data_file() {
    let fixture = Fixture::new();
    // Three generations without a checkpoint; the last one leaves a file behind.
    (0..2).for_each(|_| drop(fixture.open().unwrap()));
    let left = fixture.path("shared/00000009-000-0000000001.seg");
    std::fs::copy(fixture.newest_data(), &left).unwrap();
    std::fs::remove_file(fixture.path("piton.store")).unwrap();
    let store = Options::new().rebuild_identity(true).open(fixture.dir.path()).unwrap();
    assert!(store.generation() > 9);
    assert_eq!(store.open_report().removed, [Path::new("shared/00000009-000-0000000001.seg")]);
}

#[test]
fn damaged_or_removed_lock_file_hurts_nobody() {
    for (_, damage) in DAMAGES {
        let fixture = Fixture::new();
        // As a process leaves it that is killed.
        std::fs::write(fixture.path("piton.lock"), "process 1").unwrap();
        damage(&fixture.path("piton.lock"));
        read_states(&fixture.open().unwrap().latest().unwrap().unwrap()).unwrap();
    }
}

#[test]
fn record_that_contradicts_another_one_is_damage_of_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = commit_states(&store, &[bytes(1, 5003)]).unwrap();
    let shared = first.manifest().state("0").unwrap().clone();
    // Another name, so that its record says where the state is.
    let second = store.begin_next().unwrap().commit(Manifest::builder().state("1", shared)).unwrap();
    drop(store.begin_next().unwrap().commit(Manifest::based_on(second.manifest())).unwrap());
    drop((first, second, store));
    // Right in themselves: the others say, alike, that the state at the same place is shorter.
    log::change_in(dir.path(), 2, |record| {
        let len = record.windows(8).position(|field| field == 5003_u64.to_le_bytes()).unwrap();
        record[len..len + 8].copy_from_slice(&4000_u64.to_le_bytes());
    });
    let store = Store::open(dir.path()).unwrap();
    let damaged = store.damaged();
    assert_eq!(damaged.iter().map(|(id, _)| id.get()).collect::<Vec<_>>(), [2, 3]);
    for (_, error) in damaged {
        assert!(error.to_string().contains("two manifests"), "{error}");
    }
    let read = read_states(&store.latest().unwrap().unwrap()).unwrap();
    assert_eq!(read[0].1, bytes(1, 5003));
}

#[test]
fn state_at_an_offset_that_no_file_has_is_damage_of_its_checkpoint() {
    for offset in [1 << 63, u64::MAX - 60_000, i64::MAX as u64, 1 << 62] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        commit_states(&store, &[bytes(1, 5000)]).unwrap();
        commit_states(&store, &[bytes(2, 5003)]).unwrap();
        drop(store);
        log::change_in(dir.path(), 2, |record| {
            // The last one is that of the handle.
            let len = record.windows(8).rposition(|field| field == 5003_u64.to_le_bytes()).unwrap();
            record[len - 8..len].copy_from_slice(&u64::to_le_bytes(offset));
        });
        let store = Store::open(dir.path()).unwrap();
        let damaged = store.damaged();
        assert_eq!((damaged.len(), damaged[0].0.get()), (1, 2), "{offset}");
        let latest = store.latest().unwrap().unwrap();
        assert_eq!(latest.id().get(), 1);
        let reader = Options::new().open_read_only(dir.path()).unwrap();
        assert!(reader.checkpoint(latest.id().next().unwrap()).unwrap_err().is_corrupt());
        assert_eq!(reader.latest().unwrap().unwrap().id(), latest.id());
    }
}

#[test]
fn every_flipped_bit_of_a_small_data_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().disk(OsDisk).inline_threshold(0).open(dir.path()).unwrap();
    let checkpoint = commit_states(&store, &[bytes(1, 50)]).unwrap();
    let path = dir.path().join("shared/00000001-001-0000000001.seg");
    let len = std::fs::metadata(&path).unwrap().len() as usize;
    assert_eq!(len, 64 + 50 + 48);
    for bit in 0..len * 8 {
        let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
        change(&path, flip);
        let handle = checkpoint.manifest().state("0").unwrap();
        let read = checkpoint.read(handle).map(|_| ());
        // The version field of a data file reads as a newer format if its checksum says so: it cannot, for one bit.
        assert_names(&read.unwrap_err(), &path, &format!("bit {bit}"));
        change(&path, flip);
    }
    assert!(checkpoint.read(checkpoint.manifest().state("0").unwrap()).is_ok());
}

#[test]
fn data_file_that_is_cut_while_it_is_read_is_an_error_that_names_it() {
    let fixture = Fixture::new();
    let store = fixture.open().unwrap();
    let checkpoint = store.latest().unwrap().unwrap();
    let mut reader = checkpoint.reader(checkpoint.manifest().state("0").unwrap()).unwrap();
    change(&fixture.newest_data(), |bytes| bytes.truncate(64 + 1000));
    let mut read = Vec::new();
    let error = std::io::Read::read_to_end(&mut reader, &mut read).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert_names(&error.downcast::<Error>().unwrap(), &fixture.newest_data(), "cut");
    assert_eq!((read.len(), reader.remaining()), (1000, 4000));
}

#[test]
fn unverified_reading_gives_out_what_is_there_but_never_beyond_the_file() {
    let fixture = Fixture::new();
    change(&fixture.newest_data(), |bytes| bytes[100] ^= 1);
    let store = Options::new().verify(piton::Verify::Never).open(fixture.dir.path()).unwrap();
    let checkpoint = store.latest().unwrap().unwrap();
    let handle = checkpoint.manifest().state("0").unwrap();
    assert!(*checkpoint.read(handle).unwrap() != *bytes(2, 5000));
    change(&fixture.newest_data(), |bytes| bytes.truncate(1000));
    // What is mapped already is not looked at again.
    assert_eq!(checkpoint.read(handle).unwrap().len(), 5000);
    let again = store.checkpoint(checkpoint.id()).unwrap();
    assert!(again.read(handle).unwrap_err().is_corrupt());
}

/// Nothing is looked at through a mapping that was not read ahead of the look.
#[test]
fn state_that_is_cut_off_while_its_file_is_mapped_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let checkpoint = commit_states(&store, &(0..60).map(|n| bytes(n, 5000)).collect::<Vec<_>>()).unwrap();
    let view = checkpoint.get("0").unwrap();
    let file = dir.path().join("shared/00000001-001-0000000001.seg");
    change(&file, |bytes| bytes.truncate(100_000));
    assert_names(&checkpoint.get("59").unwrap_err(), &file, "cut");
    assert_eq!(*view, *bytes(0, 5000));
}

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

#[test]
fn damage_of_one_sector_or_bit_of_the_log_or_the_identity_loses_nothing_and_is_healed() {
    let whole = SimDisk::new();
    fill_a_log_with_a_base(&Options::new().disk(whole.clone()), ROOT.as_ref());
    let manifests = Path::new(ROOT).join("manifests");
    let entries = whole.list(At::new(&manifests)).unwrap();
    let names = entries.iter().map(|entry| manifests.join(&entry.name));
    let with_len = |path: PathBuf| (whole.metadata(At::new(&path)).unwrap().len as usize, path);
    let files: Vec<_> = names.chain([Path::new(ROOT).join("piton.store")]).map(with_len).collect();
    assert!(["base", "copy", "log"].iter().all(|end| files.iter().any(|(_, path)| is_a(path, end))), "{files:?}");
    let mut healed = 0;
    for (len, path) in files {
        for at in (0..len).step_by(512) {
            let sector = at..len.min(at + 512);
            let bit = at + (at / 512 * 89) % sector.len();
            for damaged in [sector.clone(), bit..bit + 1] {
                let what = format!("{}, {damaged:?}", path.display());
                let disk = whole.cut_power(Survival::Everything);
                let by = if damaged.len() == 1 { 1 << (bit % 8) } else { 0xa5 };
                disk.damage(&path, |bytes| bytes[damaged].iter_mut().for_each(|byte| *byte ^= by)).unwrap();
                let options = Options::new().disk(disk);
                let reader = options.clone().open_read_only(ROOT).unwrap();
                assert_eq!(reader.latest().unwrap().unwrap().id(), id(ALL - 1), "{what}");
                let store = options.clone().open(ROOT).unwrap();
                assert_nothing_is_lost(&store, &what);
                healed += store.open_report().healed.len();
                drop(store);
                let store = options.open(ROOT).unwrap();
                assert!(store.open_report().healed.is_empty(), "{what}: {}", store.open_report());
                assert_nothing_is_lost(&store, &what);
            }
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
