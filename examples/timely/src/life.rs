//! One life: some processes, their epochs, and the checkpoints that are made while they live.

use std::{
    collections::BTreeMap,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::Instant,
};

use piton::{Checkpoint, CheckpointId};

use crate::{
    Failure,
    checkpoints::{Floor, InFlight},
    child::{Process, Reported},
    coordinator::{self, Coordinator},
    message::{Order, Report, Start},
    settings::{Blow, Event},
};

/// How a life ended.
pub(crate) enum Ending {
    /// All is counted and published.
    Finished,
    /// Something failed or was killed.
    Died(String),
}

/// The processes of a life and what they do.
pub(crate) struct Life {
    pub(crate) processes: Vec<Process>,
    reports: Receiver<Reported>,
    pub(crate) workers: usize,
    /// The checkpoint that the next one goes on from.
    pub(crate) newest: Option<Checkpoint>,
    /// The checkpoint that was begun last.
    pub(crate) since: Option<CheckpointId>,
    pub(crate) epoch: u64,
    pub(crate) in_flight: BTreeMap<u64, InFlight>,
    /// How many processes are at the end of their input.
    pub(crate) exhausted: usize,
    /// The floor that is being measured.
    pub(crate) floor: Option<Floor>,
    pub(crate) is_finished: bool,
}

impl Life {
    /// Admits the members and starts their processes. They wait for their start.
    pub(crate) fn begin(coordinator: &Coordinator) -> Result<Self, Failure> {
        let (settings, store) = (&coordinator.settings, &coordinator.store);
        let workers = settings.scales[settings.life % settings.scales.len()];
        let (sender, reports) = mpsc::channel();
        let processes = (0..settings.processes).map(|number| Process::spawn(coordinator, number, sender.clone()));
        let processes = processes.collect::<Result<Vec<_>, _>>()?;
        let newest = store.latest()?;
        let epoch = newest.as_ref().map_or(1, |newest| newest.manifest().epoch() + 1);
        let since = newest.as_ref().map(Checkpoint::id);
        let (in_flight, exhausted, floor, is_finished) = (BTreeMap::new(), 0, None, false);
        Ok(Self { processes, reports, workers, newest, since, epoch, in_flight, exhausted, floor, is_finished })
    }

    pub(crate) fn workers(&self) -> usize {
        self.workers
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::pid).collect()
    }

    /// Runs until all is counted or a process ends. Errors of the store alone are errors.
    pub(crate) fn run(&mut self, coordinator: &mut Coordinator, blow: Blow) -> Result<Ending, Failure> {
        if let Some(why) = self.start(coordinator, blow)? {
            return Ok(Ending::Died(why));
        }
        let mut due = Instant::now();
        let mut ticks = 0;
        loop {
            let Some(wait) = due.checked_duration_since(Instant::now()) else {
                // A coordinator that comes late closes one epoch, and not all that were due meanwhile.
                due = Instant::now() + coordinator.settings.epoch;
                self.tick(coordinator, ticks)?;
                ticks += 1;
                continue;
            };
            match self.reports.recv_timeout(wait) {
                Ok((number, report)) => {
                    if let Some(why) = self.hear(coordinator, number, report)? {
                        return Ok(Ending::Died(why));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("no process is left to report".into()),
            }
            if self.is_finished {
                self.order_all(&Order::Finish);
                return Ok(Ending::Finished);
            }
            if matches!(blow, Blow::Stop(read) if coordinator.read >= read) {
                return Ok(Ending::Died("rescaled".into()));
            }
        }
    }

    /// Connects the processes. Returns why a process did not live to that.
    fn start(&mut self, coordinator: &Coordinator, blow: Blow) -> Result<Option<String>, Failure> {
        let mut addresses: Vec<_> = self.processes.iter().map(|_| None).collect();
        while addresses.iter().any(Option::is_none) {
            match self.reports.recv()? {
                (number, Some(Report::Listening(address))) => addresses[number] = Some(address),
                (number, _) => return Ok(Some(format!("process {number} did not come up"))),
            }
        }
        let addresses: Vec<_> = addresses.into_iter().flatten().collect();
        let count = self.processes.len();
        for (number, process) in self.processes.iter_mut().enumerate() {
            let trap = match blow {
                Blow::Process(victim, trap) if victim % count == number => Some(trap),
                _ => None,
            };
            process.order(&Order::Start(Box::new(Start {
                root: coordinator.settings.root.clone(),
                membership: process.membership,
                resume: self.since,
                epoch: self.epoch,
                process: number,
                addresses: addresses.clone(),
                workers: self.workers / count,
                trap,
            })));
        }
        let mut restored = Vec::new();
        for _ in 0..count {
            match self.reports.recv()? {
                (_, Some(Report::Ready(of_process))) => restored.extend(of_process),
                (number, Some(Report::Failed(why))) => return Ok(Some(format!("process {number}: {why}"))),
                (number, _) => return Ok(Some(format!("process {number} ended while it started"))),
            }
        }
        coordinator::tell(&Event::Running { restored })?;
        Ok(None)
    }

    /// Takes a report. Returns why the life is over, if it is.
    fn hear(
        &mut self,
        coordinator: &mut Coordinator,
        number: usize,
        report: Option<Report>,
    ) -> Result<Option<String>, Failure> {
        match report {
            None => return Ok(Some(format!("process {number} ended"))),
            Some(Report::Failed(why)) => return Ok(Some(format!("process {number}: {why}"))),
            Some(Report::Exhausted) => self.exhausted += 1,
            Some(Report::Prepared(prepared)) => self.accept(coordinator, &prepared)?,
            Some(Report::Blob) => self.end_floor(coordinator)?,
            Some(Report::Listening(_) | Report::Ready(_)) => return Err("a process starts once".into()),
        }
        Ok(None)
    }

    pub(crate) fn order_all(&mut self, order: &Order) {
        self.processes.iter_mut().for_each(|process| process.order(order));
    }

    /// Ends what is left of the processes, and their memberships.
    pub(crate) fn end(mut self, coordinator: &Coordinator) -> Result<(), Failure> {
        // Accepted parts are dropped first: then no checkpoint in flight refers to their states.
        self.in_flight.clear();
        for process in &mut self.processes {
            if !self.is_finished {
                process.abandon();
            }
        }
        for mut process in std::mem::take(&mut self.processes) {
            process.wait()?;
            // What cannot be deleted now is deleted by the next open.
            let _ = coordinator.store.dismiss(&process.membership)?;
        }
        Ok(())
    }
}
