//! States whose segments were not synced when their checkpoints were committed: the log has them as well.

use std::collections::{BTreeMap, HashSet};

use super::history::History;
use crate::{
    disk::{layout, volume::Volume},
    error::Result,
    format::{
        log::LogId,
        record::Redo,
        segment::{TRAILER_LEN, check_trailer, tag},
    },
    handle::Extent,
    id::{CheckpointId, FileId, StoreId},
};

/// Those of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redone<'a> {
    pub(super) log: LogId,
    pub(crate) checkpoint: CheckpointId,
    pub(crate) states: Vec<Redo<'a>>,
}

/// Those of many, by file and offset, each with the checkpoint that it was written for.
pub(crate) type InLog<'a> = BTreeMap<FileId, BTreeMap<u64, (CheckpointId, Redo<'a>)>>;

/// Those that a checkpoint names; all, if it is unknown what one names.
pub(crate) fn live<'a>(redone: &[Redone<'a>], history: &History) -> InLog<'a> {
    let mut all = InLog::new();
    for Redone { checkpoint, states, .. } in redone {
        for state in states {
            all.entry(state.extent.file).or_default().insert(state.extent.offset, (*checkpoint, *state));
        }
    }
    if all.is_empty() {
        return all;
    }
    let (mut live, mut older) = (HashSet::new(), None);
    for kept in history.kept() {
        let Ok(content) = &kept.published else { return all };
        content.each_added(older, |extent| {
            if all.get(&extent.file).is_some_and(|states| states.contains_key(&extent.offset)) {
                live.insert(extent);
            }
        });
        older = Some(content);
    }
    all.retain(|_, states| {
        states.retain(|_, (_, state)| live.contains(&state.extent));
        !states.is_empty()
    });
    all
}

/// Whether a segment lacks a state, or its trailer. One that is gone is another matter.
///
/// # Errors
///
/// Those that say nothing of the file.
pub(super) fn is_lacked(volume: &Volume, store: StoreId, extent: &Extent) -> Result<bool> {
    let read = || -> Result<bool> {
        let file = volume.open(layout::segment(extent.file))?;
        let trailer = file.read(extent.end(), TRAILER_LEN)?;
        let is_its = check_trailer(&trailer, tag(store, extent.file), extent).is_ok();
        Ok(!is_its || file.checksum(extent.offset, extent.len, |_| ())? != extent.crc)
    };
    match read() {
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) if error.is_verdict() => Ok(true),
        read => read,
    }
}
