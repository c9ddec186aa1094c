//! Many threads at once on a real disk: writing, committing, reusing, reading, forgetting, while files are removed,
//! punched and rewritten. What is fenced off here: a byte that changes under somebody who reads it.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use piton::{Checkpoint, Manifest, Options, Scope, StateView, Store};

use crate::support::bytes;

const ROUNDS: u64 = 150;
const STATES: u64 = 24;

fn open(dir: &std::path::Path) -> Store {
    let options = Options::new().segment_size(100_000).lanes(2).max_space_amplification(Some(1.2)).retain(2);
    options.durability(piton::Durability::None).open(dir).unwrap()
}

/// The seed and the length are in the name.
fn is_right(name: &str, view: &StateView) -> bool {
    let mut parts = name.split('-').skip(1).map(|part| part.parse::<u64>().unwrap());
    let (seed, len) = (parts.next().unwrap(), parts.next().unwrap() as usize);
    **view == *bytes(seed, len)
}

/// By two threads: some states change often, some never, which leaves these alone in their segments.
fn commit_on_top(store: &Store, round: u64) -> Checkpoint {
    // Another thread may take the id in between.
    let pending = std::iter::repeat_with(|| store.begin_next()).find_map(Result::ok).unwrap();
    let latest = store.latest().unwrap();
    let old: Vec<_> = latest.iter().flat_map(|latest| latest.manifest().states()).collect();
    let manifest = Mutex::new(Manifest::builder());
    std::thread::scope(|scope| {
        for part in 0..2 {
            let (pending, manifest, old) = (&pending, &manifest, &old);
            scope.spawn(move || {
                for n in (0..STATES).filter(|n| n % 2 == part) {
                    let prefix = format!("{n}-");
                    let kept = old
                        .iter()
                        .find(|(name, _)| name.starts_with(&prefix))
                        .filter(|_| n % 4 == 0 || !(n + round).is_multiple_of(3));
                    let (name, handle) = if let Some((name, handle)) = kept {
                        let handle = pending.reuse(std::slice::from_ref(*handle)).unwrap().remove(0);
                        ((*name).to_owned(), handle)
                    } else {
                        let (seed, len) = (round * STATES + n, 1100 + (round * 37 + n * 701) % 9000);
                        (format!("{n}-{seed}-{len}"), pending.write(Scope::Shared, &bytes(seed, len as usize)).unwrap())
                    };
                    let mut manifest = manifest.lock().unwrap();
                    *manifest = std::mem::take(&mut *manifest).state(name, handle);
                }
            });
        }
    });
    pending.commit(manifest.into_inner().unwrap()).unwrap()
}

fn views(checkpoint: &Checkpoint) -> Vec<(String, StateView)> {
    let states = checkpoint.manifest().states();
    states.map(|(name, handle)| (name.to_owned(), checkpoint.read(handle).unwrap())).collect()
}

#[test]
fn nothing_changes_under_a_view_while_space_is_given_back_around_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut held = Vec::new();
    let mut punched = 0;
    // When the file system places what was written, and so what is worth rewriting, is its own affair.
    let more = |round: &u64| *round < ROUNDS || (store.usage().relocated_bytes == 0 && *round < 50 * ROUNDS);
    for round in (0..).take_while(more) {
        let checkpoint = commit_on_top(&store, round);
        punched += store.last_retention().punched_bytes;
        if round % 10 == 0 {
            held.push(views(&checkpoint));
        }
        if held.len() > 5 {
            held.remove(0);
        }
        assert!(held.iter().flatten().all(|(name, view)| is_right(name, view)), "round {round}");
    }
    assert!(store.usage().relocated_bytes > 0, "nothing was rewritten");
    // Not every file system can.
    assert!(punched > 0 || store.usage().allocated_bytes >= store.usage().physical_bytes, "nothing was punched");
    held.clear();
    store.close().unwrap();
}

#[test]
fn threads_read_what_was_committed_while_others_write_and_forget() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    drop(commit_on_top(&store, 0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut read = 0_u64;
                while !done.load(Ordering::Relaxed) {
                    let latest = store.latest().unwrap().unwrap();
                    assert!(views(&latest).iter().all(|(name, view)| is_right(name, view)));
                    read += 1;
                }
                assert!(read > 0);
            });
        }
        scope.spawn(|| {
            // Attempts that come to nothing, in the same segments.
            while !done.load(Ordering::Relaxed) {
                if let Ok(pending) = store.begin_next() {
                    (0..5).for_each(|n| drop(pending.write(Scope::Shared, &bytes(n, 3000)).unwrap()));
                }
            }
        });
        for round in 1..ROUNDS {
            drop(commit_on_top(&store, round));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(store.damaged().is_empty());
    assert!(views(&store.latest().unwrap().unwrap()).iter().all(|(name, view)| is_right(name, view)));
    assert!(store.checkpoint_ids().len() <= 2 && store.latest().unwrap().unwrap().id().get() >= ROUNDS);
    store.close().unwrap();
}
