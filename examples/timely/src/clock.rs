//! What all workers of a process know of the epochs: which of them ended, which end with a checkpoint, and whose part is durable.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
};

use timely::scheduling::activate::SyncActivator;

use crate::message::{Tick, Ticket};

/// Hands ticks to the sources of a process, and wakes the operators whose capabilities a durable part sets free.
#[derive(Debug, Default)]
pub struct Clock {
    /// The newest epoch with a durable part.
    durable: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tickets: BTreeMap<u64, Ticket>,
    sources: Vec<(Sender<Tick>, SyncActivator)>,
    holders: Vec<SyncActivator>,
}

impl Clock {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Registers a source; it receives all ticks from now on, and is activated with each.
    pub fn source(&self, activator: SyncActivator) -> Receiver<Tick> {
        let (sender, receiver) = mpsc::channel();
        self.inner().sources.push((sender, activator));
        receiver
    }

    /// Registers an operator that holds capabilities until a part is durable; it is activated with each part.
    pub fn holder(&self, activator: SyncActivator) {
        self.inner().holders.push(activator);
    }

    /// Closes an epoch in all sources.
    pub fn tick(&self, tick: Tick) {
        let mut inner = self.inner();
        inner.tickets.extend(tick.ticket.map(|ticket| (tick.epoch, ticket)));
        for (sender, activator) in &inner.sources {
            // A source that is gone, with its worker, has no use for it.
            let _ = sender.send(tick);
            let _ = activator.activate();
        }
    }

    /// Ends all sources.
    pub fn stop(&self) {
        for (sender, activator) in self.inner().sources.drain(..) {
            drop(sender);
            let _ = activator.activate();
        }
    }

    /// The checkpoint that the epoch ends with.
    pub fn ticket(&self, epoch: u64) -> Option<Ticket> {
        self.inner().tickets.get(&epoch).copied()
    }

    /// Tells all operators that the part of this epoch is durable.
    pub fn set_durable(&self, epoch: u64) {
        self.durable.store(epoch, Ordering::Release);
        let mut inner = self.inner();
        inner.tickets.retain(|ticket, _| *ticket > epoch);
        for activator in &inner.holders {
            let _ = activator.activate();
        }
    }

    /// The newest epoch whose part is durable.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }
}
