//! The commands, one file each.

mod bench;
mod cat;
mod change;
mod diff;
mod doctor;
mod du;
mod help;
mod list;
mod log;
mod probe;
mod salvage;
mod show;
mod transfer;
mod verify;
mod watch;

use std::path::Path;

use piton::{
    Checkpoint, CheckpointId, Options, ReadOnlyStore,
    inspect::{InspectedCheckpoint, Inspection},
};

use crate::{
    Outcome,
    arguments::{Arguments, Command, Which},
    output::Output,
};

type Failure = Box<dyn std::error::Error>;

pub(crate) fn run(arguments: &Arguments, output: &Output) -> Outcome {
    let store = arguments.store.as_path();
    match &arguments.command {
        Command::List => list::run(store, output),
        Command::Show { id, states } => show::run(store, output, *id, states.as_deref()),
        Command::Cat { id, state } => cat::run(store, *id, state),
        Command::Verify { id, all } => verify::run(store, output, (!all).then_some(*id)),
        Command::Du { unique } => du::run(store, output, *unique),
        Command::Diff { older, newer } => diff::run(store, output, *older, *newer),
        Command::Log => log::run(store, output),
        Command::Salvage { dir } => salvage::run(store, output, dir),
        Command::Doctor => doctor::run(store, output),
        Command::Export { id, dir } => transfer::export(store, output, *id, dir),
        Command::Import { dir, claim } => transfer::import(store, output, dir, *claim),
        Command::Prune { keep, dry_run: true } => change::would_prune(store, output, *keep),
        Command::Prune { keep, dry_run: false } => change::prune(store, output, *keep),
        Command::Forget { id } => change::forget(store, output, *id),
        Command::Rollback { id } => change::rollback(store, output, *id),
        Command::Pin { id } => change::pin(store, output, *id, true),
        Command::Unpin { id } => change::pin(store, output, *id, false),
        Command::Watch { interval, count } => watch::run(store, output, *interval, *count),
        Command::Bench { dir, seconds } => bench::run(output, dir, *seconds),
        Command::Completions { shell } => help::completions(*shell),
        Command::Man => help::man(),
    }
}

fn inspect(store: &Path) -> Result<Inspection, Failure> {
    inspect_with(store, Options::new())
}

fn inspect_with(store: &Path, options: Options) -> Result<Inspection, Failure> {
    options.inspect(store).map_err(|error| not_there(store, error))
}

fn reader(store: &Path) -> Result<ReadOnlyStore, Failure> {
    Options::new().open_read_only(store).map_err(|error| not_there(store, error))
}

fn not_there(store: &Path, error: piton::Error) -> Failure {
    if error.is_not_found() {
        format!("there is no store in {}: name its directory with --store or PITON_STORE", store.display()).into()
    } else {
        error.into()
    }
}

/// Opens a checkpoint for reading its states.
fn open(store: &ReadOnlyStore, which: Which) -> Result<Checkpoint, Failure> {
    match which {
        Which::Id(id) => Ok(store.checkpoint(id)?),
        Which::Latest => store.latest()?.ok_or_else(|| "the store has no checkpoints yet".into()),
    }
}

/// A checkpoint as the log has it. The latest is the newest one of which the record is there and that was not rolled back.
fn find(inspection: &Inspection, which: Which) -> Result<&InspectedCheckpoint, Failure> {
    let all = inspection.checkpoints();
    match which {
        Which::Id(id) => all.iter().find(|it| it.id == id).ok_or_else(|| no_such(id)),
        Which::Latest => {
            let usable = all.iter().filter(|it| !it.rolled_back && it.manifest.is_ok());
            usable.max_by_key(|it| it.id).ok_or_else(|| "the store has no checkpoint that can be read".into())
        }
    }
}

fn no_such(id: CheckpointId) -> Failure {
    format!("there is no checkpoint {id}: `piton list` shows those that there are").into()
}
