//! Which store this is: what its identity says, or what can still be known of it.

use crate::{
    disk::{layout, volume::Volume},
    error::{Error, Malformed, Result},
    format::{self, identity::Identity},
    id::{CheckpointId, StoreId},
    identity::read,
};

use super::scan::Found;

const REMEDY: &str =
    "there are checkpoints here; Options::rebuild_identity(true) makes a new one from their manifests";

/// Refuses a store of a newer version before anything is touched. Everything else is looked at under the lock.
pub(super) fn refuse_newer(volume: &Volume) -> Result<()> {
    match read(volume) {
        Err(error) if error.is_newer_format() => Err(error),
        _ => Ok(()),
    }
}

/// The identity as it is on disk, and whether it was just made.
pub(super) fn find(volume: &Volume, found: &Found, rebuild: bool) -> Result<(Identity, bool)> {
    let error = match read(volume) {
        Ok(identity) => return Ok((identity, false)),
        Err(error) if error.is_not_found() && found.is_empty() => return Ok((fresh()?, true)),
        Err(error) => error,
    };
    let lost = error.is_not_found() || error.is_corrupt();
    if lost && rebuild {
        return rebuilt(volume, found).map(|identity| (identity, false));
    }
    if error.is_not_found() {
        return Err(Malformed::new(0, format!("the file is missing, and {REMEDY}"))
            .at("read store identity", &volume.path(layout::IDENTITY)));
    }
    Err(error)
}

fn fresh() -> Result<Identity> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| Error::invalid("make a store id", e.to_string()))?;
    Ok(Identity { store: StoreId(id), generation: 0, id_floor: 0 })
}

/// The store's id is in every manifest; generations and ids are in the names.
fn rebuilt(volume: &Volume, found: &Found) -> Result<Identity> {
    let manifests = found.manifests.iter().rev();
    let mut readable = manifests.filter_map(|id| {
        volume.parse(layout::manifest(*id), "read manifest", u64::MAX, format::manifest::decode).ok()
    });
    match readable.next() {
        Some(manifest) => {
            Ok(Identity { store: manifest.store, generation: manifest.generation, id_floor: 0 })
        }
        None => fresh(),
    }
}

/// What this open writes: a generation above every one that was ever used, a floor that no known id is above.
pub(super) fn next_generation(identity: Identity, found: &Found, floor: Option<CheckpointId>) -> Identity {
    let written = found.segments.keys().map(|file| file.generation).max().unwrap_or_default();
    let generation = identity.generation.max(written).saturating_add(1);
    let id_floor = identity.id_floor.max(floor.map_or(0, CheckpointId::get));
    Identity { generation, id_floor, ..identity }
}
