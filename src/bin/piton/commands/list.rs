//! `piton list`

use std::path::Path;

use piton::{CheckpointId, CheckpointKind, inspect::InspectedCheckpoint};
use serde::Serialize;

use super::inspect;
use crate::{
    Outcome, Verdict,
    output::{Entry, Output, Tone},
    units,
};

#[derive(Debug, Serialize)]
struct List {
    checkpoints: Vec<Listed>,
    lost: Vec<String>,
}

/// One checkpoint. What is not known is absent.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    id: CheckpointId,
    kind: Option<CheckpointKind>,
    timestamp_ms: Option<u64>,
    epoch: Option<u64>,
    states: u64,
    bytes: u64,
    changed_bytes: u64,
    pinned: bool,
    rolled_back: bool,
    durable: bool,
    /// What is wrong with it, as far as can be told without reading its states.
    damage: Option<String>,
}

impl Listed {
    fn marks(&self) -> Entry {
        let marks = [
            (self.damage.is_some(), "damaged"),
            (self.rolled_back, "rolled back"),
            (!self.durable, "not durable"),
            (self.pinned, "pinned"),
        ];
        let set: Vec<_> = marks.iter().filter(|(is_set, _)| *is_set).map(|(_, mark)| *mark).collect();
        let tone = match self {
            Self { damage: Some(_), .. } => Tone::Bad,
            Self { rolled_back: true, .. } | Self { durable: false, .. } => Tone::Warning,
            _ => Tone::Plain,
        };
        Entry(set.join(", "), tone)
    }
}

pub(super) fn run(store: &Path, output: &Output) -> Outcome {
    let inspection = inspect(store)?;
    let incomplete = inspection.incomplete()?;
    let listed = |checkpoint: &InspectedCheckpoint| {
        let InspectedCheckpoint { id, pinned, rolled_back, durable, states, bytes, ref manifest, .. } = *checkpoint;
        let known = manifest.as_ref().ok();
        let missing = incomplete.get(&id).map(|file| format!("{} is missing or too short", file.display()));
        Listed {
            id,
            kind: known.map(piton::Manifest::kind),
            timestamp_ms: known.map(piton::Manifest::timestamp_ms),
            epoch: known.map(piton::Manifest::epoch),
            states,
            bytes,
            changed_bytes: checkpoint.changed_bytes,
            pinned,
            rolled_back,
            durable,
            damage: manifest.as_ref().err().map(ToString::to_string).or(missing),
        }
    };
    let mut checkpoints: Vec<_> = inspection.checkpoints().iter().map(listed).collect();
    checkpoints.sort_by_key(|listed| listed.id);
    let list = List { checkpoints, lost: inspection.lost().iter().map(ToString::to_string).collect() };
    output.answer(&list, |text| {
        if list.checkpoints.is_empty() {
            text.line("no checkpoints")?;
        } else {
            let columns = [">ID", "KIND", "TIME (UTC)", ">STATES", ">BYTES", ">CHANGED", "MARKS"];
            text.table(&columns, list.checkpoints.iter().map(row))?;
        }
        for lost in &list.lost {
            text.toned(Tone::Bad, "lost")?;
            text.line(format_args!(": {lost}"))?;
        }
        Ok(())
    })?;
    let is_damaged = !list.lost.is_empty() || list.checkpoints.iter().any(|listed| listed.damage.is_some());
    Ok(if is_damaged { Verdict::Found } else { Verdict::Fine })
}

fn row(listed: &Listed) -> Vec<Entry> {
    let kind = match listed.kind {
        Some(CheckpointKind::Savepoint) => "savepoint",
        Some(CheckpointKind::Checkpoint) => "checkpoint",
        None => "?",
    };
    vec![
        listed.id.to_string().into(),
        kind.into(),
        units::time(listed.timestamp_ms.unwrap_or_default()).into(),
        units::count(listed.states).into(),
        units::bytes(listed.bytes).into(),
        units::bytes(listed.changed_bytes).into(),
        listed.marks(),
    ]
}
