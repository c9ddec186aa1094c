//! Checkpoints in steady state, to be watched from outside (`docs/testing.md`, "What a checkpoint costs").
//!
//! `cargo run --release --example steady_state -- [CHECKPOINTS] [STATES] [DIR]` takes that many checkpoints (default 10)
//! with that many new states of 4 KiB each (default 20, half shared, half exclusive), keeps the newest three, and prints
//! the median time of each part.
#![expect(clippy::print_stdout, reason = "an example program")]

use std::{
    error::Error,
    path::PathBuf,
    time::{Duration, Instant},
};

use piton::{Manifest, Options, Scope};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let checkpoints: usize = arguments.next().map_or(Ok(10), |argument| argument.parse())?;
    let states: usize = arguments.next().map_or(Ok(20), |argument| argument.parse())?;
    let temporary = tempfile::tempdir()?;
    let dir = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let store = Options::new().retain(3).open(dir)?;

    let (mut writing, mut committing) = (Vec::new(), Vec::new());
    for _ in 0..checkpoints {
        let start = Instant::now();
        let pending = store.begin_next()?;
        let mut manifest = Manifest::builder();
        for n in 0..states {
            let scope = if n.is_multiple_of(2) { Scope::Shared } else { Scope::Exclusive };
            manifest = manifest.state(format!("state-{n}"), pending.write(scope, &[1; 4096])?);
        }
        writing.push(start.elapsed());
        let start = Instant::now();
        pending.commit(manifest)?;
        committing.push(start.elapsed());
    }
    println!("{checkpoints} checkpoints of {states} new states of 4 KiB");
    println!("median: writing {:.2?}, commit with retention {:.2?}", median(writing), median(committing));
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
