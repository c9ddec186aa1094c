//! Numbers that name things: checkpoints, stores, files.

use std::{fmt, num::NonZeroU64};

use serde::{Deserialize, Serialize};

/// The number of a checkpoint: above zero, strictly increasing, never reused.
///
/// # Examples
///
/// ```
/// use piton::CheckpointId;
///
/// let first = CheckpointId::FIRST;
/// assert_eq!(first.get(), 1);
/// assert_eq!(first.next(), CheckpointId::new(2));
/// assert_eq!(CheckpointId::new(0), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct CheckpointId(NonZeroU64);

/// The last id, and the last generation: 2^63 - 1.
pub(crate) const LAST: u64 = u64::MAX >> 1;

impl CheckpointId {
    /// The id that a new store begins with: 1.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// An id from a number; `None` for zero, and for 2^63 and above.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(id) if number <= LAST => Some(Self(id)),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The id that follows; `None` after the last one, 2^63 - 1.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0.get().saturating_add(1))
    }
}

impl TryFrom<u64> for CheckpointId {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        Self::new(number).ok_or("a checkpoint id is at least 1 and below 2^63")
    }
}

impl From<CheckpointId> for u64 {
    fn from(id: CheckpointId) -> Self {
        id.get()
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The random identity of one store, in every file it writes: a file of another store is never mistaken for its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoreId(pub(crate) [u8; 16]);

impl StoreId {
    /// Reads the text form: 32 lower-case hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut id = [0; 16];
        if pairs.len() != id.len() || !rest.is_empty() || !text.bytes().all(is_digit) {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(pairs) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

/// To whom a state belongs, and in which directory its file lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// To one checkpoint alone.
    Exclusive,
    /// To this checkpoint and to every later one that reuses it.
    Shared,
}

/// The lane of a data file that has one state for itself.
pub(crate) const NO_LANE: u16 = 0;

/// A member has the sequences of its data files from here on, times its number: see [`FileId::first_of`].
const SEQUENCES_OF_A_MEMBER: u32 = 40;
/// The highest number of a member: above it sequences would not fit.
pub(crate) const LAST_MEMBER: u32 = (1 << 23) - 1;

/// The number of a data file, unique in its store: see `docs/format.md`, "Names".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct FileId {
    pub(crate) scope: Scope,
    /// The generation of the store that wrote it.
    pub(crate) generation: u64,
    /// Which of the files that are open at the same time, or [`NO_LANE`].
    pub(crate) lane: u16,
    /// Counts the files of one generation, lane and scope.
    pub(crate) sequence: u64,
}

impl FileId {
    /// The first sequence of a member; 0 is the store itself.
    pub(crate) fn first_of(member: u32) -> u64 {
        (u64::from(member) << SEQUENCES_OF_A_MEMBER) + 1
    }

    /// The number of the member that wrote the file; 0 for the store itself.
    pub(crate) fn member(&self) -> u64 {
        self.sequence >> SEQUENCES_OF_A_MEMBER
    }
}
