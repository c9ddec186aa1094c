//! Whether every byte that checkpoints name is what was written.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
};

use super::{Inspection, extents::each_change};
use crate::{
    disk::layout,
    error::{Error, Result},
    handle::{Extent, StateHandle},
    id::{CheckpointId, FileId},
    manifest::{DataFile, Digest, DigestHasher, Manifest, ManifestContent, StateChange},
    observe::{Progress, Task},
    options::Verify,
    read::{InOrder, ReadSettings, check_digest},
};

const OPERATION: &str = "verify";
/// Progress is told whenever so many bytes more are done.
const TOLD_EVERY: u64 = 4 << 20;

/// What [`Inspection::verify`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verified {
    /// How many states were read, each once.
    pub states: u64,
    /// How many bytes these have.
    pub bytes: u64,
    /// Those that are not what was written, in the order in which they lie in their files.
    pub damaged: Vec<DamagedState>,
}

/// A state whose bytes are not what was written: [`Inspection::verify`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DamagedState {
    /// The handle that checkpoints name it by.
    pub handle: StateHandle,
    /// The data file, absolute.
    pub path: PathBuf,
    /// The checkpoints that name it, in the order in which they were published.
    pub checkpoints: Vec<CheckpointId>,
    /// What is wrong.
    pub error: Error,
}

/// The states to be read, by file.
type Wanted<'a> = BTreeMap<FileId, (DataFile, Vec<One<'a>>)>;

/// A state, and the digest that it must have, if somebody asks.
type One<'a> = (&'a StateHandle, Extent, Option<&'a Digest>);

impl Inspection {
    /// Reads the states in data files that checkpoints name, each once, in the order in which they lie in their files, and
    /// compares them with their checksums: those of one checkpoint, or of all. Those of one are compared with the digests of
    /// their artifacts as well. [`Options::progress`](crate::Options::progress) is told how far it is.
    ///
    /// Nothing keeps a checkpoint from being forgotten meanwhile, and its bytes from being given back: before you call a state
    /// damaged, look with another inspection whether the checkpoint is still there.
    ///
    /// # Errors
    ///
    /// Those of the file system that say nothing of the states. Damage is in the answer.
    pub fn verify(&self, only: Option<CheckpointId>) -> Result<Verified> {
        let wanted = self.wanted(only);
        let (states, bytes) = wanted
            .values()
            .flat_map(|(_, states)| states)
            .fold((0, 0), |(states, bytes), (_, of, _)| (states + 1, u64::saturating_add(bytes, of.len)));
        let (mut progress, mut told) = (Progress::new(Task::Verify, states, bytes), 0);
        let mut verified = Verified { states: states as u64, bytes, damaged: Vec::new() };
        let settings = ReadSettings::new(Arc::clone(&self.volume), Verify::FirstUse);
        for (data, of_file) in wanted.into_values() {
            let path = self.volume.path(layout::data_file(data.id, data.lent()));
            let opened = damage_or(settings.open_verified(data))?;
            let mut in_order = opened.as_ref().map(InOrder::of);
            for (handle, extent, digest) in of_file {
                let found = match &mut in_order {
                    Ok(in_order) => verify(in_order, &extent, digest),
                    Err(error) => Err((*error).clone()),
                };
                if let Err(error) = damage_or(found)? {
                    let (handle, path) = (handle.clone(), path.clone());
                    verified.damaged.push(DamagedState { handle, path, checkpoints: Vec::new(), error });
                }
                progress.done(extent.len);
                if progress.bytes - told >= TOLD_EVERY {
                    told = progress.bytes;
                    self.volume.observer().progress(progress);
                }
            }
        }
        self.volume.observer().progress(progress);
        self.name_checkpoints(&mut verified.damaged);
        Ok(verified)
    }

    fn wanted(&self, only: Option<CheckpointId>) -> Wanted<'_> {
        let mut wanted = Wanted::new();
        let mut add = |manifest: &Manifest, handle, digest| {
            let Some(extent) = StateHandle::extent(handle) else { return };
            let data = || manifest.data_file(extent.file);
            let (_, of_file) = wanted.entry(extent.file).or_insert_with(|| (data(), Vec::new()));
            of_file.push((handle, extent, digest));
        };
        if let Some(only) = only {
            let found = self.checkpoints.iter().find(|checkpoint| checkpoint.id == only);
            let manifest = found.and_then(|checkpoint| checkpoint.manifest.as_ref().ok());
            for (manifest, state) in manifest.into_iter().flat_map(|of| of.all_states().map(move |state| (of, state))) {
                add(manifest, state.handle, state.digest);
            }
        } else {
            each_change(&self.checkpoints, |checkpoint, change| {
                if let (StateChange::Added(handle), Ok(manifest)) = (change, &checkpoint.manifest) {
                    add(manifest, handle, None);
                }
            });
        }
        for (_, of_file) in wanted.values_mut() {
            of_file.sort_by_key(|(_, extent, digest)| (extent.offset, extent.len, extent.crc, digest.is_none()));
            // What two names stand for is read once, unless they ask for different digests.
            of_file
                .dedup_by(|(_, later, asked), (_, first, asks)| later == first && (asked.is_none() || asked == asks));
        }
        wanted
    }

    /// Finds out which checkpoints name these states.
    fn name_checkpoints(&self, damaged: &mut [DamagedState]) {
        if damaged.is_empty() {
            return;
        }
        // How often the checkpoint that was looked at last names each of them.
        let mut named: HashMap<_, i64> = damaged.iter().map(|state| (state.handle.clone(), 0)).collect();
        let nothing = ManifestContent::default();
        let mut older = &nothing;
        for checkpoint in &self.checkpoints {
            let Ok(manifest) = &checkpoint.manifest else { continue };
            manifest.content.state_changes(older, |change| {
                let (StateChange::Added(handle) | StateChange::Removed(handle)) = change;
                let more = if matches!(change, StateChange::Added(_)) { 1 } else { -1 };
                named.entry(handle.clone()).and_modify(|names| *names += more);
            });
            older = &manifest.content;
            for state in damaged.iter_mut().filter(|state| named.get(&state.handle).is_some_and(|names| *names > 0)) {
                state.checkpoints.push(checkpoint.id);
            }
        }
    }
}

/// What says nothing of the bytes is not damage, and goes to the caller.
fn damage_or<T>(found: Result<T>) -> Result<std::result::Result<T, Error>> {
    match found {
        Err(error) if !error.is_damage() => Err(error),
        found => Ok(found),
    }
}

fn verify(in_order: &mut InOrder<'_>, extent: &Extent, digest: Option<&Digest>) -> Result<()> {
    let mut hasher = digest.map(|_| DigestHasher::default());
    in_order.verify(extent, |piece| {
        if let Some(hasher) = &mut hasher {
            hasher.update(piece);
        }
    })?;
    match (digest, hasher) {
        (Some(expected), Some(hasher)) => check_digest(extent.offset, expected, &hasher.finish())
            .map_err(|wrong| wrong.at(OPERATION, in_order.path())),
        _ => Ok(()),
    }
}
