//! Takes checkpoints of all workers, again and again: piton's [`Coordinator`] says when, and what became of them.
//!
//! The workers go on counting while a checkpoint is written: their snapshots are copies, and are written here. What one
//! that failed was to have is in the next one, because a worker knows what the newest committed checkpoint has.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, Scope},
    time::{Duration, Instant, SystemTime},
};

use piton::{
    CheckpointId,
    policy::{Acknowledged, Action, CheckpointConfig, CheckpointRequest, Coordinator, FailureReason, Refusal},
    snapshot::SnapshotTask,
};

use crate::{
    Failure,
    event::Event,
    input::{self, InputFile},
    state::State,
    worker::{Report, Request, Snapshot, Worker},
};

/// Who wants to know what happens; if that fails, so does the run.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(Event) -> Result<(), Failure>;

/// Counts until all is counted and a last checkpoint says so. A finished state stays as it is.
pub(crate) fn run(state: &mut State, files: &[InputFile], every: Duration, tell: Tell<'_>) -> Result<(), Failure> {
    if state.is_finished()? {
        return Ok(());
    }
    thread::scope(|scope| {
        let (reporting, reports) = mpsc::channel();
        let mut workers = Vec::new();
        for (number, share) in input::shares(files, state.record().workers).into_iter().enumerate() {
            workers.push(start(scope, Worker::new(number, share, state)?, &reporting));
        }
        let mut config = CheckpointConfig::new();
        config.set_checkpoint_interval(Some(every))?.set_fail_on_checkpointing_errors(false);
        let (busy, clock) = (workers.len(), Instant::now());
        let coordinator = Coordinator::new(state.store.clone(), &config, busy, Duration::ZERO)?;
        Run { state, workers, coordinator, tell, clock, written: None, is_last: false, busy, finished: false }
            .run(&reports)
    })
}

/// Starts a worker, which ends when it cannot be asked any more.
fn start<'s>(scope: &'s Scope<'s, '_>, worker: Worker, reporting: &Sender<Report>) -> Sender<Request> {
    let ((requests, asked), reporting) = (mpsc::channel(), reporting.clone());
    scope.spawn(move || {
        // If nobody hears it, the run is over.
        let report = |report| drop(reporting.send(report));
        let ended = catch_unwind(AssertUnwindSafe(|| worker.run(&asked, report)));
        ended.unwrap_or_else(|_| Err("a worker panicked".into())).unwrap_or_else(|error| report(Report::Failed(error)));
    });
    requests
}

struct Run<'a> {
    state: &'a mut State,
    workers: Vec<Sender<Request>>,
    coordinator: Coordinator,
    tell: Tell<'a>,
    clock: Instant,
    /// The last checkpoint that is or was written, and since when.
    written: Option<(CheckpointId, Duration)>,
    /// Whether it has everything, so that there is no next one.
    is_last: bool,
    /// How many workers still count.
    busy: usize,
    finished: bool,
}

