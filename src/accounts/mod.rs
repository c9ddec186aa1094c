//! All that is known of checkpoints and of the bytes that they refer to. Pure: no lock, no file, no clock.
//!
//! # Which bytes are alive
//!
//! Checkpoints form a [`line`], in the order in which they were published. A run of bytes (an *extent*) is born with the
//! first checkpoint that names it and dies with the first later one that does not: that is a [life](lives). An extent
//! that is named again begins another life. So a checkpoint that is published costs what it changes against the one before,
//! and one that leaves the line costs what changed between its neighbours. Nothing of this is on disk: `recover` builds it
//! from the manifest log.
//!
//! A checkpoint stays in the line while anybody holds it: its record, until it is forgotten; an open
//! [`Checkpoint`](crate::Checkpoint); a pending checkpoint that keeps what it names. Those are one number each. Beside
//! the line a pending checkpoint refers to single extents: those that it wrote, and those that it keeps for itself.
//! An extent goes when it has no life and nobody refers to it.
//!
//! What takes a checkpoint's place in the line is compared by names. A name whose bytes are not there, or of which two
//! manifests say different things, counts for nothing, neither when it comes nor when it goes; such a checkpoint is not
//! *whole*, and what is to be kept of it is looked at state by state.
//!
//! # The life of a data file
//!
//! 1. *open*: it is known before the disk has it. It is appended to, and stays also without live states;
//! 2. *sealed*: nothing is appended any more: it is full, one state has it for itself, a write or a sync failed, it is full
//!    of garbage, or the store is closed. What was found on disk is sealed;
//! 3. *marked*, perhaps: its live states should be written anew, so that it can go;
//! 4. *dead*: sealed and without live states. It is removed, and counted as an orphan until it is.
//!
//! | file | knows |
//! |---|---|
//! | `catalog` | which checkpoints are published, which ids were used |
//! | `retention` | which of them to keep |
//! | `line` | which checkpoints anybody holds, and what was born and died with each |
//! | `lives` | one extent: who names it, since when |
//! | `holders` | who holds which checkpoints and extents |
//! | `changes` | how one checkpoint differs from the one before |
//! | `extents` | which extents may be referred to, and by whom |
//! | `file`, `files`, `gauges` | data files: what lives in them, what they take; sums of that |
//! | `members` | which members there are, and which files are theirs still |
//! | `space` | which files must go so that the store stays small |

pub(crate) mod catalog;
mod changes;
mod extents;
mod file;
mod files;
pub(crate) mod gauges;
mod holders;
mod line;
mod lives;
mod members;
pub(crate) mod retention;
pub(crate) mod space;

use changes::Between;
pub(crate) use changes::Changes;
pub(crate) use extents::{Found, Kind};
pub(crate) use file::FileRecord;
pub(crate) use files::Holes;
pub(crate) use holders::Holder;
pub(crate) use line::Base;
pub(crate) use lives::Number;
pub(crate) use members::{Reach, Reaches, Refused};

use std::collections::{BTreeMap, BTreeSet, HashMap};

use self::{
    catalog::Catalog,
    files::Files,
    holders::Held,
    line::{At, Extents as _, Line},
    members::Members,
    retention::Facts,
    space::SpacePolicy,
};
use crate::{
    error::{Error, Result},
    format::record::RolledBack,
    handle::{Extent, StateHandle},
    id::{CheckpointId, FileId},
    manifest::{Lender, ManifestContent, StateChange},
    report::Usage,
};

/// So many extents that were found are sorted by their places at once.
const AT_ONCE: usize = 1 << 12;

/// All that is known of an open store.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// That of the open store.
    generation: u64,
    pub(crate) files: Files,
    pub(crate) catalog: Catalog,
    line: Line,
    held: HashMap<Holder, Held>,
    members: Members,
    /// Extents that were found to be damaged, and how; some of them may be gone.
    bad: BTreeMap<At, Error>,
    lenders: Vec<Lending>,
    holders: u64,
    /// Bytes of states, since the store was opened.
    written: u64,
    relocated: u64,
}

