//! The operator that keeps state by key. Timely's progress protocol is the first phase of its checkpoints.
//!
//! - Updates of the open epoch are applied as they come; those of later epochs wait. So the state is that of the end of an epoch
//!   when the frontier passes the epoch, and counting never stops.
//! - The operator copies what changed, and hands the copy in. It holds the capability of the epoch until the part with the copy is
//!   durable. So the probe behind the operator passes an epoch when all processes have their parts of it.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use timely::{
    ExchangeData,
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Exchange,
        operators::{Capability, generic::Operator as _},
    },
};

use crate::{
    aligner::{GroupsShare, Share, Shares, Work},
    clock::Clock,
    groups::{self, KEY_GROUPS, Pieces},
    message::Ticket,
    snapshots::SnapshotPolicy,
    source::Item,
};

/// The state of one worker, by key.
pub trait KeyedState: 'static {
    /// What changes the state.
    type Update: ExchangeData + Clone;

    /// The key group of an update.
    fn group(update: &Self::Update) -> u32;
    /// Applies an update.
    fn apply(&mut self, update: Self::Update);
    /// All events before this time were applied. What is complete now leaves the state.
    fn advance(&mut self, watermark: u64);
    /// What left the state since the last call.
    fn take_results(&mut self) -> Vec<u8>;
    /// What changed since the last call.
    fn take_changes(&mut self) -> Pieces;
    /// All key groups with all that they have; nothing counts as changed afterwards.
    fn take_all(&mut self) -> Pieces;
}

/// The name of an operator in the manifest, and how its state is to be written.
#[derive(Debug)]
pub struct Naming {
    /// The operator.
    pub operator: &'static str,
    /// Results are states with names that begin like this.
    pub results: &'static str,
    /// When to write all key groups.
    pub snapshots: SnapshotPolicy,
}

/// The operator of one worker.
struct Keyed<S: KeyedState> {
    state: S,
    naming: Naming,
    range: Range<u32>,
    clock: Arc<Clock>,
    shares: Shares,
    /// The open epoch: all before were closed.
    open: u64,
    capability: Option<Capability<u64>>,
    /// Of epochs whose part is not durable yet.
    held: VecDeque<Capability<u64>>,
    /// Of later epochs.
    early: BTreeMap<u64, Vec<Item<S::Update>>>,
    /// By worker that reads.
    marks: Vec<u64>,
}

/// Builds the operator behind the sources. It sends nothing: its output is for a probe.
pub fn build<S: KeyedState>(
    updates: Stream<'_, u64, Vec<Item<S::Update>>>,
    (clock, shares): (Arc<Clock>, Shares),
    (state, naming, first): (S, Naming, u64),
) -> Stream<'_, u64, Vec<()>> {
    let scope = updates.scope();
    let peers = scope.peers();
    let route = Exchange::new(move |item: &Item<S::Update>| match item {
        Item::Update(update) => groups::owner_of(S::group(update), peers) as u64,
        Item::Mark { to, .. } => *to as u64,
    });
    updates.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(
        route,
        naming.operator,
        |mut capability, info| {
            clock.holder(scope.worker().sync_activator_for(info.address.to_vec()));
            capability.downgrade(&first);
            let (range, marks) = (groups::range_of(scope.index(), peers), vec![0; peers]);
            let (capability, held, early) = (Some(capability), VecDeque::new(), BTreeMap::new());
            let mut keyed = Keyed { state, naming, range, clock, shares, open: first, capability, held, early, marks };
            move |(input, frontier), _output| {
                input.for_each(|stamp, items| {
                    if let Some(epoch) = stamp.least() {
                        keyed.take(*epoch, std::mem::take(items));
                    }
                });
                if frontier.is_empty() {
                    keyed.capability = None;
                }
                while keyed.capability.is_some() && !frontier.less_equal(&keyed.open) {
                    keyed.close();
                }
                let durable = keyed.clock.durable();
                keyed.held.retain(|held| *held.time() > durable);
            }
        },
    )
}

impl<S: KeyedState> Keyed<S> {
    fn take(&mut self, epoch: u64, items: Vec<Item<S::Update>>) {
        if epoch == self.open {
            items.into_iter().for_each(|item| self.apply(item));
        } else {
            self.early.entry(epoch).or_default().extend(items);
        }
    }

    fn apply(&mut self, item: Item<S::Update>) {
        match item {
            Item::Update(update) => self.state.apply(update),
            Item::Mark { from, time, .. } => self.marks[from] = time,
        }
    }

    /// Ends the open epoch.
    fn close(&mut self) {
        let Some(capability) = &mut self.capability else { return };
        let epoch = self.open;
        let ticket = self.clock.ticket(epoch);
        if ticket.is_some() {
            self.held.push_back(capability.delayed(&epoch));
        }
        self.open += 1;
        capability.downgrade(&self.open);
        self.state.advance(self.marks.iter().copied().min().unwrap_or_default());
        if let Some(ticket) = ticket {
            self.hand_in(epoch, ticket);
        }
        for item in self.early.remove(&self.open).unwrap_or_default() {
            self.apply(item);
        }
    }

    fn hand_in(&mut self, epoch: u64, ticket: Ticket) {
        // Not all workers at the same time.
        let turn = ticket.id.get() % 8 == u64::from(self.range.start) * 8 / u64::from(KEY_GROUPS);
        let is_snapshot = self.naming.snapshots.states == 0 || (turn && self.naming.snapshots.is_due());
        let pieces = if is_snapshot { self.state.take_all() } else { self.state.take_changes() };
        if is_snapshot || !pieces.is_empty() {
            self.naming.snapshots.wrote(is_snapshot, groups::len(&pieces));
        }
        let results = self.state.take_results();
        let name = format!("{}{epoch:012}/{}", self.naming.results, self.range.start);
        let states = if results.is_empty() { Vec::new() } else { vec![(name, results)] };
        let (operator, range) = (self.naming.operator, self.range.clone());
        let groups = Some(GroupsShare { operator, range, is_snapshot, pieces });
        let share = Share { groups, states, ..Share::default() };
        // The aligner ends with the process.
        let _ = self.shares.send(Work::Share(epoch, ticket, Box::new(share)));
    }
}
