//! The workers, as the coordinator sees them: started, asked, stopped.

use std::{
    convert::Infallible,
    panic,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{Scope, ScopedJoinHandle},
    time::{Duration, Instant},
};

use crate::{
    Failure,
    input::{self, InputFile},
    state::State,
    worker::{Handover, Worker},
};

/// How soon a worker that failed is noticed.
const POLL: Duration = Duration::from_millis(50);

/// All workers. Dropped, it stops them.
pub(crate) struct Crew<'scope> {
    links: Vec<Link<'scope>>,
    /// Disconnected once all workers have counted everything.
    busy: Receiver<Infallible>,
}

/// The way to one worker.
struct Link<'scope> {
    requests: Sender<()>,
    handovers: Receiver<Handover>,
    thread: ScopedJoinHandle<'scope, Result<(), Failure>>,
}

impl<'scope> Crew<'scope> {
    /// Starts each worker where the newest checkpoint says.
    pub(crate) fn start(scope: &'scope Scope<'scope, '_>, state: &State, files: &[InputFile]) -> Result<Self, Failure> {
        let record = state.record();
        let (still_busy, busy) = mpsc::channel();
        let mut crew = Self { links: Vec::new(), busy };
        for (number, share) in (0..).zip(input::shares(files, record.workers)) {
            let (requests, asked) = mpsc::channel();
            let (handed, handovers) = mpsc::channel();
            let worker = Worker {
                share,
                passes: record.passes,
                position: state.position(number)?,
                counts: state.counts(number)?,
                requests: asked,
                handovers: handed,
            };
            let still_busy = still_busy.clone();
            let thread = scope.spawn(move || worker.run(still_busy));
            crew.links.push(Link { requests, handovers, thread });
        }
        Ok(crew)
    }

    /// Waits for a point in time, or for the end; tells whether all is counted.
    pub(crate) fn wait_until(&self, time: Instant) -> bool {
        loop {
            let left = time.saturating_duration_since(Instant::now());
            match self.busy.recv_timeout(left.min(POLL)) {
                Err(RecvTimeoutError::Disconnected) => return true,
                // A thread ends early only if it failed, and whoever asks it next will find out why.
                _ if left.is_zero() || self.links.iter().any(|link| link.thread.is_finished()) => return false,
                _ => {}
            }
        }
    }

    /// Asks each worker for a handover, and waits until all are there.
    pub(crate) fn hand_over(&mut self) -> Result<Vec<Handover>, Failure> {
        for link in &self.links {
            // A worker that is gone cannot be asked, but that it does not answer says enough.
            let _ = link.requests.send(());
        }
        let answers: Vec<_> = self.links.iter().map(|link| link.handovers.recv()).collect();
        match answers.iter().position(Result::is_err) {
            Some(gone) => Err(self.links.remove(gone).into_failure()),
            None => Ok(answers.into_iter().flatten().collect()),
        }
    }
}

impl Link<'_> {
    /// Why the worker ended.
    fn into_failure(self) -> Failure {
        match self.thread.join() {
            Ok(Ok(())) => "a worker ended before it was asked to".into(),
            Ok(Err(error)) => error,
            Err(payload) => panic::resume_unwind(payload),
        }
    }
}
