//! What happens in a store, told to whoever looks.
//!
//! [`Options::observer`](crate::Options::observer) is told each [`Event`], [`Options::progress`](crate::Options::progress) how far
//! long work is. The features `log`, `tracing` and `metrics` have ready-made observers.
//!
//! # Who owns what
//!
//! The volume of an open store has the observer that the options name. An event may come about where a lock is held, and the
//! observer must be called where none is: it may use the store. So each public verb begins with a `Verb`, before it takes
//! any lock. What is noted meanwhile on the same thread waits in a queue of the thread, and is told, in order, when the
//! outermost verb ends, which gives its locks back before.
//!
//! Nothing is durable here. If nobody looks, no event is made: to find that out costs one comparison.
//!
//! Progress is told at once, and whoever is told must not use the store.

mod event;
#[cfg(feature = "log")]
mod log;
#[cfg(feature = "metrics")]
mod metrics;
mod progress;
mod span;
#[cfg(feature = "tracing")]
mod tracing;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    sync::Arc,
};

pub use event::{CommitTimes, Event, Weight};
#[cfg(feature = "log")]
pub use log::to_log;
#[cfg(feature = "metrics")]
pub use metrics::to_metrics;
pub use progress::{Progress, Task};
#[cfg(not(feature = "tracing"))]
pub(crate) use span::NoSpan;
pub(crate) use span::span;
#[cfg(feature = "tracing")]
pub use tracing::to_tracing;

type OnEvent = Arc<dyn Fn(&Event) + Send + Sync>;
type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Who is told what happens.
#[derive(Clone, Default)]
pub(crate) struct Observer {
    on_event: Option<OnEvent>,
    on_progress: Option<OnProgress>,
}

/// What a thread noted and has not told yet.
#[derive(Default)]
struct News {
    /// How many verbs it is in.
    depth: usize,
    waiting: VecDeque<(OnEvent, Event)>,
}

thread_local! {
    static NEWS: RefCell<News> = RefCell::default();
    static SYNCS: Cell<u64> = const { Cell::new(0) };
}

/// Counts a sync of this thread.
pub(crate) fn note_sync() {
    // The thread may be at its end.
    let _ = SYNCS.try_with(|syncs| syncs.set(syncs.get().wrapping_add(1)));
}

/// How often this thread has synced something.
pub(crate) fn syncs() -> u64 {
    SYNCS.try_with(Cell::get).unwrap_or(0)
}

impl Observer {
    /// Tells events to this one as well.
    pub(crate) fn and_events_to(&mut self, more: impl Fn(&Event) + Send + Sync + 'static) {
        self.on_event = Some(match self.on_event.take() {
            None => Arc::new(more),
            Some(first) => Arc::new(move |event| {
                first(event);
                more(event);
            }),
        });
    }

    /// Tells progress to this one as well.
    pub(crate) fn and_progress_to(&mut self, more: impl Fn(Progress) + Send + Sync + 'static) {
        self.on_progress = Some(match self.on_progress.take() {
            None => Arc::new(more),
            Some(first) => Arc::new(move |progress| {
                first(progress);
                more(progress);
            }),
        });
    }

    /// Whether anybody wants to know of events.
    pub(crate) fn looks(&self) -> bool {
        self.on_event.is_some()
    }

    /// Notes an event: it is told when the verb that the thread is in ends.
    pub(crate) fn note(&self, event: impl FnOnce() -> Event) {
        let Some(on_event) = &self.on_event else { return };
        let _verb = self.verb();
        let news = (Arc::clone(on_event), event());
        let _ = NEWS.try_with(|all| all.borrow_mut().waiting.push_back(news));
    }

    /// Begins a verb: to be called where no lock is held, and dropped where none is.
    pub(crate) fn verb(&self) -> Verb {
        let counts = self.looks() && NEWS.try_with(|all| all.borrow_mut().depth += 1).is_ok();
        Verb { counts }
    }

    /// Says how far long work is.
    pub(crate) fn progress(&self, progress: Progress) {
        if let Some(tell) = &self.on_progress {
            tell(progress);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("looks", &self.looks()).finish_non_exhaustive()
    }
}

/// While it is there, events wait.
#[must_use = "events wait only while it is there"]
pub(crate) struct Verb {
    counts: bool,
}

impl Drop for Verb {
    fn drop(&mut self) {
        if self.counts {
            let _end = End;
            // An observer must not be called while its thread panics: if it panicked as well the process would abort.
            while !std::thread::panicking()
                && let Some((tell, event)) = next()
            {
                tell(&event);
            }
        }
    }
}

/// What this thread has to tell next, if it is at the end of its outermost verb.
fn next() -> Option<(OnEvent, Event)> {
    let next = NEWS.try_with(|all| {
        let mut all = all.borrow_mut();
        if all.depth == 1 { all.waiting.pop_front() } else { None }
    });
    next.unwrap_or(None)
}

/// Ends a verb, also if the observer panics.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        let _ = NEWS.try_with(|all| all.borrow_mut().depth -= 1);
    }
}
