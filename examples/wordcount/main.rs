//! An exactly-once word count that a crash cannot spoil.
//!
//! ```text
//! cargo run --release --example wordcount -- ~/books                # count, with checkpoints
//! cargo run --release --example wordcount -- --state s ~/books      # goes on where it was, after any crash
//! cargo run --release --example wordcount -- --kill 5 ~/books       # kills itself 5 times, and proves the result
//! ```
//!
//! # Why every word counts exactly once
//!
//! A worker counts the words of its files in memory. From time to time it stops between two words, and hands over two
//! things that belong together: how far it is in its files (the position), and the counts of everything before that
//! position, and of nothing after it. Both become states of **the same checkpoint**, which is published as a whole or
//! not at all, so there is no moment, whatever crashes, at which the disk has the one without the other.
//!
//! After a crash the newest checkpoint gives back the position and the counts. Words after the position were perhaps
//! counted before the crash, but those counts were in memory and are gone, so that counting them again counts them
//! once. Words before it are in the counts, and are never read again. The workers need not stop at the same time:
//! they share no data, so that any combination of one consistent point of each is a consistent whole.
//!
//! Counts are cut into key groups, one state each, so that a checkpoint writes only the groups that changed since the
//! last one, and goes on from that, which has the others.
//!
//! # Where is what
//!
//! | file | |
//! |---|---|
//! | `arguments.rs` | the command line |
//! | `input.rs` | which files, who counts which, reading them |
//! | `words.rs`, `counts.rs` | words in a stream of chunks; counts in key groups |
//! | `worker.rs` | a thread that counts, and **how it takes snapshots** |
//! | `checkpoints.rs` | drives piton's coordinator: **when checkpoints are taken, and what if one fails** |
//! | `state.rs` | opens the store, goes on from it, reads the result: **how piton is read** |
//! | `kill.rs`, `child.rs`, `reference.rs` | `--kill`: the parent, the process it kills, the proof |
//! | `event.rs`, `progress.rs`, `report.rs` | what is shown |

#![expect(clippy::disallowed_methods, reason = "the crate does its file calls in one place; an example has its own")]

mod arguments;
mod checkpoints;
mod child;
mod counts;
mod event;
mod input;
mod kill;
mod progress;
mod reference;
mod report;
mod state;
mod words;
mod worker;

use std::{
    env,
    error::Error,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use arguments::{Arguments, Request};
use event::Event;
use input::InputFile;
use progress::Progress;
use report::{Exact, Report};
use state::State;

/// What went wrong, for a person to read.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let outcome = match arguments::parse(env::args_os().skip(1)) {
        Ok(Request::Help) => io::stdout().write_all(arguments::HELP.as_bytes()).map_err(Failure::from),
        Ok(Request::Count(arguments)) => count(&arguments),
        Err(why) => {
            complain(&format!("wordcount: {why}\n{}", arguments::USAGE));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("wordcount: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Says it on stderr; if that is closed, nobody wants to know.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn count(arguments: &Arguments) -> Result<(), Failure> {
    // Removed when it is dropped; after a kill of this very process it stays behind.
    let temporary;
    let directory = if let Some(directory) = &arguments.state {
        directory.as_path()
    } else {
        temporary = tempfile::Builder::new().prefix("wordcount-").tempdir()?;
        temporary.path()
    };
    // Our own output is no input, should it lie in the middle of it.
    let own: Vec<PathBuf> = [Some(directory), arguments.dump.as_deref()].into_iter().flatten().map(real).collect();
    let files = input::list(&arguments.paths, &own)?;
    match arguments.kill {
        _ if arguments.child => count_as_child(arguments, directory, &files),
        Some(kills) => kill::run(arguments, kills, directory, &files),
        None => count_here(arguments, directory, &files),
    }
}

/// The path without links, if there is something to have a path.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The plain mode: count in this process, show the result.
fn count_here(arguments: &Arguments, directory: &Path, files: &[InputFile]) -> Result<(), Failure> {
    let mut state = State::open(directory, arguments, files)?;
    let mut progress = Progress::new(input::total_len(files).saturating_mul(state.record().passes));
    checkpoints::run(&mut state, files, arguments.every, &mut |event| {
        progress.see(&event);
        Ok(())
    })?;
    progress.finish();
    let record = state.record();
    let report = Report {
        words: report::per_pass(state.totals()?, record.passes)?,
        passes: record.passes,
        checkpoints: state.checkpoints(),
        durations: progress.into_durations(),
        restarts: record.restarts,
        exact: Exact::NotChecked,
    };
    report.publish(arguments.dump.as_deref())
}

/// The process that is killed: its stdout goes to the parent, which shows the result.
fn count_as_child(arguments: &Arguments, directory: &Path, files: &[InputFile]) -> Result<(), Failure> {
    // If the parent is gone this fails, and so the child does not outlive it for long.
    let mut tell = |event: Event| Ok(writeln!(io::stdout(), "{event}")?);
    let mut state = State::open(directory, arguments, files)?;
    tell(Event::Opened { leftovers: state.leftovers() })?;
    checkpoints::run(&mut state, files, arguments.every, &mut tell)
}
