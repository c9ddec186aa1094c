//! Bytes of a file in memory. The only `unsafe` of the crate is here.
//!
//! A mapping of a file that another process cuts shorter raises SIGBUS on access, and bytes that somebody changes
//! underneath change under a `&[u8]`. The store rules both out for its own part: it maps published bytes alone, bounded
//! by the handle that names them, and never changes or cuts published bytes. Against others with write access to the
//! directory a mapping has no defence; `Checkpoint::reader` reads without one.

use std::{fmt, fs::File, io, ops::Deref};

/// A read-only run of bytes, mapped from a file or held in memory.
pub struct Mapping(Bytes);

enum Bytes {
    Mapped(memmap2::Mmap),
    Held(Box<[u8]>),
}

impl Mapping {
    /// For a [`Disk`](super::Disk) that cannot map files: the bytes themselves.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(Bytes::Held(bytes.into()))
    }

    /// Maps a range that the caller has checked to lie inside the file.
    #[expect(unsafe_code, reason = "memmap2 has no safe way to map a file")]
    pub(super) fn of_file(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self::from_bytes([]));
        }
        let mut options = memmap2::MmapOptions::new();
        options.offset(offset).len(len);
        // SAFETY: the range lies inside the file and is published: this crate neither changes nor cuts it while any
        // mapping is alive, which is the promise that `DiskFile::map` asks of everybody.
        let map = unsafe { options.map(file)? };
        Ok(Self(Bytes::Mapped(map)))
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(map) => map,
            Bytes::Held(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({} bytes)", self.len())
    }
}
