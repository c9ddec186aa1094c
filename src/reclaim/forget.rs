//! Taking checkpoints back: the steps in the order of this folder's page.

use super::{published::Plan, registry::Registry, sweep::Maintained};
use crate::{
    accounts::catalog::Retired,
    disk::{layout, spare, volume::Volume},
    error::{Error, Result},
    id::CheckpointId,
    identity::IdentityFile,
};

const OPERATION: &str = "forget checkpoints in";

/// What forgetting and pruning did.
#[must_use = "it says what could not be done"]
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
pub(crate) fn forget(registry: &Registry, identity: &IdentityFile, plan: &Plan) -> Result<Reclaimed> {
    let mut report = Reclaimed { failures: registry.volume().retry_leftovers(), ..Reclaimed::default() };
    let names = registry.lock_manifests();
    admit(registry, identity)?;
    remove_manifests(registry, identity, plan, &mut report)?;
    let retired = registry.take_retired();
    if !retired.is_empty() {
        // Step 4. If it fails, nobody knows whether the manifests come back, so their data stays until the next open.
        registry.volume().settle_dir(layout::MANIFESTS)?;
    }
    drop(names);
    match identity.check_not_fenced(OPERATION) {
        Ok(()) => {
            sweep(registry, retired, u64::MAX, &mut report);
            spare::keep(registry.volume());
        }
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
    plan: &Plan,
    report: &mut Reclaimed,
) -> Result<()> {
    let _names = registry.lock_manifests();
    admit(registry, identity)?;
    remove_manifests(registry, identity, plan, report)
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

/// What goes is planned while nobody else can publish, pin, or roll back.
fn remove_manifests(registry: &Registry, identity: &IdentityFile, plan: &Plan, report: &mut Reclaimed) -> Result<()> {
    let mut ids = registry.planned(plan);
    if let Err(error) = keep_id_used(registry, identity, &ids) {
        if error.needs_reopen() {
            return Err(error);
        }
        // A full disk, for one: the others can go without.
        report.failures.push(error);
        ids.pop();
    }
    for id in ids {
        match remove_manifest(registry.volume(), identity, id) {
            Ok(Some(len)) => {
                report.checkpoints.push(id);
                report.manifest_bytes = report.manifest_bytes.saturating_add(len);
            }
            Ok(None) => report.in_use.push(id),
            Err(error) => report.failures.push(error),
        }
    }
    registry.retire(&report.checkpoints);
    Ok(())
}

/// Returns how many bytes it had; `None` if another process reads the checkpoint. A writer that was stalled must not go on
/// with what it had planned.
fn remove_manifest(volume: &Volume, identity: &IdentityFile, id: CheckpointId) -> Result<Option<u64>> {
    identity.check_not_fenced(OPERATION)?;
    volume.remove_unread(&layout::manifest(id), id.get())
}

/// Step 2: only the newest manifest tells which ids were used. It is the last of those that go, if it is one of them. When
/// none stays, that is noted: else the store would seem to have lost them.
fn keep_id_used(registry: &Registry, identity: &IdentityFile, ids: &[CheckpointId]) -> Result<()> {
    let all = registry.ids();
    match all.last() {
        Some(newest) if all.len() == ids.len() => identity.note_empty(*newest),
        Some(newest) if ids.last() == Some(newest) => identity.raise_floor(*newest),
        _ => Ok(()),
    }
}
