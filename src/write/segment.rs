//! A segment while it is written.

use std::{
    io::IoSlice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::durable::Durable;
use crate::{
    disk::file::VolumeFile,
    error::{Error, Result},
    format::segment::{FileTag, HEADER_LEN, TRAILER_LEN, encode_trailer},
    handle::{Extent, FileRef, StateHandle},
    id::{CheckpointId, FileId},
    reclaim::registry::Registry,
};

/// After so many bytes the operating system is told to begin writing them, so that the sync of the commit is short.
const WRITEBACK: u64 = 1 << 20;
/// A state that is longer is not gathered with others: a call for it alone costs less than a copy.
const LONGEST_GATHERED: usize = 16 << 10;
/// A long state is written in pieces of this length. The medium begins with the first piece, and the checksum finds each piece
/// in the cache of the processor. One call for all would make the operating system take huge pages, which a virtual machine
/// often has to request from its host.
const PIECE: usize = 1 << 20;
/// As much as the highest alignment.
const PADDING: [u8; 4096] = [0; 4096];

/// A file that takes states, as those see it who wait for it to be written, or to be durable.
#[derive(Debug)]
pub(crate) struct Segment {
    id: FileId,
    /// What the handles of all of its states have in common.
    home: Arc<FileRef>,
    registry: Arc<Registry>,
    file: VolumeFile,
    /// Held while it is written.
    tail: Mutex<Tail>,
    /// How far it is durable.
    durable: Durable<Error>,
    /// A sync succeeded: the header is durable.
    begun: AtomicBool,
    /// A write or a sync failed: nothing more goes here.
    broken: AtomicBool,
    /// The name is durable.
    named: AtomicBool,
    /// Nothing more goes here.
    sealed: AtomicBool,
}

/// The bytes that were appended and are not written yet: small states go to the file together. If a write fails the bytes
/// stay here, and the next checkpoint that needs them writes them again.
#[derive(Debug)]
struct Tail {
    /// Where it begins: the file has accepted everything before.
    at: u64,
    bytes: Vec<u8>,
    /// Before this, writing to the medium was begun.
    started: u64,
}

/// The one who appends to a segment. Dropped, it seals the segment, on whatever path; what was not completed stays behind
/// as dead bytes.
#[derive(Debug)]
pub(super) struct Appender {
    segment: Arc<Segment>,
    tag: FileTag,
    alignment: u64,
    /// How many bytes the tail may have.
    gathers: usize,
    /// Behind the last byte that was appended.
    end: u64,
    /// The state that is being streamed.
    entry: Option<Entry>,
}

/// A whole state, and its checksum, which is computed where nobody waits for it. It is appended as a whole or not at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload<'a> {
    bytes: &'a [u8],
    crc: u32,
    /// Whether it may wait in memory, to be written together with others.
    gathers: bool,
}

#[derive(Debug)]
struct Entry {
    offset: u64,
    /// Of the bytes that were appended.
    crc: crc32fast::Hasher,
}

