//! A disk and the root of a store on it: the calls that the rest of the crate makes, with errors that name the file,
//! repeated where a call was only interrupted.
//!
//! The volume also remembers the first failure after which nobody can know what is durable: from then on it refuses to
//! write, until the store is reopened and looks for itself.

use std::{
    io::{self, IoSlice},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use super::{DirEntry, Disk, DiskFile, Lock, Mapping, Metadata};
use crate::error::{Cause, Error, Malformed, Result};

/// How much is read at a time, where a file is read piece by piece.
const PIECE: u64 = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Volume {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Off for `Durability::None`.
    syncs: bool,
    poison: OnceLock<Error>,
    /// Held during a directory sync: if it fails, nobody else's sync of the same names may seem to succeed after it.
    dir_sync: Mutex<()>,
    /// Files that could not be removed; the next sweep tries again.
    leftovers: Mutex<Vec<PathBuf>>,
}

/// Checks the first bytes of a file and its length.
type CheckHead = fn(&[u8], u64) -> std::result::Result<(), Malformed>;

/// An open file that knows its name.
#[derive(Debug)]
pub(crate) struct VolumeFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    syncs: bool,
}

impl Volume {
    pub(crate) fn new(disk: Arc<dyn Disk>, root: PathBuf, syncs: bool) -> Self {
        Self { disk, root, syncs, poison: OnceLock::new(), dir_sync: Mutex::default(), leftovers: Mutex::default() }
    }