/// A lender of a checkpoint that was found on disk.
#[derive(Debug)]
struct Lending {
    id: CheckpointId,
    lender: Lender,
    /// Some borrowed file could not be looked at, so it may be there.
    may_be_there: bool,
}

/// Contents of checkpoints that are gone: to be dropped where no lock is held.
pub(crate) type Gone = Vec<ManifestContent>;

impl Accounts {
    /// Knows of no checkpoint yet, and that every id up to the floor was used.
    pub(crate) fn new(policy: SpacePolicy, generation: u64, (id_floor, rolled_back): (u64, RolledBack)) -> Self {
        Self {
            generation,
            files: Files::new(policy),
            catalog: Catalog::new(id_floor, rolled_back),
            line: Line::default(),
            held: HashMap::new(),
            members: Members::default(),
            bad: BTreeMap::new(),
            lenders: Vec::new(),
            holders: 0,
            written: 0,
            relocated: 0,
        }
    }

    /// While nobody knows what some checkpoint refers to, files that are older than this open stay as they are.
    pub(crate) fn may_touch(&self) -> impl Fn(FileId) -> bool + use<> {
        let (all, generation) = (!self.catalog.has_unknown(), self.generation);
        move |file| all || file.generation == generation
    }

    fn new_holder(&mut self) -> Holder {
        self.holders += 1;
        let holder = Holder(self.holders);
        self.held.insert(holder, Held::default());
        holder
    }

    /// Starts an attempt at a checkpoint: with this id, or with the next one.
    pub(crate) fn begin(&mut self, id: Option<CheckpointId>) -> Result<(CheckpointId, Holder)> {
        let id = id.map_or_else(|| self.catalog.next_id(), Ok)?;
        self.catalog.begin(id)?;
        let holder = self.new_holder();
        self.held.entry(holder).or_default().attempt = Some(id);
        Ok((id, holder))
    }

    /// Starts a part of a member, which has no checkpoints of its own.
    pub(crate) fn begin_part(&mut self) -> Holder {
        self.new_holder()
    }

    /// Ends a part of a member: the store refers to its states, in these files, from now on. Returns which files the member
    /// still appends to, or has states in of parts in the making.
    pub(crate) fn hand_over(&mut self, holder: Holder, files: impl Iterator<Item = FileId>) -> BTreeSet<FileId> {
        files.for_each(|file| self.files.change(file, FileRecord::hand_over));
        // A part holds no checkpoint.
        let _ = self.release(holder);
        self.files.all().collect()
    }

    /// Marks a file: nothing more should be appended to it.
    pub(crate) fn shed(&mut self, file: FileId) {
        self.files.change(file, |record| record.marked = true);
    }

    /// Keeps a published checkpoint for a reader.
    pub(crate) fn open(&mut self, id: CheckpointId) -> Option<Holder> {
        let holder = self.catalog.is_published(id).then(|| self.new_holder())?;
        // Of one that cannot be read nobody knows what to keep.
        if let Some(number) = self.catalog.number(id) {
            self.hold(holder, number);
        }
        Some(holder)
    }

    /// Keeps the newest checkpoint of the line for a pending one, which is about to be compared with it.
    pub(crate) fn hold_newest(&mut self, holder: Holder) -> Base {
        let mut base = self.line.newest();
        base.whole &= !self.has_bad() && !self.borrows();
        self.hold(holder, base.number);
        base
    }

    pub(crate) fn newest_number(&self) -> Number {
        self.line.newest_number()
    }

    fn hold(&mut self, holder: Holder, number: Number) {
        let held = self.held.entry(holder).or_default();
        if !held.checkpoints.contains(&number) && self.line.hold(number) {
            held.checkpoints.push(number);
        }
    }