impl<'a> Payload<'a> {
    /// One that is written at once.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, crc: crc32fast::hash(bytes), gathers: false }
    }

    /// One that is written together with others, if it is short.
    pub(super) fn gathered(bytes: &'a [u8]) -> Self {
        Self { gathers: bytes.len() <= LONGEST_GATHERED, ..Self::new(bytes) }
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl Segment {
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// The handle of a state in it.
    pub(super) fn handle(&self, extent: &Extent) -> StateHandle {
        StateHandle::in_file(&self.home, extent)
    }

    /// Writes everything before this offset.
    ///
    /// # Errors
    ///
    /// Those of the file system. What was not written may be tried again.
    pub(super) fn write_to(&self, end: u64) -> Result<()> {
        // A child of a fork must not wait for a lock that a thread of its parent had.
        self.file.check_writable()?;
        let mut tail = self.tail.lock();
        if tail.at < end { self.write_out(&mut tail, &[]) } else { Ok(()) }
    }

    /// Writes the tail and what follows it. All of it is accepted, or it counts as not written.
    fn write_out(&self, tail: &mut Tail, more: &[&[u8]]) -> Result<()> {
        let parts = std::iter::once(&*tail.bytes).chain(more.iter().copied()).filter(|part| !part.is_empty());
        let mut slices: Vec<_> = parts.map(IoSlice::new).collect();
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let written = self.file.write_parts_at(&mut slices, tail.at);
        written.inspect_err(|_| self.broken.store(true, Ordering::Release))?;
        self.registry.note_written(tail.bytes.len());
        tail.bytes.clear();
        tail.at += len as u64;
        self.durable.accept(tail.at);
        if self.is_sealed() {
            self.registry.note_len(self.id, tail.at);
        }
        if tail.at - tail.started >= WRITEBACK {
            self.file.start_writeback(tail.started, tail.at - tail.started);
            tail.started = tail.at;
        }
        Ok(())
    }

    /// Makes everything before this offset durable. After a failed sync nothing more of this file ever is: the kernel marks
    /// the bytes clean, and a second sync would lie.
    pub(crate) fn sync_to(&self, end: u64) -> Result<()> {
        self.write_to(end)?;
        let sync = || self.file.sync().inspect_err(|_| self.broken.store(true, Ordering::Release));
        self.durable.sync_to(end, || sync().inspect(|()| self.begun.store(true, Ordering::Release)))
    }

    /// Whether its states can be written again from copies after any crash: its name and its header are durable.
    pub(super) fn can_wait(&self) -> bool {
        self.is_named() && self.begun.load(Ordering::Acquire) && !self.broken.load(Ordering::Acquire)
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    pub(crate) fn is_named(&self) -> bool {
        self.named.load(Ordering::Acquire)
    }

    /// The directory was synced after this file had got its name.
    pub(crate) fn note_named(&self) {
        self.named.store(true, Ordering::Release);
    }
}

impl Appender {
    /// Of a file that has its header and its name. `gathers` is how many bytes the tail may have.
    pub(super) fn new(
        home: FileRef,
        file: VolumeFile,
        registry: &Arc<Registry>,
        (tag, alignment, gathers): (FileTag, u64, usize),
    ) -> Self {
        let segment = Segment {
            id: home.file,
            home: Arc::new(home),
            registry: Arc::clone(registry),
            file,
            tail: Mutex::new(Tail { at: HEADER_LEN, bytes: Vec::new(), started: 0 }),
            durable: Durable::new(HEADER_LEN),
            begun: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            named: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
        };
        Self { segment: Arc::new(segment), tag, alignment, gathers, end: HEADER_LEN, entry: None }
    }

    /// How many bytes the file has when all is written.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Whether a state of this length fits, and the file is worth having more of.
    pub(super) fn takes(&self, len: u64, segment_size: u64) -> bool {
        let end = self.next_offset().saturating_add(len).saturating_add(TRAILER_LEN);
        end <= segment_size && !self.is_worn()
    }

    /// Whether nothing more should go here.
    pub(super) fn is_worn(&self) -> bool {
        self.segment.broken.load(Ordering::Acquire) || self.segment.registry.is_marked(self.segment.id)
    }

    fn next_offset(&self) -> u64 {
        self.end.next_multiple_of(self.alignment)
    }

    /// Appends a whole state: padding, payload and trailer.
    pub(super) fn append(&mut self, payload: &Payload<'_>, checkpoint: CheckpointId) -> Result<Extent> {
        let Payload { bytes: payload, crc, gathers } = *payload;
        let offset = self.next_offset();
        let extent = Extent { file: self.segment.id, offset, len: payload.len() as u64, crc };
        let trailer = encode_trailer(self.tag, &extent, checkpoint);
        self.write(&[self.padding(offset), payload, &trailer], gathers)?;
        Ok(extent)
    }

    /// Appends a piece of a state that is being streamed.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.entry.is_none() {
            let offset = self.next_offset();
            self.write(&[self.padding(offset)], false)?;
            self.entry = Some(Entry { offset, crc: crc32fast::Hasher::new() });
        }
        for piece in bytes.chunks(PIECE) {
            self.write(&[piece], false)?;
            if let Some(entry) = &mut self.entry {
                entry.crc.update(piece);
            }
        }
        self.segment.registry.note_len(self.segment.id, self.end);
        Ok(())
    }

    /// Completes the state that is being streamed.
    pub(super) fn complete(&mut self, checkpoint: CheckpointId) -> Result<Extent> {
        let entry = self.entry.take().ok_or_else(|| Error::invalid("finish a state", "nothing of it was written"))?;
        let Entry { offset, crc } = entry;
        let extent = Extent { file: self.segment.id, offset, len: self.end - offset, crc: crc.finalize() };
        self.write(&[&encode_trailer(self.tag, &extent, checkpoint)], false)?;
        Ok(extent)
    }

    /// Makes durable what was appended.
    pub(super) fn sync(&self) -> Result<()> {
        self.segment.sync_to(self.end)
    }

    fn padding(&self, offset: u64) -> &'static [u8] {
        usize::try_from(offset - self.end).ok().and_then(|len| PADDING.get(..len)).unwrap_or_default()
    }

    /// Appends these bytes, to the tail if they may gather there. If that fails none of them was appended, and the segment is
    /// given up.
    fn write(&mut self, parts: &[&[u8]], gathers: bool) -> Result<()> {
        let Segment { tail, file, registry, .. } = &*self.segment;
        file.check_writable()?;
        let (len, mut tail) = (parts.iter().map(|part| part.len()).sum(), tail.lock());
        if !gathers || len >= self.gathers {
            self.segment.write_out(&mut tail, parts)?;
        } else {
            if tail.bytes.len() + len > self.gathers {
                self.segment.write_out(&mut tail, &[])?;
            }
            for part in parts {
                tail.bytes.extend_from_slice(part);
            }
            registry.note_gathered(len);
        }
        drop(tail);
        self.end += len as u64;
        Ok(())
    }
}

impl Drop for Appender {
    /// Whoever drops it has the registry tidy up afterwards, where no writer waits.
    fn drop(&mut self) {
        if self.segment.registry.is_in_child() {
            return;
        }
        let sealing = Sealing(&self.segment, self.end);
        if !std::thread::panicking() {
            // If this fails, the commit of a checkpoint with states in the tail tries again.
            let _ = self.segment.write_to(self.end);
        }
        drop(sealing);
    }
}

/// Seals a segment that ends here, also if the disk panics in between.
struct Sealing<'a>(&'a Segment, u64);

impl Drop for Sealing<'_> {
    fn drop(&mut self) {
        let Segment { id, registry, file, broken, tail, sealed, .. } = self.0;
        // After a failed write the file may be longer than what was accepted.
        let is_torn = broken.load(Ordering::Acquire) && !std::thread::panicking();
        let len = if is_torn { file.len() } else { Ok(self.1) };
        registry.note_len(*id, len.unwrap_or(self.1));
        registry.seal(*id);
        sealed.store(true, Ordering::Release);
        tail.lock().bytes.shrink_to_fit();
    }
}

impl Drop for Segment {
    /// The bytes in the tail are given up: no checkpoint that could still be committed has states there.
    fn drop(&mut self) {
        let len = self.tail.get_mut().bytes.len();
        if len > 0 && !self.registry.is_in_child() {
            self.registry.note_written(len);
            self.registry.note_cut(self.id, self.file.len().unwrap_or(HEADER_LEN));
        }
    }
}
