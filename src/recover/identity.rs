//! Which store this is: what its identity says, or what can still be known of it.

use std::{path::Path, sync::Arc};

use super::scan::{Found, scan};
use crate::{
    disk::{layout, root, volume::Volume},
    error::{Error, Malformed, Result},
    format::identity::{Identity, RollBacks, TakeOver},
    handle::StateHandle,
    id::LAST,
    identity::{self, IdentityFile, read},
    manifest::Manifest,
    manifests,
    options::Options,
};

const OPERATION: &str = "read store identity";
const LOST: &str = "the store has had checkpoints, and there is none: bring the manifests back; if they are lost for good, \
                    save what list_segment finds, and open it with Options::accept_loss(true)";
const REMEDY: &str = "there are checkpoints, and Options::rebuild_identity(true) makes a new one from their manifests";
const REMEDY_WITHOUT_CHECKPOINTS: &str =
    "there are no checkpoints, and Options::rebuild_identity(true) makes a new one";

/// Refuses a store of a newer version before anything is touched. Everything else is looked at under the lock.
pub(super) fn refuse_newer(volume: &Volume) -> Result<()> {
    match read(volume) {
        Err(error) if error.is_newer_format() => Err(error),
        _ => Ok(()),
    }
}

/// What was found when a store was taken over.
#[derive(Debug)]
pub(super) struct Claimed {
    /// With the next generation.
    pub(super) identity: IdentityFile,
    /// Whether it was just made.
    pub(super) created: bool,
    /// That the checkpoints are lost, if that was accepted.
    pub(super) lost: Option<Error>,
}

/// Takes the store over.
pub(super) fn claim(volume: &Arc<Volume>, options: &Options) -> Result<Claimed> {
    let (identity, created) = match read(volume) {
        Ok(identity) => (identity, false),
        Err(error) if error.is_not_found() || error.is_corrupt() => make(volume, error, options.rebuild_identity)?,
        Err(error) => return Err(error),
    };
    let lost = if identity.populated { lost_checkpoints(volume)? } else { None };
    if let Some(error) = lost.clone().filter(|_| !options.accept_loss) {
        return Err(error);
    }
    restore_dirs(volume)?;
    volume.sync_above_root()?;
    let generation = identity.generation.saturating_add(1);
    // In a new store there is nothing that somebody else could have published.
    let take_over = if created { TakeOver { generation, newest: 0 } } else { identity.take_over };
    if generation > LAST {
        return Err(Malformed::new(0, "the last generation was used").at(OPERATION, &volume.path(layout::IDENTITY)));
    }
    let identity = IdentityFile::take_over(volume, Identity { generation, take_over, ..identity })?;
    Ok(Claimed { identity, created, lost })
}

/// The identity says that there are checkpoints. If there is no manifest, they are lost: to go on would remove their data,
/// and give their ids out again.
fn lost_checkpoints(volume: &Volume) -> Result<Option<Error>> {
    let has_manifests = |volume: &Volume| -> Result<bool> {
        let entries = root::list_if_there(volume, layout::MANIFESTS)?;
        Ok(entries.iter().any(|entry| layout::parse_manifest(&entry.name).is_some()))
    };
    // A verdict takes a second look: some file systems leave names out of a list now and then.
    if has_manifests(volume)? || has_manifests(volume)? {
        return Ok(None);
    }
    Ok(Some(Malformed::new(0, LOST).at(OPERATION, &volume.path(layout::MANIFESTS))))
}

/// Makes directories again that were lost because they were empty, as archives, backups and cleaners do it. Whether one was
/// empty only the manifests tell: every one must be readable, and name nothing there.
fn restore_dirs(volume: &Volume) -> Result<()> {
    let missing = root::missing_dirs(volume)?;
    if missing.is_empty() {
        return Ok(());
    }
    if root::has_lost_manifests(volume)? {
        let what = "the directory is missing, and there is data of checkpoints; bring it back";
        return Err(Malformed::new(0, what).at(root::OPERATION, &volume.path(layout::MANIFESTS)));
    }
    for entry in root::list_if_there(volume, layout::MANIFESTS)? {
        let Some(id) = layout::parse_manifest(&entry.name) else { continue };
        let lost = match manifests::peek(volume, id) {
            Ok(manifest) => missing.iter().find(|dir| names_files_in(&manifest, Path::new(dir))).copied(),
            // It may name files in any of them.
            Err(error) if error.is_damage() => missing.first().copied(),
            Err(error) => return Err(error),
        };
        if let Some(dir) = lost {
            let what = format!("the directory is missing, and checkpoint {id} may have data in it; bring it back");
            return Err(Malformed::new(0, what).at(root::OPERATION, &volume.path(dir)));
        }
    }
    root::make_dirs(volume)
}

fn names_files_in(manifest: &Manifest, dir: &Path) -> bool {
    let files = manifest.content.handles().filter_map(StateHandle::extent).map(|extent| extent.file);
    files.filter(|file| manifest.data_file(*file).lent.is_none()).any(|file| layout::scope_dir(file.scope) == dir)
}

/// An identity where there is none: for a directory in which nothing was ever written, or if it was asked for.
fn make(volume: &Volume, error: Error, rebuild: bool) -> Result<(Identity, bool)> {
    if identity::is_partial(volume)? {
        return Err(error);
    }
    if error.is_not_found() {
        root::make_dirs(volume)?;
    } else {
        restore_dirs(volume)?;
    }
    let found = scan(volume)?;
    if error.is_not_found() && found.is_empty() {
        return Ok((fresh()?, true));
    }
    if rebuild {
        return Ok((rebuilt(volume, &found)?, false));
    }
    let missing = Malformed::new(0, "the file is missing").at(OPERATION, &volume.path(layout::IDENTITY));
    let error = if error.is_not_found() { missing } else { error };
    Err(error.with_remedy(if found.is_empty() { REMEDY_WITHOUT_CHECKPOINTS } else { REMEDY }))
}

fn fresh() -> Result<Identity> {
    let (take_over, roll_backs) = (TakeOver::default(), RollBacks::default());
    Ok(Identity { store: identity::fresh_id()?, generation: 0, id_floor: 0, populated: false, take_over, roll_backs })
}

/// The store's id is in every manifest; generations are there and in the names of the files.
fn rebuilt(volume: &Volume, found: &Found) -> Result<Identity> {
    let mut identity = fresh()?;
    for id in found.manifests.keys() {
        if let Ok(manifest) = manifests::peek(volume, *id) {
            identity.store = manifest.store;
            identity.generation = identity.generation.max(manifest.generation);
        }
    }
    let written = found.segments.keys().map(|file| file.generation).max().unwrap_or_default();
    identity.generation = identity.generation.max(written);
    Ok(identity)
}
