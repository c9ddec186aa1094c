//! Removing what crashed processes left behind.

use std::path::Path;

use crate::{
    disk::{layout, member, volume::Volume},
    error::Result,
    reclaim::{registry::Registry, sweep::Maintained},
    records::Survey,
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

/// Removes temporary files. What resists is reported and tried again later.
pub(super) fn clean_temps(volume: &Volume, found: &Found, report: &mut OpenReport) {
    for name in &found.temps {
        match volume.discard(name) {
            Ok(()) => report.removed.push(name.clone()),
            Err(error) => report.failures.push(error),
        }
    }
}

/// Deletes the files of members that have ended. One that lives on finds out that it is a member no more.
pub(super) fn clean_members(volume: &Volume, found: &Found, report: &mut OpenReport) {
    for (generation, number) in &found.members {
        match member::delete_if_ended(volume, *generation, *number) {
            Ok(true) => report.removed.push(layout::member(*generation, *number)),
            Ok(false) => {}
            Err(error) => {
                volume.note_left_over(&error);
                report.failures.push(error);
            }
        }
    }
}

/// Removes logs that do not count. A later one was begun, durably.
pub(super) fn clean_logs(volume: &Volume, survey: &Survey, report: &mut OpenReport) {
    let names = survey.superfluous().map(|log| layout::log(log.generation, log.sequence));
    report.failures.extend(names.filter_map(|name| volume.discard(&name).err()));
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