    /// A reader or a pending checkpoint is over: what nobody else refers to is dead. Again it changes nothing.
    pub(crate) fn release(&mut self, holder: Holder) -> Gone {
        let Some(held) = self.held.remove(&holder) else { return Gone::new() };
        if let Some(id) = held.attempt {
            self.catalog.end(id);
        }
        let mut extents = self.files.visit();
        for at in held.extents.each() {
            extents.at(at, |record| record.private = record.private.saturating_sub(1));
        }
        drop(extents);
        self.release_all(held.checkpoints)
    }

    fn release_all(&mut self, numbers: Vec<Number>) -> Gone {
        let mut extents = self.files.visit();
        numbers.into_iter().filter_map(|number| self.line.release(number, &mut extents)).collect()
    }

    /// Enters a checkpoint whose manifest was just published; whoever did so holds all that it names. `changes` are those
    /// since the newest checkpoint of the line.
    pub(crate) fn publish(&mut self, id: CheckpointId, facts: Facts, content: ManifestContent, changes: &Changes) {
        let number = self.line.publish(content, true, changes, &mut self.files.visit());
        self.catalog.publish(id, Some(number), facts);
        // Damage that was found after the comparison.
        let named =
            self.bad.iter().find(|(at, _)| self.files.record(**at).is_some_and(|record| record.is_named_by(number)));
        if let Some((_, error)) = named {
            self.catalog.mark_damaged(id, error.clone());
        }
    }

