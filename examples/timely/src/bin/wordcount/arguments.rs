//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Counts words by window, exactly once, in some timely processes that are killed and rescaled meanwhile. Compares the counts
/// with those of awk and sort.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
    /// Timely processes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) processes: u16,
    /// Workers of each process.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=8))]
    pub(crate) workers: u16,
    /// A directory of text files, or `generated`.
    #[arg(long, default_value = "generated")]
    pub(crate) input: PathBuf,
    /// How many lines to generate.
    #[arg(long, default_value_t = 240_000)]
    pub(crate) lines: u64,
    /// How many words the generated lines are made of.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) vocabulary: u64,
    /// Milliseconds of an epoch.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) epoch: u64,
    /// Epochs to a checkpoint; 0 for one checkpoint at the end.
    #[arg(long, default_value_t = 5)]
    pub(crate) epochs_per_checkpoint: u64,
    /// Milliseconds to a checkpoint, in place of `--epochs-per-checkpoint`.
    #[arg(long, conflicts_with = "epochs_per_checkpoint")]
    pub(crate) checkpoint_every: Option<u64>,
    /// How many processes to kill, timely processes and coordinators.
    #[arg(long, default_value_t = 0)]
    pub(crate) kill: u32,
    /// How many workers all processes have together, life by life, as in `4,6,2`.
    #[arg(long, value_delimiter = ',')]
    pub(crate) rescale: Vec<usize>,
    /// How long to count about, by pacing the sources; 0 for as fast as can be. By default it follows from `--kill`.
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
    /// Seeds the generated lines and the kills.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Say what happens to each life.
    #[arg(long)]
    pub(crate) progress: bool,
    /// Measure the latency of checkpoints, throughput, and the bytes of a restore.
    #[arg(long)]
    pub(crate) measure: bool,
    /// Where to write the counts, a line each: window, word, count.
    #[arg(long)]
    pub(crate) output: Option<PathBuf>,
}

/// The roles of the processes that the program starts.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Role {
    #[command(hide = true)]
    Coordinator {
        #[arg(long)]
        dir: PathBuf,
        /// The number of the first life.
        #[arg(long)]
        life: usize,
    },
    #[command(hide = true)]
    Process {
        #[arg(long)]
        dir: PathBuf,
    },
}

impl Arguments {
    /// How many seconds the input is to last; `None` for as fast as can be.
    pub(crate) fn pace(&self) -> Option<u64> {
        let seconds = self.seconds.unwrap_or(4 + u64::from(self.kill) * 3 / 4);
        (seconds > 0).then_some(seconds)
    }

    /// How many epochs there are to a checkpoint.
    pub(crate) fn epochs_per_checkpoint(&self) -> u64 {
        self.checkpoint_every.map_or(self.epochs_per_checkpoint, |every| (every / self.epoch).max(1))
    }

    /// How many workers there are in each life, again and again.
    pub(crate) fn scales(&self) -> Result<Vec<usize>, String> {
        let processes = usize::from(self.processes);
        if self.rescale.is_empty() {
            return Ok(vec![processes * usize::from(self.workers)]);
        }
        match self.rescale.iter().find(|scale| **scale == 0 || **scale > 128 || **scale % processes != 0) {
            Some(scale) => Err(format!("{scale} workers are no multiple of {processes} processes from 1 to 128")),
            None => Ok(self.rescale.clone()),
        }
    }
}
