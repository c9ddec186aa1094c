//! Bytes of a file in memory. The `unsafe` of the crate is here and in `process.rs`.
//!
//! A mapping of a file that another process cuts shorter raises SIGBUS on access, and bytes that somebody changes
//! underneath change under a `&[u8]`. The store rules both out for its own part: a slice is only ever made of a range
//! that a live state has, and such bytes are neither changed nor cut. The rest of a mapped file may change: its tail
//! grows, and ranges without live states are punched out. So no slice of a whole mapping is ever made here.
//! Against others with write access to the directory a mapping has no defence; `Checkpoint::reader` reads without one.

use std::{fmt, fs::File, io, ops::Range};

/// A read-only run of bytes, mapped from a file or held in memory.
pub struct Mapping(Bytes);

enum Bytes {
    Mapped(memmap2::MmapRaw),
    Held(Box<[u8]>),
}

impl Mapping {
    /// For a [`Disk`](super::Disk) that cannot map files: the bytes themselves.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(Bytes::Held(bytes.into()))
    }

    /// Maps a range that the caller has checked to lie inside the file.
    pub(super) fn of_file(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self::from_bytes([]));
        }
        let mut options = memmap2::MmapOptions::new();
        Ok(Self(Bytes::Mapped(options.offset(offset).len(len).map_raw_read_only(file)?)))
    }

    /// Reads a part of it into memory, so that a look at it is no fault; an error where the medium has one, or if the part
    /// does not lie inside. Bytes that are held are there.
    pub(crate) fn read_ahead(&self, part: Range<usize>) -> io::Result<()> {
        if part.start > part.end || part.end > self.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match &self.0 {
            #[cfg(target_os = "linux")]
            Bytes::Mapped(map) => map.advise_range(memmap2::Advice::PopulateRead, part.start, part.len()),
            #[cfg(not(target_os = "linux"))]
            Bytes::Mapped(_) => Err(io::ErrorKind::Unsupported.into()),
            Bytes::Held(_) => Ok(()),
        }
    }

    /// Hints that a part will be [read](Self::read_ahead) soon. Nothing is promised.
    pub(crate) fn begin_to_read(&self, part: Range<usize>) {
        #[cfg(target_os = "linux")]
        if let Bytes::Mapped(map) = &self.0
            && part.start < part.end
            && part.end <= map.len()
        {
            let _ = map.advise_range(memmap2::Advice::WillNeed, part.start, part.len());
        }
        #[cfg(not(target_os = "linux"))]
        let _ = part;
    }

    /// Whether this system has [`read_ahead`](Self::read_ahead): Linux since 5.14. The kernel is asked once.
    pub(super) fn can_read_ahead() -> bool {
        #[cfg(target_os = "linux")]
        {
            static CAN: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
                let page = memmap2::MmapOptions::new().len(1).map_anon();
                page.is_ok_and(|page| page.advise(memmap2::Advice::PopulateRead).is_ok())
            });
            *CAN
        }
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// How many bytes are mapped.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Bytes::Mapped(map) => map.len(),
            Bytes::Held(bytes) => bytes.len(),
        }
    }

    /// Whether no byte is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A part of the mapping; `None` if it does not lie inside. It must be a part that nobody changes while the slice
    /// lives, as [`DiskFile::map`](super::DiskFile::map) says: which parts those are only the crate knows.
    #[expect(unsafe_code, reason = "a slice of a mapping can be had in no safe way")]
    pub(crate) fn get(&self, part: Range<usize>) -> Option<&[u8]> {
        if part.start > part.end || part.end > self.len() {
            return None;
        }
        match &self.0 {
            // SAFETY: the part lies inside the mapping, which lives as long as the slice does. These bytes are published:
            // this crate neither changes nor cuts them while anybody can look at them, which is the promise that
            // `DiskFile::map` asks of everybody.
            Bytes::Mapped(map) => Some(unsafe { std::slice::from_raw_parts(map.as_ptr().add(part.start), part.len()) }),
            Bytes::Held(bytes) => bytes.get(part),
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({} bytes)", self.len())
    }
}