    /// Enters a checkpoint that was found on disk. `found` answers what is known of a data file, `some_came` whether the
    /// manifest has origins. Returns the first state that contradicts an older manifest.
    pub(crate) fn enter<'a>(
        &mut self,
        id: CheckpointId,
        facts: Facts,
        (content, whole): (ManifestContent, bool),
        some_came: bool,
        found: impl Fn(FileId) -> Option<Found<'a>>,
    ) -> Option<Extent> {
        let base = self.line.newest();
        // Unchanged states need no check if the older checkpoint is whole and no file has an origin that may differ.
        let all = !base.whole || some_came || !self.files.all_written_here();
        let (mut some, mut contradicted, mut added) = (Vec::new(), None, 0);
        let mut look = |handle: &StateHandle| {
            some.extend(handle.extent());
            if some.len() == AT_ONCE {
                contradicted = contradicted.or(self.enter_some(&mut some, &found));
            }
        };
        content.state_changes(&base.content, |change| {
            let StateChange::Added(handle) = change else { return };
            added += 1;
            look(handle);
        });
        if all {
            content.handles().for_each(look);
        }
        let contradicted = contradicted.or(self.enter_some(&mut some, &found));
        let whole = whole && contradicted.is_none();
        let changes = Between { older: &base.content, newer: &content };
        // What has little in common with the one before would only be there twice.
        let is_alike = added == 0 || content.handles().nth(2 * added).is_some();
        let kept = if is_alike { content.sharing(&base.content) } else { content.clone() };
        let number = self.line.publish(kept, whole, &changes, &mut self.files.visit());
        self.catalog.publish(id, Some(number), facts);
        contradicted
    }

    /// Adds extents of a checkpoint that was found on disk, file by file. Returns one that contradicts an older manifest.
    fn enter_some<'a>(
        &mut self,
        some: &mut Vec<Extent>,
        found: impl Fn(FileId) -> Option<Found<'a>>,
    ) -> Option<Extent> {
        some.sort_unstable_by_key(|extent| (extent.file, extent.offset));
        let mut contradicted = None;
        for of_one in some.chunk_by(|one, other| one.file == other.file) {
            if let Some(first) = of_one.first()
                && let Some(found) = found(first.file)
            {
                contradicted = contradicted.or(self.add_found(first.file, of_one, found));
            }
        }
        some.clear();
        contradicted
    }

    /// Enters a checkpoint that cannot be used and of which nothing is known that it refers to.
    pub(crate) fn enter_alone(&mut self, id: CheckpointId, facts: Facts, damage: Error) {
        self.catalog.publish(id, None, facts);
        self.catalog.mark_damaged(id, damage);
    }

    /// Remembers a lender of a checkpoint, and whether one of its files may be there although it cannot be looked at.
    pub(crate) fn note_lender(&mut self, id: CheckpointId, lender: &Lender, may_be_there: bool) {
        self.lenders.push(Lending { id, lender: lender.clone(), may_be_there });
    }

    /// Every lender that a checkpoint names, also if its files are gone.
    pub(crate) fn lenders(&self) -> BTreeSet<Lender> {
        self.lenders_if(|_| true)
    }

    /// The lenders whose files are there, or may be.
    pub(crate) fn needed_lenders(&self) -> BTreeSet<Lender> {
        self.lenders_if(|lending| lending.may_be_there)
    }

    fn lenders_if(&self, is_meant: impl Fn(&Lending) -> bool) -> BTreeSet<Lender> {
        let found = self.lenders.iter().filter(|lending| self.catalog.is_published(lending.id) && is_meant(lending));
        found.map(|lending| &lending.lender).chain(self.files.lenders()).cloned().collect()
    }

    /// These checkpoints are gone for good: what nobody else refers to is dead.
    pub(crate) fn forget(&mut self, ids: &[CheckpointId]) -> Gone {
        let numbers = self.catalog.forget(ids);
        self.release_all(numbers)
    }

    /// Whether anything here is somebody else's.
    pub(crate) fn borrows(&self) -> bool {
        self.files.totals().borrowed_files > 0
    }

    /// What the store holds and takes.
    pub(crate) fn usage(&self) -> Usage {
        let totals = self.files.totals();
        Usage {
            logical_files: totals.logical_files,
            logical_bytes: totals.logical_bytes,
            physical_files: totals.physical_files,
            physical_bytes: totals.physical_bytes,
            gathered_bytes: 0,
            allocated_bytes: totals.allocated_bytes,
            dead_bytes: totals.dead_bytes,
            orphan_bytes: self.files.dead_bytes(),
            open_files: totals.open_files,
            marked_files: totals.marked_files,
            borrowed_files: totals.borrowed_files,
            borrowed_bytes: totals.borrowed_bytes,
            written_bytes: self.written,
            relocated_bytes: self.relocated,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        handle::StateHandle,
        id::{Scope, StoreId},
        manifest::{CheckpointKind, ManifestContent},
        options::Options,
    };

    const LEN: u64 = 8;

    fn accounts() -> Accounts {
        Accounts::new(SpacePolicy::of(&Options::new()).unwrap(), 1, (0, RolledBack::new()))
    }

    /// A few in each file.
    fn extent(n: u64) -> Extent {
        let file = FileId { scope: Scope::Shared, generation: 1, lane: 0, sequence: n / 4 };
        Extent { file, offset: 64 + (n % 4) * 64, len: LEN, crc: 1 }
    }

    fn content(named: &BTreeMap<u8, u64>) -> ManifestContent {
        let handle = |n: u64| StateHandle::file(StoreId([0; 16]), extent(n));
        let states = named.iter().map(|(name, n)| (name.to_string().into(), handle(*n))).collect();
        ManifestContent { states, ..ManifestContent::default() }
    }

    fn id(n: u64) -> CheckpointId {
        CheckpointId::new(n).unwrap()
    }

    /// The same with plain sets.
    #[derive(Default)]
    struct Model {
        /// What each that is held names: published, or kept by readers.
        held: BTreeMap<CheckpointId, (usize, BTreeMap<u8, u64>)>,
        /// What each pending checkpoint refers to by itself, and which others it keeps.
        pending: BTreeMap<u64, (CheckpointId, BTreeSet<u64>, Vec<CheckpointId>)>,
        readers: Vec<(Holder, CheckpointId)>,
    }

    impl Model {
        fn alive(&self) -> BTreeSet<u64> {
            let named = self.held.values().flat_map(|(_, named)| named.values()).copied();
            named.chain(self.pending.values().flat_map(|(_, own, _)| own).copied()).collect()
        }

        fn end(&mut self, holder: u64) {
            let (_, _, kept) = self.pending.remove(&holder).unwrap();
            for id in kept {
                self.release(id);
            }
        }

        fn release(&mut self, id: CheckpointId) {
            let (holders, _) = self.held.get_mut(&id).unwrap();
            *holders -= 1;
            if *holders == 0 {
                self.held.remove(&id);
            }
        }
    }

    fn check(accounts: &mut Accounts, model: &Model) {
        let mut alive = BTreeSet::new();
        for n in 0..400 {
            let record = accounts.files.get(extent(n).file).and_then(|file| file.extent(extent(n).offset));
            alive.extend(record.map(|_| n));
        }
        assert_eq!(alive, model.alive());
        assert_eq!(*accounts.files.totals(), accounts.files.recount());
        for (holder, id) in &model.readers {
            let named: BTreeSet<_> = model.held[id].1.values().copied().collect();
            for n in alive.iter().copied() {
                assert_eq!(accounts.refers(*holder, &extent(n)), named.contains(&n), "state {n} of {id}");
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin,
        /// Of a pending checkpoint: under this name.
        Write(prop::sample::Index),
        /// From a base, with names that get new states, others' states, or go.
        Commit {
            pending: prop::sample::Index,
            base: Option<prop::sample::Index>,
            names: Vec<(u8, u8)>,
            unlike: bool,
            fails: bool,
        },
        Abort(prop::sample::Index),
        Forget(Vec<prop::sample::Index>),
        Read(prop::sample::Index),
        Close(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let any_of = any::<prop::sample::Index>;
        let names = prop::collection::vec((0_u8..6, 0_u8..4), 0..5);
        let fails = prop::bool::weighted(0.2);
        let commit = (any_of(), prop::option::weighted(0.9, any_of()), names, any::<bool>(), fails);
        let commit = commit.prop_map(|(pending, base, names, unlike, fails)| Step::Commit {
            pending,
            base,
            names,
            unlike,
            fails,
        });
        let step = prop_oneof![
            3 => Just(Step::Begin),
            4 => any_of().prop_map(Step::Write),
            6 => commit,
            1 => any_of().prop_map(Step::Abort),
            3 => prop::collection::vec(any_of(), 1..4).prop_map(Step::Forget),
            2 => any_of().prop_map(Step::Read),
            2 => any_of().prop_map(Step::Close),
        ];
        prop::collection::vec(step, 1..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn alive_is_what_anybody_names_in_any_history_of_bases_and_in_any_order_of_ends(steps in steps()) {
            run(steps);
        }
    }

    /// The accounts beside the model.
    struct World {
        accounts: Accounts,
        model: Model,
        next_id: u64,
        next_extent: u64,
        published: Vec<CheckpointId>,
    }

    fn run(steps: Vec<Step>) {
        let (accounts, model) = (accounts(), Model::default());
        let mut world = World { accounts, model, next_id: 1, next_extent: 0, published: Vec::new() };
        for step in steps {
            world.step(step);
            check(&mut world.accounts, &world.model);
        }
    }

    impl World {
        fn pick(&self, index: prop::sample::Index) -> Option<u64> {
            let pending: Vec<_> = self.model.pending.keys().copied().collect();
            (!pending.is_empty()).then(|| *index.get(&pending))
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Begin => {
                    let (begun, holder) = self.accounts.begin(Some(id(self.next_id))).unwrap();
                    self.model.pending.insert(holder.0, (begun, BTreeSet::new(), Vec::new()));
                    self.next_id += 1;
                }
                Step::Write(pending) => {
                    let Some(holder) = self.pick(pending).filter(|_| self.next_extent < 400) else { return };
                    let new = extent(self.next_extent);
                    self.accounts.create(new.file, false);
                    self.accounts.add(Holder(holder), &new, new.offset + 64, Kind::New);
                    self.model.pending.get_mut(&holder).unwrap().1.insert(self.next_extent);
                    self.next_extent += 1;
                }
                Step::Commit { pending, base, names, unlike, fails } => {
                    let Some(holder) = self.pick(pending) else { return };
                    self.commit(holder, base, names, (unlike, fails));
                }
                Step::Abort(pending) => {
                    let Some(holder) = self.pick(pending) else { return };
                    drop(self.accounts.release(Holder(holder)));
                    drop(self.accounts.release(Holder(holder)));
                    self.model.end(holder);
                }
                Step::Forget(which) => {
                    let mut gone = Vec::new();
                    for which in which.iter().take(self.published.len()) {
                        gone.push(self.published.remove(which.index(self.published.len())));
                    }
                    drop(self.accounts.forget(&gone));
                    for id in gone {
                        self.model.release(id);
                    }
                }
                Step::Read(which) if !self.published.is_empty() => {
                    let read = *which.get(&self.published);
                    self.model.readers.push((self.accounts.open(read).unwrap(), read));
                    self.model.held.get_mut(&read).unwrap().0 += 1;
                }
                Step::Close(which) if !self.model.readers.is_empty() => {
                    let which = which.index(self.model.readers.len());
                    let (holder, read) = self.model.readers.swap_remove(which);
                    drop(self.accounts.release(holder));
                    self.model.release(read);
                }
                Step::Read(_) | Step::Close(_) => {}
            }
        }

        /// What a checkpoint names: what its base does, but for these names.
        fn named(&self, holder: u64, base: &BTreeMap<u8, u64>, changes: Vec<(u8, u8)>) -> BTreeMap<u8, u64> {
            let mut named = base.clone();
            let own: Vec<_> = self.model.pending[&holder].1.iter().copied().collect();
            let others: Vec<_> = self.model.held.values().flat_map(|(_, named)| named.values().copied()).collect();
            for (name, what) in changes {
                match what {
                    0 => drop(named.remove(&name)),
                    1 if !others.is_empty() => {
                        named.insert(name, others[usize::from(name) * 7 % others.len()]);
                    }
                    _ if !own.is_empty() => {
                        named.insert(name, own[usize::from(name) % own.len()]);
                    }
                    _ => {}
                }
            }
            named
        }

        fn commit(
            &mut self,
            holder: u64,
            base: Option<prop::sample::Index>,
            edits: Vec<(u8, u8)>,
            (unlike, fails): (bool, bool),
        ) {
            let begun = self.model.pending[&holder].0;
            // Ids are published in order: those that were overtaken are given up.
            if self.accounts.catalog.check_new(begun, CheckpointKind::Checkpoint, "commit").is_err() {
                return;
            }
            let before: Vec<_> = self.model.held.keys().copied().collect();
            let base = base.filter(|_| !before.is_empty()).map(|base| *base.get(&before));
            let base = base.map_or_else(BTreeMap::new, |base| self.model.held[&base].1.clone());
            let named = self.named(holder, &base, edits);
            let newest = self.accounts.hold_newest(Holder(holder));
            if let Some(newest) = before.last().filter(|newest| !self.model.pending[&holder].2.contains(newest)) {
                self.model.pending.get_mut(&holder).unwrap().2.push(*newest);
                self.model.held.get_mut(newest).unwrap().0 += 1;
            }
            let wanted = content(&named);
            // Shares structure with its base, or nothing with anybody.
            let wanted = if unlike { wanted } else { wanted.sharing(&content(&base)) };
            let changes = Changes::between(&newest.content, &wanted);
            for extent in changes.added_extents() {
                assert!(self.accounts.refer(Holder(holder), &extent));
                let n = extent.file.sequence * 4 + extent.offset / 64 - 1;
                self.model.pending.get_mut(&holder).unwrap().1.insert(n);
            }
            if !fails {
                self.accounts.publish(begun, Facts::default(), wanted.sharing(&newest.content), &changes);
                self.model.held.insert(begun, (1, named));
                self.published.push(begun);
                drop(self.accounts.release(Holder(holder)));
                self.model.end(holder);
            }
        }
    }
}
