//! Checkpoints that move: duplicated, exported, imported. What is fenced off: a copy that changes or goes with its
//! original, a directory that is half a checkpoint, files that nobody owns, and files of others that we remove.

mod borrow;
mod duplicate;
mod export;
mod faults;
mod filesystems;
mod import;
mod moved;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use piton::{
    Checkpoint, CheckpointId, Manifest, Options, Result, Scope, StateHandle, Store, Validation,
    disk::{At, Disk, FileKind},
    testing::{Call, Fault, SimDisk},
};

use crate::support::{ROOT, bytes, log, read_states};

/// Where exports go on a disk of their own.
pub(super) const TARGET: &str = "/exports/savepoint";

pub(super) const EXDEV: i32 = 18;
pub(super) const EPERM: i32 = 1;
pub(super) const EMLINK: i32 = 31;
pub(super) const EOPNOTSUPP: i32 = 95;
pub(super) const REFUSALS: [i32; 4] = [EXDEV, EPERM, EMLINK, EOPNOTSUPP];
pub(super) const EIO: i32 = 5;

/// Small segments, so that there are several.
pub(super) fn options(disk: &(impl Disk + Clone)) -> Options {
    Options::new().disk(disk.clone()).inline_threshold(64).segment_size(20_000)
}

/// Lets all further calls of a kind fail with this code.
pub(super) fn refuse(disk: &SimDisk, call: Call, code: i32) {
    for nth in 1..=500 {
        disk.fail_nth(call, nth, Fault::Error(code));
    }
}

pub(super) fn refuse_all(disk: &SimDisk, calls: &[Call], code: i32) {
    for call in calls {
        refuse(disk, *call, code);
    }
}

/// Removes every file under a directory.
pub(super) fn remove_all(disk: &SimDisk, root: &str) {
    for path in files(disk, root.as_ref()).keys() {
        disk.remove(At::new(path)).unwrap();
    }
}

/// Every file under a directory, with its bytes.
pub(super) fn files(disk: &dyn Disk, root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in disk.list(At::new(root)).unwrap() {
        let path = root.join(&entry.name);
        if entry.metadata.kind == FileKind::Dir {
            all.extend(files(disk, &path));
        } else {
            let file = disk.open(At::new(&path)).unwrap();
            let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
            all.insert(path, bytes);
        }
    }
    all
}

/// The names of the data files under a directory.
pub(super) fn names(disk: &dyn Disk, root: &Path) -> Vec<PathBuf> {
    let names = files(disk, root).into_keys().map(|path| path.strip_prefix(root).unwrap().to_owned());
    names.filter(|name| name.extension().is_some_and(|extension| extension == "seg")).collect()
}

/// The path of the longest data file under a directory.
pub(super) fn longest(disk: &dyn Disk, root: &Path) -> PathBuf {
    let files = files(disk, root);
    let path = names(disk, root).into_iter().map(|name| root.join(name));
    path.max_by_key(|path| files[path].len()).unwrap()
}

/// Whether a store on a disk has a note that another store is to go.
pub(super) fn is_noted(disk: &SimDisk, root: &str) -> bool {
    let logs = files(disk, &Path::new(root).join("manifests"));
    let is_log = |(path, _): &(&PathBuf, _)| {
        let extension = path.extension().and_then(OsStr::to_str);
        assert!(matches!(extension, Some("log" | "tmp") | None), "a base may have notes: {}", path.display());
        extension == Some("log")
    };
    !log::departing(logs.iter().filter(is_log).map(|(_, bytes)| &bytes[..])).is_empty()
}

/// States of all kinds: inline, merged, in files of their own; shared and exclusive.
pub(super) fn commit_all_kinds(store: &Store, seed: u64) -> Result<Checkpoint> {
    let pending = store.begin_next()?;
    let mut manifest = Manifest::builder().timestamp_ms(1_700_000_000_000).metadata("seed", seed.to_le_bytes());
    for (n, len) in [0_usize, 10, 100, 3000, 3000, 7000, 50_000].into_iter().enumerate() {
        let scope = if n % 2 == 0 { Scope::Shared } else { Scope::Exclusive };
        manifest = manifest.state(n.to_string(), pending.write(scope, &bytes(seed + n as u64, len))?);
    }
    Ok(pending.commit(manifest)?)
}

/// Reuses every state of the newest checkpoint but for the first so many, which are written anew.
pub(super) fn go_on(store: &Store, anew: usize, seed: u64) -> Result<Checkpoint> {
    let latest = store.latest()?.unwrap();
    let pending = store.begin_next()?;
    let states: Vec<_> = latest.manifest().states().map(|(name, handle)| (name, handle.clone())).collect();
    let mut manifest = Manifest::builder().timestamp_ms(1_700_000_000_000).metadata("seed", seed.to_le_bytes());
    for (n, (name, handle)) in states.into_iter().enumerate() {
        let handle = if n < anew {
            pending.write(Scope::Shared, &bytes(seed * 100 + n as u64, 500 + n * 1000))?
        } else {
            pending.reuse(&[handle])?.remove(0)
        };
        manifest = manifest.state(name, handle);
    }
    Ok(pending.commit(manifest)?)
}

pub(super) type Content = (Vec<u8>, Vec<(String, Vec<u8>)>);

/// What a checkpoint says and has, whatever its handles are.
pub(super) fn content(checkpoint: &Checkpoint) -> Content {
    let seed = checkpoint.manifest().metadata("seed").map(<[u8]>::to_vec).unwrap_or_default();
    (seed, read_states(checkpoint).unwrap())
}

pub(super) fn assert_whole(store: &Store) {
    for id in store.checkpoint_ids() {
        let report = store.validate(id, Validation::Full).unwrap();
        assert!(report.is_valid(), "{report:?}");
    }
}

pub(super) fn handles(checkpoint: &Checkpoint) -> Vec<StateHandle> {
    checkpoint.manifest().states().map(|(_, handle)| handle.clone()).collect()
}

pub(super) fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

/// A store with two checkpoints, and the content of the second.
pub(super) fn source(disk: &SimDisk) -> (Store, Content) {
    let store = options(disk).open(ROOT).unwrap();
    commit_all_kinds(&store, 1).unwrap();
    let second = go_on(&store, 2, 2).unwrap();
    let seen = content(&second);
    (store, seen)
}
