//! Removing what crashed processes left behind.

use crate::{
    disk::{layout, volume::Volume},
    reclaim::{registry::Registry, sweep::Maintained},
};

use super::{OpenReport, scan::Found};

/// Removes temporary files, and data files that no manifest names. What resists is reported and tried again later.
pub(super) fn clean(volume: &Volume, found: &Found, registry: &Registry, report: &mut OpenReport) {
    for name in &found.temps {
        match volume.discard(name) {
            Ok(()) => report.removed.push(name.clone()),
            Err(error) => report.failures.push(error),
        }
    }
    for (file, metadata) in found.segments.iter().filter(|(file, _)| !registry.knows(**file)) {
        registry.bury(*file, metadata.len);
    }
    let mut done = Maintained::default();
    report.removed.extend(registry.sweep(u64::MAX, &mut done).into_iter().map(layout::segment));
    report.failures.extend(done.failures);
    report.removed.sort_unstable();
}
