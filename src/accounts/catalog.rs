//! Which checkpoints are published, which ids were used, and what is known of each. Pure: no lock, no file.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    lives::Number,
    retention::{Candidate, Facts, Retention, Standing},
};
use crate::{
    error::{Cause, Error, Result},
    format::record::{RolledBack, is_rolled_back},
    id::CheckpointId,
    manifest::CheckpointKind,
    outcome::{ExternalizedCheckpointCleanup, JobOutcome},
};

#[derive(Debug)]
pub(crate) struct Catalog {
    published: BTreeMap<CheckpointId, Published>,
    damaged: BTreeMap<CheckpointId, Error>,
    /// Published, and nobody knows what they refer to: their records are lost.
    unknown: BTreeMap<CheckpointId, Error>,
    /// Records that are lost, and with them perhaps checkpoints of which not even the id is known.
    lost: Option<Error>,
    rolled_back: RolledBack,
    /// The highest id that was ever begun or found.
    id_floor: u64,
    /// The ids above every committed one that attempts of this open have had.
    begun: BTreeSet<CheckpointId>,
    /// Those of the attempts that have not ended. Savepoints among them may still come below committed ones.
    pending: BTreeSet<CheckpointId>,
    /// The highest id that was ever committed, as far as is known; its checkpoint may be gone.
    committed: u64,
}

/// A checkpoint that can be seen.
#[derive(Clone, Copy, Debug)]
struct Published {
    /// Its place in the line; none if nobody knows what it refers to.
    number: Option<Number>,
    facts: Facts,
}

impl Catalog {
    pub(super) fn new(id_floor: u64, rolled_back: RolledBack) -> Self {
        Self {
            published: BTreeMap::new(),
            damaged: BTreeMap::new(),
            unknown: BTreeMap::new(),
            lost: None,
            rolled_back,
            id_floor,
            begun: BTreeSet::new(),
            pending: BTreeSet::new(),
            committed: id_floor,
        }
    }

    /// The highest id that was ever committed, as far as is known.
    pub(crate) fn newest_committed(&self) -> Option<CheckpointId> {
        CheckpointId::new(self.committed)
    }

    /// Uses up an id.
    pub(super) fn begin(&mut self, id: CheckpointId) -> Result<()> {
        if self.published.contains_key(&id) {
            return Err(Error::conflict(format!("begin checkpoint {id}"), id));
        }
        if id.get() <= self.committed {
            let why = format!("ids are never used again, and all up to {} were; take begin_next()", self.id_floor);
            return Err(Error::invalid(format!("begin checkpoint {id}"), why));
        }
        // Several may be begun in any order, until one of them is committed.
        if !self.begun.insert(id) {
            return Err(Error::new(format!("begin checkpoint {id}"), Cause::Begun(id)));
        }
        self.pending.insert(id);
        self.id_floor = self.id_floor.max(id.get());
        Ok(())
    }

    /// Fails unless the id is above every one that was ever committed. A savepoint that was begun before holds nothing up, and
    /// may come later.
    pub(crate) fn check_new(&self, id: CheckpointId, kind: CheckpointKind, operation: &str) -> Result<()> {
        if self.published.contains_key(&id) {
            return Err(Error::conflict(operation, id));
        }
        if id.get() <= self.committed && kind != CheckpointKind::Savepoint {
            let why = format!("checkpoint {} was committed already, and ids only grow", self.committed);
            return Err(Error::invalid(operation, why));
        }
        Ok(())
    }

    /// A checkpoint is there: no id up to its own can be begun any more.
    pub(super) fn publish(&mut self, id: CheckpointId, number: Option<Number>, facts: Facts) {
        self.published.insert(id, Published { number, facts });
        self.committed = self.committed.max(id.get());
        self.id_floor = self.id_floor.max(id.get());
        let committed = CheckpointId::new(self.committed).and_then(CheckpointId::next);
        self.begun = committed.map_or_else(BTreeSet::new, |next| self.begun.split_off(&next));
    }

    /// An attempt has ended.
    pub(super) fn end(&mut self, id: CheckpointId) {
        self.pending.remove(&id);
    }

    /// The place of a published checkpoint in the line, if it has one.
    pub(super) fn number(&self, id: CheckpointId) -> Option<Number> {
        self.published.get(&id)?.number
    }

    /// Nobody knows what a published checkpoint refers to.
    pub(crate) fn mark_unknown(&mut self, id: CheckpointId, why: Error) {
        self.unknown.insert(id, why);
    }

