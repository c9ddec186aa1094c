//! Every interleaving of run, cancel, drop and panic, as far as the memory model allows: the state machine of a task,
//! included as it is, over the locks and atomics of a model checker.

/// What the machine is made of here.
mod sync {
    pub(super) use std::sync::PoisonError;

    pub(super) use loom::sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    };
}

#[path = "../../../src/snapshot/turn.rs"]
mod turn;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use turn::{Progress, Turn};

/// The resources of a snapshot: they count how often they are released, and notice who uses them after.
struct Job {
    releases: Arc<AtomicUsize>,
    progress: Arc<Progress>,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.releases.fetch_add(1, Ordering::SeqCst);
    }
}

type Shared = (Arc<Turn<Job>>, Arc<AtomicUsize>);

fn turn() -> Shared {
    let (releases, progress) = (Arc::new(AtomicUsize::new(0)), Arc::new(Progress::new()));
    let job = Job { releases: Arc::clone(&releases), progress: Arc::clone(&progress) };
    (Arc::new(Turn::new(progress, job)), releases)
}

/// Whether it saw that it was cancelled while it ran, and whether it ended so; `None` if it did not run.
fn run(turn: &Turn<Job>) -> Option<(bool, bool)> {
    turn.run(|job| {
        assert_eq!(job.releases.load(Ordering::SeqCst), 0, "released while it is used");
        job.progress.is_cancelled()
    })
}

#[test]
fn run_and_cancel_release_once_and_agree_on_who_was_first() {
    loom::model(|| {
        let (turn, releases) = turn();
        let other = Arc::clone(&turn);
        let cancel = thread::spawn(move || other.cancel());
        let ran = run(&turn);
        let cancelled = cancel.join().unwrap();
        let ended_cancelled = ran.is_none_or(|(_, cancelled)| cancelled);
        assert_eq!(ended_cancelled, cancelled, "both are told the same");
        assert!(ran.is_none_or(|(saw, cancelled)| !saw || cancelled), "what was seen stays so");
        assert_eq!(releases.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn two_cancels_and_a_run_release_once() {
    loom::model(|| {
        let (turn, releases) = turn();
        let cancels = [0; 2].map(|_| {
            let turn = Arc::clone(&turn);
            thread::spawn(move || turn.cancel())
        });
        let ran = run(&turn);
        let cancelled = cancels.map(|cancel| cancel.join().unwrap());
        let ended_cancelled = ran.is_none_or(|(_, cancelled)| cancelled);
        assert_eq!(ended_cancelled, cancelled.contains(&true));
        assert_eq!(releases.load(Ordering::SeqCst), 1);
        assert_eq!(turn.cancel(), ended_cancelled, "and it stays so");
        assert!(run(&turn).is_none(), "it runs once");
    });
}

#[test]
fn panic_and_cancel_release_once() {
    loom::model(|| {
        let (turn, releases) = turn();
        let other = Arc::clone(&turn);
        let cancel = thread::spawn(move || other.cancel());
        // Unlike `panic!`, this says nothing on stderr.
        let panics = |_job: Job| -> () { resume_unwind(Box::new(())) };
        let ran = catch_unwind(AssertUnwindSafe(|| turn.run(panics)));
        let cancelled = cancel.join().unwrap();
        assert!(ran.is_err() || cancelled, "it did not run only because it was cancelled");
        assert_eq!(releases.load(Ordering::SeqCst), 1);
        assert_eq!(turn.cancel(), cancelled);
    });
}

#[test]
fn task_that_is_dropped_while_it_is_cancelled_releases_once() {
    loom::model(|| {
        let (turn, releases) = turn();
        let other = Arc::clone(&turn);
        let cancel = thread::spawn(move || other.cancel());
        // What the drop of a task does.
        turn.cancel();
        drop(turn);
        assert!(cancel.join().unwrap());
        assert_eq!(releases.load(Ordering::SeqCst), 1);
    });
}
