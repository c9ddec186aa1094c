//! How much space the store may take, and which files must go for that. Pure: no lock, no file.
//!
//! A file whose live states are few is *marked*: its states should be written anew, so that it can go. `could_reuse` says
//! so, and `reuse` does it. What is marked stays for as long as the checkpoints that refer to it: so marking begins half
//! way between what the live states need and what they may take.

use super::file::FileRecord;
use crate::{
    error::{Error, Result},
    format::segment::{HEADER_LEN, MIN_ALIGNMENT, entry_end},
    options::Options,
};

/// So many bytes may be punched out at the end of whatever gave space back, however little it wrote.
pub(crate) const LEAST_PUNCHED: u64 = 1 << 20;
/// An open file is not marked for less garbage than this part of a segment: opening another one costs a directory sync.
const OPEN_GARBAGE: u64 = 4;

#[derive(Clone, Copy, Debug)]
pub(crate) struct SpacePolicy {
    /// What the files may take in relation to what their live states need; `None` for as much as they like.
    max_amplification: Option<f64>,
    segment_size: u64,
    alignment: u64,
    pub(crate) punch: bool,
}

impl SpacePolicy {
    /// Refuses what no store can be opened with.
    pub(crate) fn of(options: &Options) -> Result<Self> {
        if let Some(ratio) = options.max_space_amplification.filter(|ratio| !(ratio.is_finite() && *ratio >= 1.0)) {
            return Err(Error::invalid(
                "set max_space_amplification",
                format!("{ratio} is not a number of at least 1"),
            ));
        }
        let alignment = u64::from(options.alignment);
        if !alignment.is_power_of_two() || !(MIN_ALIGNMENT..=4096).contains(&alignment) {
            let why = format!("{alignment} is not a power of two from {MIN_ALIGNMENT} to 4096");
            return Err(Error::invalid("set alignment", why));
        }
        if options.segment_size == 0 {
            return Err(Error::invalid("set segment_size", "a segment has at least 1 byte"));
        }
        Ok(Self {
            max_amplification: options.max_space_amplification,
            segment_size: options.segment_size,
            alignment,
            punch: options.punch_holes,
        })
    }

    /// What a state of this length would take in a segment.
    pub(super) fn entry(&self, len: u64) -> u64 {
        entry_end(0, len).checked_next_multiple_of(self.alignment).unwrap_or(u64::MAX)
    }

    /// What a file takes before its first state.
    pub(super) fn base(&self) -> u64 {
        HEADER_LEN.next_multiple_of(self.alignment)
    }

    /// Whether a sealed file takes so much more than what is alive in it that rewriting helps.
    pub(super) fn is_wasteful(&self, file: &FileRecord) -> bool {
        let ratio = self.max_amplification.filter(|_| !file.is_open() && !file.marked);
        ratio.is_some_and(|ratio| times(file.footprint(), ratio) < file.size())
    }

    /// How much the files that are not marked should take, and from how much garbage on an open one is marked, if so much
    /// is alive.
    pub(super) fn limits(&self, footprint: u64) -> Option<Limits> {
        let ratio = self.max_amplification?;
        let unmarked = times(footprint, f64::midpoint(1.0, ratio));
        let (open_garbage, least_open_garbage) = (times(footprint, ratio), self.segment_size / OPEN_GARBAGE);
        Some(Limits { unmarked, open_garbage, least_open_garbage })
    }
}

/// What follows from the policy and from what is alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) unmarked: u64,
    /// Of all open files.
    pub(super) open_garbage: u64,
    /// Of any one.
    pub(super) least_open_garbage: u64,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bound on space may be off by a millionth, and the conversion saturates"
)]
fn times(bytes: u64, ratio: f64) -> u64 {
    (bytes as f64 * ratio).round() as u64
}
