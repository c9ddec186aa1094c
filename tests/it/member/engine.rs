//! An engine of a coordinator and two members on a simulated disk, which notes what it was promised.

use std::collections::{BTreeMap, BTreeSet};

use piton::{
    Checkpoint, CheckpointId, Error, Manifest, ManifestChanges, Member, Options, Part, Result, Scope, Store,
    testing::SimDisk,
};

use super::{names, options};
use crate::support::{ROOT, bytes, read_states};

pub(crate) const ROUNDS: u64 = 9;
/// A checkpoint is given up after its parts were accepted.
const ABORTED: u64 = 3;
/// A member is dismissed while its part is on its way, and another one takes its place.
const DISMISSED: u64 = 5;
const PRUNED: u64 = 7;
const MEMBERS: usize = 2;

type Content = BTreeMap<String, Vec<u8>>;

/// What the engine was promised, and what it had asked for when things went wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    committed: BTreeMap<CheckpointId, Content>,
    asked: BTreeMap<CheckpointId, Content>,
    pruned: BTreeSet<CheckpointId>,
}

pub(crate) struct Engine {
    disk: SimDisk,
    store: Store,
    members: Vec<Option<Member>>,
}

/// Small segments, so that many are filled, and records so long that logs follow each other.
fn shaped(disk: &SimDisk) -> Options {
    options(disk).inline_threshold(64).write_buffer(2048).segment_size(20_000).log_size(128 << 10)
}

impl Engine {
    pub(crate) fn start(disk: &SimDisk) -> Result<Self> {
        let store = shaped(disk).max_space_amplification(Some(1.2)).open(ROOT)?;
        Ok(Self { disk: disk.clone(), store, members: (0..MEMBERS).map(|_| None).collect() })
    }

    /// The member of this number, which joins if there is none.
    fn member(&mut self, n: usize) -> Result<Member> {
        if self.members[n].is_none() {
            let membership = self.store.admit()?;
            let joined = shaped(&self.disk).join(ROOT, &membership);
            self.members[n] = Some(joined.inspect_err(|_| drop(self.store.dismiss(&membership)))?);
        }
        Ok(self.members[n].clone().unwrap())
    }

    /// The share of a member: one name that is new each time, one that is replaced, one that goes after a while.
    fn part(&mut self, n: usize, round: u64, id: CheckpointId, base: Option<&Checkpoint>) -> Result<(Part, Content)> {
        let member = self.member(n)?;
        member.shed(&self.store.worn());
        let pending = member.begin(id, base.map(Checkpoint::id))?;
        // What is begun and abandoned lies in the same lane, and has files of its own.
        let abandoned = member.begin(id, None)?;
        abandoned.write(Scope::Shared, &bytes(round, 900))?;
        let (mut changes, mut content) = (ManifestChanges::new(), Content::new());
        let lens = [("new", 30), ("small", 1500), ("long", 6000)];
        for (k, (what, len)) in (0_u64..).zip(lens) {
            let name = if what == "new" { format!("{n}-{what}-{round}") } else { format!("{n}-{what}") };
            let bytes = bytes(id.get() * 100 + round * 10 + n as u64 * 3 + k, len);
            changes = changes.state(name.clone(), pending.write([Scope::Shared, Scope::Exclusive][n], &bytes)?);
            content.insert(name, bytes);
        }
        if round > 2 {
            changes = changes.remove_state(format!("{n}-new-{}", round - 2));
        }
        Ok((pending.prepare(changes)?, content))
    }

