//! `piton diff`

use std::path::Path;

use piton::{CheckpointId, StateDifference, StateHandle};
use serde::Serialize;

use super::{find, inspect};
use crate::{
    Outcome, Verdict, address,
    arguments::Which,
    output::{Entry, Output, Tone},
    units,
};

#[derive(Debug, Serialize)]
struct Difference {
    older: CheckpointId,
    newer: CheckpointId,
    same_states: u64,
    changes: Vec<Change>,
}

/// What became of one state: absent in one of the two if it came or went.
#[derive(Debug, Serialize)]
struct Change {
    state: String,
    old_bytes: Option<u64>,
    new_bytes: Option<u64>,
}

pub(super) fn run(store: &Path, output: &Output, older: Which, newer: Which) -> Outcome {
    let inspection = inspect(store)?;
    let [older, newer] = [find(&inspection, older)?, find(&inspection, newer)?];
    let [old, new] = [&older.manifest, &newer.manifest].map(|manifest| manifest.as_ref().map_err(Clone::clone));
    let (old, new) = (old?, new?);
    let changes = new.differences(old).into_iter().map(|StateDifference { name, before, after, .. }| Change {
        state: address::of(&name),
        old_bytes: before.map(StateHandle::len),
        new_bytes: after.map(StateHandle::len),
    });
    let mut changes: Vec<_> = changes.collect();
    let different = changes.iter().filter(|change| change.new_bytes.is_some()).count();
    let same_states = (new.all_states().count() - different) as u64;
    changes.sort_by(|one, other| one.state.cmp(&other.state));
    let difference = Difference { older: older.id, newer: newer.id, same_states, changes };
    output.answer(&difference, |text| {
        if !difference.changes.is_empty() {
            text.table(&["", "STATE", ">OLD", ">NEW"], difference.changes.iter().map(row))?;
        }
        let count = |is: fn(&Change) -> bool| difference.changes.iter().filter(|change| is(change)).count();
        text.line(format_args!(
            "{} added, {} removed, {} changed, {} the same",
            count(|change| change.old_bytes.is_none()),
            count(|change| change.new_bytes.is_none()),
            count(|change| change.old_bytes.is_some() && change.new_bytes.is_some()),
            units::count(difference.same_states),
        ))
    })?;
    Ok(Verdict::Fine)
}

fn row(change: &Change) -> Vec<Entry> {
    let (mark, tone) = match (change.old_bytes, change.new_bytes) {
        (None, _) => ("+", Tone::Good),
        (_, None) => ("-", Tone::Bad),
        _ => ("~", Tone::Warning),
    };
    let bytes = |bytes: Option<u64>| bytes.map_or_else(String::new, units::bytes).into();
    vec![Entry(mark.to_owned(), tone), change.state.clone().into(), bytes(change.old_bytes), bytes(change.new_bytes)]
}
