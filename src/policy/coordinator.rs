//! The parts of this room and a store, joined.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Acknowledged, Action, CheckpointConfig, CheckpointRequest, Choice, Expiry, FailureCounter, FailureReason, Refusal,
    RequestDecider, RequestId, Situation, Verdict,
};
use crate::{
    commit::{CheckpointStreams, PendingCheckpoint},
    contract::CheckpointOptions,
    error::{Error, Result},
    handle::StateHandle,
    id::CheckpointId,
    manifest::{CheckpointKind, ManifestBuilder},
    outcome::{ExternalizedCheckpointCleanup, JobOutcome},
    part::Part,
    read::Checkpoint,
    reclaim::forget::Reclaimed,
    store::Store,
};

/// Takes the checkpoints of a job whose state is spread over subtasks: says when one begins, collects what the subtasks
/// wrote, commits it, and gives it up if it takes too long or somebody declines it.
///
/// The engine calls [`tick`](Self::tick) whenever it likes, at the latest at [`next_wakeup`](Self::next_wakeup), and does
/// what the [actions](Action) say. Subtasks are numbers from 0 on. The ids of the store are this coordinator's: nobody else
/// begins checkpoints in it meanwhile.
///
/// Checkpoints are committed in the order of their ids. So one that is committed ends those that were begun before, but for
/// savepoints: a savepoint holds no checkpoint up, and may be committed after later ones. A savepoint that fails does not
/// count against the job.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use piton::{
///     Manifest, Scope,
///     contract::{CheckpointStreamFactory, MemoryStorage},
///     policy::{Acknowledged, Action, CheckpointConfig, Coordinator},
/// };
///
/// let mut config = CheckpointConfig::new();
/// config.set_checkpoint_interval(Some(Duration::from_secs(10)))?.set_checkpoint_storage(MemoryStorage::default());
/// let store = config.open_store()?;
/// let mut coordinator = Coordinator::new(store, &config, 2, Duration::ZERO)?;
///
/// assert_eq!(coordinator.next_wakeup(), Some(Duration::from_secs(10)));
/// let now = Duration::from_secs(10);
/// for action in coordinator.tick(now) {
///     let Action::Trigger { id, .. } = action else { continue };
///     for subtask in 0..2 {
///         // On the thread of the subtask, mostly as a snapshot task:
///         let streams = coordinator.streams(id).expect("it was triggered just now");
///         let state = streams.write(Scope::Shared, &[7; 5000])?;
///         // Back on the thread of the coordinator:
///         if coordinator.acknowledge(id, subtask, [(format!("window-{subtask}"), state)])? == Acknowledged::Complete {
///             let checkpoint = coordinator.complete(id, Manifest::builder().timestamp_ms(1_700_000_000_000), now)?;
///             assert_eq!(checkpoint.manifest().states().count(), 2);
///         }
///     }
/// }
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Debug)]
pub struct Coordinator {
    store: Store,
    config: CheckpointConfig,
    subtasks: usize,
    decider: RequestDecider,
    failures: FailureCounter,
    expiry: Expiry,
    attempts: BTreeMap<CheckpointId, Attempt>,
    /// When the next periodic checkpoint is due.
    due: Option<Duration>,
    last_completion: Option<Duration>,
    cleaning: usize,
    /// When the last periodic checkpoint began, or this.
    periodic_since: Duration,
    /// Why the store refuses to write until it is reopened.
    broken: Option<Error>,
    /// What the next tick returns.
    actions: Vec<Action>,
}

/// A checkpoint that is under way.
#[derive(Debug)]
struct Attempt {
    pending: PendingCheckpoint,
    options: CheckpointOptions,
    missing: BTreeSet<usize>,
    states: BTreeMap<String, StateHandle>,
}

