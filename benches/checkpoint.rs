//! What the paths cost: writing and committing, reading, opening. `cargo bench` reports; nothing asserts a time.
#![expect(clippy::unwrap_used, reason = "a bench")]

use std::{hint::black_box, path::Path};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use piton::{Checkpoint, Durability, Manifest, Merging, Options, Scope, Store};

fn open(dir: &Path, durability: Durability) -> Store {
    Options::new().durability(durability).inline_threshold(0).retain(2).open(dir).unwrap()
}

fn commit(store: &Store, states: usize, bytes: &[u8]) -> Checkpoint {
    let pending = store.begin_next().unwrap();
    let mut manifest = Manifest::builder();
    for n in 0..states {
        manifest = manifest.state(n.to_string(), pending.write(Scope::Shared, bytes).unwrap());
    }
    pending.commit(manifest).unwrap()
}

/// A checkpoint, durable and with syncs off: the difference is what the medium costs.
fn write_and_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write_and_commit");
    group.sample_size(10);
    for (states, len) in [(1, 1 << 20), (20, 4096), (100, 4096)] {
        let bytes = vec![7; len];
        group.throughput(Throughput::Bytes((states * len) as u64));
        for durability in [Durability::PerCheckpoint, Durability::None] {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path(), durability);
            let id = BenchmarkId::new(format!("{durability:?}"), format!("{states}x{len}"));
            group.bench_function(id, |bencher| bencher.iter(|| commit(&store, states, &bytes)));
        }
    }
    group.finish();
}

/// A thousand new states of 4 KiB by some threads: a file each, and merged into one lane or two.
fn merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    group.sample_size(10);
    let one = Options::new().retain(2);
    let modes = [("off", one.clone().merging(Merging::Off)), ("1_lane", one.clone()), ("2_lanes", one.lanes(2))];
    for (name, options) in modes {
        let dir = tempfile::tempdir().unwrap();
        let store = options.open(dir.path()).unwrap();
        for threads in [1, 2, 8] {
            group
                .bench_function(BenchmarkId::new(name, threads), |bencher| bencher.iter(|| commit_by(&store, threads)));
        }
    }
    group.finish();
}

fn commit_by(store: &Store, threads: usize) -> Checkpoint {
    let pending = store.begin_next().unwrap();
    let write = || (0..1000 / threads).map(|_| pending.write(Scope::Shared, &[7; 4096]).unwrap()).collect::<Vec<_>>();
    let handles = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(write)).collect();
        let mut handles = write();
        for thread in others {
            handles.extend(thread.join().unwrap());
        }
        handles
    });
    let named = handles.into_iter().enumerate();
    pending.commit(named.fold(Manifest::builder(), |manifest, (n, h)| manifest.state(n.to_string(), h))).unwrap()
}

/// A state, verified on first use or not: the ratio is what verification costs.
fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    for len in [4096, 16 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), Durability::None);
        let id = commit(&store, 1, &vec![7; len]).id();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("first_use", len), |bencher| {
            bencher.iter(|| sum(&store.checkpoint(id).unwrap()));
        });
        let checkpoint = store.checkpoint(id).unwrap();
        group.bench_function(BenchmarkId::new("again", len), |bencher| bencher.iter(|| sum(&checkpoint)));
    }
    group.finish();
}

/// Touches every page.
fn sum(checkpoint: &Checkpoint) -> u64 {
    let view = checkpoint.read(checkpoint.manifest().state("0").unwrap()).unwrap();
    black_box(view.iter().step_by(4096).map(|byte| u64::from(*byte)).sum())
}

/// Opening a store with two checkpoints of a thousand states.
fn reopen(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Durability::None);
    (0..2).for_each(|_| drop(commit(&store, 1000, &[7; 100])));
    drop(store);
    criterion.bench_function("open/2x1000", |bencher| bencher.iter(|| open(dir.path(), Durability::None)));
}

criterion_group!(benches, write_and_commit, merge, read, reopen);
criterion_main!(benches);
