//! When a worker writes its whole state, and not only what changed.

/// Decides when a worker writes all its key groups anew, so that old deltas can go.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotPolicy {
    /// How many states the partition has.
    pub states: usize,
    /// How many bytes the deltas have since the last snapshot.
    pub delta_bytes: u64,
    /// How many bytes the last snapshot had.
    pub snapshot_bytes: u64,
}

impl SnapshotPolicy {
    /// How many states a partition has at most.
    const MOST_STATES: usize = 64;

    pub(crate) fn is_due(&self) -> bool {
        let is_large = self.delta_bytes > 4 * self.snapshot_bytes.max(1 << 16);
        self.states == 0 || self.states >= Self::MOST_STATES || is_large
    }

    pub(crate) fn wrote(&mut self, is_snapshot: bool, bytes: u64) {
        *self = if is_snapshot {
            Self { states: 1, delta_bytes: 0, snapshot_bytes: bytes }
        } else {
            Self { states: self.states + 1, delta_bytes: self.delta_bytes + bytes, ..*self }
        };
    }
}