impl Coordinator {
    /// Coordinates so many subtasks. The first periodic checkpoint is due one interval from now.
    ///
    /// # Errors
    ///
    /// `is_invalid` if there are no subtasks, or if the parts of the configuration do not fit together. What it warns of,
    /// [`CheckpointConfig::validate`] tells.
    pub fn new(store: Store, config: &CheckpointConfig, subtasks: usize, now: Duration) -> Result<Self> {
        config.validate()?;
        if subtasks == 0 {
            return Err(Error::invalid("coordinate checkpoints", "there are no subtasks"));
        }
        Ok(Self {
            store,
            subtasks,
            decider: RequestDecider::new(config),
            failures: FailureCounter::new(config),
            expiry: Expiry::new(config),
            attempts: BTreeMap::new(),
            due: config.checkpoint_interval().map(|interval| now.saturating_add(interval)),
            last_completion: None,
            cleaning: 0,
            periodic_since: now,
            broken: None,
            actions: Vec::new(),
            config: config.clone(),
        })
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Asks for a checkpoint. The answer is an [action](Action) of a later tick: it is triggered, or refused.
    pub fn request(&mut self, request: CheckpointRequest) -> RequestId {
        let submitted = self.decider.submit(request);
        let refused =
            submitted.refused.map(|refused| Action::Refuse { request: refused.id, why: Refusal::TooManyRequests });
        self.actions.extend(refused);
        submitted.id
    }

    /// So many checkpoints are being deleted by the engine, on other threads: while there are more than may be taken at the
    /// same time, none is begun.
    pub fn set_cleaning(&mut self, checkpoints: usize) {
        self.cleaning = checkpoints;
    }

    /// What is to be done now: gives up what takes too long, and begins what is due. Allocates only if there is something
    /// to do.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        while let Some(id) = self.expiry.expire(now) {
            self.give_up(id, FailureReason::Expired);
        }
        self.request_if_due(now);
        loop {
            match self.decider.choose(&self.situation(now)) {
                Choice::Wait => break,
                Choice::Start(queued) => self.trigger(queued.id, &queued.request, now),
                Choice::TooSoon(queued, wait) => {
                    self.put_off(now.saturating_add(wait));
                    let why = Refusal::MinimumTimeBetweenCheckpoints(wait);
                    self.actions.push(Action::Refuse { request: queued.id, why });
                }
            }
        }
        std::mem::take(&mut self.actions)
    }

    /// When the next tick has something to do, if nothing happens before; zero if it has something to do now, `None` if
    /// only what happens makes a difference. Every other call on the coordinator may change it.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Duration> {
        let is_choosable = self.decider.peek(&self.situation(Duration::ZERO)) != Choice::Wait;
        if is_choosable || !self.actions.is_empty() {
            return Some(Duration::ZERO);
        }
        self.due.into_iter().chain(self.expiry.next_deadline()).min()
    }

    /// What subtasks write their parts with; `None` if no such checkpoint is under way.
    #[must_use]
    pub fn streams(&self, id: CheckpointId) -> Option<CheckpointStreams> {
        self.attempts.get(&id).map(|attempt| attempt.pending.streams())
    }

    /// The checkpoints that are under way, ascending.
    pub fn pending(&self) -> impl Iterator<Item = CheckpointId> {
        self.attempts.keys().copied()
    }

    /// A subtask has written its part: these states, by the names that they will have in the manifest.
    ///
    /// # Errors
    ///
    /// `is_invalid` if there is no such subtask, or if another one, or the same one, has named a state alike. Nothing of it
    /// was taken.
    pub fn acknowledge(
        &mut self,
        id: CheckpointId,
        subtask: usize,
        states: impl IntoIterator<Item = (String, StateHandle)>,
    ) -> Result<Acknowledged> {
        let operation = || operation(id, subtask);
        let attempt = match self.awaited(id, subtask)? {
            Ok(attempt) => attempt,
            Err(acknowledged) => return Ok(acknowledged),
        };
        let mut named = BTreeMap::new();
        for (name, handle) in states {
            let is_there = attempt.states.contains_key(&name) || attempt.pending.is_changed_by_part(&name);
            if is_there || named.insert(name.clone(), handle).is_some() {
                return Err(Error::invalid(operation(), format!("a state named {name:?} is there already")));
            }
        }
        attempt.states.append(&mut named);
        Ok(attempt.acknowledged(subtask))
    }

    /// A subtask in another process has prepared its part, as a [member](crate::Member) of the store: the checkpoint
    /// accepts it. A manifest of a checkpoint with parts must be based on the checkpoint that their changes are
    /// relative to.
    ///
    /// # Errors
    ///
    /// `is_invalid` if there is no such subtask, or if another one has named a state that the part changes; and those of
    /// [`PendingCheckpoint::accept`]. Nothing of the part was taken
    /// then, and the subtask is still missing: [`decline`](Self::decline) gives the checkpoint up.
    pub fn acknowledge_part(&mut self, id: CheckpointId, subtask: usize, part: &Part) -> Result<Acknowledged> {
        match self.awaited(id, subtask)? {
            Ok(attempt) if attempt.pending.has_accepted(part) => {
                Err(Error::invalid(operation(id, subtask), "another subtask has handed this part over"))
            }
            Ok(attempt) => attempt
                .check_apart(id, subtask, part)
                .and_then(|()| attempt.pending.accept(part))
                .map(|()| attempt.acknowledged(subtask)),
            Err(acknowledged) => Ok(acknowledged),
        }
    }

    /// The attempt at a checkpoint for which this subtask has not written its part yet, or what there is to say instead.
    fn awaited(&mut self, id: CheckpointId, subtask: usize) -> Result<std::result::Result<&mut Attempt, Acknowledged>> {
        if subtask >= self.subtasks {
            let why = format!("there are {} subtasks, from 0 on", self.subtasks);
            return Err(Error::invalid(operation(id, subtask), why));
        }
        Ok(match self.attempts.get_mut(&id) {
            Some(attempt) if attempt.missing.contains(&subtask) => Ok(attempt),
            Some(_) => Err(Acknowledged::Duplicate),
            None if self.expiry.has_expired(id) => Err(Acknowledged::Expired),
            None => Err(Acknowledged::Unknown),
        })
    }

    /// A subtask cannot write its part: the checkpoint is aborted. False if no such checkpoint is under way.
    pub fn decline(&mut self, id: CheckpointId, why: FailureReason) -> bool {
        let is_pending = self.attempts.contains_key(&id);
        if is_pending {
            self.expiry.ended(id);
            self.give_up(id, why);
        }
        is_pending
    }

    /// Commits a checkpoint of which every part is there, with these parts and what else the manifest is to have. Durable
    /// when it returns; those that were begun before are aborted, but for savepoints.
    ///
    /// # Errors
    ///
    /// `is_not_found` if no such checkpoint is under way. `is_invalid` if parts are missing, if a writer is still open,
    /// or if the manifest names a state as a subtask does; [`part_fault`](Error::part_fault) if it is based on another
    /// checkpoint than a part: the checkpoint is still under way then. Those of [`PendingCheckpoint::commit`]: it is
    /// over, as [`pending`](Self::pending) tells, and counts as failed. If the error [needs a
    /// reopen](Error::needs_reopen), so does everything from now on, and the job fails; if it
    /// [`is_indeterminate`](Error::is_indeterminate), the checkpoint may be there all the same.
    pub fn complete(&mut self, id: CheckpointId, manifest: ManifestBuilder, now: Duration) -> Result<Checkpoint> {
        let attempt = self.attempts.get(&id).ok_or_else(|| not_pending(id))?;
        attempt.check_complete(id, &manifest)?;
        // From here on nobody can begin to write another one.
        attempt.pending.batch().close_to_writers("commit")?;
        let Some(mut attempt) = self.attempts.remove(&id) else { return Err(not_pending(id)) };
        let manifest = std::mem::take(&mut attempt.states)
            .into_iter()
            .fold(manifest.kind(attempt.options.kind()), |manifest, (name, state)| manifest.state(name, state));
        self.expiry.ended(id);
        match attempt.pending.commit(manifest) {
            Ok(checkpoint) => {
                self.failures.succeeded(id);
                self.last_completion = Some(now);
                let older = self.attempts.iter().take_while(|(older, _)| **older < id);
                let older: Vec<_> =
                    older.filter(|(_, attempt)| !attempt.is_savepoint()).map(|(older, _)| *older).collect();
                for older in older {
                    self.decline(older, FailureReason::Subsumed);
                }
                Ok(checkpoint)
            }
            Err(error) => {
                let kind = attempt.options.kind();
                // Of one that may be there nobody is told that it came to nothing.
                if !error.is_indeterminate() {
                    self.actions.push(Action::Abort { id, why: FailureReason::Finalizing });
                }
                let error = error.into_error();
                self.count_failure(id, kind, FailureReason::Finalizing, Some(&error));
                Err(error)
            }
        }
    }

    /// Aborts what is under way and refuses what waits: what is to be done and known before the end. Nothing is due any
    /// more; what is requested from now on is taken as ever.
    pub fn stop(&mut self) -> Vec<Action> {
        self.due = None;
        while let Some((id, _)) = self.attempts.first_key_value() {
            self.decline(*id, FailureReason::ShutDown);
        }
        let refused = self.decider.drain().map(|queued| Action::Refuse { request: queued.id, why: Refusal::ShutDown });
        self.actions.extend(refused);
        std::mem::take(&mut self.actions)
    }

    /// The job has ended: aborts what is under way, forgets the checkpoints that do not stay for this outcome by this rule,
    /// durably, and closes the store. The rule of the configuration is
    /// [`CheckpointConfig::externalized_checkpoint_cleanup`]. Who has to tell others of requests that wait calls
    /// [`stop`](Self::stop) first.
    ///
    /// # Errors
    ///
    /// Those of [`Store::end_job`].
    pub fn end_job(mut self, outcome: JobOutcome, cleanup: ExternalizedCheckpointCleanup) -> Result<Reclaimed> {
        self.stop();
        self.store.end_job(outcome, cleanup)
    }

    /// A periodic request that waits already asks for the same.
    fn request_if_due(&mut self, now: Duration) {
        if self.due.is_some_and(|due| due <= now) {
            let interval = self.config.checkpoint_interval();
            self.due = interval.map(|interval| now.saturating_add(interval));
            if !self.decider.has_periodic() {
                self.request(CheckpointRequest::periodic(now));
            }
        }
    }

    /// The next periodic checkpoint is due an interval after the last one, at the earliest; unless none is any more.
    fn put_off(&mut self, earliest: Duration) {
        let Some(interval) = self.due.and(self.config.checkpoint_interval()) else { return };
        self.due = Some(self.periodic_since.saturating_add(interval).max(earliest));
    }

    fn situation(&self, now: Duration) -> Situation {
        Situation {
            now,
            is_triggering: false,
            pending: self.attempts.values().filter(|attempt| !attempt.is_savepoint()).count(),
            cleaning: self.cleaning,
            last_completion: self.last_completion,
        }
    }

    fn trigger(&mut self, request: RequestId, wanted: &CheckpointRequest, now: Duration) {
        if let Some(error) = self.broken.clone() {
            return self.actions.push(Action::Refuse { request, why: Refusal::Store(error) });
        }
        match self.store.begin_next() {
            Ok(pending) => {
                let id = pending.id();
                let options = self.config.checkpoint_options(wanted.kind);
                let missing = (0..self.subtasks).collect();
                self.attempts.insert(id, Attempt { pending, options, missing, states: BTreeMap::new() });
                self.expiry.started(id, now);
                if wanted.is_periodic {
                    self.periodic_since = now;
                    self.put_off(now);
                }
                self.actions.push(Action::Trigger { id, options, request });
            }
            Err(error) => {
                // It counts under the id that it would have had.
                if let Ok(id) = self.store.next_id() {
                    self.count_failure(id, wanted.kind, FailureReason::Io, Some(&error));
                }
                self.actions.push(Action::Refuse { request, why: Refusal::Store(error) });
            }
        }
    }

    /// One that is no longer running out of time.
    fn give_up(&mut self, id: CheckpointId, why: FailureReason) {
        if let Some(attempt) = self.attempts.remove(&id) {
            self.actions.push(Action::Abort { id, why });
            self.count_failure(id, attempt.options.kind(), why, None);
        }
    }

    /// Whoever has asked for a savepoint is told, and the job goes on; unless the store cannot.
    fn count_failure(&mut self, id: CheckpointId, kind: CheckpointKind, why: FailureReason, error: Option<&Error>) {
        if self.broken.is_some() {
            return;
        }
        // What broke the store may have been told to somebody else, and as something else.
        let refusal = self.store.check_writable("take checkpoints in").err();
        self.broken = refusal.or_else(|| error.filter(|error| error.needs_reopen()).cloned());
        let counts = kind == CheckpointKind::Checkpoint;
        if self.broken.is_some() || (counts && self.failures.failed(id, why) == Verdict::FailJob) {
            self.actions.push(Action::FailJob);
        }
    }
}

