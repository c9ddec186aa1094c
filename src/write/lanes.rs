//! Segments that many states share, and who may append to which of them.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    allocator::Allocator,
    pool::{Lease, Pool, Segments},
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
    exclusive: Pool<Appender>,
    shared: Pool<Appender>,
}

impl Segments for Appender {
    type Id = FileId;

    fn segment_id(&self) -> FileId {
        self.segment().id()
    }
}

impl Lanes {
    pub(super) fn new(allocator: &Arc<Allocator>) -> Self {
        Self { allocator: Arc::clone(allocator), exclusive: Pool::new(), shared: Pool::new() }
    }

    fn pool(&self, scope: Scope) -> &Pool<Appender> {
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
        lease.segment = Some(appender);
        drop(lease);
        if sealed {
            let _ = self.allocator.registry().tidy(0);
        }
        accepted.map(|()| (extent, segment))
    }

    /// The lane's segment, or a fresh one if it has none that takes the state; and whether an old one was sealed.
    fn appender(&self, lease: &mut Lease<'_, Appender>, scope: Scope, len: u64) -> Result<(Appender, bool)> {
        match lease.segment.take() {
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

    /// Takes an idle lane: one with room, one without a segment, any, in this order.
    fn lease(&self, scope: Scope, len: u64) -> Lease<'_, Appender> {
        self.pool(scope).lease(self.allocator.lanes, |lane| match &lane.segment {
            Some(appender) => (if appender.takes(len, self.allocator.segment_size) { 0 } else { 2 }, lane.number),
            None => (1, lane.number),
        })
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
                self.pool(scope).seal_all(&files);
            }
        }
    }

    fn seal_if(&self, goes: impl Fn(&Appender) -> bool) {
        self.exclusive.seal_if(&goes);
        self.shared.seal_if(&goes);
    }
}
