//! A windowed word count on timely, exactly once whatever is killed: see the README.
//!
//! | module | role |
//! |---|---|
//! | `arguments`, `spec` | the command line; what all processes of a run know |
//! | `supervisor`, `watched`, `plan` | starts, kills, starts again |
//! | `splits`, `lines`, `counts`, `entries`, `job` | the word count: input, source, state, dataflow |
//! | `proof`, `measure` | compares with awk and sort; figures |

mod arguments;
mod counts;
mod entries;
mod job;
mod lines;
mod measure;
mod plan;
mod proof;
mod spec;
mod splits;
mod supervisor;
mod watched;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser as _;
use timely_piton::{Failure, coordinator};

use arguments::{Arguments, Role};
use spec::Spec;
use supervisor::Seen;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.role {
        Some(Role::Coordinator { dir, life }) => {
            Spec::read(dir).and_then(|spec| coordinator::run(spec.settings(dir, *life)))
        }
        Some(Role::Process { dir }) => Spec::read(dir).and_then(|spec| job::run(spec.splits, spec.rate)),
        None if arguments.measure => measure::run_all(&arguments),
        None => count(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("timely-wordcount: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The supervisor's run, and its proof.
fn count(arguments: &Arguments) -> Result<(), Failure> {
    let dir = tempfile::Builder::new().prefix("timely-").tempdir()?;
    let files = input(arguments, dir.path())?;
    let expected = dir.path().join("expected");
    let (seen, words) = run(arguments, dir.path(), &files, &expected)?;
    let kills = arguments.kill;
    println!("words: {words}, checkpoints: {}, lives: {}", seen.published.len(), seen.lives);
    println!("killed: {kills}, of which coordinators: {}", seen.coordinators);
    println!("seconds: {:.1}", seen.took.as_secs_f64());
    println!("exact: yes");
    Ok(())
}

/// The files to count.
fn input(arguments: &Arguments, dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    if arguments.input != Path::new("generated") {
        return splits::files(&arguments.input);
    }
    let generated = dir.join("input");
    splits::generate(&generated, arguments.lines, arguments.vocabulary, arguments.seed)?;
    splits::files(&generated)
}

/// Counts the files and compares the counts with the reference, which is made if it is not there. Returns what was seen, and how
/// many words there are.
fn run(arguments: &Arguments, dir: &Path, files: &[PathBuf], expected: &Path) -> Result<(Seen, u64), Failure> {
    let splits = splits::cut(files)?;
    let lines: u64 = splits.iter().map(|split| split.lines).sum();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = arguments.pace().map(|seconds| lines as f64 / seconds as f64);
    let spec = Spec {
        splits,
        processes: arguments.processes.into(),
        scales: arguments.scales()?,
        epoch_ms: arguments.epoch,
        epochs_per_checkpoint: arguments.epochs_per_checkpoint(),
        rate,
        with_floor: arguments.measure,
    };
    spec.write(dir)?;
    let seen = supervisor::run(&spec, dir, arguments.kill, arguments.seed, arguments.progress)?;
    let own = dir.join("counts");
    let found = arguments.output.as_deref().unwrap_or(&own);
    let words = proof::write_counts(dir, found)?;
    if !expected.exists() {
        proof::write_reference(files, expected)?;
    }
    proof::compare(found, expected)?;
    Ok((seen, words))
}
