//! `piton bench`

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use piton::{Manifest, Options, Scope, Store, observe::Event};
use serde::Serialize;

use super::Failure;
use crate::{
    Outcome, Verdict,
    output::{Entry, Output},
    progress, units,
};

/// What the floor writes at least: a block.
const BLOCK: usize = 4096;
/// So many times that fits into its file.
const PLACES: u64 = 8;
/// However short the time is.
const LEAST: usize = 3;

/// How many states of how many bytes a checkpoint writes.
const SIZES: [(usize, usize); 3] = [(1, 1000), (100, 16_000), (32, 1_000_000)];

#[derive(Debug, Serialize)]
struct Measured {
    states: usize,
    state_bytes: usize,
    checkpoints: usize,
    /// From the first state to the end of the commit: the median, and 95 of 100 took no longer.
    micros_p50: u64,
    micros_p95: u64,
    checkpoints_per_second: f64,
    bytes_per_second: f64,
    syncs_per_checkpoint: f64,
    /// To write as many bytes, 4 KiB at least, over a file that has them already, and to sync that: no checkpoint that is durable
    /// costs less. In turns with the checkpoints.
    floor_micros_p50: u64,
}

#[derive(Debug, Serialize)]
struct Bench {
    sizes: Vec<Measured>,
}

pub(super) fn run(output: &Output, dir: &Path, seconds: f64) -> Outcome {
    let time = Duration::try_from_secs_f64(seconds).map_err(|_| "--seconds is a number of seconds")?;
    let dir = std::path::absolute(dir)?;
    let dir = tempfile::Builder::new().prefix(".piton-bench-").tempdir_in(&dir);
    let dir = dir.map_err(|error| format!("make a directory to measure in: {error}; name another one with --dir"))?;
    let bar = progress::items(output, "measure", SIZES.len() as u64);
    let mut sizes = Vec::new();
    for size in SIZES {
        sizes.push(measure(dir.path(), size, time / 3)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    dir.close()?;
    let bench = Bench { sizes };
    output.answer(&bench, |text| {
        let columns = ["STATES", ">P50", ">P95", ">PER S", ">BYTES/S", ">SYNCS", ">FLOOR", ">RATIO"];
        text.table(&columns, bench.sizes.iter().map(Measured::row))?;
        text.line("")?;
        text.line("floor: as many bytes written over a file, in one piece, and synced")
    })?;
    Ok(Verdict::Fine)
}

fn measure(dir: &Path, (states, state_bytes): (usize, usize), time: Duration) -> Result<Measured, Failure> {
    let syncs = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&syncs);
    let count = move |event: &Event| {
        if let Event::Committed { syncs, .. } = event {
            counter.fetch_add(*syncs, Ordering::Relaxed);
        }
    };
    let store = Options::new().retain(2).observer(count).open(dir.join(format!("{states}-{state_bytes}")))?;
    let piece = vec![1; (states * state_bytes).max(BLOCK)];
    let floor = blank(&dir.join(format!("floor-{states}")), &piece)?;
    let (mut checkpoints, mut floors) = (Vec::new(), Vec::new());
    let (begun, mut spent) = (Instant::now(), Duration::ZERO);
    while checkpoints.len() < LEAST || begun.elapsed() < time {
        let turn = checkpoints.len();
        let bytes = vec![u8::try_from(turn % 251).unwrap_or_default(); state_bytes];
        let (took, beside) = (checkpoint(&store, states, &bytes)?, write_over(&floor, &piece, turn as u64)?);
        spent += took;
        checkpoints.push(micros(took));
        floors.push(micros(beside));
    }
    checkpoints.sort_unstable();
    floors.sort_unstable();
    let of = |sorted: &[u64], percent: usize| sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default();
    let (count, seconds) = (checkpoints.len(), spent.as_secs_f64().max(1e-9));
    Ok(Measured {
        states,
        state_bytes,
        checkpoints: count,
        micros_p50: of(&checkpoints, 50),
        micros_p95: of(&checkpoints, 95),
        checkpoints_per_second: ratio(count, seconds),
        bytes_per_second: ratio(count * states * state_bytes, seconds),
        syncs_per_checkpoint: ratio(syncs.load(Ordering::Relaxed), ratio(count, 1.0)),
        floor_micros_p50: of(&floors, 50),
    })
}

fn checkpoint(store: &Store, states: usize, bytes: &[u8]) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let pending = store.begin_next()?;
    let mut manifest = Manifest::builder();
    for n in 0..states {
        manifest = manifest.state(n.to_string(), pending.write(Scope::Shared, bytes)?);
    }
    pending.commit(manifest)?;
    Ok(begun.elapsed())
}

/// A file that has all its blocks.
fn blank(path: &Path, piece: &[u8]) -> io::Result<File> {
    let file = OpenOptions::new().create_new(true).write(true).open(path)?;
    for place in 0..PLACES {
        file.write_all_at(piece, place * piece.len() as u64)?;
    }
    file.sync_all()?;
    Ok(file)
}

fn write_over(file: &File, piece: &[u8], turn: u64) -> io::Result<Duration> {
    let begun = Instant::now();
    file.write_all_at(piece, turn % PLACES * piece.len() as u64)?;
    file.sync_data()?;
    Ok(begun.elapsed())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn ratio(count: impl TryInto<u64>, of: f64) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64 / of
}

impl Measured {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes for people")]
    fn row(&self) -> Vec<Entry> {
        let floor = ratio(self.floor_micros_p50.max(1), 1.0);
        [
            format!("{} of {}", self.states, units::bytes(self.state_bytes as u64)),
            units::micros(self.micros_p50),
            units::micros(self.micros_p95),
            format!("{:.0}", self.checkpoints_per_second),
            units::bytes(self.bytes_per_second as u64),
            format!("{:.1}", self.syncs_per_checkpoint),
            units::micros(self.floor_micros_p50),
            format!("{:.1}", ratio(self.micros_p50, floor)),
        ]
        .map(Entry::from)
        .into()
    }
}
