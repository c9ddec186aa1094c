//! Writing states again whose segments were not synced, from the log.

use std::collections::BTreeMap;

use super::scan::Found;
use crate::{
    disk::{layout, spare, volume::Volume},
    error::{Cause, Error, Malformed, Result},
    format::{
        record::Redo,
        segment::{encode_trailer, tag},
    },
    id::{CheckpointId, FileId, StoreId},
    records::InLog,
};

/// What was written again, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) states: u64,
    /// From where on states of a file may be missing, and why.
    pub(super) failed: BTreeMap<FileId, Unwritten>,
}

/// States of a file that the log has and that could not be written again.
#[derive(Clone, Debug)]
pub(super) struct Unwritten {
    pub(super) from: u64,
    pub(super) why: Error,
    /// What its checkpoints are told.
    pub(super) why_not: Error,
}

impl Unwritten {
    fn new(volume: &Volume, file: FileId, from: u64, why: Error) -> Self {
        // No damage: no older checkpoint is to be taken in place of one that the log has.
        let waits = Error::at("read", &volume.path(layout::segment(file)), Cause::Unrecovered);
        let why_not = if why.is_no_space() { why.clone() } else { waits };
        Self { from, why, why_not }
    }
}

/// Writes again what the log has that any checkpoint names, and makes it durable, whatever the segments seem to have: after
/// writing failed the page cache may show what the medium has not. A file that is gone is not made again.
pub(super) fn redo(volume: &Volume, store: StoreId, in_log: InLog<'_>, found: &mut Found) -> Done {
    let mut done = Done::default();
    for (file, states) in in_log {
        let from = states.keys().next().copied().unwrap_or_default();
        match write(volume, store, file, states.values()) {
            Ok(()) => done.states += states.len() as u64,
            // That it is missing is told where its checkpoints are looked at.
            Err(why) if why.is_not_found() => {}
            Err(why) => drop(done.failed.insert(file, Unwritten::new(volume, file, from, why))),
        }
        if let Ok(Some(now)) = volume.metadata(layout::segment(file)) {
            found.segments.insert(file, now);
        }
    }
    done
}

fn write<'a>(
    volume: &Volume,
    store: StoreId,
    file: FileId,
    states: impl Iterator<Item = &'a (CheckpointId, Redo<'a>)>,
) -> Result<()> {
    let (open, tag) = (volume.open_writable(layout::segment(file))?, tag(store, file));
    let entry = |(checkpoint, Redo { extent, bytes }): &(CheckpointId, Redo<'_>)| {
        if crc32fast::hash(bytes) != extent.crc {
            let what = format!("a state of checkpoint {checkpoint} has another checksum in the manifest log");
            return Err(Malformed::new(extent.offset, what).at("write again", open.path()));
        }
        Ok((extent.offset, [bytes, &encode_trailer(tag, extent, *checkpoint)[..]].concat()))
    };
    let entries = states.map(entry).collect::<Result<Vec<_>>>()?;
    // All of it again: what a failed sync left in the page cache no later one makes durable.
    spare::even_if_full(volume, || {
        entries.iter().try_for_each(|(offset, entry)| open.write_all_at(entry, *offset))?;
        open.sync()
    })
}