    /// Another root on the same disk, where everything is synced.
    pub(crate) fn elsewhere(&self, root: PathBuf) -> Self {
        Self::new(Arc::clone(&self.disk), root, true)
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Whether what is made here is made durable.
    pub(crate) fn syncs(&self) -> bool {
        self.syncs
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        let name = name.as_ref();
        // Joined to nothing it would end with a slash, which says that it is a directory.
        if name.as_os_str().is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    /// Refuses to write once the volume is poisoned.
    pub(crate) fn check_writable(&self, operation: &str) -> Result<()> {
        match self.poison.get() {
            Some(first) => Err(Error::at(operation, &self.root, Cause::Poisoned(first.clone()))),
            None => Ok(()),
        }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    /// Latches the first failure after which the durable state is unknown.
    pub(crate) fn poison(&self, cause: &Error) {
        // A later failure adds nothing: the first one stays.
        let _ = self.poison.set(cause.clone());
    }

    /// Creates a directory if it is missing; a file or a link under its name is an error.
    pub(crate) fn ensure_dir(&self, name: impl AsRef<Path>) -> Result<()> {
        let path = self.path(name);
        match self.disk.create_dir(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = self.disk.metadata(&path).map_err(|e| Error::io("look at", &path, e))?;
                match found.kind {
                    super::FileKind::Dir => Ok(()),
                    _ => Err(Error::io("create directory", &path, io::ErrorKind::NotADirectory.into())),
                }
            }
            Err(error) => Err(Error::io("create directory", &path, error)),
        }
    }

    pub(crate) fn list(&self, name: impl AsRef<Path>) -> Result<Vec<DirEntry>> {
        let path = self.path(name);
        self.disk.list(&path).map_err(|e| Error::io("list", &path, e))
    }

    /// What is under this name; `None` if nothing is.
    pub(crate) fn metadata(&self, name: impl AsRef<Path>) -> Result<Option<Metadata>> {
        let path = self.path(name);
        match self.disk.metadata(&path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look at", &path, error)),
        }
    }

    pub(crate) fn open(&self, name: impl AsRef<Path>) -> Result<VolumeFile> {
        let path = self.path(name);
        match self.disk.open(&path) {
            Ok(file) => Ok(VolumeFile { file, path, syncs: self.syncs }),
            Err(error) => Err(Error::io("open", &path, error)),
        }
    }

    /// The bytes of a whole file; `None` if there is none.
    pub(crate) fn read_if_there(&self, name: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
        let file = match self.open(name) {
            Err(error) if error.is_not_found() => return Ok(None),
            file => file?,
        };
        file.read(0, file.len()?).map(Some)
    }

    /// A new file under a temporary name in this directory, and that name.
    pub(super) fn create_temp(&self, dir: &Path) -> Result<(VolumeFile, PathBuf)> {
        let path = self.path(dir);
        let (name, file) = self.disk.create_temp(&path).map_err(|e| Error::io("create a file in", &path, e))?;
        Ok((VolumeFile { file, path: path.join(&name), syncs: self.syncs }, dir.join(name)))
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let to = self.path(to);
        self.disk.rename(&self.path(from), &to).map_err(|e| Error::io("rename a file to", &to, e))
    }

    pub(super) fn rename_new(&self, from: &Path, to: &Path) -> Result<()> {
        let to = self.path(to);
        self.disk.rename_new(&self.path(from), &to).map_err(|e| Error::io("publish", &to, e))
    }

    /// Removes a file that may be gone already. After a failure the name tells: a call may fail that took effect.
    pub(crate) fn remove(&self, name: &Path) -> Result<()> {
        let path = self.path(name);
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        match self.disk.remove(&path) {
            Ok(()) => Ok(()),
            Err(error) if gone(&error) || self.disk.metadata(&path).as_ref().is_err_and(gone) => Ok(()),
            Err(error) => Err(Error::io("remove", &path, error)),
        }
    }

    /// Removes a directory; one that is not empty stays, and so does each on a disk that cannot do this.
    pub(crate) fn remove_dir(&self, name: impl AsRef<Path>) -> Result<()> {
        use io::ErrorKind::{DirectoryNotEmpty, NotFound, Unsupported};
        let path = self.path(name);
        match self.disk.remove_dir(&path) {
            Err(error) if !matches!(error.kind(), NotFound | DirectoryNotEmpty | Unsupported) => {
                Err(Error::io("remove directory", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes a file that nobody needs. On failure it is remembered: [`Volume::retry_leftovers`] tries again.
    pub(crate) fn discard(&self, name: &Path) -> Result<()> {
        self.remove(name).inspect_err(|_| self.leftovers.lock().push(name.to_owned()))
    }

    /// What could not be removed before.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        self.leftovers.lock().clone()
    }

    /// Tries to remove what could not be removed before; returns what still resists.
    pub(crate) fn retry_leftovers(&self) -> Vec<Error> {
        let leftovers = std::mem::take(&mut *self.leftovers.lock());
        leftovers.iter().filter_map(|name| self.discard(name).err()).collect()
    }

    /// Gives ranges of a file back to the file system; false if it cannot do this.
    pub(crate) fn punch_holes(&self, name: &Path, ranges: &[Range<u64>]) -> Result<bool> {
        let path = self.path(name);
        match self.disk.punch_holes(&path, ranges) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
            Err(error) => Err(Error::io("punch holes into", &path, error)),
        }
    }

    /// Makes the names in a directory durable. A failure leaves those of everybody unknown, so it poisons the volume;
    /// but not if the directory could not even be opened for want of descriptors.
    pub(crate) fn sync_dir(&self, name: impl AsRef<Path>) -> Result<()> {
        if !self.syncs {
            return Ok(());
        }
        let path = self.path(name);
        let _alone = self.dir_sync.lock();
        self.check_writable("sync directory")?;
        self.disk.sync_dir(&path).map_err(|e| Error::io("sync directory", &path, e)).inspect_err(|error| {
            if !error.is_out_of_files() {
                self.poison(error);
            }
        })
    }

    /// The same for names that can be seen already: whatever the failure, nobody knows whether they survive a power cut.
    pub(crate) fn settle_dir(&self, name: impl AsRef<Path>) -> Result<()> {
        self.sync_dir(name).map_err(|error| self.in_doubt(error))
    }

    /// After this failure nobody knows what is on disk.
    pub(crate) fn in_doubt(&self, error: Error) -> Error {
        self.poison(&error);
        error.indeterminate()
    }

    /// Makes the names of the root and of everything above it durable, as far as these directories can be synced: most of
    /// them are not ours.
    pub(crate) fn sync_above_root(&self) -> Result<()> {
        let above = self.root.ancestors().skip(1).take_while(|_| self.syncs);
        for dir in above {
            match self.disk.sync_dir(dir) {
                Err(error) if cannot_be_synced(error.kind()) => {}
                synced => synced.map_err(|e| Error::io("sync directory", dir, e))?,
            }
        }
        Ok(())
    }

    /// Takes the lock that a file stands for.
    pub(crate) fn lock(&self, name: &str, owner: &str) -> Result<Box<dyn super::LockGuard>> {
        let path = self.path(name);
        match self.disk.try_lock(&path, owner).map_err(|e| Error::io("lock", &path, e))? {
            Lock::Taken(guard) => Ok(guard),
            Lock::Held(owner) => {
                let owner = if owner.is_empty() { "another process".to_owned() } else { owner };
                Err(Error::at("lock", &path, Cause::Locked { owner }))
            }
        }
    }

    /// Keeps a file from being claimed by another process; `None` if somebody has claimed it, or it is gone.
    pub(crate) fn pin(&self, name: &Path) -> Result<Option<Box<dyn super::LockGuard>>> {
        let path = self.path(name);
        match self.disk.pin(&path) {
            Ok(Lock::Taken(guard)) => Ok(Some(guard)),
            Ok(Lock::Held(_)) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("pin", &path, error)),
        }
    }

    /// Removes a file that may be gone already, and returns how many bytes it had; `None` if somebody has pinned it.
    pub(crate) fn remove_unpinned(&self, name: &Path) -> Result<Option<u64>> {
        let path = self.path(name);
        let Some(found) = self.metadata(name)?.filter(|found| found.kind == super::FileKind::File) else {
            // Nobody pins what is no file.
            return self.remove(name).map(|()| Some(0));
        };
        let _claim = match self.disk.claim(&path) {
            Ok(Lock::Taken(guard)) => guard,
            Ok(Lock::Held(_)) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(0)),
            Err(error) => return Err(Error::io("remove", &path, error)),
        };
        self.remove(name).map(|()| Some(found.len))
    }

    /// Reads a whole file and makes a noun of it. Its first bytes, at most `head_len`, and its length are checked before
    /// memory is taken for more.
    pub(crate) fn parse<T>(
        &self,
        name: impl AsRef<Path>,
        operation: &str,
        (head_len, check_head): (usize, CheckHead),
        parse: impl FnOnce(&[u8]) -> std::result::Result<T, Malformed>,
    ) -> Result<T> {
        let file = self.open(name)?;
        let len = file.len()?;
        let head = file.read(0, len.min(head_len as u64))?;
        check_head(&head, len).map_err(|e| e.at(operation, file.path()))?;
        let bytes = if head.len() as u64 == len { head } else { file.read(0, len)? };
        parse(&bytes).map_err(|e| e.at(operation, file.path()))
    }
}

impl VolumeFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn renamed(&mut self, path: PathBuf) {
        self.path = path;
    }

    pub(crate) fn len(&self) -> Result<u64> {
        self.file.len().map_err(|e| Error::io("look at", &self.path, e))
    }

    /// Fails if the file ends before this offset. A length that says so is not believed at once: a file system in user
    /// space may answer with one that it remembers, and corrects it when somebody reads there.
    pub(crate) fn check_reaches(&self, end: u64) -> Result<()> {
        let len = self.len()?;
        if len >= end || self.read_at(&mut [0], end - 1)? > 0 {
            return Ok(());
        }
        Err(Malformed::new(len, "the file ends here").at("check", &self.path))
    }

    /// Reads some bytes; 0 at the end of the file.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
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

    /// Writes all bytes, in as many pieces as the file takes.
    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_parts_at(&mut [IoSlice::new(bytes)], offset)
    }

    /// Writes several runs of bytes one after the other, in as many pieces as the file takes.
    pub(crate) fn write_parts_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> Result<()> {
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

    /// Hints that these bytes are complete, so that the sync of them is short.
    pub(crate) fn start_writeback(&self, offset: u64, len: u64) {
        if self.syncs {
            self.file.start_writeback(offset, len);
        }
    }

    /// Makes the bytes durable. Never called twice for the same bytes: after a failure they count as lost.
    pub(crate) fn sync(&self) -> Result<()> {
        if !self.syncs {
            return Ok(());
        }
        self.file.sync_data().map_err(|e| Error::io("sync", &self.path, e))
    }

    pub(crate) fn maps_lazily(&self) -> bool {
        self.file.maps_lazily()
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

/// Somebody else's directory, or a file system that syncs no directories.
fn cannot_be_synced(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(kind, InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported)
}
