//! A coordinator that the supervisor started, and is going to kill.

use std::{
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};
use timely_piton::{
    Failure,
    message::{receive, send},
    settings::{Blow, Event},
};

use crate::{plan::Doom, spec};

/// The life of a coordinator.
pub(crate) struct Watched {
    pub(crate) child: Child,
    pub(crate) blows: ChildStdin,
    pub(crate) events: Receiver<Event>,
    pub(crate) doom: Doom,
    pub(crate) pids: Vec<u32>,
    /// When to kill.
    pub(crate) due: Option<Instant>,
    pub(crate) is_finished: bool,
}

impl Watched {
    pub(crate) fn start(dir: &Path, life: usize) -> Result<Self, Failure> {
        let mut command = spec::role("coordinator", dir);
        command.arg("--life").arg(life.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let blows = child.stdin.take().ok_or("the coordinator has no stdin")?;
        let mut pipe = child.stdout.take().ok_or("the coordinator has no stdout")?;
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(Some(event)) = receive(&mut pipe) {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let (doom, pids, due, is_finished) = (Doom::Inside(Blow::None), Vec::new(), None, false);
        Ok(Self { child, blows, events, doom, pids, due, is_finished })
    }

    /// Says how the life that begins will end.
    pub(crate) fn meet(&mut self, doom: Doom) {
        self.doom = doom;
        let (blow, after) = match doom {
            Doom::Inside(blow) => (blow, None),
            Doom::Coordinator(after) | Doom::Process(_, after) => (Blow::None, Some(after)),
        };
        self.due = after.map(|after| Instant::now() + after);
        // A coordinator that is gone is noticed by the end of its events.
        let _ = send(&mut self.blows, &blow);
    }

    pub(crate) fn strike(&mut self) -> Result<(), Failure> {
        match self.doom {
            Doom::Coordinator(_) => Ok(self.child.kill()?),
            Doom::Process(victim, _) => {
                let pid =
                    self.pids.get(victim % self.pids.len()).and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
                // It is gone if all was counted just now.
                let _ = kill_process(pid.ok_or("a process has no number")?, Signal::KILL);
                Ok(())
            }
            Doom::Inside(_) => Ok(()),
        }
    }

    /// Whether the coordinator, or a process, was to end before all is counted.
    pub(crate) fn expects(&self, coordinator: bool) -> bool {
        match self.doom {
            Doom::Coordinator(_) | Doom::Inside(Blow::Coordinator(_)) => coordinator && self.due.is_none(),
            Doom::Process(..) | Doom::Inside(Blow::Process(..)) => !coordinator && self.due.is_none(),
            Doom::Inside(Blow::Stop(_)) => !coordinator,
            Doom::Inside(Blow::None) => false,
        }
    }
}
