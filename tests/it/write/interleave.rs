//! Every interleaving of appends, syncs and seals, as far as the memory model allows: the lanes and the synced mark of a
//! segment, included as they are, over the locks and atomics of a model checker.

/// What they are made of here.
mod sync {
    pub(super) use std::sync::PoisonError;

    pub(super) use loom::sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    };
    pub(super) use loom::thread::yield_now;

    pub(super) const YIELDS: u32 = 1;
}

#[path = "../../../src/write/durable.rs"]
mod durable;
#[path = "../../../src/write/pool.rs"]
mod pool;

use std::collections::BTreeSet;

use durable::Durable;
use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};
use pool::{Pool, Segments};

/// A file whose sync makes durable what was written when it began.
#[derive(Default)]
struct File {
    written: AtomicU64,
    durable: AtomicU64,
}

impl File {
    fn sync(&self) {
        let written = self.written.load(Ordering::SeqCst);
        self.durable.store(written, Ordering::SeqCst);
    }
}

#[test]
fn nothing_counts_as_durable_that_no_sync_covered() {
    loom::model(|| {
        let (file, mark) = (Arc::new(File::default()), Arc::new(Durable::<&str>::new(0)));
        let write = |end: u64| {
            file.written.store(end, Ordering::SeqCst);
            mark.accept(end);
        };
        write(1);
        let first = {
            let (file, mark) = (Arc::clone(&file), Arc::clone(&mark));
            thread::spawn(move || {
                mark.sync_to(1, || {
                    file.sync();
                    Ok(())
                })
                .unwrap();
                assert!(file.durable.load(Ordering::SeqCst) >= 1);
            })
        };
        write(2);
        mark.sync_to(2, || {
            file.sync();
            Ok(())
        })
        .unwrap();
        assert!(file.durable.load(Ordering::SeqCst) >= 2, "it was not synced");
        first.join().unwrap();
    });
}

#[test]
fn nothing_is_durable_any_more_after_a_sync_that_failed() {
    loom::model(|| {
        let (file, mark) = (Arc::new(File::default()), Arc::new(Durable::new(0)));
        file.written.store(1, Ordering::SeqCst);
        mark.accept(1);
        let failing = {
            let mark = Arc::clone(&mark);
            thread::spawn(move || mark.sync_to(1, || Err("failed")))
        };
        let here = mark.sync_to(1, || {
            file.sync();
            Ok(())
        });
        let there = failing.join().unwrap();
        // Whoever was first decides for both: a failed sync is never repeated, and a sync that succeeded is not lost.
        assert_eq!(here.is_ok(), there.is_ok());
        file.written.store(2, Ordering::SeqCst);
        mark.accept(2);
        assert_eq!(
            mark.sync_to(2, || {
                file.sync();
                Ok(())
            })
            .is_ok(),
            here.is_ok()
        );
    });
}

/// A segment: who appends to it has it alone, and nobody does once it was sealed for good.
#[derive(Debug)]
struct Segment {
    id: u32,
    log: Arc<Log>,
}

/// What became of segment 1.
#[derive(Debug, Default)]
struct Log {
    sealed: AtomicBool,
    /// Whoever sealed it was told so.
    closed: AtomicBool,
    appending: AtomicBool,
}

impl Segments for Segment {
    type Id = u32;

    fn segment_id(&self) -> u32 {
        self.id
    }
}

impl Segment {
    fn append(&self) {
        if self.id == 1 {
            assert!(!self.log.closed.load(Ordering::SeqCst), "appended to after it was sealed for good");
        }
        assert!(!self.log.appending.swap(true, Ordering::SeqCst), "two append at once");
        self.log.appending.store(false, Ordering::SeqCst);
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.id == 1 {
            self.log.sealed.store(true, Ordering::SeqCst);
        }
    }
}

/// One append: into what the lane has, or into a fresh segment.
fn append(pool: &Pool<Segment>, log: &Arc<Log>, fresh: u32) {
    let mut lease = pool.lease(1, |lane| lane.number);
    let segment = lease.segment.take().unwrap_or_else(|| Segment { id: fresh, log: Arc::clone(log) });
    segment.append();
    lease.segment = Some(segment);
}

#[test]
fn segment_that_was_sealed_takes_no_more_however_appends_and_the_seal_meet() {
    loom::model(|| {
        let (pool, log) = (Arc::new(Pool::new()), Arc::new(Log::default()));
        append(&pool, &log, 1);
        let writer = {
            let (pool, log) = (Arc::clone(&pool), Arc::clone(&log));
            thread::spawn(move || append(&pool, &log, 2))
        };
        let sealer = {
            let (pool, log) = (Arc::clone(&pool), Arc::clone(&log));
            thread::spawn(move || {
                pool.seal_all(&BTreeSet::from([1]));
                assert!(log.sealed.load(Ordering::SeqCst), "it is still open");
                log.closed.store(true, Ordering::SeqCst);
            })
        };
        append(&pool, &log, 3);
        writer.join().unwrap();
        sealer.join().unwrap();
    });
}

/// A segment of which the last write panics, where that is allowed to be noticed.
struct Panics;

impl Segments for Panics {
    type Id = u64;

    fn segment_id(&self) -> u64 {
        1
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "the disk's own bug");
    }
}

#[test]
fn lane_comes_back_although_its_segment_panics_while_it_is_sealed() {
    loom::model(|| {
        let pool = Arc::new(Pool::new());
        let mut lease = pool.lease(1, |lane| lane.number);
        lease.segment = Some(Panics);
        drop(lease);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let lease = pool.lease(1, |lane| lane.number);
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(lease)));
            })
        };
        // Whoever seals it comes back as well, and so does whoever needs the lane.
        let seal = || pool.seal_all(&BTreeSet::from([1]));
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(seal));
        other.join().unwrap();
        let mut lease = pool.lease(1, |lane| lane.number);
        std::mem::forget(lease.segment.take());
    });
}

#[test]
fn lane_comes_back_from_a_lease_that_panics_and_whoever_waits_goes_on() {
    loom::model(|| {
        let (pool, log) = (Arc::new(Pool::new()), Arc::new(Log::default()));
        let other = {
            let (pool, log) = (Arc::clone(&pool), Arc::clone(&log));
            thread::spawn(move || {
                // A disk that panics drops the lease, and the segment with it.
                let lease = pool.lease(1, |lane| lane.number);
                drop(lease);
                drop(log);
            })
        };
        append(&pool, &log, 1);
        other.join().unwrap();
        append(&pool, &log, 2);
    });
}
