//! What it costs to read a checkpoint back: 20,000 states of 4 KiB, mapped, verified, and every byte looked at. The bytes are
//! in the operating system's cache. `--states N`, `--len N`, `--rounds N`.
//!
//! The floor is what the machine needs for the same work without a store: one mapping of each file, one checksum over all of
//! it in pieces of a state, and one look at every byte.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a bench")]

use std::{
    fs,
    hint::black_box,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use piton::{Checkpoint, Manifest, Options, Scope, StateHandle, Store, Views};

/// All states are of this size in one run.
struct Shape {
    states: usize,
    len: usize,
    rounds: usize,
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The median, and the least.
fn figures(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_unstable_by(f64::total_cmp);
    (times[times.len() / 2], times[0])
}

fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    words.wrapping_add(rest.iter().map(|byte| u64::from(*byte)).sum())
}

fn store(root: &Path, shape: &Shape) -> Store {
    let store = Options::new().open(root).unwrap();
    let pending = store.begin_next().unwrap();
    let mut manifest = Manifest::builder();
    for n in 0..shape.states {
        let mut bytes = vec![7; shape.len];
        bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
        manifest = manifest.state(format!("state-{n:08}"), pending.write(Scope::Shared, &bytes).unwrap());
    }
    pending.commit(manifest).unwrap();
    store
}

/// Half a checkpoint apart: each state is in another segment than the one before.
fn alternating(checkpoint: &Checkpoint) -> Vec<&StateHandle> {
    let handles: Vec<_> = checkpoint.manifest().states().map(|(_, handle)| handle).collect();
    let (one, other) = handles.split_at(handles.len() / 2);
    one.iter().zip(other).flat_map(|(one, other)| [*one, *other]).collect()
}

/// Opens the checkpoint anew each time: nothing of it was verified or mapped.
fn restore(store: &Store, rounds: usize, read: impl Fn(&Checkpoint) -> u64) -> (f64, f64) {
    let round = |_| {
        let checkpoint = store.latest().unwrap().unwrap();
        let start = Instant::now();
        black_box(read(&checkpoint));
        let time = start.elapsed();
        drop(checkpoint);
        millis(time)
    };
    figures((0..rounds).map(round).collect())
}

#[expect(unsafe_code, reason = "what the store does as well, without it")]
fn floor(root: &Path, shape: &Shape) -> (f64, f64) {
    let files: Vec<_> = fs::read_dir(root.join("shared")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let round = |_| {
        let start = Instant::now();
        let mut all = 0;
        for file in &files {
            let file = fs::File::open(file).unwrap();
            let map = memmap2::MmapOptions::new().map_raw_read_only(&file).unwrap();
            // SAFETY: nobody changes the files while this runs.
            let bytes = unsafe { std::slice::from_raw_parts(map.as_ptr(), map.len()) };
            for piece in bytes.chunks(shape.len) {
                all ^= u64::from(crc32fast::hash(piece));
                all = all.wrapping_add(sum(piece));
            }
        }
        black_box(all);
        millis(start.elapsed())
    };
    figures((0..shape.rounds).map(round).collect())
}

/// Nanoseconds for each view, of states that were verified before.
fn again(checkpoint: &Checkpoint, threads: usize, same: bool) -> f64 {
    let handles: Vec<_> = checkpoint.manifest().states().map(|(_, handle)| handle).collect();
    let views = 200_000_u32;
    let look = |thread: usize| {
        let mut all = 0;
        let start = thread * handles.len() / 2;
        let mut next = handles.iter().cycle().skip(start);
        for _ in 0..views {
            let handle = if same { handles[0] } else { next.next().unwrap() };
            all += checkpoint.read(handle).unwrap().len();
        }
        black_box(all);
    };
    let start = Instant::now();
    thread::scope(|scope| (0..threads).for_each(|thread| drop(scope.spawn(move || look(thread)))));
    millis(start.elapsed()) * 1e6 / f64::from(views)
}

fn argument(name: &str, or: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(or, |number| number.parse().unwrap())
}

fn main() {
    let shape =
        Shape { states: argument("--states", 20_000), len: argument("--len", 4096), rounds: argument("--rounds", 15) };
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), &shape);
    println!("{} states of {} bytes; milliseconds, median and least of {}.", shape.states, shape.len, shape.rounds);
    let by_handle = |checkpoint: &Checkpoint, handles: &[&StateHandle]| {
        handles.iter().map(|handle| sum(&checkpoint.read(handle).unwrap())).fold(0, u64::wrapping_add)
    };
    let rows = [
        ("floor", floor(dir.path(), &shape)),
        (
            "views()",
            restore(&store, shape.rounds, |checkpoint| {
                checkpoint.views().map(|(_, view)| sum(&view.unwrap())).fold(0, u64::wrapping_add)
            }),
        ),
        (
            "views(), 2 threads",
            restore(&store, shape.rounds, |checkpoint| {
                thread::scope(|scope| {
                    let read = |part: Views<'_>| part.map(|(_, view)| sum(&view.unwrap())).fold(0, u64::wrapping_add);
                    let parts = checkpoint.views().split(2).into_iter();
                    let threads: Vec<_> = parts.map(|part| scope.spawn(move || read(part))).collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).fold(0, u64::wrapping_add)
                })
            }),
        ),
        (
            "read(), by name",
            restore(&store, shape.rounds, |checkpoint| {
                by_handle(checkpoint, &checkpoint.manifest().states().map(|(_, handle)| handle).collect::<Vec<_>>())
            }),
        ),
        (
            "read(), alternating",
            restore(&store, shape.rounds, |checkpoint| by_handle(checkpoint, &alternating(checkpoint))),
        ),
        ("verify()", restore(&store, shape.rounds, |checkpoint| checkpoint.verify().map(|()| 0).unwrap())),
        ("floor", floor(dir.path(), &shape)),
    ];
    for (what, (median, least)) in rows {
        println!("{what:20} {median:8.2} {least:8.2}");
    }
    let checkpoint = store.latest().unwrap().unwrap();
    checkpoint.verify().unwrap();
    for (threads, same) in [(1, false), (2, false), (1, true), (2, true)] {
        let (median, least) = figures((0..shape.rounds).map(|_| again(&checkpoint, threads, same)).collect());
        let which = if same { "the same one" } else { "one after the other" };
        println!("verified, {which}, {threads} threads: {median:.0} ns, {least:.0} ns");
    }
}
