//! What tests of several paths share.

pub(crate) mod allocations;
pub(crate) mod hooked;
pub(crate) mod log;
pub(crate) mod plain;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use piton::{
    Checkpoint, Durability, Manifest, Merging, Options, PendingCheckpoint, Result, Scope, StateHandle, Store,
    disk::{Disk, MemoryDisk, OsDisk},
    observe::{Progress, Task},
    testing::SimDisk,
};

/// Where tests that have a disk of their own put the store.
pub(crate) const ROOT: &str = "/state";

/// Runs a test on the real, the memory and the simulated disk.
pub(crate) fn on_every_disk(test: impl Fn(Options, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    test(Options::new().disk(OsDisk), dir.path());
    test(Options::new().disk(MemoryDisk::new()), ROOT.as_ref());
    test(Options::new().disk(SimDisk::new()), ROOT.as_ref());
}

/// What was told of progress.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToldProgress(Arc<Mutex<Vec<Progress>>>);

impl ToldProgress {
    pub(crate) fn of(&self, task: Task) -> Vec<Progress> {
        self.0.lock().unwrap().iter().filter(|progress| progress.task == task).copied().collect()
    }
}

/// Options that remember what they are told of progress.
pub(crate) fn told_to(options: Options) -> (ToldProgress, Options) {
    let told = ToldProgress::default();
    let log = told.clone();
    (told, options.progress(move |progress| log.0.lock().unwrap().push(progress)))
}

/// Opens a store on a disk, under [`ROOT`].
pub(crate) fn open(disk: &(impl Disk + Clone)) -> Result<Store> {
    Options::new().disk(disk.clone()).open(ROOT)
}

/// The same, with a file of its own for every state.
pub(crate) fn open_unmerged(disk: &(impl Disk + Clone)) -> Result<Store> {
    Options::new().disk(disk.clone()).merging(Merging::Off).open(ROOT)
}

/// Bytes that depend on every argument and compress badly.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

/// Commits one checkpoint with these states, all new and shared, under their positions as names.
pub(crate) fn commit_states(store: &Store, states: &[Vec<u8>]) -> Result<Checkpoint> {
    let pending = store.begin_next()?;
    let manifest = write_states(&pending, states)?
        .into_iter()
        .enumerate()
        .fold(Manifest::builder(), |manifest, (n, handle)| manifest.state(n.to_string(), handle));
    Ok(pending.commit(manifest)?)
}

pub(crate) fn write_states(pending: &PendingCheckpoint, states: &[Vec<u8>]) -> Result<Vec<StateHandle>> {
    states.iter().map(|bytes| pending.write(Scope::Shared, bytes)).collect()
}

/// Reads every state of a checkpoint, through views and readers, in the order of the names.
pub(crate) fn read_states(checkpoint: &Checkpoint) -> Result<Vec<(String, Vec<u8>)>> {
    let mut states = Vec::new();
    for (name, handle) in checkpoint.manifest().states() {
        let view = checkpoint.read(handle)?;
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut checkpoint.reader(handle)?, &mut read).unwrap();
        assert_eq!(read, *view, "{name}: view and reader differ");
        states.push((name.to_owned(), read));
    }
    Ok(states)
}

/// A store in memory with durable semantics off.
pub(crate) fn memory() -> Store {
    Options::memory().durability(Durability::None).open(ROOT).unwrap()
}
