//! One life of a child process: it is started, it is watched, and perhaps it is killed.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use crate::{Failure, event::Event};

const SIGKILL: i32 = 9;
/// How long it takes from an event in the child to a signal from here.
const REACTION: Duration = Duration::from_millis(1);

/// When to kill. Never before the child has committed a checkpoint, so that each life gets further than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Never,
    /// Some time after the first commit.
    Any,
    /// Some time after it began to write a checkpoint, and as a rule before that is committed.
    WhileWriting,
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Finished,
    /// By our signal, and whether a checkpoint was being written.
    Killed {
        writing: bool,
    },
}

/// Starts the command and kills it at the given moment, unless it finishes before. `see` learns what it reports.
pub(crate) fn live(
    command: &mut Command,
    every: Duration,
    moment: Moment,
    mut see: impl FnMut(&Event),
) -> Result<Ending, Failure> {
    let mut running = Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let events = running.events()?;
    let mut fuse = Fuse { every, moment, last: None, writing: false, burns_until: None };
    let mut killed = false;
    loop {
        match fuse.receive(&events) {
            Ok(event) => {
                let event = event?;
                fuse.see(&event);
                see(&event);
            }
            Err(RecvTimeoutError::Timeout) if !killed => {
                running.0.kill()?;
                // Go on to read what it said before.
                fuse.moment = Moment::Never;
                fuse.burns_until = None;
                killed = true;
            }
            Err(_) => break,
        }
    }
    let status = running.0.wait()?;
    match status.signal() {
        // It is this that tells whether the signal hit a running process.
        Some(SIGKILL) if killed => Ok(Ending::Killed { writing: fuse.writing }),
        None if status.success() => Ok(Ending::Finished),
        _ => Err(format!("the counting process failed: {status}").into()),
    }
}

/// Knows when to kill.
struct Fuse {
    every: Duration,
    moment: Moment,
    /// How long the last checkpoint of this life took.
    last: Option<Duration>,
    /// Whether a checkpoint is being written.
    writing: bool,
    burns_until: Option<Instant>,
}

impl Fuse {
    /// The next event, if it comes before the fuse is burnt.
    fn receive(&self, events: &Receiver<Reported>) -> Result<Reported, RecvTimeoutError> {
        match self.burns_until {
            Some(end) => events.recv_timeout(end.saturating_duration_since(Instant::now())),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn see(&mut self, event: &Event) {
        self.writing = *event == Event::Begun;
        if let Event::Committed { took, .. } = event {
            self.last = Some(*took);
        }
        let range = match (self.moment, self.last) {
            (Moment::Any, Some(last)) => 2 * self.every + last,
            (Moment::WhileWriting, Some(last)) if self.writing => last,
            _ => return,
        };
        let delay = random_below(range).saturating_sub(REACTION);
        self.burns_until.get_or_insert_with(|| Instant::now() + delay);
    }
}

/// A process that does not outlive its parent's interest.
struct Running(Child);

/// An event, or why there was none.
type Reported = Result<Event, Failure>;

impl Running {
    /// What the child reports, until it closes its stdout.
    fn events(&mut self) -> Result<Receiver<Reported>, Failure> {
        let stdout = self.0.stdout.take().ok_or("the child has no stdout")?;
        let (events, received) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let event = line.map_err(Failure::from).and_then(|line| Ok(line.parse::<Event>()?));
                if events.send(event).is_err() {
                    break;
                }
            }
        });
        Ok(received)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A random time below this one. Each `RandomState` has another key, so this needs no crate.
fn random_below(range: Duration) -> Duration {
    let range = u64::try_from(range.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(RandomState::new().hash_one("when") % range)
}
