//! `piton verify`

use std::{path::Path, time::Instant};

use piton::{Checkpoint, CheckpointId, Digest, Manifest, StateHandle};
use serde::Serialize;

use super::{Failure, open, reader};
use crate::{
    Outcome, Verdict, address,
    arguments::Which,
    output::{Output, Tone},
    progress, units,
};

#[derive(Debug, Default, Serialize)]
struct Verified {
    checkpoints: Vec<One>,
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

/// A state that was found to be damaged.
struct Bad {
    address: String,
    handle: StateHandle,
    why: String,
}

pub(super) fn run(store: &Path, output: &Output, which: Option<Which>) -> Outcome {
    let (store, begun) = (reader(store)?, Instant::now());
    let mut verified = Verified::default();
    if let Some(which) = which {
        verified.add(&open(&store, which)?, None, &mut Vec::new(), output);
    } else {
        let (mut before, mut bad): (Option<Checkpoint>, _) = (None, Vec::new());
        for id in store.checkpoint_ids()? {
            match store.checkpoint(id) {
                Ok(checkpoint) => {
                    verified.add(&checkpoint, before.as_ref().map(Checkpoint::manifest), &mut bad, output);
                    before = Some(checkpoint);
                }
                // The engine forgot it meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => verified.add_unreadable(id, &error)?,
            }
        }
    }
    verified.seconds = begun.elapsed().as_secs_f64();
    output.answer(&verified, |text| {
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
            "{whole} of {all} whole: {}, {}",
            units::counted(verified.states, "state"),
            units::bytes(verified.bytes),
        ))
    })?;
    let is_damaged = verified.checkpoints.iter().any(|one| !one.damage.is_empty());
    Ok(if is_damaged { Verdict::Found } else { Verdict::Fine })
}

impl Verified {
    /// Reads the states of a checkpoint, but for those that the one before it has as well.
    fn add(&mut self, checkpoint: &Checkpoint, before: Option<&Manifest>, bad: &mut Vec<Bad>, output: &Output) {
        let manifest = checkpoint.manifest();
        bad.retain(|bad| address::find(manifest, &bad.address).is_some_and(|state| *state.handle == bad.handle));
        match before {
            None => self.read_all(checkpoint, bad, output),
            Some(before) => self.read_new(checkpoint, before, bad),
        }
        let damage =
            bad.iter().map(|Bad { address, why, .. }| Damage { state: Some(address.clone()), why: why.clone() });
        self.checkpoints.push(One { id: checkpoint.id(), damage: damage.collect() });
    }

    fn read_all(&mut self, checkpoint: &Checkpoint, bad: &mut Vec<Bad>, output: &Output) {
        let total = checkpoint.manifest().all_states().map(|state| state.handle.len()).sum();
        let bar = progress::bytes(output, &format!("checkpoint {}", checkpoint.id()), total);
        for (state, view) in checkpoint.views() {
            bar.inc(state.handle.len());
            self.count(state.handle);
            let digest_differs = |view: &[u8]| state.digest.is_some_and(|digest| *digest != Digest::of(view));
            let why = match view {
                Ok(view) if digest_differs(&view) => "its bytes do not have its digest".to_owned(),
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            bad.push(Bad { address: address::of(&state.name), handle: state.handle.clone(), why });
        }
        bar.finish_and_clear();
    }

    fn read_new(&mut self, checkpoint: &Checkpoint, before: &Manifest, bad: &mut Vec<Bad>) {
        for handle in checkpoint.manifest().added_since(before) {
            self.count(handle);
            if let Err(error) = checkpoint.read(handle) {
                let states = checkpoint.manifest().all_states().filter(|state| state.handle == handle);
                bad.extend(states.map(|state| Bad {
                    address: address::of(&state.name),
                    handle: handle.clone(),
                    why: error.to_string(),
                }));
            }
        }
    }

    fn count(&mut self, handle: &StateHandle) {
        self.states += 1;
        self.bytes += handle.len();
    }

    /// A checkpoint that cannot be opened.
    fn add_unreadable(&mut self, id: CheckpointId, error: &piton::Error) -> Result<(), Failure> {
        if !error.is_damage() {
            return Err(error.clone().into());
        }
        self.checkpoints.push(One { id, damage: vec![Damage { state: None, why: error.to_string() }] });
        Ok(())
    }
}
