//! Which checkpoints are whole, and what each of them refers to.

use crate::{
    disk::{layout, volume::Volume},
    error::{Error, Malformed, Result},
    format,
    handle::Extent,
    id::{CheckpointId, StoreId},
    manifest::Manifest,
    reclaim::registry::Registry,
};

use super::scan::Found;

/// Enters every checkpoint into the registry, damaged ones with their damage. Returns the first reason for which it is
/// unknown what a checkpoint refers to.
pub(super) fn enter_all(
    volume: &Volume,
    found: &Found,
    store: StoreId,
    registry: &Registry,
) -> Option<Error> {
    let mut unreadable = None;
    for id in found.manifests.iter().copied() {
        match load(volume, store, id) {
            Ok(manifest) => {
                let damage = missing_data(volume, found, &manifest);
                let present = extents(&manifest)
                    .filter_map(|extent| Some((*extent, *found.segments.get(&extent.file)?)));
                registry.enter(id, present, damage);
            }
            Err(error) => {
                registry.enter(id, std::iter::empty(), Some(error.clone()));
                unreadable.get_or_insert(error);
            }
        }
    }
    unreadable
}

/// The manifest of this checkpoint of this store.
pub(crate) fn load(volume: &Volume, store: StoreId, id: CheckpointId) -> Result<Manifest> {
    volume.parse(layout::manifest(id), "read manifest", u64::MAX, |bytes| {
        let manifest = format::manifest::decode(bytes)?;
        match manifest {
            _ if manifest.id != id => {
                Err(Malformed::new(0, format!("it is that of checkpoint {}", manifest.id)))
            }
            _ if manifest.store != store => {
                Err(Malformed::new(0, format!("it belongs to store {}", manifest.store)))
            }
            manifest => Ok(manifest),
        }
    })
}

fn extents(manifest: &Manifest) -> impl Iterator<Item = &Extent> {
    manifest.content.handles().filter_map(crate::handle::StateHandle::extent)
}

/// The first file that is missing or too short for what the manifest says of it.
fn missing_data(volume: &Volume, found: &Found, manifest: &Manifest) -> Option<Error> {
    let needed = |extent: &Extent| extent.end().saturating_add(format::segment::TRAILER_LEN);
    extents(manifest).find_map(|extent| {
        let path = volume.path(layout::segment(extent.file));
        match found.segments.get(&extent.file) {
            None => Some(Malformed::new(0, "the data file is missing").at("check", &path)),
            Some(len) if *len < needed(extent) => {
                Some(Malformed::new(*len, "the file ends here").at("check", &path))
            }
            Some(_) => None,
        }
    })
}
