//! Which checkpoints are there, and what is known of each: the catalog behind the lock.

use std::collections::BTreeSet;

use super::registry::Registry;
use crate::{
    accounts::{
        catalog::Catalog,
        retention::{Facts, Retention},
    },
    error::{Error, Result},
    format::record::RolledBack,
    id::CheckpointId,
    manifest::CheckpointKind,
    observe::Event,
    outcome::{ExternalizedCheckpointCleanup, JobOutcome},
};

/// Which checkpoints are to be forgotten. It is decided when nobody else can publish, pin, or roll back.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    Nothing,
    /// This one, if it is there.
    One(CheckpointId),
    /// Every one above this one.
    Above(CheckpointId),
    /// Those that retention gives up, if these cannot be read just now.
    Retention(Retention, BTreeSet<CheckpointId>),
    /// Those that go with their job.
    EndOfJob(ExternalizedCheckpointCleanup, JobOutcome),
}

/// Whether a checkpoint is there, and can be used.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) damage: Option<Error>,
    pub(crate) rolled_back: bool,
}

impl Registry {
    fn catalog<T>(&self, act: impl FnOnce(&mut Catalog) -> T) -> T {
        act(&mut self.accounts.lock().catalog)
    }

    /// What is known of a published checkpoint.
    pub(crate) fn status(&self, id: CheckpointId) -> Option<Status> {
        self.catalog(|catalog| {
            let status = Status { damage: catalog.damage(id), rolled_back: catalog.is_rolled_back(id) };
            catalog.is_published(id).then_some(status)
        })
    }

    pub(crate) fn is_published(&self, id: CheckpointId) -> bool {
        self.catalog(|catalog| catalog.is_published(id))
    }

    /// Fails unless the id is above every one that was ever committed, or that of a savepoint that was begun before.
    pub(crate) fn check_new(&self, id: CheckpointId, kind: CheckpointKind, operation: &str) -> Result<()> {
        self.catalog(|catalog| catalog.check_new(id, kind, operation))
    }

    /// The first id that no attempt has had.
    pub(crate) fn next_id(&self) -> Result<CheckpointId> {
        self.catalog(|catalog| catalog.next_id())
    }

    /// Every id up to this one was used.
    pub(crate) fn id_floor(&self) -> Option<CheckpointId> {
        self.catalog(|catalog| catalog.id_floor())
    }

    /// The highest id that was ever committed, as far as is known.
    pub(crate) fn newest_committed(&self) -> Option<CheckpointId> {
        self.catalog(|catalog| catalog.newest_committed())
    }

    /// All published ids, ascending, damaged ones included.
    pub(crate) fn ids(&self) -> Vec<CheckpointId> {
        self.catalog(|catalog| catalog.ids())
    }

    /// All published ids, ascending, each with whether it was rolled back.
    pub(crate) fn ids_and_roll_backs(&self) -> Vec<(CheckpointId, bool)> {
        self.catalog(|catalog| catalog.ids_and_roll_backs())
    }

    /// The epochs of all published checkpoints that could be read, by id.
    pub(crate) fn epochs(&self) -> Vec<(CheckpointId, u64)> {
        self.catalog(|catalog| catalog.epochs())
    }

    /// The pinned checkpoints, ascending.
    pub(crate) fn pinned(&self) -> Vec<CheckpointId> {
        self.catalog(|catalog| catalog.pinned())
    }

    /// The checkpoints that count as kept, ascending, as far as is known; savepoints, if nothing else is valid.
    pub(crate) fn counted(&self) -> Vec<CheckpointId> {
        self.catalog(|catalog| catalog.counted())
    }

    /// The checkpoints that are known to be damaged, ascending, and why.
    pub(crate) fn damaged(&self) -> Vec<(CheckpointId, Error)> {
        self.catalog(|catalog| catalog.damaged())
    }

    /// Remembers that a checkpoint is damaged. One that was forgotten meanwhile is not.
    pub(crate) fn mark_damaged(&self, id: CheckpointId, error: &Error) {
        if self.catalog(|catalog| catalog.mark_damaged(id, error.clone())) {
            self.note_damaged(&[id], error);
        }
    }

    /// Tells that these were found to be damaged.
    pub(super) fn note_damaged(&self, ids: &[CheckpointId], error: &Error) {
        for id in ids {
            self.volume.observer().note(|| Event::Damaged { checkpoint: *id, error: error.clone() });
        }
    }

    /// Why data that nobody refers to is not looked for, if it is not: nobody knows what this checkpoint refers to.
    pub(crate) fn unknown(&self) -> Option<Error> {
        self.catalog(|catalog| catalog.unknown())
    }

    /// A checkpoint is pinned from now on, or is not.
    pub(crate) fn note_pinned(&self, id: CheckpointId, pinned: bool) {
        self.catalog(|catalog| catalog.note_pinned(id, pinned));
    }

    /// Whether a published checkpoint is pinned.
    pub(crate) fn is_pinned(&self, id: CheckpointId) -> bool {
        self.catalog(|catalog| catalog.is_pinned(id))
    }

    /// Records are lost: nobody knows what they referred to.
    pub(crate) fn mark_lost(&self, why: Error) {
        self.catalog(|catalog| catalog.mark_lost(why));
    }

    /// The checkpoints that retention gives up once this one is published, ascending.
    pub(crate) fn planned_with(&self, retention: Retention, id: CheckpointId, facts: Facts) -> Vec<CheckpointId> {
        self.catalog(|catalog| catalog.plan_with(retention, id, facts))
    }

    /// What to remember so that this checkpoint is the newest, until there is another one.
    pub(crate) fn roll_back_to(&self, id: CheckpointId) -> Result<RolledBack> {
        self.catalog(|catalog| catalog.roll_back_to(id))
    }

    pub(crate) fn note_rolled_back(&self, ranges: RolledBack) {
        self.catalog(|catalog| catalog.note_rolled_back(ranges));
    }

    /// The checkpoints that a plan says are to be forgotten, ascending.
    pub(crate) fn planned(&self, plan: &Plan) -> Vec<CheckpointId> {
        self.catalog(|catalog| match plan {
            Plan::Nothing => Vec::new(),
            Plan::One(id) => Some(*id).filter(|id| catalog.is_published(*id)).into_iter().collect(),
            Plan::Above(id) => catalog.ids().into_iter().filter(|above| above > id).collect(),
            Plan::Retention(retention, unreadable) => catalog.plan(*retention, unreadable),
            Plan::EndOfJob(cleanup, outcome) => catalog.end_of_job(*cleanup, *outcome),
        })
    }
}
