//! Starts coordinators, kills them and their processes, and starts them again until all is counted. It knows no store.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::Path,
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use timely_piton::{
    Failure,
    message::Restored,
    settings::{Blow, Event, Published},
};

use crate::{
    plan::{Doom, Plan},
    spec::Spec,
    watched::Watched,
};

const SIGKILL: i32 = 9;
/// Nothing takes so long, not even on a busy machine.
const STUCK: Duration = Duration::from_mins(1);

/// What a run showed.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) published: Vec<Published>,
    pub(crate) floor: Vec<u64>,
    /// By life that came back to a checkpoint.
    pub(crate) restored: Vec<Vec<Restored>>,
    pub(crate) lives: usize,
    /// From the first life's beginning to count, to the last checkpoint.
    pub(crate) took: Duration,
    /// How many kills hit the coordinator.
    pub(crate) coordinators: u32,
}

/// A run in progress.
struct Run<'a> {
    dir: &'a Path,
    lines: u64,
    plan: Plan,
    shows_progress: bool,
    seen: Seen,
    begun: Option<Instant>,
    read: u64,
}

/// Runs until all is counted.
pub(crate) fn run(spec: &Spec, dir: &Path, kills: u32, seed: u64, shows_progress: bool) -> Result<Seen, Failure> {
    let plan = Plan::new(spec, kills, seed);
    let (seen, begun, read, lines) = (Seen::default(), None, 0, spec.lines());
    let mut run = Run { dir, lines, plan, shows_progress, seen, begun, read };
    while !run.coordinator()? {}
    if !run.plan.is_done() {
        return Err(format!("all was counted after {} of {kills} kills: give it more --seconds", run.plan.done).into());
    }
    Ok(run.seen)
}

impl Run<'_> {
    /// One coordinator, from its start to its end. Returns whether all is counted.
    fn coordinator(&mut self) -> Result<bool, Failure> {
        let mut watched = Watched::start(self.dir, self.seen.lives)?;
        let outcome = self.watch(&mut watched);
        if outcome.is_err() {
            let _ = watched.child.kill();
        }
        let status = watched.child.wait()?;
        outcome?;
        match status.signal() {
            None if status.success() && watched.is_finished => Ok(true),
            Some(SIGKILL) if watched.expects(true) => {
                self.plan.done += 1;
                self.seen.coordinators += 1;
                self.say(&format!("the coordinator was killed: {:?}", watched.doom));
                Ok(false)
            }
            _ => Err(format!("the coordinator failed: {status}").into()),
        }
    }

    fn watch(&mut self, watched: &mut Watched) -> Result<(), Failure> {
        loop {
            let wait = watched.due.map_or(STUCK, |due| due.saturating_duration_since(Instant::now()));
            match watched.events.recv_timeout(wait) {
                Ok(event) => self.see(watched, event)?,
                Err(RecvTimeoutError::Timeout) if watched.due.take().is_some() => watched.strike()?,
                Err(RecvTimeoutError::Timeout) => return Err("nothing happens any more".into()),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn see(&mut self, watched: &mut Watched, event: Event) -> Result<(), Failure> {
        match event {
            Event::Life { life, workers, pids } => {
                self.seen.lives = life + 1;
                self.say(&format!("life {life}: {workers} workers"));
                watched.pids = pids;
                watched.meet(self.plan.doom(life));
            }
            Event::Running { restored } => {
                self.begun.get_or_insert_with(Instant::now);
                self.seen.restored.push(restored);
            }
            Event::Published(published) => {
                self.read += published.read;
                self.seen.published.push(published);
            }
            Event::Floor(micros) => self.seen.floor.push(micros),
            Event::Ended(why) => {
                if !watched.expects(false) {
                    return Err(format!("a life ended by itself: {why}").into());
                }
                self.plan.done += u32::from(!matches!(watched.doom, Doom::Inside(Blow::Stop(_))));
                watched.due = None;
                self.say(&format!("{why}: {:?}", watched.doom));
            }
            Event::Finished => {
                self.seen.took = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
                (watched.is_finished, watched.due) = (true, None);
            }
        }
        Ok(())
    }

    fn say(&self, what: &str) {
        if self.shows_progress {
            let (percent, checkpoints) = (self.read * 100 / self.lines.max(1), self.seen.published.len());
            println!("{percent:3} % {checkpoints:5} checkpoints {:3} kills: {what}", self.plan.done);
        }
    }
}
