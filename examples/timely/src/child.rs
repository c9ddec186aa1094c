//! A timely process, as its coordinator sees it.

use std::{
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::Sender,
    thread,
};

use piton::Membership;

use crate::{
    Failure,
    coordinator::Coordinator,
    message::{Order, Report, receive, send},
};

/// A report of a process, by its number; `None` when the process ended.
pub(crate) type Reported = (usize, Option<Report>);

/// A timely process.
pub(crate) struct Process {
    child: Child,
    /// Taken to end the process.
    orders: Option<ChildStdin>,
    pub(crate) membership: Membership,
}

impl Process {
    /// Admits a member and starts its process, which waits for its start.
    pub(crate) fn spawn(coordinator: &Coordinator, number: usize, sender: Sender<Reported>) -> Result<Self, Failure> {
        let membership = coordinator.store.admit()?;
        let mut command = (coordinator.settings.command)();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut pipe = child.stdout.take().ok_or("a process has no stdout")?;
        let orders = child.stdin.take();
        thread::spawn(move || {
            while let Ok(Some(report)) = receive(&mut pipe) {
                if sender.send((number, Some(report))).is_err() {
                    return;
                }
            }
            // The life may be over.
            let _ = sender.send((number, None));
        });
        Ok(Self { child, orders, membership })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends an order. A process that is gone is noticed by the end of its reports.
    pub(crate) fn order(&mut self, order: &Order) {
        if let Some(pipe) = &mut self.orders {
            let _ = send(pipe, order);
        }
    }

    /// Makes the process exit: its stdin ends.
    pub(crate) fn abandon(&mut self) {
        self.orders = None;
    }

    /// Waits until the process has ended.
    pub(crate) fn wait(&mut self) -> Result<(), Failure> {
        self.child.wait()?;
        Ok(())
    }
}
