//! A range of key groups, which is never empty.

use std::{fmt, num::NonZero, ops::Range};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A range of key groups: from the first one up to, and without, the end. It is never empty.
///
/// A key group is the unit in which keyed state moves between partitions when an operator is rescaled. Its text form is
/// `16..32`. Its serde form is that of a [`Range`], and an empty range is refused.
///
/// # Examples
///
/// ```
/// use piton::KeyGroupRange;
///
/// let range = KeyGroupRange::new(16, 32)?;
/// assert_eq!((range.start(), range.end(), range.len()), (16, 32, 16));
/// assert!(range.contains(31) && !range.contains(32));
/// assert_eq!(range.intersection(KeyGroupRange::new(24, 40)?), Some(KeyGroupRange::new(24, 32)?));
/// assert_eq!(range.intersection(KeyGroupRange::new(32, 48)?), None);
/// assert_eq!(range.to_string(), "16..32");
/// assert!(KeyGroupRange::new(16, 16).unwrap_err().is_invalid());
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Range<u32>", into = "Range<u32>")]
pub struct KeyGroupRange {
    start: u32,
    /// Above the start. So a partition without a range takes no more memory than one with a range.
    end: NonZero<u32>,
}

impl KeyGroupRange {
    /// The key groups from `start` up to, and without, `end`.
    ///
    /// # Errors
    ///
    /// `is_invalid` if the range is empty.
    pub fn new(start: u32, end: u32) -> Result<Self> {
        Self::of(start, end).ok_or_else(|| {
            Error::invalid(
                format!("make key group range {start}..{end}"),
                "the range is empty: name at least one group",
            )
        })
    }

    /// `None` if the range is empty.
    pub(crate) fn of(start: u32, end: u32) -> Option<Self> {
        NonZero::new(end).filter(|_| start < end).map(|end| Self { start, end })
    }

    /// The first key group.
    #[must_use]
    pub fn start(self) -> u32 {
        self.start
    }

    /// The key group behind the last one.
    #[must_use]
    pub fn end(self) -> u32 {
        self.end.get()
    }

    /// How many key groups the range has: at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(self) -> u32 {
        self.end() - self.start
    }

    /// Whether the range has this key group.
    #[must_use]
    pub fn contains(self, group: u32) -> bool {
        self.start <= group && group < self.end()
    }

    /// The key groups that both ranges have; `None` if they share none.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::of(self.start.max(other.start), self.end().min(other.end()))
    }
}

impl fmt::Display for KeyGroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl From<KeyGroupRange> for Range<u32> {
    fn from(range: KeyGroupRange) -> Self {
        range.start..range.end()
    }
}

impl TryFrom<Range<u32>> for KeyGroupRange {
    type Error = Error;

    /// # Errors
    ///
    /// `is_invalid` if the range is empty.
    fn try_from(range: Range<u32>) -> Result<Self> {
        Self::new(range.start, range.end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn intersection_has_the_groups_that_both_ranges_have(starts in any::<[u8; 2]>(), lens in any::<[u8; 2]>()) {
            let range = |n: usize| KeyGroupRange::of(starts[n].into(), u32::from(starts[n]) + u32::from(lens[n]) + 1).unwrap();
            let (one, other) = (range(0), range(1));
            let both: Vec<_> = (0..600).filter(|group| one.contains(*group) && other.contains(*group)).collect();
            let found: Vec<_> = one.intersection(other).map(Range::from).into_iter().flatten().collect();
            prop_assert_eq!(found, both);
        }
    }
}
