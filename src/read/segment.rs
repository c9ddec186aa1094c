//! What an open checkpoint keeps of a data file: its mapping, and which of its states were found to be right.

use std::{
    io,
    ops::Range,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    files::Permit,
    once_map::{OnceMap, Place},
    pin::Pin,
    verify,
};
use crate::{
    disk::Mapping,
    error::Malformed,
    format::segment::{FileTag, MIN_ALIGNMENT, entry_end},
    handle::Extent,
    id::FileId,
    manifest::DataFile,
};

/// A mapping is read by at most so many bytes at a time.
const MOST_AHEAD: usize = 4 << 20;
/// While states are verified in the order in which they lie in the file, at least so many.
const LEAST_AHEAD: usize = 64 << 10;

/// How many threads at most read one file ahead at the same time, each in a part of its own.
const MOST_SCANS: usize = 16;

/// Bytes that were read ahead are taken to be in memory for this long.
const BELIEVED: Duration = Duration::from_millis(10);

/// Where a state begins.
#[derive(Debug, PartialEq)]
struct Offset(u64);

impl Place for Offset {
    fn place(&self) -> u64 {
        self.0 / MIN_ALIGNMENT
    }
}

impl Place for FileId {
    fn place(&self) -> u64 {
        self.sequence ^ self.generation.rotate_left(40) ^ u64::from(self.lane).rotate_left(48)
    }
}

/// A data file of an open checkpoint. Its views have it, and with it what keeps the checkpoint readable.
///
/// Nothing of it shares a cache line with the count of those that have it, which changes with every view.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Segment {
    data: DataFile,
    tag: FileTag,
    /// States that may be given out: how long they are, and their checksums.
    known: OnceMap<Offset, (u64, u32)>,
    mapping: OnceLock<(Mapping, Permit)>,
    /// One for each thread that goes over the file in order, the one used last at the end. A thread takes its own out while it
    /// reads the medium.
    ahead: Mutex<Vec<Ahead>>,
    /// Goes after the mapping.
    #[expect(dead_code, reason = "held for what it keeps")]
    pin: Arc<Pin>,
}

/// The part of a mapping that one thread read last.
#[derive(Debug, Default)]
struct Ahead {
    done: Range<usize>,
    /// When that was.
    when: Option<Instant>,
    /// How much was read beyond what was asked for.
    step: usize,
}

impl Segment {
    pub(super) fn new(data: DataFile, pin: &Arc<Pin>) -> Self {
        let (known, mapping, ahead) = (OnceMap::default(), OnceLock::new(), Mutex::default());
        Self { tag: verify::tag_of(&data), data, known, mapping, ahead, pin: Arc::clone(pin) }
    }

    pub(super) fn data(&self) -> &DataFile {
        &self.data
    }

    /// Whether a state may be given out without another look.
    pub(super) fn knows(&self, extent: &Extent) -> bool {
        self.known.get(&Offset(extent.offset)) == Some(&(extent.len, extent.crc))
    }

    pub(super) fn note(&self, extent: &Extent) {
        self.known.add(Offset(extent.offset), (extent.len, extent.crc));
    }

    pub(super) fn mapping(&self) -> Option<&Mapping> {
        self.mapping.get().map(|(mapping, _)| mapping)
    }

    /// Keeps a mapping of the whole file, unless somebody has done so just now.
    pub(super) fn keep(&self, mapping: Mapping, permit: Permit) -> &Mapping {
        &self.mapping.get_or_init(|| (mapping, permit)).0
    }

    /// Where a state lies in the mapping; `None` if it does not.
    pub(super) fn place(&self, extent: &Extent) -> Option<Range<usize>> {
        let [start, end] = [extent.offset, extent.end()].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
        (end <= self.mapping()?.len()).then_some(start..end)
    }

    /// A part of the mapping: that of a state which was found to lie in it.
    pub(super) fn part(&self, part: &Range<usize>) -> &[u8] {
        self.mapping().and_then(|mapping| mapping.get(part.clone())).unwrap_or_default()
    }

    /// Forgets what was read ahead: the next verification reads it again.
    pub(super) fn read_anew(&self) {
        self.ahead.lock().clear();
    }

