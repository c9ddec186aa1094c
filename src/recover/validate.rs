//! Which checkpoints are whole, and what each of them refers to.

use super::scan::Found;
use crate::{
    disk::{FileKind, layout, volume::Volume},
    error::{Error, Malformed, Result},
    format::{
        manifest::{HEAD_LEN, check_head, decode},
        segment::entry_end,
    },
    handle::{Extent, StateHandle},
    id::{CheckpointId, StoreId},
    manifest::Manifest,
    reclaim::registry::Registry,
};

const OPERATION: &str = "read manifest";

/// Enters every checkpoint into the registry, damaged ones with their damage. Returns the first reason for which it is
/// unknown what a checkpoint refers to. A manifest that merely cannot be read now is no damage: then the open fails.
pub(super) fn enter_all(volume: &Volume, found: &Found, store: StoreId, registry: &Registry) -> Result<Option<Error>> {
    let mut unreadable = None;
    for (id, kind) in &found.manifests {
        let manifest = match kind {
            FileKind::File => load(volume, store, *id),
            _ => Err(Malformed::new(0, "it is not a regular file").at(OPERATION, &volume.path(layout::manifest(*id)))),
        };
        match manifest {
            Ok(manifest) => {
                let damage = missing_data(volume, found, &manifest);
                let extents = extents(&manifest);
                let present = extents.filter_map(|extent| Some((*extent, *found.segments.get(&extent.file)?)));
                registry.enter(*id, present, damage);
            }
            Err(error) if error.is_damage() || error.is_newer_format() => {
                registry.enter_unknown(*id, error.clone());
                unreadable.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(unreadable)
}

/// The manifest of this checkpoint of this store.
pub(crate) fn load(volume: &Volume, store: StoreId, id: CheckpointId) -> Result<Manifest> {
    let name = layout::manifest(id);
    let manifest = volume.parse(&name, OPERATION, (HEAD_LEN, check_head), |bytes| {
        let manifest = decode(bytes)?;
        if (manifest.id, manifest.store) == (id, store) {
            return Ok(manifest);
        }
        Err(Malformed::new(0, format!("it is that of checkpoint {} of store {}", manifest.id, manifest.store)))
    });
    manifest.map_err(|error| {
        let missing = Malformed::new(0, "the manifest is missing");
        if error.is_not_found() { missing.at(OPERATION, &volume.path(&name)) } else { error }
    })
}

fn extents(manifest: &Manifest) -> impl Iterator<Item = &Extent> {
    manifest.content.handles().filter_map(StateHandle::extent)
}

/// The first file that is missing or too short for what the manifest says of it.
fn missing_data(volume: &Volume, found: &Found, manifest: &Manifest) -> Option<Error> {
    let needed = |extent: &Extent| entry_end(extent.offset, extent.len);
    extents(manifest).find_map(|extent| {
        let path = volume.path(layout::segment(extent.file));
        match found.segments.get(&extent.file) {
            None => Some(Malformed::new(0, "the data file is missing").at("check", &path)),
            Some(file) if file.len < needed(extent) => {
                Some(Malformed::new(file.len, "the file ends here").at("check", &path))
            }
            Some(_) => None,
        }
    })
}
