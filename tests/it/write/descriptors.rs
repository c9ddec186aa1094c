//! Many threads with long states. What is fenced off: one file descriptor for each of them until the commit.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use piton::{Manifest, Scope, Store};

use crate::support::bytes;

/// How many descriptors of this process are of files under a directory.
fn open_under(dir: &std::path::Path) -> usize {
    let Ok(all) = fs::read_dir("/proc/self/fd") else { return 0 };
    all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).filter(|path| path.starts_with(dir)).count()
}

#[test]
fn segments_that_wait_for_their_sync_are_few_however_many_threads_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("state")).unwrap();
    let pending = store.begin_next().unwrap();
    let done = AtomicBool::new(false);
    let (most, handles) = std::thread::scope(|scope| {
        let pending = &pending;
        let write = move |n: u64| -> Vec<_> {
            let one = |k: u64| pending.write(Scope::Shared, &bytes(n * 100 + k, (1 << 20) + 1)).unwrap();
            (0..30).map(one).collect()
        };
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(open_under(&dir.path().join("state/shared")));
            }
            most
        });
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || write(n))).collect();
        let handles: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        (watch.join().unwrap(), handles)
    });
    assert!(most <= 64 + 3 * 8, "{most} files were open at once");
    let named = handles.into_iter().enumerate();
    pending
        .commit(named.fold(Manifest::builder(), |manifest, (n, handle)| manifest.state(n.to_string(), handle)))
        .unwrap();
}