impl Attempt {
    fn is_savepoint(&self) -> bool {
        self.options.kind() == CheckpointKind::Savepoint
    }

    /// The part of a subtask is there.
    fn acknowledged(&mut self, subtask: usize) -> Acknowledged {
        self.missing.remove(&subtask);
        match self.missing.len() {
            0 => Acknowledged::Complete,
            missing => Acknowledged::Waiting(missing),
        }
    }

    /// Refuses a part that changes a state which a subtask of this process has named.
    fn check_apart(&self, id: CheckpointId, subtask: usize, part: &Part) -> Result<()> {
        let twice = self.states.keys().find(|name| part.changes().has_state(name));
        let why = twice.map(|name| format!("a state named {name:?} is there already"));
        why.map_or(Ok(()), |why| Err(Error::invalid(operation(id, subtask), why)))
    }

    /// Whether every part is there, and fits to the manifest.
    fn check_complete(&self, id: CheckpointId, manifest: &ManifestBuilder) -> Result<()> {
        if let Some(missing) = self.missing.first() {
            let why = format!("{} parts are missing, the first is that of subtask {missing}", self.missing.len());
            return Err(Error::invalid(complete(id), why));
        }
        let named = self.states.keys().find(|name| manifest.has_named(name)).cloned();
        if let Some(name) = named.or_else(|| self.pending.named_twice(manifest)) {
            let why = format!("a subtask and the manifest both have a state named {name:?}");
            return Err(Error::invalid(complete(id), why));
        }
        self.pending.check_base(manifest)
    }
}

fn complete(id: CheckpointId) -> String {
    format!("complete checkpoint {id}")
}

fn operation(id: CheckpointId, subtask: usize) -> String {
    format!("acknowledge checkpoint {id} for subtask {subtask}")
}

fn not_pending(id: CheckpointId) -> Error {
    Error::not_found(complete(id), "it is not under way")
}
