//! The checkpoints of one life, as the coordinator sees them: it closes epochs, accepts parts, and publishes.
//!
//! 1. It begins the checkpoint, and closes the epoch in all sources. The tick says which checkpoint the changes are relative to:
//!    the one before, which may still be in the making.
//! 2. It accepts the part of each process as it comes.
//! 3. After the last part it publishes. After a rescaling, the first manifest has the partitions under their new ranges.

use std::time::Instant;

use piton::{Manifest, PendingCheckpoint};

use crate::{
    Failure,
    coordinator::{self, Coordinator},
    life::Life,
    message::{Order, Prepared, Tick, Ticket},
    repartition,
    settings::{Event, Published},
    trap::{self, Point},
};

/// How many checkpoints may be in the making.
const MOST_IN_FLIGHT: usize = 2;

/// A checkpoint in the making.
pub(crate) struct InFlight {
    pending: PendingCheckpoint,
    begun: Instant,
    parts: usize,
    done: Published,
    exhausted: bool,
}

/// What the disk needs for the bytes of a checkpoint, in the making.
pub(crate) struct Floor {
    begun: Instant,
    /// How many processes have synced theirs.
    blobs: usize,
}

impl Life {
    /// Closes an epoch, with a checkpoint if one is due.
    pub(crate) fn tick(&mut self, coordinator: &Coordinator, ticks: u64) -> Result<(), Failure> {
        let settings = &coordinator.settings;
        let every = settings.epochs_per_checkpoint;
        let is_last = self.exhausted == self.processes.len();
        let is_due = is_last || (every > 0 && ticks % every == every - 1);
        let may_begin = is_due && self.in_flight.len() < MOST_IN_FLIGHT && self.floor.is_none();
        let ticket = if may_begin { Some(self.begin_checkpoint(coordinator)?) } else { None };
        self.order_all(&Order::Tick(Tick { epoch: self.epoch, ticket }));
        self.epoch += 1;
        let is_between = settings.with_floor && every > 1 && ticks % every == every / 2 - 1;
        if is_between && self.in_flight.is_empty() && self.floor.is_none() && !is_last {
            self.floor = Some(Floor { begun: Instant::now(), blobs: 0 });
            self.order_all(&Order::Blob);
        }
        Ok(())
    }

    fn begin_checkpoint(&mut self, coordinator: &Coordinator) -> Result<Ticket, Failure> {
        let begun = Instant::now();
        let pending = coordinator.store.begin_next()?;
        let ticket = Ticket { id: pending.id(), since: self.since };
        self.since = Some(pending.id());
        let done = Published { micros: 0, store_micros: 0, bytes: 0, read: 0 };
        self.in_flight.insert(self.epoch, InFlight { pending, begun, parts: 0, done, exhausted: true });
        trap::pass(Point::Begun);
        Ok(ticket)
    }

    /// Accepts a part; the last one completes its checkpoint.
    pub(crate) fn accept(&mut self, coordinator: &mut Coordinator, prepared: &Prepared) -> Result<(), Failure> {
        let in_flight = self.in_flight.get_mut(&prepared.epoch).ok_or("a part is for no checkpoint")?;
        in_flight.pending.accept(&prepared.part)?;
        in_flight.parts += 1;
        in_flight.done.bytes += prepared.bytes;
        in_flight.done.read += prepared.read;
        in_flight.done.store_micros = in_flight.done.store_micros.max(prepared.micros);
        in_flight.exhausted &= prepared.exhausted;
        if in_flight.parts < self.processes.len() {
            trap::pass(Point::Accepted);
            return Ok(());
        }
        // A process makes its parts in order, so all older checkpoints are published.
        let complete = self.in_flight.remove(&prepared.epoch).ok_or("a checkpoint is complete once")?;
        trap::pass(Point::Complete);
        self.publish(coordinator, prepared.epoch, complete)
    }

    fn publish(&mut self, coordinator: &mut Coordinator, epoch: u64, complete: InFlight) -> Result<(), Failure> {
        let complete_at = Instant::now();
        let manifest = match &self.newest {
            Some(newest) => repartition::based_on(newest.manifest(), coordinator.settings.operator, self.workers)?,
            None => Manifest::builder(),
        };
        self.newest = Some(complete.pending.commit(manifest.epoch(epoch))?);
        let micros = u64::try_from(complete.begun.elapsed().as_micros())?;
        let store_micros = complete.done.store_micros + u64::try_from(complete_at.elapsed().as_micros())?;
        trap::pass(Point::Committed);
        self.order_all(&Order::Published(coordinator.store.worn()));
        coordinator.read += complete.done.read;
        self.is_finished = complete.exhausted;
        coordinator::tell(&Event::Published(Published { micros, store_micros, ..complete.done }))
    }

    /// A process has its blob. When all have theirs, the coordinator writes what a publication writes at least.
    pub(crate) fn end_floor(&mut self, coordinator: &mut Coordinator) -> Result<(), Failure> {
        let Some(floor) = &mut self.floor else { return Ok(()) };
        floor.blobs += 1;
        if floor.blobs == self.processes.len() {
            coordinator.sync_publication()?;
            let micros = u64::try_from(floor.begun.elapsed().as_micros())?;
            self.floor = None;
            coordinator::tell(&Event::Floor(micros))?;
        }
        Ok(())
    }
}
