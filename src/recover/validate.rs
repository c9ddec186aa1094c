//! Which checkpoints are whole, and what each of them refers to.

use std::{collections::HashMap, path::PathBuf};

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
    manifest::Manifest,
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
                let lent = lent_files(volume, &manifest);
                let file = |file: FileId| match lent.get(&file) {
                    Some(lent) => *lent,
                    None => found.segments.get(&file).copied(),
                };
                let damage = match damage {
                    Some(damage) => Some(damage),
                    None => missing_data(volume, &manifest, file)?,
                };
                let facts = Facts { pinned, updated, ..Facts::of(&manifest) };
                registry.enter(&manifest, facts, file, damage)?;
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

/// What is there of each file that is not ours. What cannot be looked at is not there for us, and no reason not to open
/// the store.
fn lent_files(volume: &Volume, manifest: &Manifest) -> HashMap<FileId, Option<Metadata>> {
    let lent = manifest.origins.iter().filter(|(_, origin)| origin.lent.is_some());
    let look = |file: FileId| {
        let found = volume.metadata(data_file(manifest, file)).ok().flatten();
        (file, found.filter(|found| found.kind == FileKind::File))
    };
    lent.map(|(file, _)| look(*file)).collect()
}

fn data_file(manifest: &Manifest, file: FileId) -> PathBuf {
    layout::data_file(file, manifest.data_file(file).lent())
}

/// The first file that is missing or too short for what the manifest says of it. What a list of a directory says is not
/// believed at once: the second look opens the file.
fn missing_data(
    volume: &Volume,
    manifest: &Manifest,
    file: impl Fn(FileId) -> Option<Metadata>,
) -> Result<Option<Error>> {
    let is_short =
        |extent: &Extent| file(extent.file).is_none_or(|file| file.len < entry_end(extent.offset, extent.len));
    for extent in extents(manifest).filter(is_short) {
        let data = manifest.data_file(extent.file);
        let name = data_file(manifest, extent.file);
        let reaches = volume.open(&name).and_then(|file| file.check_reaches(entry_end(extent.offset, extent.len)));
        let Err(error) = reaches else { continue };
        let missing = || Malformed::new(0, "the data file is missing").at("check", &volume.path(&name));
        let error = data.blame(if error.is_not_found() { missing() } else { error });
        // No error of a borrowed file is a reason not to open the store.
        return if error.is_damage() || data.lent.is_some() { Ok(Some(error)) } else { Err(error) };
    }
    Ok(None)
}
