//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use piton::CheckpointId;

/// Looks into a piton checkpoint store, and changes it on request.
///
/// Commands that only read take no lock: they work while an engine writes the store, on read-only media, and on damaged
/// stores. Commands that change the store need it for themselves.
///
/// Exit code: 0 if nothing is wrong, 1 if the command found something wrong with the store, 2 for a wrong command line, 3 if
/// the command failed.
#[derive(Debug, Parser)]
#[command(name = "piton", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// The directory of the store.
    #[arg(short, long, global = true, value_name = "DIR", env = "PITON_STORE", default_value = ".")]
    pub(crate) store: PathBuf,
    /// Answer in JSON: see docs/inspector.md.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    Always,
    Never,
}

/// A checkpoint: its number, or `latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Latest,
    Id(CheckpointId),
}

impl std::str::FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let id = text.parse().ok().and_then(CheckpointId::new);
        id.map(Self::Id).ok_or_else(|| "neither a number of a checkpoint nor \"latest\"".to_owned())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClaimWay {
    /// Copy or link the files: the other store stays as it is.
    Copy,
    /// Take the files: the other store loses the checkpoint, and is deleted with its last one.
    Move,
    /// Refer to the files where they are.
    Borrow,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the checkpoints, oldest first.
    List,
    /// Show what a checkpoint consists of.
    Show {
        id: Which,
        /// List the states whose address begins so; an empty prefix lists all. By default the first 20.
        #[arg(long, value_name = "PREFIX")]
        states: Option<String>,
    },
    /// Write a state to stdout, verified.
    Cat {
        id: Which,
        /// Its address, as `show` has it.
        state: String,
    },
    /// Read every byte of checkpoints and compare the checksums.
    Verify {
        #[arg(default_value = "latest")]
        id: Which,
        /// All checkpoints, each state once. Digests of artifacts are compared only without this.
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
    /// Show which checkpoints and operators take how much space.
    Du {
        /// Show what forgetting each checkpoint alone would free.
        #[arg(long)]
        unique: bool,
    },
    /// Show how two checkpoints differ.
    Diff { older: Which, newer: Which },
    /// Show the records of the manifest log.
    Log,
    /// Write out every whole state that is in the data files, without any manifest.
    Salvage {
        /// A directory that does not exist yet.
        dir: PathBuf,
    },
    /// Say everything that is wrong with the store, and what mends it.
    Doctor,
    /// Make a store of its own of a checkpoint.
    Export { id: Which, dir: PathBuf },
    /// Make a checkpoint of the newest one of another store.
    Import {
        dir: PathBuf,
        #[arg(long, value_enum, default_value_t = ClaimWay::Copy)]
        claim: ClaimWay,
    },
    /// Forget all but the newest checkpoints. Pinned ones and savepoints stay.
    Prune {
        #[arg(long, value_name = "N")]
        keep: usize,
        /// Only say what would be forgotten.
        #[arg(long)]
        dry_run: bool,
    },
    /// Forget a checkpoint.
    Forget { id: Which },
    /// Make an older checkpoint the newest one; later ones stay, and do not count.
    Rollback { id: Which },
    /// Keep a checkpoint through pruning and retention.
    Pin { id: Which },
    /// End what `pin` began.
    Unpin { id: Which },
    /// Watch a store that an engine writes, until `q`. Without a terminal: a line for each look.
    Watch {
        /// How long it waits between two looks.
        #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
        interval: f64,
        /// End after so many looks.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Measure what a checkpoint costs on a file system, for three sizes. No store that is there is touched.
    Bench {
        /// A directory on that file system. Everything is measured in a new directory in it, which is deleted at the end.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
        /// How long it takes in all; each size is measured at least three times.
        #[arg(long, default_value_t = 9.0)]
        seconds: f64,
    },
    /// Write the completions for a shell to stdout.
    Completions { shell: clap_complete::Shell },
    /// Write the manual page to stdout.
    Man,
}
