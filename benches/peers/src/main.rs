//! The same checkpoints, taken by piton and by others, in one run.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- --help
//! ```
//!
//! A *workload* says how many states there are, how long each is, and how many of them change in each checkpoint. A *peer* makes
//! each checkpoint durable by its own means. The rounds of all peers are interleaved, in an order that changes, on one file
//! system, which is synced in between, so that no peer pays for the writes of another.
//!
//! System calls are counted in runs of their own, under strace, because strace makes them slow.

#![expect(clippy::disallowed_methods, reason = "files by hand are what is measured")]

mod calls;
mod measure;
mod peer;
mod peers;
mod plot;
mod report;
mod workload;

use std::path::PathBuf;

use clap::Parser;

use crate::{measure::Run, workload::Workload};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Takes the same checkpoints with piton and with others, and prints what they cost.
#[derive(Debug, Parser)]
struct Arguments {
    /// Which workloads, by their letters; all by default.
    #[arg(long, value_delimiter = ',', default_value = "a,b,c,d,e,f,g")]
    workload: Vec<char>,
    /// Which peers, by their names; all by default.
    #[arg(long, value_delimiter = ',')]
    peer: Vec<String>,
    /// How many checkpoints are measured of each workload; as many as it takes some seconds for by default.
    #[arg(long)]
    rounds: Option<usize>,
    /// In which directory; a temporary one under the current directory by default.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Prints tables in Markdown.
    #[arg(long)]
    markdown: bool,
    /// Draws a picture, and one for dark pages, into files of this name.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Counts no system calls.
    #[arg(long)]
    no_strace: bool,
    /// Takes checkpoints and measures nothing: what strace runs.
    #[arg(long, hide = true)]
    only_run: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let kinds = peers::named(&arguments.peer)?;
    let workloads: Vec<_> = arguments.workload.iter().map(|letter| Workload::of(*letter)).collect::<Result<_>>()?;
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir_in(".")?,
    };
    let mut panels = Vec::new();
    for workload in workloads {
        let rounds = arguments.rounds.unwrap_or(workload.rounds);
        if arguments.only_run {
            measure::only_run(&workload, &kinds, dir.path(), rounds)?;
            continue;
        }
        let mut run = Run::new(&workload, &kinds, dir.path())?;
        run.rounds(rounds)?;
        let mut lines = run.end()?;
        if !arguments.no_strace {
            calls::count_calls(&workload, dir.path(), &mut lines);
        }
        report::print(&workload, &lines, arguments.markdown);
        panels.push((workload, lines));
    }
    arguments.svg.map_or(Ok(()), |to| plot::draw(&panels, &to))
}
