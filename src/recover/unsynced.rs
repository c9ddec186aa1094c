//! Making durable what was committed without syncs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    disk::{file::VolumeFile, layout, spare, volume::Volume},
    error::Result,
    format::segment::{HEADER_LEN, entry_end},
    handle::{Extent, StateHandle},
    id::{FileId, Scope},
    records::{History, Journal},
};

/// How many bytes are written again at a time.
const PIECE: u64 = 1 << 20;

/// States of one file, by offset.
type States = BTreeMap<u64, Extent>;

/// The states of checkpoints that were committed without syncs, as extents.
fn extents(history: &History) -> impl Iterator<Item = Extent> {
    let unsynced = history.kept().filter(|kept| kept.marks.unsynced);
    let contents = unsynced.filter_map(|kept| kept.published.as_ref().ok());
    contents.flat_map(|content| content.handles().filter_map(StateHandle::extent))
}

/// Syncs the files that have such states, and their directories. Returns how many files that are.
///
/// The page cache has what a process wrote that synced nothing: it becomes durable here. A power cut since then may have
/// lost some of it. The checksum of a state tells that when the state is read. A file that is missing is passed over: the
/// check of its checkpoints says so. So is a borrowed file, which belongs to another store.
///
/// # Errors
///
/// Those of the file system.
pub(super) fn sync(volume: &Volume, journal: &Journal) -> Result<usize> {
    if !volume.syncs() {
        return Ok(0);
    }
    let files: BTreeSet<_> = journal.look(|history| extents(history).map(|extent| extent.file).collect());
    let mut synced = BTreeSet::new();
    for file in files {
        match sync_file(volume, journal, file) {
            Err(error) if error.is_not_found() => {}
            done => drop(done.map(|()| synced.insert(file))?),
        }
    }
    let dirs: BTreeSet<Scope> = synced.iter().map(|file| file.scope).collect();
    dirs.iter().try_for_each(|scope| volume.sync_dir(layout::scope_dir(*scope)))?;
    journal.note_durable(true);
    Ok(synced.len())
}

/// A failed sync marks the bytes clean, so that a second one would not write them: the states are written again before it.
fn sync_file(volume: &Volume, journal: &Journal, file: FileId) -> Result<()> {
    let name = layout::segment(file);
    volume.open(&name)?.sync().or_else(|_| {
        let in_file = |extent: &Extent| extent.file == file;
        let by_offset = |extent: Extent| (extent.offset, extent);
        let states = journal.look(|history| extents(history).filter(in_file).map(by_offset).collect());
        let open = volume.open_writable(&name)?;
        spare::even_if_full(volume, || write_again(&open, &states).and_then(|()| open.sync()))
    })
}

/// Writes the header, and the states with their trailers, as they are. A damaged state is passed over: its checksum tells
/// that when the state is read.
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
