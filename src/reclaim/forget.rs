//! Taking checkpoints back: the steps in the order of this folder's page.

use super::{catalog::Retired, registry::Registry, sweep::Maintained};
use crate::{
    disk::{layout, volume::Volume},
    error::{Error, Result},
    id::CheckpointId,
    identity::IdentityFile,
};

const OPERATION: &str = "forget checkpoints in";

/// What forgetting and pruning did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Reclaimed {
    /// The checkpoints that are gone, ascending.
    pub checkpoints: Vec<CheckpointId>,
    /// The checkpoints that stay for now because another process reads them, ascending; the next call tries again.
    pub in_use: Vec<CheckpointId>,
    /// How many data files were removed. Files that others still refer to, readers among them, are not.
    pub files: u64,
    /// How many bytes those files had.
    pub bytes: u64,
    /// How many bytes the removed manifests had.
    pub manifest_bytes: u64,
    /// How many bytes came back from holes in files that stay.
    pub punched_bytes: u64,
    /// What could not be removed. Data files are tried again at the next sweep; a checkpoint that is named here is
    /// still there.
    pub failures: Vec<Error>,
}

/// Forgets these checkpoints, durably. A manifest that cannot be removed is a failure in the report, and its checkpoint
/// stays.
pub(crate) fn forget(registry: &Registry, identity: &IdentityFile, ids: &[CheckpointId]) -> Result<Reclaimed> {
    let mut report = Reclaimed { failures: registry.volume().retry_leftovers(), ..Reclaimed::default() };
    let names = registry.lock_manifests();
    admit(registry, identity)?;
    remove_manifests(registry, identity, ids, &mut report)?;
    let retired = registry.take_retired();
    if !retired.is_empty() {
        sync_manifests(registry.volume())?;
    }
    drop(names);
    match identity.check_not_fenced(OPERATION) {
        Ok(()) => sweep(registry, retired, u64::MAX, &mut report),
        Err(error) => {
            report.failures.push(error);
            registry.give_back(retired);
        }
    }
    Ok(report)
}

/// Steps 1 to 3 alone: the next sync of `manifests/` makes it durable, and only then the data may go.
pub(crate) fn forget_with_next_commit(
    registry: &Registry,
    identity: &IdentityFile,
    ids: &[CheckpointId],
    report: &mut Reclaimed,
) -> Result<()> {
    let _names = registry.lock_manifests();
    admit(registry, identity)?;
    remove_manifests(registry, identity, ids, report)
}

/// Step 1.
fn admit(registry: &Registry, identity: &IdentityFile) -> Result<()> {
    registry.volume().check_writable(OPERATION)?;
    identity.check_not_fenced(OPERATION)
}

/// Step 6, for checkpoints whose removal is durable.
pub(crate) fn sweep(registry: &Registry, retired: Retired, budget: u64, report: &mut Reclaimed) {
    for id in retired.updated() {
        report.failures.extend(registry.volume().discard(&layout::update(id)).err());
    }
    registry.settle(retired);
    let Maintained { files, bytes, punched_bytes, failures, .. } = registry.tidy(budget);
    report.files += files;
    report.bytes += bytes;
    report.punched_bytes += punched_bytes;
    report.failures.extend(failures);
}

fn remove_manifests(
    registry: &Registry,
    identity: &IdentityFile,
    ids: &[CheckpointId],
    report: &mut Reclaimed,
) -> Result<()> {
    let volume = registry.volume();
    keep_id_used(registry, identity, ids)?;
    // Somebody else may have forgotten one of them since.
    for id in ids.iter().filter(|id| registry.catalog(|catalog| catalog.is_published(**id))) {
        let name = layout::manifest(*id);
        let len = volume.metadata(&name).ok().flatten().map_or(0, |found| found.len);
        match volume.remove_unpinned(&name) {
            Ok(true) => {
                report.checkpoints.push(*id);
                report.manifest_bytes = report.manifest_bytes.saturating_add(len);
            }
            Ok(false) => report.in_use.push(*id),
            Err(error) => report.failures.push(error),
        }
    }
    registry.retire(&report.checkpoints);
    Ok(())
}

/// Step 2: only the newest manifest tells which ids were used.
fn keep_id_used(registry: &Registry, identity: &IdentityFile, ids: &[CheckpointId]) -> Result<()> {
    match registry.catalog(|catalog| catalog.ids()).last() {
        Some(newest) if ids.contains(newest) => identity.raise_floor(*newest),
        _ => Ok(()),
    }
}

/// Step 4. If it fails, nobody knows whether the manifests come back, so their data stays until the next open.
fn sync_manifests(volume: &Volume) -> Result<()> {
    volume.sync_dir(layout::MANIFESTS).map_err(|error| {
        volume.poison(&error);
        error.indeterminate()
    })
}
