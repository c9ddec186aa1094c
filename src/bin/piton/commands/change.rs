//! `piton prune`, `forget`, `rollback`, `pin`, `unpin`

use std::path::Path;

use piton::{CheckpointId, CheckpointKind, Options, Reclaimed, Store, inspect::InspectedCheckpoint};
use serde::Serialize;

use super::{Failure, inspect};
use crate::{
    Outcome, Verdict,
    arguments::Which,
    output::{Output, Tone},
    progress, units,
};

#[derive(Debug, Serialize)]
struct Gone {
    /// Whether it was only asked for what would be forgotten.
    dry_run: bool,
    checkpoints: Vec<CheckpointId>,
    /// Those that another process reads: they stay.
    in_use: Vec<CheckpointId>,
    /// What came back; with a dry run, what the states have that no other checkpoint names.
    bytes: u64,
    failures: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Marked {
    checkpoint: CheckpointId,
    pinned: bool,
    latest: Option<CheckpointId>,
}

/// Opens the store for changing it: no engine may have it open.
pub(super) fn open_store(store: &Path, output: &Output) -> Result<Store, Failure> {
    Options::new().must_exist(true).progress(progress::of_store(output)).open(store).map_err(|error| {
        if error.is_locked() {
            format!("{error}: this command needs the store for itself, so stop that process, or let it do this").into()
        } else {
            error.into()
        }
    })
}

fn id_of(store: &Store, which: Which) -> Result<CheckpointId, Failure> {
    match which {
        Which::Id(id) => Ok(id),
        Which::Latest => Ok(store.latest()?.ok_or("the store has no checkpoints yet")?.id()),
    }
}

pub(super) fn prune(store: &Path, output: &Output, keep: usize) -> Outcome {
    answer(output, open_store(store, output)?.prune(keep)?)
}

pub(super) fn forget(store: &Path, output: &Output, id: Which) -> Outcome {
    let store = open_store(store, output)?;
    answer(output, store.forget(id_of(&store, id)?)?)
}

fn answer(output: &Output, reclaimed: Reclaimed) -> Outcome {
    tell(
        output,
        &Gone {
            dry_run: false,
            bytes: reclaimed.bytes + reclaimed.punched_bytes,
            failures: reclaimed.failures.iter().map(ToString::to_string).collect(),
            checkpoints: reclaimed.checkpoints,
            in_use: reclaimed.in_use,
        },
    )
}

fn tell(output: &Output, gone: &Gone) -> Outcome {
    let list = units::ids;
    output.answer(gone, |text| {
        match &*gone.checkpoints {
            [] => text.line("nothing to forget")?,
            ids if gone.dry_run => {
                let bytes = units::bytes(gone.bytes);
                text.line(format_args!("would forget {} and free about {bytes}", list(ids)))?;
            }
            ids => text.line(format_args!("forgot {} and freed {}", list(ids), units::bytes(gone.bytes)))?,
        }
        if !gone.in_use.is_empty() {
            text.line(format_args!("another process reads {}: the next prune tries again", list(&gone.in_use)))?;
        }
        for failure in &gone.failures {
            text.toned(Tone::Warning, "left over")?;
            text.line(format_args!(": {failure}"))?;
        }
        Ok(())
    })?;
    Ok(Verdict::Fine)
}

/// What pruning would forget, as far as the log tells: all but the newest that can be read, the pinned ones and savepoints.
/// Reads only.
pub(super) fn would_prune(store: &Path, output: &Output, keep: usize) -> Outcome {
    let inspection = inspect(store)?;
    let (extents, incomplete) = (inspection.extents(), inspection.incomplete()?);
    let is_savepoint = |checkpoint: &InspectedCheckpoint| {
        checkpoint.manifest.as_ref().is_ok_and(|manifest| manifest.kind() == CheckpointKind::Savepoint)
    };
    let mut all: Vec<_> = inspection.checkpoints().iter().collect();
    all.sort_by_key(|checkpoint| checkpoint.id);
    let (mut kept, mut checkpoints) = (0, Vec::new());
    for checkpoint in all.into_iter().rev() {
        if is_savepoint(checkpoint) {
            continue;
        }
        let is_whole = checkpoint.manifest.is_ok() && !incomplete.contains_key(&checkpoint.id);
        let counts = is_whole && !checkpoint.rolled_back;
        if counts && kept < keep.max(1) {
            kept += 1;
        } else if !checkpoint.pinned {
            checkpoints.push(checkpoint.id);
        }
    }
    checkpoints.reverse();
    if kept == 0 {
        checkpoints.clear();
    }
    let bytes = extents.bytes_of_none_but(&checkpoints);
    tell(output, &Gone { dry_run: true, checkpoints, in_use: Vec::new(), bytes, failures: Vec::new() })
}

pub(super) fn rollback(store: &Path, output: &Output, id: Which) -> Outcome {
    let store = open_store(store, output)?;
    let id = id_of(&store, id)?;
    store.rollback_to(id)?;
    mark(output, &store, id, |id| format!("rolled back to checkpoint {id}"))
}

pub(super) fn pin(store: &Path, output: &Output, id: Which, pinned: bool) -> Outcome {
    let store = open_store(store, output)?;
    let id = id_of(&store, id)?;
    if pinned { store.pin(id) } else { store.unpin(id) }?;
    let word = if pinned { "pinned" } else { "unpinned" };
    mark(output, &store, id, |id| format!("{word} checkpoint {id}"))
}

fn mark(output: &Output, store: &Store, id: CheckpointId, says: impl Fn(CheckpointId) -> String) -> Outcome {
    let latest = store.latest()?.map(|latest| latest.id());
    let marked = Marked { checkpoint: id, pinned: store.pinned().contains(&id), latest };
    output.answer(&marked, |text| text.line(says(id)))?;
    Ok(Verdict::Fine)
}
