//! What a store costs that grows: of N states 100 change in each checkpoint.
//!
//! `cargo bench --bench growth -- [--least N] [--most N] [--changed N] [--rounds N]` prints a table, medians of the rounds. It needs
//! 5 GB in the directory for temporary files for a million states of 4 KiB; `--most` says where to stop.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

mod stopwatch;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs::File,
    io::{IoSlice, Write},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use piton::{Checkpoint, Manifest, Options, PendingCheckpoint, Scope, Store};
use stopwatch::{Stopwatch, processor, processor_since};

struct Counting;

/// How many checkpoints are kept.
const KEPT: usize = 10;

/// Bytes that are allocated.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is passed on as it is.
#[expect(unsafe_code, reason = "an allocator is unsafe, and this one only counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `dealloc`, and it came from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What one size of a store takes, in milliseconds and bytes.
#[derive(Default)]
struct Row {
    engine: Vec<f64>,
    commit: Vec<f64>,
    waiting: Vec<f64>,
    floor: Vec<f64>,
    all: Vec<f64>,
    floor_all: Vec<f64>,
    forget: Vec<f64>,
    restore: Vec<f64>,
    open: f64,
    prune: f64,
    first: f64,
    further: f64,
}

fn name(n: usize) -> String {
    format!("state-{n:08}")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

fn write(pending: &PendingCheckpoint, len: usize, n: usize) -> piton::StateHandle {
    let mut bytes = vec![7; len];
    bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
    pending.write(Scope::Shared, &bytes).unwrap()
}

/// Commits a checkpoint of which so many states are new, spread evenly.
fn go_on(store: &Store, base: &Checkpoint, round: usize, (states, len, changed): (usize, usize, usize)) -> Checkpoint {
    let pending = store.begin_next().unwrap();
    let mut manifest = Manifest::based_on(base.manifest());
    for k in 0..changed {
        let n = (k * (states / changed) + round) % states;
        manifest = manifest.state(name(n), write(&pending, len, round));
    }
    pending.commit(manifest).unwrap()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn measure((states, len, changed): (usize, usize, usize), rounds: usize) -> Row {
    let (dir, watch, mut row) = (tempfile::tempdir().unwrap(), Stopwatch::default(), Row::default());
    let options = Options::new().disk(watch.clone()).inline_threshold(0);
    let store = options.clone().open(dir.path()).unwrap();
    let before = ALLOCATED.load(Ordering::Relaxed);
    let pending = store.begin_next().unwrap();
    let manifest =
        (0..states).fold(Manifest::builder(), |manifest, n| manifest.state(name(n), write(&pending, len, n)));
    let mut newest = pending.commit(manifest).unwrap();
    let (size, mut plain) = ((states, len, changed), tempfile::tempfile_in(dir.path()).unwrap());
    row.first = (ALLOCATED.load(Ordering::Relaxed) - before) as f64 / states as f64;
    newest = go_on(&store, &newest, 1, size);
    let before = ALLOCATED.load(Ordering::Relaxed);
    for round in 0..rounds + KEPT {
        watch.take();
        let (start, busy) = (Instant::now(), processor());
        let pending = store.begin_next().unwrap();
        let mut manifest = Manifest::based_on(newest.manifest());
        for k in 0..changed {
            let n = (k * (states / changed) + round + 2) % states;
            manifest = manifest.state(name(n), write(&pending, len, round));
        }
        let engine = processor_since(busy);
        newest = pending.commit(manifest).unwrap();
        let (all, spent, elapsed) = (processor_since(busy), watch.take(), start.elapsed());
        if round < KEPT {
            // Nothing is measured before memory that was given back is used again.
            let kept = ALLOCATED.load(Ordering::Relaxed).saturating_sub(before);
            row.further = kept as f64 / ((round + 1) * changed) as f64;
            continue;
        }
        row.engine.push(millis(engine));
        row.commit.push(millis(all.saturating_sub(engine)));
        row.waiting.push(millis(spent.waiting));
        row.all.push(millis(elapsed));
        let (busy, elapsed) = floor(&mut plain, size);
        row.floor.push(busy);
        row.floor_all.push(elapsed);
        let oldest = store.checkpoint_ids()[1];
        watch.take();
        let busy = processor();
        assert_eq!(store.forget(oldest).unwrap().checkpoints.len(), 1);
        row.forget.push(millis(processor_since(busy).saturating_sub(watch.take().removing)));
    }
    drop(newest);
    let start = Instant::now();
    assert!(!store.prune(1).unwrap().checkpoints.is_empty());
    row.prune = millis(start.elapsed());
    drop(store);
    let start = Instant::now();
    let store = options.open(dir.path()).unwrap();
    row.open = millis(start.elapsed());
    for _ in 0..3 {
        let checkpoint = store.latest().unwrap().unwrap();
        let start = Instant::now();
        assert!(restore(&checkpoint) > 0);
        row.restore.push(millis(start.elapsed()));
    }
    row
}

/// What the file system alone takes for the same, of the processor's time and in all: as many appends of as many bytes and 48
/// more, as an entry has, and one sync.
fn floor(file: &mut File, (_, len, changed): (usize, usize, usize)) -> (f64, f64) {
    let bytes = vec![7; len];
    let (start, busy) = (Instant::now(), processor());
    for _ in 0..changed {
        let parts = [IoSlice::new(&bytes), IoSlice::new(&bytes[..48])];
        assert_eq!(file.write_vectored(&parts).unwrap(), len + 48);
    }
    rustix::fs::fdatasync(&*file).unwrap();
    (millis(processor_since(busy)), millis(start.elapsed()))
}

/// Every state mapped and verified, and every byte read.
fn restore(checkpoint: &Checkpoint) -> u64 {
    let mut sum = 0;
    for (_, view) in checkpoint.views() {
        let view = view.unwrap();
        let (words, rest) = view.as_chunks::<8>();
        sum += words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_le_bytes(*word)) >> 1);
        sum += rest.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    }
    sum
}

fn argument(name: &str, or: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(or, |number| number.parse().unwrap())
}

fn main() {
    let (least, most) = (argument("--least", 0), argument("--most", 1_000_000));
    let (changed, rounds) = (argument("--changed", 100), argument("--rounds", 9));
    println!("Milliseconds, medians; of each checkpoint {changed} states are new.\n");
    println!(
        "| states | engine, processor | commit, processor | floor, processor | waiting | checkpoint | floor | forget | prune | open | restore | B per state, first | B per change, kept |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for len in [64, 4096] {
        for states in [1_000, 10_000, 20_000, 100_000, 1_000_000] {
            if states > most || states < least {
                continue;
            }
            let mut row = measure((states, len, changed), rounds);
            let figures = [
                &mut row.engine,
                &mut row.commit,
                &mut row.floor,
                &mut row.waiting,
                &mut row.all,
                &mut row.floor_all,
                &mut row.forget,
            ];
            let figures = figures.map(|figures| format!("{:.3}", median(figures))).join(" | ");
            let restore = median(&mut row.restore);
            println!(
                "| {states} x {len} | {figures} | {:.1} | {:.1} | {restore:.1} | {:.0} | {:.0} |",
                row.prune, row.open, row.first, row.further
            );
        }
    }
}
