//! Which store this is: what its identity says, or what can still be known of it.

use std::sync::Arc;

use super::scan::{Found, scan};
use crate::{
    disk::{layout, root, volume::Volume},
    error::{Error, Malformed, Result},
    format::identity::{Identity, RollBacks, TakeOver},
    id::LAST,
    identity::{self, IdentityFile, read},
    manifests,
};

const OPERATION: &str = "read store identity";
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

/// Takes the store over: the identity with the next generation, and whether it was just made.
pub(super) fn claim(volume: &Arc<Volume>, rebuild: bool) -> Result<(IdentityFile, bool)> {
    let (identity, created) = match read(volume) {
        Ok(identity) => (identity, false),
        Err(error) if error.is_not_found() || error.is_corrupt() => make(volume, error, rebuild)?,
        Err(error) => return Err(error),
    };
    root::check_dirs(volume)?;
    volume.sync_above_root()?;
    let generation = identity.generation.saturating_add(1);
    // In a new store there is nothing that somebody else could have published.
    let take_over = if created { TakeOver { generation, newest: 0 } } else { identity.take_over };
    if generation > LAST {
        return Err(Malformed::new(0, "the last generation was used").at(OPERATION, &volume.path(layout::IDENTITY)));
    }
    Ok((IdentityFile::take_over(volume, Identity { generation, take_over, ..identity })?, created))
}

/// An identity where there is none: for a directory in which nothing was ever written, or if it was asked for.
fn make(volume: &Volume, error: Error, rebuild: bool) -> Result<(Identity, bool)> {
    if identity::is_partial(volume)? {
        return Err(error);
    }
    if error.is_not_found() {
        root::make_dirs(volume)?;
    } else {
        root::check_dirs(volume)?;
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
    Ok(Identity { store: identity::fresh_id()?, generation: 0, id_floor: 0, take_over, roll_backs })
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
