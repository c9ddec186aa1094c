//! Damage by hand: every kind of file, flipped, truncated, emptied, zeroed, removed. An error names the file, no wrong
//! byte is given out, and the next older checkpoint still opens.

use std::path::{Path, PathBuf};

use piton::{Error, Manifest, Merging, Options, Result, Store, disk::OsDisk};

use crate::support::{bytes, commit_states, log, read_states};

/// A store with two checkpoints that share nothing, in a directory of its own.
struct Fixture {
    dir: tempfile::TempDir,
}

pub(super) type Damage = (&'static str, fn(&Path));

pub(super) const DAMAGES: [Damage; 7] = [
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

pub(super) fn assert_names(error: &Error, path: &Path, damage: &str) {
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
