//! Making durable what was committed without syncs.

use std::collections::BTreeSet;

use super::scan::Found;
use crate::{
    disk::{layout, volume::Volume},
    error::Result,
    handle::StateHandle,
    id::{FileId, Scope},
    records::History,
};

/// The data files with states of checkpoints that were committed without syncs, as far as they are here.
fn files(history: &History, found: &Found) -> BTreeSet<FileId> {
    let unsynced = history.kept().filter(|kept| kept.marks.unsynced);
    let contents = unsynced.filter_map(|kept| kept.published.as_ref().ok());
    let extents = contents.flat_map(|content| content.handles().filter_map(StateHandle::extent));
    extents.map(|extent| extent.file).filter(|file| found.segments.contains_key(file)).collect()
}

/// Syncs them, and their directories; how many they are. What a process wrote that synced nothing is in the page cache, and
/// becomes durable here. If the power was cut since, some of it may be lost, which is found when it is read.
///
/// # Errors
///
/// Those of the file system.
pub(super) fn sync(volume: &Volume, history: &History, found: &Found) -> Result<usize> {
    let files = if volume.syncs() { files(history, found) } else { BTreeSet::new() };
    files.iter().try_for_each(|file| volume.open(layout::segment(*file))?.sync())?;
    let dirs: BTreeSet<Scope> = files.iter().map(|file| file.scope).collect();
    dirs.iter().try_for_each(|scope| volume.sync_dir(layout::scope_dir(*scope)))?;
    Ok(files.len())
}
