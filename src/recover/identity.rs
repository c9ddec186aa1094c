//! Which store this is: what its identity says, or what can still be known of it.

use std::{path::Path, sync::Arc};

use super::scan::{Found, scan};
use crate::{
    disk::{layout, root, volume::Volume},
    error::{Error, Malformed, Result},
    format::identity::Identity,
    handle::StateHandle,
    id::{LAST, StoreId},
    manifest::Manifest,
    options::Options,
    records::{
        Survey,
        identity::{self, IdentityFile, ReadIdentity, read},
    },
};

const LOST: &str = "the directory is missing, and the manifest log with it: bring it back; if it is lost for good, save what \
                    list_segment finds, and open the store with Options::accept_loss(true)";
const REMEDY: &str = "there are checkpoints, and Options::rebuild_identity(true) makes a new one from their log";
const REMEDY_WITHOUT_CHECKPOINTS: &str =
    "there are no checkpoints, and Options::rebuild_identity(true) makes a new one";
/// A rebuilt identity leaves out so many generations: openers may have had some that left no file.
const LEFT_OUT: u64 = 1 << 20;

/// Refuses a store of a newer version before anything is touched. All else is looked at under the lock.
pub(super) fn refuse_newer(volume: &Volume) -> Result<()> {
    match read(volume) {
        Err(error) if error.is_newer_format() => return Err(error),
        _ => {}
    }
    match Survey::store_of_files(volume) {
        Err(error) if error.is_newer_format() => Err(error),
        _ => Ok(()),
    }
}

/// A store that is about to be taken over.
#[derive(Debug)]
pub(super) struct Claimed {
    identity: Identity,
    /// Whether the store is new: then there is no identity on disk yet.
    pub(super) created: bool,
    /// Why one of the two records of the identity could not be read, if it could not.
    pub(super) healed: Option<Error>,
}

/// Finds out which store this is. Nothing is written but directories that are missing.
pub(super) fn claim(volume: &Arc<Volume>, options: &Options) -> Result<Claimed> {
    let (found, created) = match read(volume) {
        Ok(found) => (found, false),
        Err(error) if error.is_not_found() || error.is_corrupt() => make(volume, error, options)?,
        Err(error) => return Err(error),
    };
    let ReadIdentity { identity, healed } = found;
    restore_dirs(volume, identity.store, options.accept_loss)?;
    Ok(Claimed { identity, created, healed })
}

impl Claimed {
    pub(super) fn store(&self) -> StoreId {
        self.identity.store
    }

    /// Takes the store over with a generation above its own and above this one, durably. That of a new store is still to be
    /// written.
    pub(super) fn take_over(&self, volume: &Arc<Volume>, newest: u64) -> Result<IdentityFile> {
        volume.sync_above_root()?;
        let generation = self.identity.generation.max(newest).saturating_add(1);
        if generation > LAST {
            let path = volume.path(layout::IDENTITY);
            return Err(Malformed::new(0, "the last generation was used").at(identity::OPERATION, &path));
        }
        let identity = IdentityFile::of(volume, Identity { generation, ..self.identity });
        if !self.created {
            identity.write()?;
        }
        Ok(identity)
    }
}

/// Makes directories again that were lost because they were empty, as archives, backups and cleaners do it. Whether one was
/// empty only the log tells: every checkpoint must be known, and name nothing there. The log itself is never empty.
fn restore_dirs(volume: &Volume, store: StoreId, accept_loss: bool) -> Result<()> {
    let missing = root::missing_dirs(volume)?;
    if missing.is_empty() {
        return Ok(());
    }
    if missing.contains(&layout::MANIFESTS) {
        if !accept_loss {
            return Err(Malformed::new(0, LOST).at(root::OPERATION, &volume.path(layout::MANIFESTS)));
        }
    } else {
        let survey = Survey::read(volume, store)?;
        let told = survey.tell(volume, true)?;
        let unknown = |dir: &&str| {
            let what = "the directory is missing, and checkpoints that are lost may have data in it; bring it back";
            Malformed::new(0, what).at(root::OPERATION, &volume.path(dir))
        };
        if let Some(dir) = missing.first().filter(|_| told.gone().next().is_some() && !accept_loss) {
            return Err(unknown(dir));
        }
        for kept in told.history.kept() {
            let Ok(manifest) = told.history.manifest(kept) else { continue };
            if let Some(dir) = missing.iter().find(|dir| names_files_in(&manifest, Path::new(dir))) {
                let what =
                    format!("the directory is missing, and checkpoint {} has data in it; bring it back", kept.id);
                return Err(Malformed::new(0, what).at(root::OPERATION, &volume.path(dir)));
            }
        }
    }
    root::make_dirs(volume)
}

fn names_files_in(manifest: &Manifest, dir: &Path) -> bool {
    let files = manifest.content.handles().filter_map(StateHandle::extent).map(|extent| extent.file);
    files.filter(|file| manifest.data_file(*file).lent.is_none()).any(|file| layout::scope_dir(file.scope) == dir)
}

/// An identity where there is none: for a directory in which nothing was ever committed, or if it was asked for.
fn make(volume: &Volume, error: Error, options: &Options) -> Result<(ReadIdentity, bool)> {
    if identity::is_partial(volume)? {
        return Err(error);
    }
    if error.is_not_found() {
        root::make_dirs(volume)?;
    } else if root::missing_dirs(volume)?.contains(&layout::MANIFESTS) {
        return Err(error.with_remedy(REMEDY_WITHOUT_CHECKPOINTS));
    }
    let found = scan(volume)?;
    let store = Survey::store_of_files(volume)?;
    let survey = Survey::read(volume, store.unwrap_or(StoreId([0; 16])))?;
    let told = survey.tell(volume, false)?;
    let is_empty = told.history.kept().next().is_none() && told.gone().next().is_none();
    let generation = survey.newest_generation();
    // A log without records precedes the identity: then the store was never made.
    if error.is_not_found() && is_empty && found.segments.is_empty() {
        let identity = Identity { store: store.map_or_else(identity::fresh_id, Ok)?, generation };
        return Ok((ReadIdentity { identity, healed: None }, true));
    }
    if options.rebuild_identity {
        let store = store.map_or_else(identity::fresh_id, Ok)?;
        let generation = generation.max(newest_segment(&found)).saturating_add(LEFT_OUT);
        return Ok((ReadIdentity { identity: Identity { store, generation }, healed: None }, false));
    }
    let missing = Malformed::new(0, "the file is missing").at(identity::OPERATION, &volume.path(layout::IDENTITY));
    let error = if error.is_not_found() { missing } else { error };
    let has_checkpoints = store.is_some() && !is_empty;
    Err(error.with_remedy(if has_checkpoints { REMEDY } else { REMEDY_WITHOUT_CHECKPOINTS }))
}

/// The highest generation that a data file is of. No store gets as far as the half: such a name is not one of ours, and must
/// not use up all that are left.
pub(super) fn newest_segment(found: &Found) -> u64 {
    let written = found.segments.keys().map(|file| file.generation).filter(|generation| *generation <= LAST / 2);
    written.max().unwrap_or_default()
}
