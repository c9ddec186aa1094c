//! Segments that many states share, and who may append to which of them.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::{Condvar, Mutex};

use super::{
    allocator::Allocator,
    segment::{Appender, Payload, Segment},
};
use crate::{
    error::Result,
    handle::Extent,
    id::{CheckpointId, FileId, Scope},
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
    /// The segments that leased lanes had when they were leased.
    leased: BTreeSet<FileId>,
    /// Segments to be sealed, leased or not.
    unwanted: BTreeSet<FileId>,
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
    /// The segment that it had.
    taken: Option<FileId>,
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
            let _ = self.allocator.registry().tidy(0);
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
            let _ = self.allocator.registry().tidy(0);
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
                let taken = appender.as_ref().map(|appender| appender.segment().id());
                state.leased.extend(taken);
                return Lease { pool, number, appender, taken };
            }
            if state.lanes < self.allocator.lanes {
                state.lanes += 1;
                return Lease { pool, number: state.lanes, appender: None, taken: None };
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

    /// Seals these segments, those that are being appended to as soon as that is done: nobody ever appends to them after
    /// this.
    pub(super) fn seal_files(&self, files: &BTreeSet<FileId>) {
        for scope in [Scope::Exclusive, Scope::Shared] {
            let files: BTreeSet<_> = files.iter().copied().filter(|file| file.scope == scope).collect();
            if !files.is_empty() {
                self.seal_in(self.pool(scope), &files);
            }
        }
    }

    fn seal_in(&self, pool: &Pool, files: &BTreeSet<FileId>) {
        pool.state.lock().unwanted.extend(files);
        self.seal_if(|appender| files.contains(&appender.segment().id()));
        let mut state = pool.state.lock();
        while !state.leased.is_disjoint(files) {
            pool.freed.wait(&mut state);
        }
        state.unwanted.retain(|file| !files.contains(file));
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
        let mut state = self.pool.state.lock();
        let unwanted = |appender: &Appender| state.unwanted.contains(&appender.segment().id());
        let (sealed, appender) = match self.appender.take() {
            Some(appender) if unwanted(&appender) => (Some(appender), None),
            appender => (None, appender),
        };
        if sealed.is_some() {
            // Whoever waits for the segment waits until it is sealed; nobody can lease the lane before.
            drop(state);
            drop(sealed);
            state = self.pool.state.lock();
        }
        if let Some(taken) = self.taken {
            state.leased.remove(&taken);
        }
        state.idle.push(Lane { number: self.number, appender });
        let awaited = !state.unwanted.is_empty();
        drop(state);
        if awaited {
            // Not only writers wait then, and any of them may be woken by one notification.
            self.pool.freed.notify_all();
        } else {
            self.pool.freed.notify_one();
        }
    }
}
