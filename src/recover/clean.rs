//! Removing what crashed processes left behind.

use crate::{
    disk::{layout, volume::Volume},
    reclaim::registry::Registry,
};

use super::{OpenReport, scan::Found};

/// Removes temporary files, and data files that no manifest names. What resists is reported and stays for next time.
pub(super) fn clean(volume: &Volume, found: &Found, registry: &Registry, report: &mut OpenReport) {
    let orphans = found.segments.keys().filter(|file| !registry.knows(**file)).map(|file| layout::segment(*file));
    for name in found.temps.iter().cloned().chain(orphans) {
        match volume.discard(&name) {
            Ok(()) => report.removed.push(name),
            Err(error) => report.failures.push(error),
        }
    }
    report.removed.sort_unstable();
}
