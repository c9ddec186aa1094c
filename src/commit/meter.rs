//! What a commit costs, for whoever looks.

use std::time::{Duration, Instant};

use super::sequence::Publisher;
use crate::{
    handle::Extent,
    manifest::CheckpointKind,
    observe::{self, CommitTimes, Event, Observer},
    write::batch::Batch,
};

/// Measures the steps of one commit.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) times: CommitTimes,
    /// When the last step ended; `None` if nobody looks.
    since: Option<Instant>,
    /// How often this thread had synced something before.
    syncs: u64,
    new_states: u64,
    new_bytes: u64,
}

impl Meter {
    pub(super) fn start(observer: &Observer) -> Self {
        let since = observer.looks().then(Instant::now);
        Self { times: CommitTimes::default(), since, syncs: observe::syncs(), new_states: 0, new_bytes: 0 }
    }

    /// The time since the last step.
    pub(super) fn lap(&mut self) -> Duration {
        let now = self.since.map(|_| Instant::now());
        let since = std::mem::replace(&mut self.since, now);
        now.zip(since).map_or(Duration::ZERO, |(now, since)| now - since)
    }

    /// Counts the states that are new.
    pub(super) fn count(&mut self, new: impl Iterator<Item = Extent>) {
        if self.since.is_some() {
            for extent in new {
                self.new_states += 1;
                self.new_bytes += extent.len;
            }
        }
    }

    /// The checkpoint is committed.
    pub(super) fn tell(self, publisher: &Publisher, batch: &Batch, kind: CheckpointKind) {
        let Self { times: took, new_states, new_bytes, .. } = self;
        let (observer, checkpoint) = (publisher.volume.observer(), batch.id());
        observer.note(|| {
            let (syncs, usage) = (observe::syncs().wrapping_sub(self.syncs), publisher.registry.usage());
            Event::Committed { checkpoint, kind, new_states, new_bytes, syncs, took, usage }
        });
        let bytes = batch.relocated();
        if bytes > 0 {
            observer.note(|| Event::Relocated { checkpoint, bytes });
        }
    }
}
