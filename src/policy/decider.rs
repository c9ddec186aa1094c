//! Which request for a checkpoint is next, and whether it may start now.

use std::{cmp::Reverse, time::Duration};

use super::CheckpointConfig;
use crate::manifest::CheckpointKind;

/// So many requests wait at most.
const MAX_QUEUED: usize = 1000;

/// A request for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointRequest {
    /// What it is for.
    pub kind: CheckpointKind,
    /// Whether it starts although as many checkpoints as may are under way. With unaligned checkpoints, of which there is
    /// never more than one, nothing does.
    pub is_forced: bool,
    /// Whether it was due, and not asked for by anybody.
    pub is_periodic: bool,
    /// When it was made.
    pub at: Duration,
}

/// What a request that was submitted is called: a number that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// A request that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedRequest {
    /// What it is called.
    pub id: RequestId,
    /// What was asked for.
    pub request: CheckpointRequest,
}

/// What [`RequestDecider::submit`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// What the request is called.
    pub id: RequestId,
    /// Which request is refused because there are too many: none, this one, or one that has waited and is worth less. This
    /// is its answer: it will not be chosen.
    pub refused: Option<QueuedRequest>,
}

/// What else is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// The time.
    pub now: Duration,
    /// Whether a checkpoint is just being triggered.
    pub is_triggering: bool,
    /// How many checkpoints are under way.
    pub pending: usize,
    /// How many checkpoints wait for being deleted.
    pub cleaning: usize,
    /// When a checkpoint was completed for the last time.
    pub last_completion: Option<Duration>,
}

/// What [`RequestDecider::choose`] decided: a request that is in it has left the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nothing can start now.
    Wait,
    /// This one starts.
    Start(QueuedRequest),
    /// This one is dropped: not enough time has passed since the last completion. After so much more it would have.
    TooSoon(QueuedRequest, Duration),
}

/// Requests for checkpoints in a queue, and which of them is next.
///
/// Savepoints come before checkpoints, forced requests before others, requested ones before periodic ones, older ones
/// before newer ones; of two that are equal in all that, the one that was submitted first. Every request that is submitted
/// gets one answer: it is refused, chosen, dropped, or [drained](Self::drain).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use piton::policy::{CheckpointConfig, CheckpointRequest, Choice, RequestDecider, Situation};
///
/// let mut decider = RequestDecider::new(&CheckpointConfig::new());
/// decider.submit(CheckpointRequest::periodic(Duration::from_secs(1)));
/// let savepoint = decider.submit(CheckpointRequest::savepoint(Duration::from_secs(2)));
/// let situation = Situation { now: Duration::from_secs(2), ..Situation::default() };
/// let Choice::Start(chosen) = decider.choose(&situation) else { panic!("nothing is in the way") };
/// assert_eq!(chosen.id, savepoint.id);
/// ```
#[derive(Clone, Debug)]
pub struct RequestDecider {
    max_concurrent: usize,
    min_pause: Duration,
    /// Whether anything may start beside what is under way; savepoints then are forced by themselves.
    may_force: bool,
    /// The best one last.
    queue: Vec<QueuedRequest>,
    next: u64,
}

impl CheckpointRequest {
    /// For a checkpoint that is due.
    #[must_use]
    pub const fn periodic(at: Duration) -> Self {
        Self { kind: CheckpointKind::Checkpoint, is_forced: false, is_periodic: true, at }
    }

    /// For a checkpoint that somebody asks for.
    #[must_use]
    pub const fn checkpoint(at: Duration) -> Self {
        Self { is_periodic: false, ..Self::periodic(at) }
    }

    /// For a savepoint that somebody asks for. Submitting it makes it forced, unless unaligned checkpoints are on.
    #[must_use]
    pub const fn savepoint(at: Duration) -> Self {
        Self { kind: CheckpointKind::Savepoint, ..Self::checkpoint(at) }
    }

    fn is_savepoint(&self) -> bool {
        self.kind == CheckpointKind::Savepoint
    }
}

impl QueuedRequest {
    /// The lower, the earlier it is its turn.
    fn rank(&self) -> impl Ord {
        let CheckpointRequest { is_forced, is_periodic, at, .. } = self.request;
        (!self.request.is_savepoint(), !is_forced, is_periodic, at, self.id)
    }
}

impl RequestDecider {
    /// An empty queue.
    #[must_use]
    pub fn new(config: &CheckpointConfig) -> Self {
        Self {
            max_concurrent: usize::try_from(config.max_concurrent_checkpoints()).unwrap_or(usize::MAX),
            min_pause: config.min_pause_between_checkpoints(),
            may_force: !config.is_unaligned_checkpoints_enabled(),
            queue: Vec::new(),
            next: 0,
        }
    }

    /// Adds a request. If too many wait (1,000), it is refused if the worst of these was asked for by somebody; else the
    /// worst of all is, this one included.
    pub fn submit(&mut self, mut request: CheckpointRequest) -> Submitted {
        request.is_forced |= request.is_savepoint() && self.may_force;
        let id = RequestId(self.next);
        self.next += 1;
        let queued = QueuedRequest { id, request };
        let is_full = self.queue.len() >= MAX_QUEUED;
        if is_full && self.queue.first().is_some_and(|worst| !worst.request.is_periodic) {
            return Submitted { id, refused: Some(queued) };
        }
        let at = self.queue.partition_point(|other| Reverse(other.rank()) < Reverse(queued.rank()));
        self.queue.insert(at, queued);
        Submitted { id, refused: is_full.then(|| self.queue.remove(0)) }
    }

    /// Decides about the best request. After a [`Choice::TooSoon`] there may be another one.
    pub fn choose(&mut self, situation: &Situation) -> Choice {
        let choice = self.peek(situation);
        if choice != Choice::Wait {
            self.queue.pop();
        }
        choice
    }

    /// What [`choose`](Self::choose) would decide. Nothing leaves the queue.
    #[must_use]
    pub fn peek(&self, situation: &Situation) -> Choice {
        let Some(best) = self.queue.last().copied() else { return Choice::Wait };
        let is_forced = best.request.is_forced && self.may_force;
        let is_full = situation.pending >= self.max_concurrent && !is_forced;
        if situation.is_triggering || situation.cleaning > self.max_concurrent || is_full {
            return Choice::Wait;
        }
        match self.time_to_wait(&best.request, situation) {
            Some(wait) => Choice::TooSoon(best, wait),
            None => Choice::Start(best),
        }
    }

    /// How much of the minimum pause is left for a request that keeps it.
    fn time_to_wait(&self, request: &CheckpointRequest, situation: &Situation) -> Option<Duration> {
        let keeps_it = request.is_periodic && !request.is_forced && !request.is_savepoint();
        let over = situation.last_completion.filter(|_| keeps_it)?.saturating_add(self.min_pause);
        over.checked_sub(situation.now).filter(|wait| !wait.is_zero())
    }

    /// How many requests wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a periodic request waits: another one would ask for nothing more.
    #[must_use]
    pub fn has_periodic(&self) -> bool {
        self.queue.iter().any(|queued| queued.request.is_periodic)
    }

    /// Takes all requests that wait, the best first: nobody will choose them any more.
    pub fn drain(&mut self) -> impl Iterator<Item = QueuedRequest> {
        self.queue.drain(..).rev()
    }
}
