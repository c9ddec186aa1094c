//! `--measure`: latency of checkpoints beside what the disk needs for as many bytes, throughput, and the bytes of a restore.

use std::fs;

use timely_piton::{Failure, message::Restored};

use crate::{arguments::Arguments, input, run, supervisor::Seen};

/// Measures and prints.
pub(crate) fn run_all(arguments: &Arguments) -> Result<(), Failure> {
    latency(arguments)?;
    throughput(arguments)
}

/// One checkpoint each 50 ms of about 250 kB, and between two of them the floor. Half way the workers are rescaled.
fn latency(arguments: &Arguments) -> Result<(), Failure> {
    let paced = Arguments {
        lines: 640_000,
        vocabulary: 1_000_000,
        seconds: Some(8),
        epochs_per_checkpoint: 5,
        rescale: vec![4, 6],
        kill: 0,
        ..arguments.clone()
    };
    let dir = tempfile::Builder::new().prefix("timely-").tempdir()?;
    let files = input(&paced, dir.path())?;
    let (mut seen, _) = run(&paced, dir.path(), &files, &dir.path().join("expected"))?;
    let mut micros: Vec<_> = seen.published.iter().map(|published| published.micros).collect();
    let mut store: Vec<_> = seen.published.iter().map(|published| published.store_micros).collect();
    let mut bytes: Vec<_> = seen.published.iter().map(|published| published.bytes).collect();
    bytes.sort_unstable();
    println!("checkpoints: {}, median of {} kB new", micros.len(), bytes[bytes.len() / 2] / 1000);
    println!("trigger to published: {}", percentiles(&mut micros));
    println!("of that, the store:   {}", percentiles(&mut store));
    println!("floor, as many bytes: {}", percentiles(&mut seen.floor));
    for life in seen.restored.iter().filter(|life| life.iter().any(|worker| worker.read > 0)) {
        for Restored { worker, read, own, all } in life {
            println!(
                "worker {worker} of {}: read {read} bytes of {all}; a snapshot of its range has {own}",
                life.len()
            );
        }
    }
    Ok(())
}

/// Words a second as fast as can be: with one checkpoint each 100 ms, and with one at the end.
fn throughput(arguments: &Arguments) -> Result<(), Failure> {
    let fast = Arguments {
        lines: 3_000_000,
        vocabulary: 20_000,
        seconds: Some(0),
        rescale: Vec::new(),
        kill: 0,
        measure: false,
        ..arguments.clone()
    };
    let dir = tempfile::Builder::new().prefix("timely-").tempdir()?;
    let files = input(&fast, dir.path())?;
    for (turn, epochs_per_checkpoint) in [10, 0, 10, 0, 10, 0].into_iter().enumerate() {
        let own = dir.path().join(turn.to_string());
        fs::create_dir(&own)?;
        let fast = Arguments { epochs_per_checkpoint, ..fast.clone() };
        let (Seen { published, took, .. }, words) = run(&fast, &own, &files, &dir.path().join("expected"))?;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let rate = words as f64 / took.as_secs_f64() / 1e6;
        println!("{rate:.2} million words/s, {} checkpoints in {:.1} s", published.len(), took.as_secs_f64());
    }
    Ok(())
}

fn percentiles(micros: &mut [u64]) -> String {
    micros.sort_unstable();
    let at = |percent: usize| {
        let micros = micros.get((micros.len() * percent / 100).min(micros.len().saturating_sub(1)));
        micros.map_or("none".to_owned(), |micros| format!("{}.{} ms", micros / 1000, micros / 100 % 10))
    };
    format!("p50 {}, p99 {}", at(50), at(99))
}
