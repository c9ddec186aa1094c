//! `piton verify`

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Instant,
};

use piton::{
    CheckpointId, Options,
    inspect::{DamagedState, InspectedCheckpoint},
};
use serde::Serialize;

use super::{find, inspect_with};
use crate::{
    Outcome, Verdict, address,
    arguments::Which,
    output::{Output, Tone},
    progress, units,
};

#[derive(Debug, Default, Serialize)]
struct Verified {
    checkpoints: Vec<One>,
    /// What of the manifest log and the identity is gone.
    lost: Vec<String>,
    /// Each state once.
    states: u64,
    bytes: u64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct One {
    id: CheckpointId,
    damage: Vec<Damage>,
}

#[derive(Debug, Serialize)]
struct Damage {
    /// The state; absent if the checkpoint as a whole cannot be read.
    state: Option<String>,
    why: String,
}

pub(super) fn run(store: &Path, output: &Output, which: Option<Which>) -> Outcome {
    let inspect = || inspect_with(store, Options::new().progress(progress::of_store(output)));
    let inspection = inspect()?;
    let only = which.map(|which| find(&inspection, which)).transpose()?.map(|checkpoint| checkpoint.id);
    let begun = Instant::now();
    let mut found = inspection.verify(only)?;
    let seconds = begun.elapsed().as_secs_f64();
    if !found.damaged.is_empty() {
        // The bytes of what the engine forgot meanwhile may be anything.
        let now: HashSet<_> = inspect()?.checkpoints().iter().map(|checkpoint| checkpoint.id).collect();
        found.damaged.iter_mut().for_each(|state| state.checkpoints.retain(|id| now.contains(id)));
    }
    let checkpoints = inspection.checkpoints().iter().filter(|it| only.is_none_or(|only| it.id == only));
    let verified = Verified {
        checkpoints: checkpoints.map(|checkpoint| One::of(checkpoint, &found.damaged)).collect(),
        lost: inspection.lost().iter().map(ToString::to_string).collect(),
        states: found.states,
        bytes: found.bytes,
        seconds,
    };
    output.answer(&verified, |text| {
        for lost in &verified.lost {
            text.toned(Tone::Bad, "lost")?;
            text.line(format_args!(": {lost}"))?;
        }
        for One { id, damage } in &verified.checkpoints {
            for Damage { state, why } in damage {
                text.toned(Tone::Bad, "damaged")?;
                let state = state.as_ref().map_or_else(String::new, |state| format!(" state {state}:"));
                text.line(format_args!(": checkpoint {id}:{state} {why}"))?;
            }
        }
        let whole = verified.checkpoints.iter().filter(|one| one.damage.is_empty()).count();
        let all = units::counted(verified.checkpoints.len() as u64, "checkpoint");
        text.line(format_args!(
            "{whole} of {all} whole: {} in data files, {}",
            units::counted(verified.states, "state"),
            units::bytes(verified.bytes),
        ))?;
        text.line(format_args!("read in {:.1} s, {}/s", verified.seconds, units::bytes(verified.per_second())))
    })?;
    let is_damaged = !verified.lost.is_empty() || verified.checkpoints.iter().any(|one| !one.damage.is_empty());
    Ok(if is_damaged { Verdict::Found } else { Verdict::Fine })
}

impl Verified {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "for people"
    )]
    fn per_second(&self) -> u64 {
        (self.bytes as f64 / self.seconds.max(1e-6)) as u64
    }
}

impl One {
    fn of(checkpoint: &InspectedCheckpoint, damaged: &[DamagedState]) -> Self {
        let id = checkpoint.id;
        let manifest = match &checkpoint.manifest {
            Ok(manifest) => manifest,
            Err(error) => return Self { id, damage: vec![Damage { state: None, why: error.to_string() }] },
        };
        let ours: HashMap<_, _> = damaged
            .iter()
            .filter(|state| state.checkpoints.contains(&id))
            .map(|state| (&state.handle, state))
            .collect();
        if ours.is_empty() {
            return Self { id, damage: Vec::new() };
        }
        let damage = manifest.all_states().filter_map(|state| {
            let why = ours.get(state.handle)?.error.to_string();
            Some(Damage { state: Some(address::of(&state.name)), why })
        });
        Self { id, damage: damage.collect() }
    }
}
