//! The inspector: looks into a store, and changes it on request. See `piton --help` and docs/inspector.md.

#![expect(clippy::disallowed_methods, reason = "a program on top of the crate, with files of its own")]

mod address;
mod arguments;
mod commands;
mod output;
mod progress;
mod units;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{arguments::Arguments, output::Output};

/// How a command ended, as the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is wrong.
    Fine,
    /// The command found something wrong with the store, and has said what.
    Found,
}

/// Something is wrong with the store.
const FOUND: u8 = 1;
/// The command could not do what it was asked for. The command line parser uses 2.
const FAILED: u8 = 3;

type Outcome = Result<Verdict, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(&arguments);
    match commands::run(&arguments, &output) {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Found) => FOUND.into(),
        // The reader of a pipe has seen enough.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&*error);
            FAILED.into()
        }
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
