//! A segment while it is written.

use std::{
    io::IoSlice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

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
/// As much as the highest alignment.
const PADDING: [u8; 4096] = [0; 4096];

/// A file that takes states, as those see it who wait for it to be durable.
#[derive(Debug)]
pub(crate) struct Segment {
    id: FileId,
    /// What the handles of all of its states have in common.
    home: Arc<FileRef>,
    file: VolumeFile,
    /// How far it is durable.
    durable: Durable<Error>,
    /// A sync succeeded: the header is durable.
    begun: AtomicBool,
    /// A sync failed: nothing more goes here.
    broken: AtomicBool,
    /// The name is durable.
    named: AtomicBool,
    /// Nothing more goes here.
    sealed: AtomicBool,
}

/// The one writer of a segment. Dropped, it seals the segment, on whatever path; what was not completed stays behind as
/// dead bytes.
#[derive(Debug)]
pub(super) struct Appender {
    segment: Arc<Segment>,
    registry: Arc<Registry>,
    tag: FileTag,
    alignment: u64,
    /// Behind the last byte that was accepted.
    end: u64,
    /// Before this, writing to the medium was begun.
    started: u64,
    /// Whether `end` is where the file ends.
    intact: bool,
    /// The state that is being streamed.
    entry: Option<Entry>,
}

/// A whole state, and its checksum, which is computed where nobody waits for it. It is written as a whole or not at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload<'a> {
    bytes: &'a [u8],
    crc: u32,
}

#[derive(Debug)]
struct Entry {
    offset: u64,
    /// Of the bytes that the file has accepted.
    crc: crc32fast::Hasher,
}

impl<'a> Payload<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, crc: crc32fast::hash(bytes) }
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

    /// Makes everything before this offset durable. After a failure nothing more of this file ever is: the kernel marks
    /// the bytes clean, and a second sync would lie.
    pub(crate) fn sync_to(&self, end: u64) -> Result<()> {
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
    /// Of a file that has its header and its name.
    pub(super) fn new(
        home: FileRef,
        file: VolumeFile,
        registry: &Arc<Registry>,
        (tag, alignment): (FileTag, u64),
    ) -> Self {
        let segment = Segment {
            id: home.file,
            home: Arc::new(home),
            file,
            durable: Durable::new(HEADER_LEN),
            begun: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            named: AtomicBool::new(false),
            sealed: AtomicBool::new(false),
        };
        Self {
            segment: Arc::new(segment),
            registry: Arc::clone(registry),
            tag,
            alignment,
            end: HEADER_LEN,
            started: 0,
            intact: true,
            entry: None,
        }
    }

    /// How many bytes the file has accepted.
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
        self.segment.broken.load(Ordering::Acquire) || self.registry.is_marked(self.segment.id)
    }

    fn next_offset(&self) -> u64 {
        self.end.next_multiple_of(self.alignment)
    }

    /// Appends a whole state: padding, payload and trailer in one call to the disk, if that takes them all.
    pub(super) fn append(&mut self, payload: &Payload<'_>, checkpoint: CheckpointId) -> Result<Extent> {
        let Payload { bytes: payload, crc } = *payload;
        let offset = self.next_offset();
        let extent = Extent { file: self.segment.id, offset, len: payload.len() as u64, crc };
        let trailer = encode_trailer(self.tag, &extent, checkpoint);
        self.write(&[self.padding(offset), payload, &trailer])?;
        Ok(extent)
    }

    /// Appends a piece of a state that is being streamed.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.entry.is_none() {
            let offset = self.next_offset();
            self.write(&[self.padding(offset)])?;
            self.entry = Some(Entry { offset, crc: crc32fast::Hasher::new() });
        }
        self.write(&[bytes])?;
        if let Some(entry) = &mut self.entry {
            entry.crc.update(bytes);
        }
        self.registry.note_len(self.segment.id, self.end);
        Ok(())
    }

    /// Completes the state that is being streamed.
    pub(super) fn complete(&mut self, checkpoint: CheckpointId) -> Result<Extent> {
        let entry = self.entry.take().ok_or_else(|| Error::invalid("finish a state", "nothing of it was written"))?;
        let Entry { offset, crc } = entry;
        let extent = Extent { file: self.segment.id, offset, len: self.end - offset, crc: crc.finalize() };
        self.write(&[&encode_trailer(self.tag, &extent, checkpoint)])?;
        Ok(extent)
    }

    /// Makes durable what was written.
    pub(super) fn sync(&self) -> Result<()> {
        self.segment.sync_to(self.end)
    }

    fn padding(&self, offset: u64) -> &'static [u8] {
        usize::try_from(offset - self.end).ok().and_then(|len| PADDING.get(..len)).unwrap_or_default()
    }

    /// All of these bytes are accepted, or the segment is given up.
    fn write(&mut self, parts: &[&[u8]]) -> Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        self.intact = false;
        self.segment.file.write_parts_at(&mut slices, self.end)?;
        self.intact = true;
        self.end += len as u64;
        self.segment.durable.accept(self.end);
        if self.end - self.started >= WRITEBACK {
            self.segment.file.start_writeback(self.started, self.end - self.started);
            self.started = self.end;
        }
        Ok(())
    }
}

impl Drop for Appender {
    /// Whoever drops it has the registry tidy up afterwards, where no writer waits.
    fn drop(&mut self) {
        if self.registry.is_in_child() {
            return;
        }
        let len = if self.intact || std::thread::panicking() { Ok(self.end) } else { self.segment.file.len() };
        self.registry.note_len(self.segment.id, len.unwrap_or(self.end));
        self.registry.seal(self.segment.id);
        self.segment.sealed.store(true, Ordering::Release);
    }
}