    /// Records are lost.
    pub(crate) fn mark_lost(&mut self, why: Error) {
        self.lost.get_or_insert(why);
    }

    /// These are gone for good; returns their places in the line.
    pub(super) fn forget(&mut self, ids: &[CheckpointId]) -> Vec<Number> {
        for id in ids {
            self.damaged.remove(id);
            self.unknown.remove(id);
        }
        ids.iter().filter_map(|id| self.published.remove(id)?.number).collect()
    }

    /// Remembers that the checkpoints at these places of the line are damaged. Returns those that were not known to be so
    /// before.
    pub(super) fn mark_numbers_damaged(&mut self, names: impl Fn(Number) -> bool, error: &Error) -> Vec<CheckpointId> {
        let of_them = self.published.iter().filter(|(_, published)| published.number.is_some_and(&names));
        let of_them: Vec<_> = of_them.map(|(id, _)| *id).collect();
        let is_new = |id: &CheckpointId| self.damaged.insert(*id, error.clone()).is_none();
        of_them.into_iter().filter(is_new).collect()
    }

    fn standing(&self, id: CheckpointId) -> Standing {
        match self.damaged.get(&id) {
            Some(error) if error.is_corrupt() => Standing::Damaged,
            Some(_) => Standing::Unreadable,
            None if self.is_rolled_back(id) => Standing::RolledBack,
            None => Standing::Valid,
        }
    }

    pub(crate) fn is_published(&self, id: CheckpointId) -> bool {
        self.published.contains_key(&id)
    }

    /// Remembers that a checkpoint is damaged, and says whether that was not known before. One that was forgotten meanwhile is
    /// not.
    pub(crate) fn mark_damaged(&mut self, id: CheckpointId, error: Error) -> bool {
        self.published.contains_key(&id) && self.damaged.insert(id, error).is_none()
    }

    /// What is wrong with a checkpoint, as far as is known.
    pub(crate) fn damage(&self, id: CheckpointId) -> Option<Error> {
        self.damaged.get(&id).cloned()
    }

    /// The place in the line of the checkpoint that an engine would go on from.
    pub(super) fn newest_valid(&self) -> Option<Number> {
        let mut candidates = self.published.iter().rev();
        candidates.find(|(id, _)| self.standing(**id) == Standing::Valid).and_then(|(_, published)| published.number)
    }

    /// Whether a checkpoint was rolled back.
    pub(crate) fn is_rolled_back(&self, id: CheckpointId) -> bool {
        is_rolled_back(&self.rolled_back, id)
    }

    /// What to remember so that this checkpoint is the newest, until there is another one.
    pub(crate) fn roll_back_to(&self, id: CheckpointId) -> Result<RolledBack> {
        let operation = || format!("roll back to checkpoint {id}");
        if !self.published.contains_key(&id) {
            return Err(Error::not_found(operation(), "there is no such checkpoint"));
        }
        let (to, from) = (id.get(), self.committed.max(id.get()));
        // An earlier one that skips it is taken back: what comes before it there is what it was built on. The others stay, as
        // long as there may be anything in them.
        let skips = |range: &(u64, u64), id: &CheckpointId| range.0 < id.get() && id.get() <= range.1;
        let may_come = |range: &(u64, u64)| self.pending.iter().any(|id| skips(range, id));
        let matters = |range: &&(u64, u64)| {
            !skips(range, &id) && (self.published.keys().any(|id| skips(range, id)) || may_come(range))
        };
        let mut ranges: Vec<_> =
            self.rolled_back.iter().filter(matters).copied().chain((to < from).then_some((to, from))).collect();
        ranges.sort_unstable();
        ranges.dedup();
        Ok(ranges)
    }

    pub(crate) fn note_rolled_back(&mut self, ranges: RolledBack) {
        self.rolled_back = ranges;
    }

    /// A checkpoint is pinned from now on, or is not.
    pub(crate) fn note_pinned(&mut self, id: CheckpointId, pinned: bool) {
        if let Some(published) = self.published.get_mut(&id) {
            published.facts.pinned = pinned;
        }
    }

    /// Whether a published checkpoint is pinned.
    pub(crate) fn is_pinned(&self, id: CheckpointId) -> bool {
        self.published.get(&id).is_some_and(|published| published.facts.pinned)
    }

