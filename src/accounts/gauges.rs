//! What a store holds and what it takes: gauges, and sums of them.

/// Of one file, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gauges {
    pub(super) logical_files: u64,
    pub(super) logical_bytes: u64,
    pub(super) physical_files: u64,
    pub(super) physical_bytes: u64,
    pub(super) allocated_bytes: u64,
    pub(super) dead_bytes: u64,
    pub(super) open_files: u64,
    pub(super) marked_files: u64,
    /// What everything alive would take if it were written anew.
    pub(super) footprint: u64,
    /// What the files that are not marked take.
    pub(super) unmarked_size: u64,
    pub(super) borrowed_files: u64,
    pub(super) borrowed_bytes: u64,
}

impl Gauges {
    /// Replaces the part that one file had in the sum by the part that it has now.
    pub(super) fn replace(&mut self, mut before: Self, mut after: Self) {
        for field in FIELDS {
            let (before, after) = (*field(&mut before), *field(&mut after));
            let sum = field(self);
            *sum = sum.wrapping_sub(before).wrapping_add(after);
        }
    }
}

const FIELDS: [fn(&mut Gauges) -> &mut u64; 12] = [
    |g| &mut g.logical_files,
    |g| &mut g.logical_bytes,
    |g| &mut g.physical_files,
    |g| &mut g.physical_bytes,
    |g| &mut g.allocated_bytes,
    |g| &mut g.dead_bytes,
    |g| &mut g.open_files,
    |g| &mut g.marked_files,
    |g| &mut g.footprint,
    |g| &mut g.unmarked_size,
    |g| &mut g.borrowed_files,
    |g| &mut g.borrowed_bytes,
];
