//! One run of bytes in a data file: who names it, and since when.

use smallvec::SmallVec;

use crate::handle::Extent;

/// The place of a checkpoint in the line. It is never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Number(pub(super) u64);

/// An extent that somebody needs.
#[derive(Clone, Debug)]
pub(super) struct ExtentRecord {
    pub(super) len: u64,
    pub(super) crc: u32,
    /// Its bytes were found to be damaged.
    pub(super) bad: bool,
    /// How many names the newest checkpoint of the line has for it.
    names: u32,
    /// How many pending checkpoints refer to it by themselves.
    pub(super) private: u32,
    lives: SmallVec<[Life; 1]>,
}

/// The checkpoints that name an extent: from the first to the one before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    birth: Number,
    end: Number,
}

/// The end of a life that goes on.
const NEVER: Number = Number(u64::MAX);

impl ExtentRecord {
    pub(super) fn new(len: u64, crc: u32) -> Self {
        Self { len, crc, bad: false, names: 0, private: 0, lives: SmallVec::new() }
    }

    /// Whether it is this state, and no other one at its place.
    pub(super) fn is(&self, extent: &Extent) -> bool {
        (self.len, self.crc) == (extent.len, extent.crc)
    }

    /// Whether nobody needs it.
    pub(super) fn is_free(&self) -> bool {
        self.private == 0 && self.lives.is_empty()
    }

    /// Whether a checkpoint of the line names it: then it is durable.
    pub(super) fn is_published(&self) -> bool {
        !self.lives.is_empty()
    }

    /// Whether this checkpoint of the line names it.
    pub(super) fn is_named_by(&self, number: Number) -> bool {
        self.lives.iter().any(|life| life.birth <= number && number < life.end)
    }

    /// Another name of a checkpoint that is just being published.
    pub(super) fn name(&mut self, number: Number) {
        self.names = self.names.saturating_add(1);
        if self.names == 1 {
            self.lives.push(Life { birth: number, end: NEVER });
        }
    }

    /// A name less. With the last one the life ends; returns its birth then.
    pub(super) fn unname(&mut self, number: Number) -> Option<Number> {
        self.names = self.names.saturating_sub(1);
        let life = self.lives.iter_mut().find(|life| self.names == 0 && life.end == NEVER)?;
        life.end = number;
        Some(life.birth)
    }

    /// The checkpoints with this life are gone.
    pub(super) fn forget(&mut self, birth: Number) {
        self.lives.retain(|life| life.birth != birth);
    }

    /// The checkpoint that this life ended with never was, so that it goes on; nor was any that began since.
    pub(super) fn revive(&mut self, birth: Number) {
        if self.lives.iter().any(|life| life.birth == birth) {
            self.lives.retain(|life| life.birth == birth || life.end != NEVER);
            self.lives.iter_mut().filter(|life| life.birth == birth).for_each(|life| life.end = NEVER);
        }
    }

    /// A name that the newest checkpoint, which never was, did not have.
    pub(super) fn name_again(&mut self) {
        self.names = self.names.saturating_add(1);
    }

    /// A name that the newest checkpoint, which never was, had.
    pub(super) fn never_named(&mut self) {
        self.names = self.names.saturating_sub(1);
        if self.names == 0 {
            self.lives.retain(|life| life.end != NEVER);
        }
    }
}