    pub(crate) fn round(&mut self, round: u64, notes: &mut Notes) -> Result<()> {
        let pending = self.store.begin_next()?;
        let base = self.store.latest()?;
        let mut content = base.as_ref().map_or_else(Content::new, |base| notes.content(base.id()).unwrap().clone());
        for n in 0..MEMBERS {
            if round > 2 {
                content.remove(&format!("{n}-new-{}", round - 2));
            }
            let (mut part, mut more) = self.part(n, round, pending.id(), base.as_ref())?;
            if round == DISMISSED && n == 1 {
                let gone = self.members[n].take().unwrap();
                let orphans = self.store.dismiss(gone.membership())?;
                orphans.failures.into_iter().next().map_or(Ok(()), Err)?;
                assert!(pending.accept(&part).unwrap_err().part_fault().is_some());
                drop(gone);
                (part, more) = self.part(n, round, pending.id(), base.as_ref())?;
            }
            pending.accept(&part)?;
            content.append(&mut more);
        }
        if round == ABORTED {
            return Ok(());
        }
        let own = bytes(round, 700);
        content.insert("own".to_owned(), own.clone());
        let manifest = base.as_ref().map_or_else(Manifest::builder, |base| Manifest::based_on(base.manifest()));
        let manifest =
            manifest.state("own", pending.write(Scope::Shared, &own)?).metadata("long", bytes(round, 30_000));
        let id = pending.id();
        notes.asked.insert(id, content);
        pending.commit(manifest)?;
        let content = notes.asked.remove(&id).unwrap();
        notes.committed.insert(id, content);
        if round == PRUNED {
            notes.pruned.extend(notes.committed.keys().rev().skip(2));
            self.store.prune(2)?.failures.into_iter().next().map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// What an engine does after an error: members that cannot go on are replaced, a store that says so is reopened.
    pub(crate) fn go_on(mut self, start: impl Fn(&SimDisk) -> Self) -> Self {
        if self.store.begin_next().is_err_and(|error| error.needs_reopen()) {
            let disk = self.disk.clone();
            drop(self);
            return start(&disk);
        }
        for member in &mut self.members {
            if let Some(gone) = member.take_if(|member| member.begin(CheckpointId::FIRST, None).is_err()) {
                drop(self.store.dismiss(gone.membership()));
            }
        }
        self
    }

    /// What is there is what was promised.
    pub(crate) fn check(&self, notes: &mut Notes) {
        let report = self.store.open_report();
        assert!(report.damaged.is_empty() && report.foreign.is_empty() && report.failures.is_empty(), "{report:?}");
        let ids = self.store.checkpoint_ids();
        for id in &ids {
            let content = notes.content(*id).unwrap_or_else(|| panic!("checkpoint {id} was never given to commit"));
            let read: Content = read_states(&self.store.checkpoint(*id).unwrap()).unwrap().into_iter().collect();
            assert!(read == *content, "checkpoint {id} is not what was committed");
        }
        let lost = notes.committed.keys().find(|id| !ids.contains(id) && !notes.pruned.contains(id));
        assert!(lost.is_none(), "checkpoint {lost:?} is lost, there are {ids:?}");
        let asked = std::mem::take(&mut notes.asked);
        notes.committed.extend(asked.into_iter().filter(|(id, _)| ids.contains(id)));
    }

    /// It takes a checkpoint, and then nothing is left that the gauges do not know.
    pub(crate) fn check_works(mut self, notes: &mut Notes) {
        self.round(ROUNDS + 1, notes).unwrap();
        self.check(notes);
        let disk = self.disk.clone();
        for member in self.members.drain(..).flatten() {
            assert!(self.store.dismiss(member.membership()).unwrap().failures.is_empty());
        }
        self.store.close().unwrap();
        let store = Self::start(&disk).unwrap().store;
        assert!(store.open_report().removed.is_empty(), "{:?}", store.open_report().removed);
        let files = names(&disk, "shared").len() + names(&disk, "exclusive").len();
        assert_eq!(files as u64, store.usage().physical_files);
        assert!(!names(&disk, "").iter().any(|name| name.contains("member")), "{:?}", names(&disk, ""));
    }
}

impl Notes {
    fn content(&self, id: CheckpointId) -> Option<&Content> {
        self.committed.get(&id).or_else(|| self.asked.get(&id))
    }

    /// What was asked for and is there counts, and its content is what the next checkpoint goes on from.
    pub(crate) fn settle(&mut self, engine: &Engine) {
        let ids = engine.store.checkpoint_ids();
        let asked = std::mem::take(&mut self.asked);
        self.committed.extend(asked.into_iter().filter(|(id, _)| ids.contains(id)));
    }
}

/// All rounds, past errors; returns those.
pub(crate) fn run_past_errors(mut engine: Engine, notes: &mut Notes, start: impl Fn(&SimDisk) -> Engine) -> Vec<Error> {
    let mut errors = Vec::new();
    for round in 1..=ROUNDS {
        if let Err(error) = engine.round(round, notes) {
            errors.push(error);
            engine = engine.go_on(&start);
            notes.settle(&engine);
        }
    }
    errors
}

/// All rounds, until the first error.
pub(crate) fn run(disk: &SimDisk, notes: &mut Notes) -> Result<()> {
    let mut engine = Engine::start(disk)?;
    (1..=ROUNDS).try_for_each(|round| engine.round(round, notes))
}