    /// The checkpoints that count as kept, ascending, as far as is known; savepoints, if nothing else is valid.
    pub(crate) fn counted(&self) -> Vec<CheckpointId> {
        let valid: Vec<_> = self.candidates().filter(|candidate| candidate.standing == Standing::Valid).collect();
        let any = valid.iter().any(Candidate::counts);
        valid.into_iter().filter(|candidate| !any || candidate.counts()).map(|candidate| candidate.id).collect()
    }

    fn candidates(&self) -> impl Iterator<Item = Candidate> {
        self.published.iter().map(|(id, published)| Candidate {
            id: *id,
            standing: self.standing(*id),
            facts: published.facts,
        })
    }

    /// Which checkpoints retention gives up once another one is published.
    pub(crate) fn plan_with(&self, retention: Retention, id: CheckpointId, facts: Facts) -> Vec<CheckpointId> {
        let standing = if self.is_rolled_back(id) { Standing::RolledBack } else { Standing::Valid };
        let mut all: Vec<_> = self.candidates().collect();
        let place = all.partition_point(|candidate| candidate.id < id);
        all.insert(place, Candidate { id, standing, facts });
        // It was asked for just now.
        retention.plan(&all).into_iter().filter(|gone| *gone != id).collect()
    }

    /// Which checkpoints retention gives up. Some are known to be unreadable just now.
    pub(crate) fn plan(&self, retention: Retention, unreadable: &BTreeSet<CheckpointId>) -> Vec<CheckpointId> {
        let seen = |candidate: Candidate| match candidate.standing {
            Standing::Valid if unreadable.contains(&candidate.id) => {
                Candidate { standing: Standing::Unreadable, ..candidate }
            }
            _ => candidate,
        };
        retention.plan(&self.candidates().map(seen).collect::<Vec<_>>())
    }

    /// Which checkpoints go with their job.
    pub(crate) fn end_of_job(&self, cleanup: ExternalizedCheckpointCleanup, outcome: JobOutcome) -> Vec<CheckpointId> {
        let goes = |candidate: &Candidate| {
            !self.unknown.contains_key(&candidate.id)
                && !candidate.facts.pinned
                && !cleanup.keeps(outcome, candidate.facts.kind)
        };
        self.candidates().filter(goes).map(|candidate| candidate.id).collect()
    }

    /// Why data that nobody refers to is not looked for, if it is not: nobody knows what this checkpoint refers to.
    pub(crate) fn unknown(&self) -> Option<Error> {
        self.lost.clone().or_else(|| self.unknown.first_key_value().map(|(_, why)| why.clone()))
    }

    /// Whether there is, or may be, a checkpoint of which nobody knows what it refers to.
    pub(crate) fn has_unknown(&self) -> bool {
        !self.unknown.is_empty() || self.lost.is_some()
    }

    /// All published ids, ascending, damaged ones included.
    pub(crate) fn ids(&self) -> Vec<CheckpointId> {
        self.published.keys().copied().collect()
    }

    /// All published ids, ascending, each with whether it was rolled back.
    pub(crate) fn ids_and_roll_backs(&self) -> Vec<(CheckpointId, bool)> {
        self.published.keys().map(|id| (*id, self.is_rolled_back(*id))).collect()
    }

    /// The epochs of all published checkpoints that could be read, by id.
    pub(crate) fn epochs(&self) -> Vec<(CheckpointId, u64)> {
        let known = self.published.iter().filter(|(id, _)| !self.unknown.contains_key(*id));
        known.map(|(id, published)| (*id, published.facts.epoch)).collect()
    }

    /// The pinned checkpoints, ascending.
    pub(crate) fn pinned(&self) -> Vec<CheckpointId> {
        self.published.iter().filter(|(_, published)| published.facts.pinned).map(|(id, _)| *id).collect()
    }

    /// The checkpoints that are known to be damaged, ascending, and why.
    pub(crate) fn damaged(&self) -> Vec<(CheckpointId, Error)> {
        self.damaged.iter().map(|(id, error)| (*id, error.clone())).collect()
    }

    /// The first id that no attempt has had.
    pub(crate) fn next_id(&self) -> Result<CheckpointId> {
        let next = CheckpointId::new(self.id_floor.saturating_add(1));
        next.ok_or_else(|| {
            Error::invalid("take the next id", format!("all ids are used, {} is the last one", self.id_floor))
        })
    }

    /// Every id up to this one was used.
    pub(crate) fn id_floor(&self) -> Option<CheckpointId> {
        CheckpointId::new(self.id_floor)
    }
}
