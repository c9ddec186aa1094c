//! What an inspection says of a store in any condition. What is fenced off here: a number that leaves something out, damage that
//! is not found or is blamed on another checkpoint, and a look that changes something.

use std::{collections::BTreeMap, path::Path};

use piton::{
    Artifact, CheckpointId, Claim, Digest, Manifest, Merging, Options, PartitionState, Scope, Store,
    inspect::{Inspection, RecordKind},
    observe::Task,
    testing::SimDisk,
};

use crate::support::{ROOT, bytes, commit_states, on_every_disk, told_to};

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

fn inspect(disk: &SimDisk) -> Inspection {
    Options::new().disk(disk.clone()).inspect(ROOT).unwrap()
}

/// Three checkpoints: `a` and `b`; then `a`, `b` and `c`; then `b` and `c`.
fn three(options: Options, root: &Path) -> Store {
    let store = options.merging(Merging::Off).open(root).unwrap();
    let pending = store.begin_next().unwrap();
    let a = pending.write(Scope::Shared, &bytes(1, 1000)).unwrap();
    let b = pending.write(Scope::Shared, &bytes(2, 2000)).unwrap();
    let first = pending.commit(Manifest::builder().state("a", a).state("b", b)).unwrap();
    let pending = store.begin_next().unwrap();
    let c = pending.write(Scope::Shared, &bytes(3, 4000)).unwrap();
    let second = pending.commit(Manifest::based_on(first.manifest()).state("c", c)).unwrap();
    let pending = store.begin_next().unwrap();
    pending.commit(Manifest::based_on(second.manifest()).remove_state("a")).unwrap();
    store
}

#[test]
fn bytes_of_each_checkpoint_are_new_shared_and_its_own() {
    on_every_disk(|options, root| {
        let again = options.clone();
        let _store = three(options, root);
        let inspection = again.inspect(root).unwrap();
        let extents = inspection.extents();
        let found: Vec<_> =
            extents.by_checkpoint().values().map(|bytes| (bytes.all, bytes.new, bytes.unique)).collect();
        assert_eq!(found, [(3000, 3000, 0), (7000, 4000, 0), (6000, 0, 0)]);
        assert_eq!((extents.live_bytes(), extents.live_states()), (7000, 3));
        assert_eq!(extents.bytes_of_none_but(&[id(1), id(2)]), 1000, "a");
        assert_eq!(extents.bytes_of_none_but(&[id(2), id(3)]), 4000, "c");
        let sums: Vec<_> = inspection.checkpoints().iter().map(|it| (it.states, it.bytes, it.changed_bytes)).collect();
        assert_eq!(sums, [(2, 3000, 3000), (3, 7000, 4000), (2, 6000, 0)]);
        assert_eq!(extents.bytes_by_file().into_values().sum::<u64>(), 7000);
        assert_eq!(inspection.files().unwrap().len(), 3);
    });
}

#[test]
fn state_that_went_and_came_back_counts_where_it_is() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let a = pending.write(Scope::Shared, &bytes(1, 1000)).unwrap();
    let first = pending.commit(Manifest::builder().state("a", a.clone())).unwrap();
    store.begin_next().unwrap().commit(Manifest::builder()).unwrap();
    let pending = store.begin_next().unwrap();
    let kept = pending.reuse(&[a]).unwrap().remove(0);
    pending.commit(Manifest::builder().state("b", kept)).unwrap();
    drop(first);
    let found: Vec<_> = inspect(&disk).extents().by_checkpoint().values().map(|it| (it.all, it.new)).collect();
    assert_eq!(found, [(1000, 1000), (0, 0), (1000, 0)]);
}

#[test]
fn damage_is_found_in_every_checkpoint_that_names_the_state_and_in_no_other() {
    let disk = SimDisk::new();
    let store = three(Options::new().disk(disk.clone()), ROOT.as_ref());
    let sound = inspect(&disk).verify(None).unwrap();
    assert_eq!((sound.states, sound.bytes, sound.damaged.len()), (3, 7000, 0));
    let a = store.checkpoint(id(1)).unwrap().manifest().state("a").unwrap().clone();
    let inspection = inspect(&disk);
    let manifest = inspection.checkpoints()[0].manifest.as_ref().unwrap();
    let (path, offset) = inspection.place(manifest, &a).unwrap();
    for (at, what) in [(offset, "the first byte"), (offset + 999, "the last byte"), (offset + 1000, "the trailer")] {
        let flip = |bytes: &mut Vec<u8>| bytes[usize::try_from(at).unwrap()] ^= 1;
        disk.damage(&path, flip).unwrap();
        let found = inspect(&disk).verify(None).unwrap().damaged;
        assert_eq!(found.len(), 1, "{what}");
        assert!(found[0].handle == a && found[0].path == path && found[0].error.is_corrupt(), "{what}: {found:?}");
        assert_eq!(found[0].checkpoints, [id(1), id(2)], "{what}");
        assert_eq!(inspect(&disk).verify(Some(id(1))).unwrap().damaged.len(), 1, "{what}");
        assert!(inspect(&disk).verify(Some(id(3))).unwrap().damaged.is_empty(), "{what}");
        disk.damage(&path, flip).unwrap();
    }
    disk.damage(&path, |bytes| bytes.truncate(100)).unwrap();
    assert_eq!(inspect(&disk).verify(None).unwrap().damaged.len(), 1);
    disk.damage(&path, |bytes| bytes[0] ^= 1).unwrap();
    assert_eq!(inspect(&disk).verify(None).unwrap().damaged[0].checkpoints, [id(1), id(2)], "the header");
}