    /// Takes out the entry of the thread that has come to this place. The caller gives it back after it has read on.
    fn take_ahead(&self, place: usize) -> Ahead {
        let mut all = self.ahead.lock();
        let found = all.iter().position(|ahead| ahead.is_before(place));
        found.map(|at| all.remove(at)).unwrap_or_default()
    }

    fn give_back(&self, ahead: Ahead) {
        let mut all = self.ahead.lock();
        if all.len() == MOST_SCANS {
            all.remove(0);
        }
        all.push(ahead);
    }

    /// Verifies a state where it is mapped, and what is behind it. `None` if the bytes cannot be had there without the
    /// danger of a SIGBUS.
    pub(super) fn verify(&self, mapping: &Mapping, extent: &Extent) -> Option<Result<(), Malformed>> {
        let [start, end, behind] = [extent.offset, extent.end(), entry_end(extent.offset, extent.len)]
            .map(|offset| usize::try_from(offset).unwrap_or(usize::MAX));
        let mut crc = crc32fast::Hasher::new();
        self.read(mapping, start..behind, mapping.len(), |piece| {
            crc.update(mapping.get(piece.start.min(end)..piece.end.min(end))?);
            Some(())
        })?;
        let trailer = mapping.get(end..behind)?;
        Some(self.check_trailer(trailer, extent).and_then(|()| verify::checksum(extent, crc.finalize())))
    }

    /// Computes the checksum of a part of a state where it is mapped, and reads ahead up to `until` at most. `None` if the bytes
    /// cannot be had there without the danger of a SIGBUS.
    pub(super) fn checksum(&self, mapping: &Mapping, part: Range<usize>, until: usize) -> Option<u32> {
        let mut crc = crc32fast::Hasher::new();
        self.read(mapping, part, until, |piece| {
            crc.update(mapping.get(piece)?);
            Some(())
        })?;
        Some(crc.finalize())
    }

    /// Checks that these bytes are the trailer of a state.
    pub(super) fn check_trailer(&self, trailer: &[u8], extent: &Extent) -> Result<(), Malformed> {
        verify::trailer(trailer, extent, (self.tag, &self.data))
    }

    /// Reads a part of the mapping into memory, piece by piece, and looks at each piece.
    fn read(
        &self,
        mapping: &Mapping,
        part: Range<usize>,
        until: usize,
        mut look: impl FnMut(Range<usize>) -> Option<()>,
    ) -> Option<()> {
        let (mut at, mut ahead) = (part.start, self.take_ahead(part.start));
        while at < part.end {
            let next = part.end.min(at.saturating_add(MOST_AHEAD));
            ahead.read(mapping, at..next, until).ok()?;
            look(at..next)?;
            at = next;
        }
        self.give_back(ahead);
        Some(())
    }
}

impl Ahead {
    /// Whether the part, or the next one, begins before this place and reaches it.
    fn is_before(&self, place: usize) -> bool {
        self.done.start <= place && place <= self.done.end.saturating_add(self.step.max(LEAST_AHEAD))
    }

    /// Reads a part of a mapping, and more if it begins where the last one ended, at most up to `until`. Bytes that were read
    /// stay in memory until memory runs short or another process cuts the file. So they are trusted for a short time only.
    fn read(&mut self, mapping: &Mapping, part: Range<usize>, until: usize) -> io::Result<()> {
        let is_there = self.done.start <= part.start && part.end <= self.done.end;
        if is_there && self.when.is_some_and(|when| when.elapsed() < BELIEVED) {
            return Ok(());
        }
        let follows = self.is_before(part.start);
        self.step = if follows { (self.step * 2).clamp(LEAST_AHEAD, MOST_AHEAD) } else { 0 };
        let end = part.end.max(part.start.saturating_add(self.step).min(until));
        self.done = part.start..end;
        // What is beyond may be somebody else's damage.
        let done = mapping.read_ahead(self.done.clone()).or_else(|_| {
            self.done = part.clone();
            mapping.read_ahead(part)
        });
        if follows && done.is_ok() {
            // The medium reads the next part while the caller looks at this one.
            let next = self.done.end..self.done.end.saturating_add(self.step).min(until);
            mapping.begin_to_read(next);
        }
        self.when = Some(Instant::now());
        done.inspect_err(|_| *self = Self::default())
    }
}
