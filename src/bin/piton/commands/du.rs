//! `piton du`

use std::{collections::BTreeMap, path::Path};

use piton::{
    CheckpointId, StateName,
    inspect::{Extents, Inspection},
};
use serde::Serialize;

use super::{Failure, find, inspect};
use crate::{
    Outcome, Verdict,
    arguments::Which,
    output::{Entry, Output, Text, Tone},
    units,
};

#[derive(Debug, Serialize)]
struct Usage {
    /// Of all states that checkpoints name, each once.
    logical_bytes: u64,
    logical_states: u64,
    files: u64,
    /// The lengths of all data files.
    physical_bytes: u64,
    /// What they take on the medium.
    allocated_bytes: u64,
    /// What of their lengths belongs to no state that a checkpoint names, holes included.
    dead_bytes: u64,
    /// Data files without such a state. A file that an engine is just writing is among them.
    unreferenced_files: u64,
    unreferenced_bytes: u64,
    checkpoints: Vec<OfCheckpoint>,
    /// Of the newest checkpoint.
    operators: Vec<OfOperator>,
}

#[derive(Debug, Serialize)]
struct OfCheckpoint {
    id: CheckpointId,
    bytes: u64,
    new_bytes: u64,
    /// What the older checkpoints have as well.
    shared_bytes: u64,
    /// What no other checkpoint has.
    unique_bytes: u64,
}

#[derive(Debug, Default, Serialize)]
struct OfOperator {
    operator: String,
    states: u64,
    bytes: u64,
}

pub(super) fn run(store: &Path, output: &Output, unique: bool) -> Outcome {
    let inspection = inspect(store)?;
    let usage = measure(&inspection, &inspection.extents())?;
    output.answer(&usage, |text| tell(text, &usage, unique))?;
    Ok(Verdict::Fine)
}

fn measure(inspection: &Inspection, extents: &Extents) -> Result<Usage, Failure> {
    let live = extents.bytes_by_file();
    let (mut files, mut physical_bytes, mut allocated_bytes, mut dead_bytes) = (0, 0, 0, 0);
    let (mut unreferenced_files, mut unreferenced_bytes) = (0, 0);
    for file in inspection.files()? {
        let live = live.get(&file.path).copied().unwrap_or_default();
        files += 1;
        physical_bytes += file.len;
        allocated_bytes += file.allocated;
        dead_bytes += file.len.saturating_sub(live);
        if live == 0 {
            unreferenced_files += 1;
            unreferenced_bytes += file.len;
        }
    }
    let checkpoints = extents.by_checkpoint().into_iter().map(|(id, bytes)| OfCheckpoint {
        id,
        bytes: bytes.all,
        new_bytes: bytes.new,
        shared_bytes: bytes.all - bytes.new,
        unique_bytes: bytes.unique,
    });
    Ok(Usage {
        logical_bytes: extents.live_bytes(),
        logical_states: extents.live_states(),
        files,
        physical_bytes,
        allocated_bytes,
        dead_bytes,
        unreferenced_files,
        unreferenced_bytes,
        checkpoints: checkpoints.collect(),
        operators: operators(inspection),
    })
}

/// What the operators of the newest checkpoint take; the named states count as one without a name.
fn operators(inspection: &Inspection) -> Vec<OfOperator> {
    let newest = find(inspection, Which::Latest).ok();
    let Some(manifest) = newest.and_then(|newest| newest.manifest.as_ref().ok()) else { return Vec::new() };
    let mut operators: BTreeMap<&str, OfOperator> = BTreeMap::new();
    for state in manifest.all_states() {
        let operator = match state.name {
            StateName::Coordinator(operator)
            | StateName::Snapshot(operator, _)
            | StateName::Delta(operator, ..)
            | StateName::Partition(operator, ..) => operator,
            StateName::Named(_) | StateName::Sidecar => "",
        };
        let of = operators.entry(operator).or_default();
        of.states += 1;
        of.bytes += state.handle.len();
    }
    operators.into_iter().map(|(operator, of)| OfOperator { operator: operator.to_owned(), ..of }).collect()
}

fn tell(text: &mut Text<'_>, usage: &Usage, unique: bool) -> std::io::Result<()> {
    let states = units::counted(usage.logical_states, "state");
    text.field("logical", format_args!("{} in {states}", units::bytes(usage.logical_bytes)))?;
    let files = units::counted(usage.files, "file");
    text.field("physical", format_args!("{} in {files}", units::bytes(usage.physical_bytes)))?;
    text.field("allocated", units::bytes(usage.allocated_bytes))?;
    text.field("dead", units::bytes(usage.dead_bytes))?;
    if usage.unreferenced_files > 0 {
        let files = units::counted(usage.unreferenced_files, "file");
        text.field("unreferenced", format_args!("{} in {files}", units::bytes(usage.unreferenced_bytes)))?;
    }
    if !usage.checkpoints.is_empty() {
        text.line("")?;
        let mut columns = vec![">CHECKPOINT", ">BYTES", ">NEW", ">SHARED"];
        columns.extend(unique.then_some(">UNIQUE"));
        text.table(&columns, usage.checkpoints.iter().map(|of| row(of, unique)))?;
    }
    if usage.operators.iter().any(|of| !of.operator.is_empty()) {
        text.line("")?;
        let rows = usage.operators.iter().map(|of| {
            let name = if of.operator.is_empty() { "(no operator)" } else { &of.operator };
            vec![name.into(), units::count(of.states).into(), units::bytes(of.bytes).into()]
        });
        text.table(&["OPERATOR", ">STATES", ">BYTES"], rows)?;
    }
    Ok(())
}

fn row(of: &OfCheckpoint, unique: bool) -> Vec<Entry> {
    let mut row: Vec<Entry> = vec![of.id.to_string().into()];
    row.extend([of.bytes, of.new_bytes, of.shared_bytes].map(|bytes| units::bytes(bytes).into()));
    row.extend(unique.then(|| Entry(units::bytes(of.unique_bytes), Tone::Plain)));
    row
}
