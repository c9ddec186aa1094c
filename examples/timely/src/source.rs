//! The operator that reads an input. It reads while checkpoints are made: closing an epoch costs it a copy of its offsets.

use std::{
    sync::mpsc::{Receiver, TryRecvError},
    time::{Duration, Instant},
};

use piton::ConnectorOffset;
use serde::{Deserialize, Serialize};
use timely::{
    ExchangeData,
    container::CapacityContainerBuilder,
    dataflow::{
        Scope, Stream,
        operators::{
            Capability,
            generic::{OutputBuilderSession, operator::source},
            probe::Handle as Probe,
        },
    },
    scheduling::Activator,
};

use crate::{
    aligner::{Share, Shares, Work},
    clock::Clock,
    message::{Tick, Ticket},
};

/// How many epochs the sources may be ahead of what is processed and durable everywhere.
const MOST_AHEAD: u64 = 16;
/// How long a source waits when it has read all that it may.
const PAUSE: Duration = Duration::from_millis(1);

/// An input of one worker.
pub trait Input: 'static {
    /// What the input is turned into.
    type Update: ExchangeData + Clone;

    /// Reads about so many units, and adds what came of them. Returns how many units were read; 0 at the end.
    fn read(&mut self, most: u64, updates: &mut Vec<Self::Update>) -> u64;
    /// The time up to which all events were read; `u64::MAX` at the end.
    fn watermark(&self) -> u64;
    /// The offsets that changed since the last call.
    fn take_offsets(&mut self, epoch: u64) -> Vec<(String, ConnectorOffset)>;
    /// Whether there is nothing more to read.
    fn is_at_end(&self) -> bool;
}

/// What a source sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Item<U> {
    /// An update, for the worker that owns its key group.
    Update(U),
    /// The watermark of a source at the end of an epoch, for one worker.
    Mark {
        /// The worker that it is for.
        to: usize,
        /// The worker that it comes from.
        from: usize,
        /// The watermark.
        time: u64,
    },
}

/// Paces an input.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The most units a second; `None` for as fast as can be.
    pub rate: Option<f64>,
    /// The most units that are read before other operators get their turn.
    pub batch: u64,
}

/// A source of one worker.
struct Source<I: Input> {
    input: I,
    ticks: Receiver<Tick>,
    shares: Shares,
    probe: Probe<u64>,
    activator: Activator,
    pace: Pace,
    begun: Option<Instant>,
    read: u64,
    read_since_checkpoint: u64,
    index: usize,
    peers: usize,
    capability: Option<Capability<u64>>,
    told_end: bool,
}

type Output<'a, U> = OutputBuilderSession<'a, u64, CapacityContainerBuilder<Vec<Item<U>>>>;

/// Builds the source of this worker. It begins with the epoch `first`.
pub fn build<'scope, I: Input>(
    scope: Scope<'scope, u64>,
    (clock, shares): (&Clock, Shares),
    (input, pace, first): (I, Pace, u64),
    probe: Probe<u64>,
) -> Stream<'scope, u64, Vec<Item<I::Update>>> {
    source(scope, "source", |mut capability, info| {
        let activator = scope.activator_for(info.address.clone());
        let ticks = clock.source(scope.worker().sync_activator_for(info.address.to_vec()));
        capability.downgrade(&first);
        let (index, peers, capability) = (scope.index(), scope.peers(), Some(capability));
        let (begun, read, read_since_checkpoint, told_end) = (None, 0, 0, false);
        let mut source = Source {
            input,
            ticks,
            shares,
            probe,
            activator,
            pace,
            begun,
            read,
            read_since_checkpoint,
            index,
            peers,
            capability,
            told_end,
        };
        let mut updates = Vec::new();
        move |output| source.run(&mut updates, output)
    })
}

impl<I: Input> Source<I> {
    fn run(&mut self, updates: &mut Vec<I::Update>, output: &mut Output<'_, I::Update>) {
        loop {
            match self.ticks.try_recv() {
                Ok(tick) => self.end_epoch(tick, output),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.capability = None;
                    return;
                }
            }
        }
        let Some(capability) = &self.capability else { return };
        // Nothing is read before the first tick: then all workers are there.
        let Some(begun) = self.begun else { return };
        let budget = if self.is_ahead(*capability.time()) { 0 } else { self.budget(begun) };
        let read = if budget > 0 { self.input.read(budget, updates) } else { 0 };
        self.read += read;
        self.read_since_checkpoint += read;
        output.session(capability).give_iterator(updates.drain(..).map(Item::Update));
        if self.input.is_at_end() {
            if !std::mem::replace(&mut self.told_end, true) {
                let _ = self.shares.send(Work::Exhausted);
            }
        } else if read == 0 {
            self.activator.activate_after(PAUSE);
        } else {
            self.activator.activate();
        }
    }

    /// The throttle: what is not yet processed, or not yet durable, holds the frontier of the probe.
    fn is_ahead(&self, epoch: u64) -> bool {
        self.probe.less_than(&epoch.saturating_sub(MOST_AHEAD))
    }

    fn budget(&self, begun: Instant) -> u64 {
        let Some(rate) = self.pace.rate else { return self.pace.batch };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of units is neither")]
        let allowed = (begun.elapsed().as_secs_f64() * rate) as u64;
        allowed.saturating_sub(self.read).min(self.pace.batch)
    }

    /// All that was read so far belongs to the epoch; all that follows, to the next one.
    fn end_epoch(&mut self, Tick { epoch, ticket }: Tick, output: &mut Output<'_, I::Update>) {
        let Some(capability) = &mut self.capability else { return };
        self.begun.get_or_insert_with(Instant::now);
        let (from, time) = (self.index, self.input.watermark());
        output.session(capability).give_iterator((0..self.peers).map(|to| Item::Mark { to, from, time }));
        if let Some(ticket) = ticket {
            self.hand_in(epoch, ticket);
        }
        if let Some(capability) = &mut self.capability {
            capability.downgrade(&(epoch + 1));
        }
    }

    fn hand_in(&mut self, epoch: u64, ticket: Ticket) {
        let read = std::mem::take(&mut self.read_since_checkpoint);
        let (offsets, has_more) = (self.input.take_offsets(epoch), !self.input.is_at_end());
        let share = Share { offsets, read, has_more, ..Share::default() };
        // The aligner ends with the process.
        let _ = self.shares.send(Work::Share(epoch, ticket, Box::new(share)));
    }
}