/// States of every length around what is read at a time, one damaged after the other.
#[test]
fn each_flipped_state_is_found_among_neighbours_that_are_whole() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).segment_size(8 << 20).inline_threshold(0).open(ROOT).unwrap();
    let lens = [1, 63, 64, 65, 4096, 131_071, 131_072, 131_073, 1 << 20, 0, 300_000, 7];
    let states: Vec<_> = lens.iter().zip(1..).map(|(len, seed)| bytes(seed, *len)).collect();
    let checkpoint = commit_states(&store, &states).unwrap();
    drop(store);
    let inspection = inspect(&disk);
    for (name, handle) in checkpoint.manifest().states() {
        let Some((path, offset)) = inspection.place(checkpoint.manifest(), handle) else { continue };
        let flip = |bytes: &mut Vec<u8>| bytes[usize::try_from(offset).unwrap()] ^= 0x80;
        disk.damage(&path, flip).unwrap();
        let found = inspect(&disk).verify(None).unwrap().damaged;
        assert!(found.len() == 1 && found[0].handle == *handle, "state {name}: {found:?}");
        disk.damage(&path, flip).unwrap();
    }
    assert!(inspect(&disk).verify(None).unwrap().damaged.is_empty());
}

#[test]
fn digests_of_one_checkpoint_are_compared() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let content = bytes(1, 5000);
    let handle = pending.write(Scope::Shared, &content).unwrap();
    let right = Artifact { handle: handle.clone(), digest: Some(Digest::of(&content)) };
    let wrong = Artifact { handle: handle.clone(), digest: Some(Digest::of(b"something else")) };
    let partition = PartitionState { snapshot: Some(right), deltas: vec![wrong], ..PartitionState::default() };
    let manifest = Manifest::builder().partition("window", 1, partition).state("plain", handle);
    pending.commit(manifest).unwrap();
    let found = inspect(&disk).verify(Some(id(1))).unwrap();
    assert_eq!((found.states, found.damaged.len()), (2, 1), "each digest once, and the state without one not again");
    assert!(inspect(&disk).verify(None).unwrap().damaged.is_empty());
}

#[test]
fn borrowed_states_are_verified_where_they_are() {
    let disk = SimDisk::new();
    let open = |root| Options::new().disk(disk.clone()).open(root).unwrap();
    let lender = open("/lender");
    commit_states(&lender, &[bytes(1, 5000)]).unwrap();
    let store = open(ROOT);
    drop(store.import("/lender", Claim::Borrow).unwrap());
    let inspection = inspect(&disk);
    let sound = inspection.verify(None).unwrap();
    assert_eq!((sound.states, sound.damaged.len()), (1, 0));
    let manifest = inspection.checkpoints()[0].manifest.as_ref().unwrap();
    let (path, offset) = inspection.place(manifest, manifest.state("0").unwrap()).unwrap();
    assert!(path.starts_with("/lender"));
    disk.damage(&path, |bytes| bytes[usize::try_from(offset).unwrap()] ^= 1).unwrap();
    assert_eq!(inspect(&disk).verify(None).unwrap().damaged[0].checkpoints, [id(1)]);
    assert_eq!(inspection.extents().live_states(), 0, "it takes no room here");
}

#[test]
fn progress_of_verify_ends_with_all() {
    let disk = SimDisk::new();
    let _store = three(Options::new().disk(disk.clone()), ROOT.as_ref());
    let (told, options) = told_to(Options::new().disk(disk));
    let _ = options.inspect(ROOT).unwrap().verify(None).unwrap();
    let last = *told.of(Task::Verify).last().unwrap();
    assert_eq!((last.items, last.all_items, last.bytes, last.all_bytes), (3, 3, 7000, 7000));
}

#[test]
fn records_are_told_in_order_and_again_what_the_engine_added() {
    let disk = SimDisk::new();
    let store = three(Options::new().disk(disk.clone()), ROOT.as_ref());
    let inspection = inspect(&disk);
    let ids = |inspection: &Inspection| {
        let records = inspection.records().unwrap().into_iter();
        records.filter_map(
            |record| if let RecordKind::Checkpoint { id, .. } = record.kind { Some(id.get()) } else { None },
        )
    };
    assert_eq!(ids(&inspection).collect::<Vec<_>>(), [1, 2, 3]);
    commit_states(&store, &[]).unwrap();
    assert_eq!(ids(&inspection).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(inspection.checkpoints().len(), 3, "they are as they were");
}

#[test]
fn inspection_changes_no_byte_and_takes_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let content = || -> BTreeMap<_, _> {
        let files = walkdir::WalkDir::new(dir.path()).into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        files.map(|entry| (entry.path().to_owned(), std::fs::read(entry.path()).unwrap())).collect()
    };
    let store = three(Options::new(), dir.path());
    let before = content();
    let inspection = Options::new().inspect(dir.path()).unwrap();
    let _ = (inspection.extents(), inspection.verify(None).unwrap(), inspection.records().unwrap(), inspection.files());
    assert_eq!(content(), before);
    commit_states(&store, &[bytes(9, 100)]).unwrap();
    store.close().unwrap();
    drop(Store::open(dir.path()).unwrap());
    drop(inspection);
}
