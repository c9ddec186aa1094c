//! Which checkpoints are whole, and what each of them refers to.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use super::scan::Found;
use crate::{
    accounts::retention::Facts,
    disk::{FileKind, Metadata, layout, volume::Volume},
    error::{Error, Malformed, Result},
    format::{
        identity::{Identity, TakeOver},
        segment::entry_end,
    },
    handle::{Extent, StateHandle},
    id::{CheckpointId, FileId, LAST},
    manifest::{Lender, Manifest},
    manifests::{self, Loaded},
    reclaim::registry::Registry,
};

const OPERATION: &str = "read manifest";

/// What was learned by reading every manifest.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// The first reason for which it is unknown what a checkpoint refers to.
    pub(super) unreadable: Option<Error>,
    /// The highest generation that a file has.
    pub(super) generation: u64,
    /// The checkpoints whose manifests could be read, and the generations that published them.
    pub(super) published_under: Vec<(CheckpointId, u64)>,
    /// Whether something is there that only the record of the last take-over makes invalid.
    pub(super) stale: bool,
}

/// Enters every checkpoint into the registry, damaged ones with their damage. A manifest that merely cannot be read now
/// is no damage: then the open fails.
pub(super) fn enter_all(volume: &Volume, found: &Found, identity: &Identity, registry: &Registry) -> Result<Learned> {
    let mut learned = Learned::default();
    let mut published_under = 0;
    for (id, kind) in &found.manifests {
        let load = || match kind {
            FileKind::File => manifests::load_in_parts(volume, identity.store, *id),
            _ => Err(Malformed::new(0, "it is not a regular file").at(OPERATION, &volume.path(layout::manifest(*id)))),
        };
        // A verdict takes a second look.
        match load().or_else(|error| if error.is_damage() { load() } else { Err(error) }) {
            Ok((loaded, bad_update)) => {
                let bad_update = bad_update.map(only_damage).transpose()?;
                let Loaded { manifest, pinned, updated, .. } = loaded;
                let stale = stale(volume, &manifest, &identity.take_over, published_under);
                learned.stale |= identity.take_over.outdates(*id, manifest.generation);
                let damage = stale.or(bad_update).or_else(|| without_epoch(volume, &manifest));
                let mut files = Files::of(volume, &manifest, &found.segments);
                let damage = match damage {
                    Some(damage) => Some(damage),
                    None => files.find_missing(volume, &manifest)?,
                };
                let facts = Facts { pinned, updated, ..Facts::of(&manifest) };
                registry.enter(&manifest, facts, |file| files.get(file), &files.unseen, damage)?;
                learned.published_under.push((*id, manifest.generation));
                published_under = published_under.max(manifest.generation);
            }
            Err(error) => {
                let error = only_damage(error)?;
                let updated = found.updates.contains_key(id);
                let pinned = updated && manifests::may_be_pinned(volume, *id);
                registry.enter_unknown(*id, Facts { pinned, updated, ..Facts::default() }, error.clone());
                learned.unreadable.get_or_insert(error);
            }
        }
    }
    registry.unpin_lenders();
    // No store gets as far as the half: such a name is not one of ours, and must not use up all that are left.
    let written = found.segments.keys().map(|file| file.generation).filter(|generation| *generation <= LAST / 2);
    learned.generation = written.max().unwrap_or_default().max(published_under);
    Ok(learned)
}

/// What is lost for good, or for this version.
fn only_damage(error: Error) -> Result<Error> {
    if error.is_damage() || error.is_newer_format() { Ok(error) } else { Err(error) }
}

/// Whether a writer that had lost the store published this: somebody else had taken the store over, or published a
/// checkpoint with a lower id.
fn stale(volume: &Volume, manifest: &Manifest, take_over: &TakeOver, published_under: u64) -> Option<Error> {
    let Manifest { id, generation, .. } = *manifest;
    let later = if take_over.outdates(id, generation) { take_over.generation } else { published_under };
    (generation < later).then(|| manifests::stale(volume, manifest, later))
}

/// No checkpoint is committed without.
fn without_epoch(volume: &Volume, manifest: &Manifest) -> Option<Error> {
    let at = |what| Malformed::new(0, what).at("check", &volume.path(layout::manifest(manifest.id)));
    (manifest.epoch() == 0).then(|| at("its epoch is 0"))
}

fn extents(manifest: &Manifest) -> impl Iterator<Item = Extent> + use<'_> {
    manifest.content.handles().filter_map(StateHandle::extent)
}

fn data_file(manifest: &Manifest, file: FileId) -> PathBuf {
    layout::data_file(file, manifest.data_file(file).lent())
}

/// What is known of the files that a manifest names.
struct Files<'a> {
    ours: &'a HashMap<FileId, Metadata>,
    /// Files that were looked at one by one: borrowed ones, and those that needed a second look.
    looked_at: HashMap<FileId, Option<Metadata>>,
    /// Lenders with a borrowed file that cannot be looked at now. The file counts as missing, and the open goes on.
    unseen: BTreeSet<Lender>,
}

impl<'a> Files<'a> {
    fn of(volume: &Volume, manifest: &Manifest, ours: &'a HashMap<FileId, Metadata>) -> Self {
        let mut files = Self { ours, looked_at: HashMap::new(), unseen: BTreeSet::new() };
        for (file, origin) in &manifest.origins {
            let Some(lent) = &origin.lent else { continue };
            let found = volume.metadata(data_file(manifest, *file));
            if found.is_err() {
                files.unseen.insert((*lent.by).clone());
            }
            files.looked_at.insert(*file, found.ok().flatten().filter(|found| found.kind == FileKind::File));
        }
        files
    }

    fn get(&self, file: FileId) -> Option<Metadata> {
        self.looked_at.get(&file).copied().unwrap_or_else(|| self.ours.get(&file).copied())
    }

    /// Finds the first file that is missing, or too short for the states that the manifest has in it. A directory listing is
    /// not trusted alone: a second look opens the file, and its length counts.
    fn find_missing(&mut self, volume: &Volume, manifest: &Manifest) -> Result<Option<Error>> {
        for extent in extents(manifest) {
            let end = entry_end(extent.offset, extent.len);
            if self.get(extent.file).is_some_and(|file| file.len >= end) {
                continue;
            }
            let data = manifest.data_file(extent.file);
            let name = data_file(manifest, extent.file);
            let reaches = volume.open(&name).and_then(|file| file.check_reaches(end));
            let Err(error) = reaches.and_then(|()| self.look_again(volume, &name, extent.file, end)) else { continue };
            let missing = || Malformed::new(0, "the data file is missing").at("check", &volume.path(&name));
            let error = data.blame(if error.is_not_found() { missing() } else { error });
            // No error of a borrowed file is a reason not to open the store.
            return if error.is_damage() || data.lent.is_some() { Ok(Some(error)) } else { Err(error) };
        }
        Ok(None)
    }

    /// Replaces what the listing said of a file that reaches at least to `end`.
    fn look_again(&mut self, volume: &Volume, name: &Path, file: FileId, end: u64) -> Result<()> {
        let found = volume.metadata(name)?.filter(|found| found.kind == FileKind::File);
        self.looked_at.insert(file, found.map(|found| Metadata { len: found.len.max(end), ..found }));
        Ok(())
    }
}
