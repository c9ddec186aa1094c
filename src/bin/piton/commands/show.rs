//! `piton show`

use std::{collections::BTreeMap, path::Path};

use piton::{CheckpointId, CheckpointKind, Manifest};
use serde::Serialize;

use super::{find, inspect};
use crate::{
    Outcome, Verdict, address,
    arguments::Which,
    output::{Entry, Output, Text},
    units,
};

/// How many states are shown unless a prefix is given.
const FIRST: usize = 20;

#[derive(Debug, Serialize)]
struct Shown {
    id: CheckpointId,
    kind: CheckpointKind,
    timestamp_ms: u64,
    epoch: u64,
    generation: u64,
    parent: Option<CheckpointId>,
    pinned: bool,
    rolled_back: bool,
    durable: bool,
    vnode_count: u16,
    watermark_ms: Option<i64>,
    pipeline_hash: Option<u64>,
    operators: Vec<Operator>,
    source_offsets: BTreeMap<String, BTreeMap<String, String>>,
    sinks: BTreeMap<String, u64>,
    /// How long each value is.
    metadata: BTreeMap<String, usize>,
    borrowed_from: Vec<String>,
    states: Vec<State>,
    all_states: usize,
}

#[derive(Debug, Serialize)]
struct Operator {
    name: String,
    parallelism: u32,
    max_parallelism: u32,
    partitions: usize,
}

#[derive(Debug, Serialize)]
struct State {
    address: String,
    bytes: u64,
    /// Where it is, relative to the store; `None` if it is in the manifest.
    file: Option<String>,
    offset: Option<u64>,
    crc32: String,
}

pub(super) fn run(store: &Path, output: &Output, id: Which, prefix: Option<&str>) -> Outcome {
    let inspection = inspect(store)?;
    let checkpoint = find(&inspection, id)?;
    let manifest = checkpoint.manifest.as_ref().map_err(Clone::clone)?;
    let mut states = Vec::new();
    let mut all_states = 0;
    for state in manifest.all_states() {
        let address = address::of(&state.name);
        all_states += 1;
        let is_wanted = prefix.map_or(states.len() < FIRST, |prefix| address.starts_with(prefix));
        if is_wanted {
            let place = inspection.place(manifest, state.handle);
            let file = place
                .as_ref()
                .map(|(path, _)| path.strip_prefix(inspection.root()).unwrap_or(path).display().to_string());
            let (bytes, offset) = (state.handle.len(), place.map(|(_, offset)| offset));
            states.push(State { address, bytes, file, offset, crc32: format!("{:08x}", state.handle.crc32()) });
        }
    }
    let shown = Shown {
        id: checkpoint.id,
        generation: checkpoint.generation,
        pinned: checkpoint.pinned,
        rolled_back: checkpoint.rolled_back,
        durable: checkpoint.durable,
        ..of_manifest(manifest, states, all_states)
    };
    output.answer(&shown, |text| tell(text, &shown, prefix.is_some()))?;
    Ok(Verdict::Fine)
}

fn of_manifest(manifest: &Manifest, states: Vec<State>, all_states: usize) -> Shown {
    let operators = manifest.operators().iter().map(|(name, operator)| Operator {
        name: name.to_string(),
        parallelism: operator.parallelism,
        max_parallelism: operator.max_parallelism,
        partitions: operator.partitions.len(),
    });
    let offsets = manifest.source_offsets().iter();
    let offsets = offsets.map(|(source, offset)| (source.to_string(), offset.offsets.clone().into_iter().collect()));
    Shown {
        id: manifest.id(),
        kind: manifest.kind(),
        timestamp_ms: manifest.timestamp_ms(),
        epoch: manifest.epoch(),
        generation: manifest.generation(),
        parent: manifest.parent(),
        pinned: false,
        rolled_back: false,
        durable: true,
        vnode_count: manifest.vnode_count(),
        watermark_ms: manifest.watermark_ms(),
        pipeline_hash: manifest.pipeline_hash(),
        operators: operators.collect(),
        source_offsets: offsets.collect(),
        sinks: manifest.sink_epochs().iter().map(|(sink, epoch)| (sink.to_string(), *epoch)).collect(),
        metadata: manifest.all_metadata().map(|(name, bytes)| (name.to_owned(), bytes.len())).collect(),
        borrowed_from: manifest.lenders().map(|lender| lender.root().display().to_string()).collect(),
        states,
        all_states,
    }
}

fn tell(text: &mut Text<'_>, shown: &Shown, has_prefix: bool) -> std::io::Result<()> {
    let kind = match shown.kind {
        CheckpointKind::Checkpoint => "checkpoint",
        CheckpointKind::Savepoint => "savepoint",
    };
    let marks = [(shown.pinned, "pinned"), (shown.rolled_back, "rolled back"), (!shown.durable, "not durable")];
    let marks: Vec<_> = marks.iter().filter(|(is_set, _)| *is_set).map(|(_, mark)| *mark).collect();
    text.field(kind, format_args!("{} {}", shown.id, marks.join(", ")).to_string().trim_end())?;
    text.field("time", units::time(shown.timestamp_ms))?;
    text.field("epoch", shown.epoch)?;
    if let Some(parent) = shown.parent {
        text.field("parent", parent)?;
    }
    if let Some(watermark) = shown.watermark_ms {
        text.field("watermark", u64::try_from(watermark).map_or_else(|_| watermark.to_string(), units::time))?;
    }
    for (source, offsets) in &shown.source_offsets {
        let offsets: Vec<_> = offsets.iter().map(|(key, value)| format!("{key}={value}")).collect();
        text.field("source", format_args!("{source} {}", offsets.join(" ")))?;
    }
    for (sink, epoch) in &shown.sinks {
        text.field("sink", format_args!("{sink} epoch {epoch}"))?;
    }
    for (name, len) in &shown.metadata {
        text.field("metadata", format_args!("{name} ({})", units::bytes(*len as u64)))?;
    }
    for lender in &shown.borrowed_from {
        text.field("borrows from", lender)?;
    }
    for Operator { name, parallelism, partitions, .. } in &shown.operators {
        let partitions = units::counted(*partitions as u64, "partition");
        text.field("operator", format_args!("{name}, parallelism {parallelism}, {partitions}"))?;
    }
    text.field("states", units::count(shown.all_states as u64))?;
    if shown.states.is_empty() {
        return Ok(());
    }
    text.line("")?;
    text.table(&["STATE", ">BYTES", "CRC-32", "FILE", ">OFFSET"], shown.states.iter().map(row))?;
    let more = shown.all_states - shown.states.len();
    if more > 0 && !has_prefix {
        text.line(format_args!("and {} more: see --states PREFIX", units::count(more as u64)))?;
    }
    Ok(())
}

fn row(state: &State) -> Vec<Entry> {
    vec![
        state.address.clone().into(),
        units::bytes(state.bytes).into(),
        state.crc32.clone().into(),
        state.file.clone().unwrap_or_else(|| "(manifest)".to_owned()).into(),
        state.offset.map_or_else(String::new, |offset| offset.to_string()).into(),
    ]
}
