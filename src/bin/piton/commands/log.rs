//! `piton log`

use std::path::Path;

use piton::{
    CheckpointKind,
    inspect::{LogRecord, RecordKind},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::inspect;
use crate::{
    Outcome, Verdict,
    output::{Entry, Output, Tone},
    units,
};

#[derive(Debug, Serialize)]
struct Log {
    records: Vec<Shown>,
    lost: Vec<String>,
    healed: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Shown {
    log: String,
    offset: u64,
    number: u64,
    bytes: u64,
    /// In how many of its two places it is whole.
    copies: u8,
    record: Value,
    #[serde(skip)]
    says: String,
}

pub(super) fn run(store: &Path, output: &Output) -> Outcome {
    let inspection = inspect(store)?;
    let texts = |errors: &[piton::Error]| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
    let log = Log {
        records: inspection.records()?.iter().map(shown).collect(),
        lost: texts(inspection.lost()),
        healed: texts(inspection.healed()),
    };
    output.answer(&log, |text| {
        if log.records.is_empty() {
            text.line("no records")?;
        } else {
            text.table(&["LOG", ">OFFSET", ">NUMBER", ">BYTES", "SAYS"], log.records.iter().map(row))?;
        }
        for (tone, word, errors) in [(Tone::Warning, "healed", &log.healed), (Tone::Bad, "lost", &log.lost)] {
            for error in errors {
                text.toned(tone, word)?;
                text.line(format_args!(": {error}"))?;
            }
        }
        Ok(())
    })?;
    Ok(if log.lost.is_empty() { Verdict::Fine } else { Verdict::Found })
}

fn shown(record: &LogRecord) -> Shown {
    let LogRecord { ref log, offset, number, len, copies, ref kind, .. } = *record;
    let log = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (record, says) = say(kind);
    Shown { log, offset, number, bytes: len, copies, record, says }
}

fn row(shown: &Shown) -> Vec<Entry> {
    let (mark, tone) = match shown.copies {
        0 => ("", Tone::Bad),
        1 => (" (one copy)", Tone::Warning),
        _ => ("", Tone::Plain),
    };
    let number = if shown.copies == 0 { String::new() } else { shown.number.to_string() };
    vec![
        shown.log.clone().into(),
        shown.offset.to_string().into(),
        number.into(),
        shown.bytes.to_string().into(),
        Entry(format!("{}{mark}", shown.says), tone),
    ]
}

/// What a record says, for programs and for people.
fn say(kind: &RecordKind) -> (Value, String) {
    match kind {
        RecordKind::Checkpoint { id, kind, generation, against, forgotten, redone_states, redone_bytes, .. } => {
            let name = if *kind == CheckpointKind::Savepoint { "savepoint" } else { "checkpoint" };
            let older = *against;
            let against = older.map_or_else(String::new, |against| format!(", against {against}"));
            let gone =
                if forgotten.is_empty() { String::new() } else { format!(", forgets {}", units::ids(forgotten)) };
            let states = units::counted(*redone_states as u64, "state");
            let redone = format!(", has {states} ({})", units::bytes(*redone_bytes));
            let redone = if *redone_states > 0 { redone } else { String::new() };
            let says = format!("{name} {id}{against}{gone}{redone}");
            let value = json!({
                "type": "checkpoint", "id": id, "kind": kind, "generation": generation, "against": older,
                "forgotten": forgotten, "redone_states": redone_states, "redone_bytes": redone_bytes,
            });
            (value, says)
        }
        RecordKind::Forgotten(gone) => {
            (json!({ "type": "forgotten", "ids": gone }), format!("forgets {}", units::ids(gone)))
        }
        RecordKind::Updated { id, pinned } => {
            let pin = if *pinned { ", pinned" } else { "" };
            (json!({ "type": "updated", "id": id, "pinned": pinned }), format!("updates {id}{pin}"))
        }
        RecordKind::RolledBack(ranges) => {
            let said: Vec<_> = ranges.iter().map(|(to, from)| format!("from {from} to {to}")).collect();
            (json!({ "type": "rolled_back", "ranges": ranges }), format!("rolls back {}", said.join(", ")))
        }
        RecordKind::Lost(id) => (json!({ "type": "lost", "id": id }), format!("checkpoint {id}, content lost")),
        RecordKind::IdsUsed(id) => (json!({ "type": "ids_used", "up_to": id }), format!("ids used up to {id}")),
        RecordKind::Departing { id, root } => {
            let says = format!("moves checkpoint {id} from {}", root.display());
            (json!({ "type": "departing", "id": id, "root": root }), says)
        }
        RecordKind::Departed(id) => (json!({ "type": "departed", "id": id }), format!("checkpoint {id} is moved")),
        RecordKind::Unreadable(why) => (json!({ "type": "unreadable", "why": why }), format!("unreadable: {why}")),
        RecordKind::Damaged => (json!({ "type": "damaged" }), "damaged in both halves".to_owned()),
        _ => (json!({ "type": "unknown" }), "unknown".to_owned()),
    }
}
