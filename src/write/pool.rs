//! Lanes that are leased for one append each. Names nothing of the crate, so that a model checker can run it as it is.
//!
//! A lane has a segment, or none. A lease is a guard: it gives the lane back on whatever path. A segment that is to be sealed
//! is dropped: at once if its lane is idle, else when the lease that has it ends, and the caller that seals it waits until then.

use std::collections::BTreeSet;

use super::sync::{Condvar, Mutex, MutexGuard, PoisonError, YIELDS, yield_now};

/// What a lane has.
pub(crate) trait Segments {
    type Id: Copy + Ord + std::fmt::Debug;

    fn segment_id(&self) -> Self::Id;
}

/// The lanes of one scope. The lock is held while lists are changed; never during I/O.
#[derive(Debug)]
pub(crate) struct Pool<S: Segments> {
    state: Mutex<PoolState<S>>,
    freed: Condvar,
}

#[derive(Debug)]
struct PoolState<S: Segments> {
    idle: Vec<Lane<S>>,
    /// How many lanes there are, leased ones included.
    lanes: u16,
    /// The segments that leased lanes had when they were leased. A list of few: unlike a set it keeps its memory.
    leased: Vec<S::Id>,
    /// Segments to be sealed, leased or not.
    unwanted: BTreeSet<S::Id>,
    /// How many callers wait for a lane to be given back: to tell nobody is a call to the system all the same.
    waiting: usize,
}

#[derive(Debug)]
pub(crate) struct Lane<S> {
    pub(crate) number: u16,
    pub(crate) segment: Option<S>,
}

/// The right to append to a lane, given back when it is dropped, on whatever path.
#[derive(Debug)]
pub(crate) struct Lease<'a, S: Segments> {
    pool: &'a Pool<S>,
    pub(crate) number: u16,
    /// What the lane has, and what it has from then on.
    pub(crate) segment: Option<S>,
    /// The segment that it had.
    taken: Option<S::Id>,
}

impl<S: Segments> Pool<S> {
    pub(crate) fn new() -> Self {
        let (idle, leased, unwanted) = (Vec::new(), Vec::new(), BTreeSet::new());
        let state = PoolState { idle, lanes: 0, leased, unwanted, waiting: 0 };
        Self { state: Mutex::new(state), freed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, PoolState<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, PoolState<S>>) -> MutexGuard<'a, PoolState<S>> {
        state.waiting += 1;
        let mut state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    /// Lets other threads go on.
    fn step_aside<'a>(&'a self, state: MutexGuard<'a, PoolState<S>>) -> MutexGuard<'a, PoolState<S>> {
        drop(state);
        yield_now();
        self.lock()
    }

    /// Takes the idle lane with the lowest rank. If all are taken, opens another while there are fewer than `most`; else
    /// waits. It yields some times before it sleeps: an append is shorter than to sleep and to be woken.
    pub(crate) fn lease<R: Ord>(&self, most: u16, rank: impl Fn(&Lane<S>) -> R) -> Lease<'_, S> {
        let (mut state, mut yields) = (self.lock(), 0);
        loop {
            if let Some(best) = (0..state.idle.len()).min_by_key(|at| state.idle.get(*at).map(&rank)) {
                let Lane { number, segment } = state.idle.swap_remove(best);
                let taken = segment.as_ref().map(S::segment_id);
                state.leased.extend(taken);
                return Lease { pool: self, number, segment, taken };
            }
            if state.lanes < most {
                state.lanes += 1;
                return Lease { pool: self, number: state.lanes, segment: None, taken: None };
            }
            state = if yields < YIELDS { self.step_aside(state) } else { self.wait(state) };
            yields = yields.saturating_add(1);
        }
    }

    /// Seals the segments of idle lanes for which this is so.
    pub(crate) fn seal_if(&self, goes: impl Fn(&S) -> bool) {
        let mut state = self.lock();
        let idle = state.idle.iter_mut().filter(|lane| lane.segment.as_ref().is_some_and(&goes));
        let sealed: Vec<_> = idle.filter_map(|lane| lane.segment.take()).collect();
        drop(state);
        drop(sealed);
    }

    /// Seals these segments; those that are being appended to, as soon as that is done. Nothing is ever appended to them after
    /// this returns.
    pub(crate) fn seal_all(&self, ids: &BTreeSet<S::Id>) {
        self.lock().unwanted.extend(ids);
        self.seal_if(|segment| ids.contains(&segment.segment_id()));
        let mut state = self.lock();
        while state.leased.iter().any(|id| ids.contains(id)) {
            state = self.wait(state);
        }
        state.unwanted.retain(|id| !ids.contains(id));
    }
}

impl<S: Segments> Pool<S> {
    fn take_back(&self, mut state: MutexGuard<'_, PoolState<S>>, lane: Lane<S>, taken: Option<S::Id>) {
        if let Some(taken) = taken {
            state.leased.retain(|id| *id != taken);
        }
        state.idle.push(lane);
        let (waiting, sealing) = (state.waiting, !state.unwanted.is_empty());
        drop(state);
        match waiting {
            0 => {}
            // Not only writers wait then, and any of them may be woken by one notification.
            _ if sealing => self.freed.notify_all(),
            _ => self.freed.notify_one(),
        }
    }
}

impl<S: Segments> Drop for Lease<'_, S> {
    fn drop(&mut self) {
        let Self { pool, number, segment, taken } = self;
        let state = pool.lock();
        let is_unwanted = segment.as_ref().is_some_and(|segment| state.unwanted.contains(&segment.segment_id()));
        if !is_unwanted {
            return pool.take_back(state, Lane { number: *number, segment: segment.take() }, *taken);
        }
        // A caller that seals waits until the segment is sealed; the lane cannot be leased before.
        drop(state);
        let _emptied = Emptied { pool, number: *number, taken: *taken };
        drop(segment.take());
    }
}

/// A lane whose segment is being sealed. It comes back also if that panics.
struct Emptied<'a, S: Segments> {
    pool: &'a Pool<S>,
    number: u16,
    taken: Option<S::Id>,
}

impl<S: Segments> Drop for Emptied<'_, S> {
    fn drop(&mut self) {
        self.pool.take_back(self.pool.lock(), Lane { number: self.number, segment: None }, self.taken);
    }
}
