//! Segments that many states share, and who may append to which of them.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::{
    allocator::Allocator,
    segment::{Appender, Payload, Segment},
};
use crate::{
    error::Result,
    handle::Extent,
    id::{CheckpointId, Scope},
};

/// The lanes of both scopes: of an open store, or of one pending checkpoint.
#[derive(Debug)]
pub(crate) struct Lanes {
    allocator: Arc<Allocator>,
    exclusive: Pool,
    shared: Pool,
}

/// The lanes of one scope. The lock is held while lists are changed; never during I/O.
#[derive(Debug, Default)]
struct Pool {
    state: Mutex<PoolState>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct PoolState {
    idle: Vec<Lane>,
    /// How many lanes there are, leased ones included.
    lanes: u16,
}

#[derive(Debug)]
struct Lane {
    number: u16,
    appender: Option<Appender>,
}

/// The right to append to a lane, given back when it is dropped, on whatever path.
struct Lease<'a> {
    pool: &'a Pool,
    number: u16,
    appender: Option<Appender>,
}

impl Lanes {
    pub(super) fn new(allocator: &Arc<Allocator>) -> Self {
        Self { allocator: Arc::clone(allocator), exclusive: Pool::default(), shared: Pool::default() }
    }

    fn pool(&self, scope: Scope) -> &Pool {
        match scope {
            Scope::Exclusive => &self.exclusive,
            Scope::Shared => &self.shared,
        }
    }

    /// Appends a whole state, and hands it to `accept` before anybody else gets the lane: from then on somebody refers to
    /// the segment, and it cannot go.
    pub(super) fn append(
        &self,
        scope: Scope,
        payload: &Payload<'_>,
        checkpoint: CheckpointId,
        accept: impl FnOnce(&Extent, &Arc<Segment>) -> Result<()>,
    ) -> Result<(Extent, Arc<Segment>)> {
        let mut lease = self.lease(scope, payload.len());
        let (mut appender, sealed) = self.appender(&mut lease, scope, payload.len())?;
        // A failure, and a panic, drops the appender here, which seals the segment; the lane goes on with another.
        let extent = appender.append(payload, checkpoint)?;
        let accepted = accept(&extent, appender.segment());
        if accepted.is_err() {
            self.allocator.registry().note_len(extent.file, appender.end());
        }
        let segment = Arc::clone(appender.segment());
        lease.appender = Some(appender);
        drop(lease);
        if sealed {
            self.allocator.registry().tidy(0);
        }
        accepted.map(|()| (extent, segment))
    }

    /// The lane's segment, or a fresh one if it has none that takes the state; and whether an old one was sealed.
    fn appender(&self, lease: &mut Lease<'_>, scope: Scope, len: u64) -> Result<(Appender, bool)> {
        match lease.appender.take() {
            Some(appender) if appender.takes(len, self.allocator.segment_size) => Ok((appender, false)),
            full => {
                let sealed = full.map(drop).is_some();
                Ok((self.create(scope, lease.number, sealed)?, sealed))
            }
        }
    }

    /// On a full disk the segment that was sealed just now may be what stands in the way.
    fn create(&self, scope: Scope, lane: u16, sealed: bool) -> Result<Appender> {
        self.allocator.create(scope, lane).or_else(|error| {
            if !sealed || !error.is_no_space() {
                return Err(error);
            }
            self.allocator.registry().tidy(0);
            self.allocator.create(scope, lane)
        })
    }

    /// Takes a lane that nobody has: one with room, one without a segment, any, in this order. If all are taken, opens
    /// another while there may be more, else waits.
    fn lease(&self, scope: Scope, len: u64) -> Lease<'_> {
        let pool = self.pool(scope);
        let mut state = pool.state.lock();
        loop {
            let rank = |lane: &Lane| match &lane.appender {
                Some(appender) => (if appender.takes(len, self.allocator.segment_size) { 0 } else { 2 }, lane.number),
                None => (1, lane.number),
            };
            if let Some(best) = (0..state.idle.len()).min_by_key(|at| state.idle.get(*at).map(rank)) {
                let Lane { number, appender } = state.idle.swap_remove(best);
                return Lease { pool, number, appender };
            }
            if state.lanes < self.allocator.lanes {
                state.lanes += 1;
                return Lease { pool, number: state.lanes, appender: None };
            }
            pool.freed.wait(&mut state);
        }
    }

    /// Seals every segment that nobody is appending to.
    pub(super) fn seal(&self) {
        self.seal_if(|_| true);
    }

    /// Seals those to which nothing more should be appended: their lanes may never be leased again.
    pub(super) fn shed(&self) {
        self.seal_if(Appender::is_worn);
    }

    fn seal_if(&self, goes: impl Fn(&Appender) -> bool) {
        for pool in [&self.exclusive, &self.shared] {
            let mut state = pool.state.lock();
            let idle = state.idle.iter_mut().filter(|lane| lane.appender.as_ref().is_some_and(&goes));
            let sealed: Vec<_> = idle.filter_map(|lane| lane.appender.take()).collect();
            drop(state);
            drop(sealed);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let lane = Lane { number: self.number, appender: self.appender.take() };
        self.pool.state.lock().idle.push(lane);
        self.pool.freed.notify_one();
    }
}
