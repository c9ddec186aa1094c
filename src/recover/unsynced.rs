//! Making durable what was committed without syncs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    disk::{file::VolumeFile, layout, spare, volume::Volume},
    error::Result,
    format::segment::{HEADER_LEN, entry_end},
    handle::{Extent, StateHandle},
    id::{FileId, Scope},
    records::History,
};

/// So many bytes are written again at a time.
const PIECE: u64 = 1 << 20;

/// States of one file, by offset.
type States = BTreeMap<u64, Extent>;

/// The states of checkpoints that were committed without syncs, by file and offset.
fn states(history: &History) -> BTreeMap<FileId, States> {
    let unsynced = history.kept().filter(|kept| kept.marks.unsynced);
    let contents = unsynced.filter_map(|kept| kept.published.as_ref().ok());
    let mut files = BTreeMap::<_, States>::new();
    for extent in contents.flat_map(|content| content.handles().filter_map(StateHandle::extent)) {
        files.entry(extent.file).or_default().insert(extent.offset, extent);
    }
    files
}

/// Syncs the files that have them, and their directories; how many files they are. What a process wrote that synced nothing
/// is in the page cache, and becomes durable here. If the power was cut since, some of it may be lost, which is found when it
/// is read. A file that is missing here is told of where its checkpoints are looked at; a borrowed one is somebody else's.
///
/// # Errors
///
/// Those of the file system.
pub(super) fn sync(volume: &Volume, history: &History) -> Result<usize> {
    let files = if volume.syncs() { states(history) } else { BTreeMap::new() };
    let mut synced = BTreeSet::new();
    for (file, states) in files {
        match sync_file(volume, file, &states) {
            Err(error) if error.is_not_found() => {}
            done => drop(done.map(|()| synced.insert(file))?),
        }
    }
    let dirs: BTreeSet<Scope> = synced.iter().map(|file| file.scope).collect();
    dirs.iter().try_for_each(|scope| volume.sync_dir(layout::scope_dir(*scope)))?;
    Ok(synced.len())
}

/// After a sync that failed no later one makes the same bytes durable: then they are written again.
fn sync_file(volume: &Volume, file: FileId, states: &States) -> Result<()> {
    let name = layout::segment(file);
    volume.open(&name)?.sync().or_else(|_| {
        let open = volume.open_writable(&name)?;
        spare::even_if_full(volume, || write_again(&open, states).and_then(|()| open.sync()))
    })
}

/// Writes the header, and states with their trailers, as they are. One that is damaged is passed over: that is found when it is
/// read.
fn write_again(file: &VolumeFile, states: &States) -> Result<()> {
    write_range_again(file, 0, HEADER_LEN)?;
    for Extent { offset, len, crc, .. } in states.values() {
        if file.checksum(*offset, *len, |_| ()).is_ok_and(|found| found == *crc) {
            write_range_again(file, *offset, entry_end(*offset, *len))?;
        }
    }
    Ok(())
}

fn write_range_again(file: &VolumeFile, mut at: u64, end: u64) -> Result<()> {
    while at < end {
        let len = PIECE.min(end - at);
        file.write_all_at(&file.read(at, len)?, at)?;
        at += len;
    }
    Ok(())
}
