//! An open file that knows its name: the calls of [`DiskFile`], with errors that name the file, repeated where a call was
//! only interrupted.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
};

use super::{At, DiskFile, Mapping, anchor::Opener};
use crate::{
    error::{Error, Malformed, Result},
    observe,
};

/// How much is read at a time, where a file is read piece by piece.
const PIECE: u64 = 256 * 1024;

/// An open file that knows its name.
#[derive(Debug)]
pub(crate) struct VolumeFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    syncs: bool,
    opener: Opener,
}

impl VolumeFile {
    pub(super) fn new(file: Box<dyn DiskFile>, path: PathBuf, syncs: bool, opener: Opener) -> Self {
        Self { file, path, syncs, opener }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn renamed(&mut self, path: PathBuf) {
        self.path = path;
    }

    pub(super) fn is_at(&self, at: At<'_>) -> io::Result<Option<bool>> {
        self.file.is_at(at)
    }

    pub(crate) fn len(&self) -> Result<u64> {
        self.file.len().map_err(|e| Error::io("look at", &self.path, e))
    }

    /// Fails if the file ends before this offset. A length that says so is not believed at once: a file system in user
    /// space may answer with one that it remembers, and corrects it on a read behind that length.
    pub(crate) fn check_reaches(&self, end: u64) -> Result<()> {
        let len = self.len()?;
        if len >= end || self.read_at(&mut [0], end - 1)? > 0 {
            return Ok(());
        }
        Err(Malformed::new(len, "the file ends here").at("check", &self.path))
    }

    /// Reads some bytes; 0 at the end of the file, and where no file can have any.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        if i64::try_from(offset).is_err() {
            return Ok(0);
        }
        loop {
            match self.file.read_at(buffer, offset) {
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", &self.path, error)),
            }
        }
    }

    /// Fills the buffer; a file that ends before is damaged.
    pub(crate) fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> Result<()> {
        while !buffer.is_empty() {
            let n = self.read_at(buffer, offset)?;
            if n == 0 {
                return Err(Malformed::new(offset, "the file ends here").at("read", &self.path));
            }
            buffer = buffer.get_mut(n..).unwrap_or_default();
            offset += n as u64;
        }
        Ok(())
    }

    /// Reads a run of bytes into memory of its own.
    pub(crate) fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let room = usize::try_from(len).ok().filter(|len| bytes.try_reserve_exact(*len).is_ok());
        let room = room.ok_or_else(|| Error::io("read", &self.path, io::ErrorKind::OutOfMemory.into()))?;
        bytes.resize(room, 0);
        self.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// The CRC-32 of a run of bytes, read piece by piece; each piece is handed on as well. A file that ends before is
    /// damaged.
    pub(crate) fn checksum(&self, mut offset: u64, len: u64, mut hand_on: impl FnMut(&[u8])) -> Result<u32> {
        let end = offset.saturating_add(len);
        let mut crc = crc32fast::Hasher::new();
        let mut piece = Vec::new();
        while offset < end {
            let len = PIECE.min(end - offset);
            piece.resize(usize::try_from(len).unwrap_or_default(), 0);
            self.read_exact_at(&mut piece, offset)?;
            crc.update(&piece);
            hand_on(&piece);
            offset += len;
        }
        Ok(crc.finalize())
    }

    /// Refuses in a process that may not write: a child of the one that opened the file.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.opener.check("write", &self.path)
    }

    /// Writes all bytes, in as many pieces as the file takes.
    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_parts_at(&mut [IoSlice::new(bytes)], offset)
    }

    /// Writes several runs of bytes one after the other, in as many pieces as the file takes.
    pub(crate) fn write_parts_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> Result<()> {
        self.check_writable()?;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let offered: usize = parts.iter().map(|part| part.len()).sum();
            match self.file.write_vectored_at(parts, offset) {
                Ok(n) if n == 0 || n > offered => {
                    return Err(Error::io("write", &self.path, io::ErrorKind::WriteZero.into()));
                }
                Ok(n) => {
                    IoSlice::advance_slices(&mut parts, n);
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("write", &self.path, error)),
            }
        }
        Ok(())
    }

    /// Fills an empty file with zeros up to this length, if that makes later writes cheaper; else leaves it as it is, and
    /// returns false.
    pub(crate) fn fill(&self, len: u64) -> Result<bool> {
        self.opener.check("fill", &self.path)?;
        match self.file.fill(len) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
            filled => filled.map(|()| true).map_err(|error| Error::io("fill", &self.path, error)),
        }
    }

    /// Hints that these bytes are complete, so that the sync of them is short.
    pub(crate) fn start_writeback(&self, offset: u64, len: u64) {
        if self.syncs {
            self.file.start_writeback(offset, len);
        }
    }

    /// Makes the bytes durable. Never called twice for the same bytes: after a failure they count as lost.
    pub(crate) fn sync(&self) -> Result<()> {
        self.opener.check("sync", &self.path)?;
        if !self.syncs {
            return Ok(());
        }
        observe::note_sync();
        self.file.sync_data().map_err(|e| Error::io("sync", &self.path, e))
    }

    pub(crate) fn maps_lazily(&self) -> bool {
        self.file.maps_lazily() && Mapping::can_read_ahead()
    }

    /// Maps a range; a file that ends before is damaged.
    pub(crate) fn map(&self, offset: u64, len: u64) -> Result<Mapping> {
        let short = |what: String| Malformed::new(offset, what).at("map", &self.path);
        let bytes = usize::try_from(len).map_err(|_| short(format!("{len} bytes do not fit into memory")))?;
        self.file.map(offset, bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => short(error.to_string()),
            _ => Error::io("map", &self.path, error),
        })
    }
}