impl Run<'_> {
    fn run(mut self, reports: &Receiver<Report>) -> Result<(), Failure> {
        while !self.finished {
            for action in self.coordinator.tick(self.clock.elapsed()) {
                self.act(action)?;
            }
            let next = self.coordinator.next_wakeup().unwrap_or(Duration::MAX);
            match reports.recv_timeout(next.saturating_sub(self.clock.elapsed())) {
                Ok(Report::Failed(error)) => return Err(error),
                Ok(Report::Snapshot(snapshot)) => self.take(snapshot)?,
                Ok(Report::Counted) => {
                    self.busy -= 1;
                    if self.busy == 0 {
                        // Nobody need wait for the next one that is due.
                        self.coordinator.request(CheckpointRequest::checkpoint(self.clock.elapsed()));
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), Failure> {
        match action {
            Action::Trigger { id, options, .. } => {
                let streams = self.coordinator.streams(id).ok_or("it was triggered just now")?;
                let request = Request { options, streams, base: self.state.base() };
                self.is_last = self.busy == 0;
                // One that is gone has said why.
                self.workers.iter().for_each(|worker| drop(worker.send(request.clone())));
                Ok(())
            }
            Action::Refuse { why: Refusal::Store(error), .. } => Err(error.into()),
            Action::Abort { why: FailureReason::Expired, .. } => self.failed("it took too long".into()),
            // Whoever aborted it has told so.
            Action::Abort { .. } | Action::Refuse { .. } | Action::FailJob => Ok(()),
        }
    }

    /// Writes the snapshot of a worker; with that of the last one the checkpoint is complete.
    fn take(&mut self, (worker, id, task): Snapshot) -> Result<(), Failure> {
        let is_pending = self.coordinator.pending().any(|pending| pending == id);
        if is_pending && self.written.is_none_or(|(last, _)| last != id) {
            (self.tell)(Event::Begun)?;
            self.written = Some((id, self.clock.elapsed()));
        }
        match task.and_then(SnapshotTask::run) {
            Ok(result) => {
                let states = result.into_parts().0.unwrap_or_default();
                let is_last = self.coordinator.acknowledge(id, worker, states)? == Acknowledged::Complete;
                if is_last { self.complete(id) } else { Ok(()) }
            }
            Err(error) if self.coordinator.decline(id, FailureReason::AsyncPart) => self.failed(error.into()),
            // The checkpoint is over already.
            Err(_) => Ok(()),
        }
    }

    fn complete(&mut self, id: CheckpointId) -> Result<(), Failure> {
        let now_ms = u64::try_from(SystemTime::UNIX_EPOCH.elapsed()?.as_millis())?;
        let manifest = self.state.manifest()?.timestamp_ms(now_ms).epoch(self.state.checkpoints() + 1);
        match self.coordinator.complete(id, manifest, self.clock.elapsed()) {
            Ok(checkpoint) => self.state.latest = Some(checkpoint),
            Err(error) => return self.failed(error.into()),
        }
        self.finished = self.is_last;
        let took = self.clock.elapsed().saturating_sub(self.written.map_or(Duration::ZERO, |(_, since)| since));
        (self.tell)(Event::Committed { took, bytes: self.state.bytes()? })
    }

    /// The next checkpoint may succeed, unless there is none, or the store refuses to write until it is opened again, which
    /// the next run does.
    fn failed(&mut self, error: Failure) -> Result<(), Failure> {
        let may_pass = error.downcast_ref().is_none_or(|error: &piton::Error| !error.needs_reopen());
        if self.is_last || !may_pass {
            return Err(error);
        }
        (self.tell)(Event::Failed { why: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{arguments::Arguments, reference, worker::Position};

    #[test]
    fn what_failed_checkpoints_were_to_have_is_in_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, identity) = (dir.path().join("text"), dir.path().join("state/piton.store"));
        let away = identity.with_extension("away");
        let text = "one two two three three three ".repeat(10_000);
        fs::write(&path, &text).unwrap();
        let mut files = [InputFile { path, len: text.len() as u64 }];
        // It is stopped before it gets there.
        let arguments = Arguments { workers: Some(1), passes: u64::MAX, ..Arguments::default() };
        let mut state = State::open(&dir.path().join("state"), &arguments, &files).unwrap();
        let mut events = String::new();
        let stopped = run(&mut state, &files, Duration::from_millis(10), &mut |event| {
            match event {
                // Without its identity a store commits nothing.
                Event::Begun if matches!(events.as_str(), "c" | "cf") => fs::rename(&identity, &away)?,
                Event::Begun | Event::Opened { .. } => {}
                Event::Failed { .. } => events.push('f'),
                Event::Committed { .. } => events.push('c'),
            }
            if matches!(event, Event::Failed { .. }) {
                fs::rename(&away, &identity)?;
            }
            if events == "cffcc" { Err("enough".into()) } else { Ok(()) }
        });
        assert_eq!(stopped.unwrap_err().to_string(), "enough", "{events}");
        let Position { pass, offset, .. } = state.position(0).unwrap();
        let mut expected = reference::count(&files, |_| ()).unwrap();
        files[0].len = offset;
        let last = reference::count(&files, |_| ()).unwrap();
        for (word, count) in &mut expected {
            *count = *count * pass + last.get(word).copied().unwrap_or_default();
        }
        assert_eq!(reference::compare(&expected, &state.totals().unwrap(), 1), Ok(()));
        assert_eq!(state.checkpoints(), 3);
    }
}
