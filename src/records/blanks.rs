//! Blank logs, made by any thread, so that no record has to wait for one.
//!
//! # Who owns what
//!
//! One thread at a time makes a blank log, and holds `making` meanwhile: names are made in their order, each durable before
//! the next. One that is made waits in `ready` for the writer, which alone takes them. The writer may have to make one
//! itself; whoever makes one for the writer never waits for it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::blank::{self, Entry, Fill, OpenLog, Plan, Urgency};
use crate::{
    disk::{spare, volume::Volume},
    error::{Error, Result},
    format::log::{Link, LogId},
    id::{LAST, StoreId},
};

/// How many ids may be used before another blank log has to say so.
const RESERVED_IDS: u64 = 1 << 20;
/// How many blank logs there are once there is nothing to do: one to go on to, and one whose name tells that there was one.
pub(super) const ENOUGH: usize = 2;
/// The half of a log that is made on a full disk.
const LEAST_HALF: u64 = 64 * 1024;

/// Which logs are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) store: StoreId,
    pub(crate) generation: u64,
    /// Bytes of each half.
    pub(crate) half: u64,
    /// The same of the first one of an open.
    pub(crate) first_half: u64,
}

#[derive(Debug)]
pub(crate) struct Blanks {
    volume: Arc<Volume>,
    shape: Shape,
    /// The last name that was made.
    making: Mutex<u64>,
    /// In the order of their names.
    ready: Mutex<VecDeque<OpenLog>>,
    /// Every id up to this one was used.
    id_floor: AtomicU64,
}

/// The highest id that may be used before another file has to say so.
pub(super) fn reserved(id_floor: u64) -> u64 {
    id_floor.saturating_add(RESERVED_IDS).min(LAST)
}

/// Whether a short log may be made after making a full one failed: only on a full disk, and only if the name of the failed
/// one is certainly not there.
fn may_be_short(error: &Error) -> bool {
    error.is_no_space() && !error.is_indeterminate()
}

impl Blanks {
    /// For the writer that makes its first log now.
    pub(super) fn new(volume: &Arc<Volume>, shape: Shape, id_floor: u64) -> Self {
        let (making, ready, id_floor) = (Mutex::new(1), Mutex::default(), AtomicU64::new(id_floor));
        Self { volume: Arc::clone(volume), shape, making, ready, id_floor }
    }

    /// The first log, with its first record. On a full disk a short one, in the room that is kept for that.
    pub(super) fn make_first(&self, number: u64, link: &Link, entry: &Entry<'_>) -> Result<OpenLog> {
        let make = |half| self.make(1, half, Fill::Zeros, Some((number, link, entry)));
        make(self.shape.first_half).or_else(|error| {
            if may_be_short(&error) { spare::even_if_full(&self.volume, || make(LEAST_HALF)) } else { Err(error) }
        })
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Bytes of each half of a log.
    pub(super) fn half(&self) -> u64 {
        self.shape.half
    }

    /// Every id up to this one was used.
    pub(super) fn id_floor(&self) -> u64 {
        self.id_floor.load(Ordering::Relaxed)
    }

    /// Whether an id may be used: if the log of the writer is lost, its successor still tells that it may have been.
    pub(super) fn reserves(&self, id: u64) -> bool {
        self.ready.lock().back().is_some_and(|blank| id <= blank.reserved_ids())
    }

    /// Remembers that an id was used, durably if it is far above all others.
    ///
    /// # Errors
    ///
    /// Those of making a file. The id must not be used then.
    pub(super) fn use_id(&self, id: u64) -> Result<()> {
        if !self.reserves(id) {
            let floor = self.id_floor().max(id);
            self.add(&mut self.making.lock(), self.shape.half, Fill::Zeros, floor)?;
        }
        self.id_floor.fetch_max(id, Ordering::Relaxed);
        Ok(())
    }

    /// Whether there are fewer than there should be.
    pub(crate) fn are_needed(&self) -> bool {
        self.ready.lock().len() < ENOUGH
    }

    /// Makes as many as there should be. No record waits for it.
    ///
    /// # Errors
    ///
    /// Those of making a file. The log goes on without.
    pub(crate) fn refill(&self) -> Result<()> {
        self.ensure(ENOUGH, Urgency::Ordinary)
    }

    /// Makes blank logs until there are `count`. On a full disk, for a record that gives room back, short ones in the room
    /// of `piton.spare`.
    pub(super) fn ensure(&self, count: usize, urgency: Urgency) -> Result<()> {
        while self.ready.lock().len() < count {
            let mut making = self.making.lock();
            // Another thread may have made it meanwhile.
            if self.ready.lock().len() >= count {
                return Ok(());
            }
            match self.add(&mut making, self.shape.half, Fill::Zeros, self.id_floor()) {
                Err(error) if urgency == Urgency::GivesRoom && may_be_short(&error) => {
                    let sequence = making.saturating_add(1);
                    let make = || self.make(sequence, LEAST_HALF, Fill::Zeros, None);
                    self.keep(&mut making, spare::even_if_full(&self.volume, make)?);
                }
                made => made?,
            }
        }
        Ok(())
    }

    /// Whether the next one takes this record.
    pub(super) fn next_takes(&self, entry: &Entry<'_>) -> bool {
        self.ready.lock().front().is_some_and(|blank| blank.takes(entry))
    }

    /// Makes a log of the length of this record the next one, and returns those that are passed over: logs are begun in the
    /// order of their names. They go once a later one is begun, and not before, for then they would seem lost.
    pub(super) fn make_longer(&self, entry: &Entry<'_>) -> Result<Vec<LogId>> {
        let mut making = self.making.lock();
        let passed = self.ready.lock().len();
        let half = blank::half_for(entry, self.shape.half);
        // It is written at once, and with its whole length.
        self.add(&mut making, half, Fill::Nothing, self.id_floor())?;
        self.add(&mut making, self.shape.half, Fill::Zeros, self.id_floor())?;
        Ok(self.ready.lock().drain(..passed).map(|blank| blank.id()).collect())
    }

    /// The next one, for the writer.
    pub(super) fn take(&self) -> Option<OpenLog> {
        self.ready.lock().pop_front()
    }

    fn add(&self, making: &mut u64, half: u64, fill: Fill, id_floor: u64) -> Result<()> {
        let plan = self.plan(making.saturating_add(1), half, fill, id_floor);
        self.keep(making, blank::make(&self.volume, plan, None)?);
        Ok(())
    }

    fn keep(&self, making: &mut u64, made: OpenLog) {
        *making = made.id().sequence;
        self.ready.lock().push_back(made);
    }

    fn make(&self, sequence: u64, half: u64, fill: Fill, first: Option<(u64, &Link, &Entry<'_>)>) -> Result<OpenLog> {
        blank::make(&self.volume, self.plan(sequence, half, fill, self.id_floor()), first)
    }

    fn plan(&self, sequence: u64, half: u64, fill: Fill, id_floor: u64) -> Plan {
        let Shape { store, generation, .. } = self.shape;
        Plan { store, id: LogId { generation, sequence }, half, fill, reserved_ids: reserved(id_floor) }
    }
}
