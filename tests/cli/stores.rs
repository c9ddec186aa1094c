//! Stores with every kind of trouble. Each is the same from run to run, but for its identity.

use std::{fs, io::Write as _, path::Path};

use piton::{
    CheckpointKind, ConnectorOffset, Manifest, Member, Options, PartitionState, Scope, StateHandle, Store,
    disk::OsDisk, list_segment,
};

/// Seed and length of every state in a data file of [`sound`].
pub(crate) const WRITTEN: [(u64, usize); 9] =
    [(1, 5000), (2, 5000), (3, 5000), (4, 5000), (11, 2000), (12, 2000), (13, 2000), (14, 2000), (21, 9000)];

pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state >> 56).unwrap()
    };
    (0..len).map(|_| next()).collect()
}

fn options() -> Options {
    Options::new().log_size(128 << 10).redo_size(0)
}

/// Four checkpoints: the first is pinned, the second a savepoint, and all of them share a state.
fn fill(store: &Store) {
    let mut newest = None;
    for n in 1..=4_u64 {
        let pending = store.begin_next().unwrap();
        let write = |scope, seed, len| pending.write(scope, &bytes(seed, len)).unwrap();
        let counts = write(Scope::Shared, n, 5000);
        let delta = write(Scope::Exclusive, 10 + n, 2000);
        let mut manifest = newest.as_ref().map_or_else(
            || Manifest::builder().state("model", write(Scope::Shared, 21, 9000)),
            |newest: &piton::Checkpoint| Manifest::based_on(newest.manifest()),
        );
        if n == 2 {
            manifest = manifest.kind(CheckpointKind::Savepoint);
        }
        let offsets = [("partition-0".to_owned(), (n * 100).to_string())].into();
        let offset = ConnectorOffset { offsets, epoch: n, ..ConnectorOffset::default() };
        let partition = PartitionState { deltas: vec![delta.into()], ..PartitionState::default() };
        let checkpoint = pending
            .commit(
                manifest
                    .timestamp_ms(1_700_000_000_000 + n * 60_000)
                    .state("counts", counts)
                    .state("tiny", StateHandle::inline(b"tiny"))
                    .partition("window", 1, partition)
                    .source_offset("clicks", offset)
                    .metadata("job", b"42"),
            )
            .unwrap();
        newest = Some(checkpoint);
    }
    store.pin(newest.as_ref().unwrap().id()).unwrap();
    store.unpin(newest.unwrap().id()).unwrap();
    store.pin(store.checkpoint_ids()[0]).unwrap();
}

pub(crate) fn sound(root: &Path) {
    fill(&options().open(root).unwrap());
}

pub(crate) fn empty(root: &Path) {
    drop(options().open(root).unwrap());
}

pub(crate) fn no_store(root: &Path) {
    fs::create_dir_all(root).unwrap();
}

/// The files in a directory of a store, sorted.
fn files(root: &Path, dir: &str, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(path).unwrap();
    change(&mut content);
    fs::write(path, content).unwrap();
}

/// Flips a byte of the record with this text, in so many of its copies.
fn flip_record(root: &Path, copies: usize) {
    for log in files(root, "manifests", "log") {
        change(&log, |content| {
            let needle = b"window";
            let found = (0..content.len() - needle.len()).filter(|at| content[*at..].starts_with(needle));
            let found: Vec<_> = found.collect();
            // Each record has it in both halves: those of the second checkpoint.
            let half = found.len() / 2;
            let which = [found.get(1), found.get(half + 1)];
            which.into_iter().flatten().take(copies).for_each(|at| content[*at] ^= 0xff);
        });
    }
}

pub(crate) fn record_lost(root: &Path) {
    sound(root);
    flip_record(root, 2);
}

pub(crate) fn record_once(root: &Path) {
    sound(root);
    flip_record(root, 1);
}

pub(crate) fn data_file_missing(root: &Path) {
    sound(root);
    fs::remove_file(&files(root, "exclusive", "seg")[0]).unwrap();
}

pub(crate) fn data_file_short(root: &Path) {
    sound(root);
    change(&files(root, "shared", "seg")[0], |content| content.truncate(content.len() - 1000));
}

/// The newest state in the shared segment.
pub(crate) fn state_flipped(root: &Path) {
    sound(root);
    let segment = &files(root, "shared", "seg")[0];
    let last = list_segment(OsDisk, segment).unwrap().pop().unwrap();
    change(segment, |content| content[usize::try_from(last.offset).unwrap() + 100] ^= 1);
}

pub(crate) fn identity_lost(root: &Path) {
    sound(root);
    fs::remove_file(root.join("piton.store")).unwrap();
}

pub(crate) fn log_lost(root: &Path) {
    sound(root);
    fs::remove_dir_all(root.join("manifests")).unwrap();
}

/// A data file that nothing names, a temporary file, and a name of somebody else's.
pub(crate) fn leftovers(root: &Path) {
    sound(root);
    let segment = &files(root, "shared", "seg")[0];
    fs::copy(segment, root.join("shared/00000001-001-0000000077.seg")).unwrap();
    fs::File::create(root.join("shared/.tmp-0123456789ab")).unwrap().write_all(b"half").unwrap();
    fs::write(root.join("shared/notes.txt"), "mine").unwrap();
}

/// The version of the identity is one higher, with the right checksum.
pub(crate) fn newer_format(root: &Path) {
    sound(root);
    change(&root.join("piton.store"), |content| {
        for at in [0, 4096] {
            content[at + 8] += 1;
            let crc = crc32fast::hash(&content[at..at + 40]).to_le_bytes();
            content[at + 40..at + 44].copy_from_slice(&crc);
        }
    });
}

pub(crate) fn half_an_export(root: &Path) {
    sound(root);
    fs::remove_file(root.join("piton.store")).unwrap();
    fs::write(root.join("piton.partial"), b"").unwrap();
}

/// A store that is open, with a member, while a checkpoint is being written.
pub(crate) fn in_use(root: &Path) -> (Member, piton::PendingCheckpoint, Store) {
    let store = options().open(root).unwrap();
    fill(&store);
    let member = Options::new().join(root, &store.admit().unwrap()).unwrap();
    let pending = store.begin_next().unwrap();
    pending.write(Scope::Shared, &bytes(77, 3 << 20)).unwrap();
    (member, pending, store)
}
