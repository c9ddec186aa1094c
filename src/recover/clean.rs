//! Removing what crashed processes left behind.

use std::path::Path;

use crate::{
    disk::{layout, volume::Volume},
    error::Result,
    id::CheckpointId,
    reclaim::{registry::Registry, sweep::Maintained},
};

use super::{OpenReport, scan::Found};

/// Whoever opens a store that was to be taken over goes on with it. Durably, before anything new is written to it.
pub(super) fn take_back(volume: &Volume, found: &Found) -> Result<()> {
    if !found.temps.iter().any(|name| name == Path::new(layout::DEPARTING)) {
        return Ok(());
    }
    volume.remove(layout::DEPARTING.as_ref())?;
    volume.sync_dir("")
}

/// Removes temporary files, and updates of checkpoints that are gone. What resists is reported and tried again later.
pub(super) fn clean_temps(volume: &Volume, found: &Found, report: &mut OpenReport) {
    let updates = found.stray_updates().map(|(id, _)| layout::update(id));
    let without_manifest = |id: &&CheckpointId| !found.manifests.contains_key(*id);
    let sources = found.sources.keys().filter(without_manifest).map(|id| layout::source(*id));
    for name in found.temps.iter().cloned().chain(updates).chain(sources) {
        match volume.discard(&name) {
            Ok(()) => report.removed.push(name),
            Err(error) => report.failures.push(error),
        }
    }
}

/// Removes data files that no manifest names. What resists is reported and tried again later.
pub(super) fn clean_data(found: &Found, registry: &Registry, report: &mut OpenReport) {
    for (file, metadata) in found.segments.iter().filter(|(file, _)| !registry.knows(**file)) {
        registry.bury(*file, metadata.len);
    }
    let mut done = Maintained::default();
    report.removed.extend(registry.sweep(u64::MAX, &mut done).into_iter().map(layout::segment));
    report.failures.extend(done.failures);
}
