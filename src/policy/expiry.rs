//! Which checkpoints take too long.

use std::{collections::VecDeque, time::Duration};

use super::CheckpointConfig;
use crate::id::CheckpointId;

/// So many expired checkpoints are remembered.
const REMEMBERED: usize = 16;

/// When checkpoints that are under way expire, and which did lately.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use piton::{CheckpointId, policy::{CheckpointConfig, Expiry}};
///
/// let mut expiry = Expiry::new(&CheckpointConfig::new());
/// expiry.started(CheckpointId::FIRST, Duration::ZERO);
/// assert_eq!(expiry.expire(Duration::from_secs(599)), None);
/// assert_eq!(expiry.expire(Duration::from_secs(600)), Some(CheckpointId::FIRST));
/// assert!(expiry.has_expired(CheckpointId::FIRST)); // so that a late part can be told
/// ```
#[derive(Clone, Debug)]
pub struct Expiry {
    timeout: Duration,
    /// With the moment from which on it takes too long.
    running: Vec<(CheckpointId, Duration)>,
    /// The oldest first.
    expired: VecDeque<CheckpointId>,
}

impl Expiry {
    /// Nothing is under way.
    #[must_use]
    pub fn new(config: &CheckpointConfig) -> Self {
        let timeout = config.checkpoint_timeout();
        Self { timeout, running: Vec::new(), expired: VecDeque::with_capacity(REMEMBERED) }
    }

    /// A checkpoint was triggered.
    pub fn started(&mut self, id: CheckpointId, now: Duration) {
        self.running.push((id, now.saturating_add(self.timeout)));
    }

    /// A checkpoint was completed, or came to nothing: it cannot expire any more.
    pub fn ended(&mut self, id: CheckpointId) {
        self.running.retain(|(other, _)| *other != id);
    }

    /// One that takes too long, the oldest first; call it until there is none. It is no longer under way.
    pub fn expire(&mut self, now: Duration) -> Option<CheckpointId> {
        let at = self.running.iter().position(|(_, deadline)| *deadline <= now)?;
        let (id, _) = self.running.remove(at);
        if self.expired.len() == REMEMBERED {
            self.expired.pop_front();
        }
        self.expired.push_back(id);
        Some(id)
    }

    /// Whether it is one of the last 16 that took too long.
    #[must_use]
    pub fn has_expired(&self, id: CheckpointId) -> bool {
        self.expired.contains(&id)
    }

    /// When the next one will take too long.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.running.iter().map(|(_, deadline)| *deadline).min()
    }
}
