//! Who gets a job that may be run, or cancelled, or neither: one of them, once.
//!
//! ```text
//! waiting --run--> running --(the job ends, or panics)--> over
//!    |                |
//!    +----cancel------+--> cancelled
//! ```
//!
//! Whoever leaves `waiting` takes the job out, and drops it. Names nothing of the crate: `tests/it/snapshot` includes this
//! file, with another `sync`, to try every interleaving.

use super::sync::{Arc, AtomicU8, Mutex, Ordering, PoisonError};

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const OVER: u8 = 2;
const CANCELLED: u8 = 3;

/// How far a job is: apart from the job, which may look at it.
#[derive(Debug)]
pub(super) struct Progress(AtomicU8);

impl Progress {
    pub(super) fn new() -> Self {
        Self(AtomicU8::new(WAITING))
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) == CANCELLED
    }

    /// Whether it was this call that took the step.
    fn step(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A job that is run at most once.
#[derive(Debug)]
pub(super) struct Turn<J> {
    progress: Arc<Progress>,
    job: Mutex<Option<J>>,
}

/// Says that the job is over, also if it panics.
struct Ending<'a>(&'a Progress);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.step(RUNNING, OVER);
    }
}

impl<J> Turn<J> {
    pub(super) fn new(progress: Arc<Progress>, job: J) -> Self {
        Self { progress, job: Mutex::new(Some(job)) }
    }

    /// Runs the job, unless it was cancelled before, or run. Returns what it made, and whether it was cancelled meanwhile.
    pub(super) fn run<T>(&self, act: impl FnOnce(J) -> T) -> Option<(T, bool)> {
        if !self.progress.step(WAITING, RUNNING) {
            return None;
        }
        let ending = Ending(&self.progress);
        let made = act(self.take()?);
        drop(ending);
        Some((made, self.progress.is_cancelled()))
    }

    /// Drops the job if it was not run yet; if it is running, it is told. False if it is over.
    pub(super) fn cancel(&self) -> bool {
        if self.progress.step(WAITING, CANCELLED) {
            drop(self.take());
            return true;
        }
        self.progress.step(RUNNING, CANCELLED) || self.progress.is_cancelled()
    }

    fn take(&self) -> Option<J> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
