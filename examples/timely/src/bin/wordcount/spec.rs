//! What all roles of a run need to know: the supervisor writes it into the directory of the run.

use std::{env, fs, path::Path, process::Command, time::Duration};

use bincode::config::standard;
use serde::{Deserialize, Serialize};
use timely_piton::{Failure, settings::Settings};

use crate::{job, splits::Split};

/// The name of the file.
const FILE: &str = "run";
/// The directory of the store.
pub(crate) const STORE: &str = "store";

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) splits: Vec<Split>,
    pub(crate) processes: usize,
    /// How many workers all processes have together, life by life.
    pub(crate) scales: Vec<usize>,
    pub(crate) epoch_ms: u64,
    pub(crate) epochs_per_checkpoint: u64,
    /// Lines a second; `None` for as fast as can be.
    pub(crate) rate: Option<f64>,
    pub(crate) with_floor: bool,
}

impl Spec {
    /// How many lines there are.
    pub(crate) fn lines(&self) -> u64 {
        self.splits.iter().map(|split| split.lines).sum()
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), Failure> {
        Ok(fs::write(dir.join(FILE), bincode::serde::encode_to_vec(self, standard())?)?)
    }

    pub(crate) fn read(dir: &Path) -> Result<Self, Failure> {
        Ok(bincode::serde::decode_from_slice(&fs::read(dir.join(FILE))?, standard())?.0)
    }

    /// What the coordinator works with.
    pub(crate) fn settings(&self, dir: &Path, life: usize) -> Settings {
        let process = dir.to_owned();
        Settings {
            root: dir.join(STORE),
            operator: job::OPERATOR,
            processes: self.processes,
            scales: self.scales.clone(),
            life,
            epoch: Duration::from_millis(self.epoch_ms),
            epochs_per_checkpoint: self.epochs_per_checkpoint,
            with_floor: self.with_floor,
            command: Box::new(move || role("process", &process)),
        }
    }
}

/// This program in another role.
pub(crate) fn role(name: &str, dir: &Path) -> Command {
    let mut command =
        Command::new(env::current_exe().unwrap_or_else(|_| env::args_os().next().unwrap_or_default().into()));
    command.arg(name).arg("--dir").arg(dir).current_dir(dir);
    command
}
