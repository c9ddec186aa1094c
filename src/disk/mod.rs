//! The only operating-system calls of the crate, behind one trait.
//!
//! | file | is |
//! |---|---|
//! | `at` | [`At`], [`Dir`]: where something is, whatever becomes of the names on the way
//! | `anchor` | the directories of a store, opened once, and the process that may change them |
//! | `os` | [`OsDisk`]: the real file system |
//! | `place` | where its calls act |
//! | `lock` | locks of its files, and what a lock file says of its owner |
//! | `memory` | [`MemoryDisk`]: a file system in memory, for small jobs and tests |
//! | `sim` | `SimDisk` (feature `testing`): a live and a durable image; calls fail and the power goes as told |
//! | `durable` | what of it survives a power cut |
//! | `tree` | the directories and files that `memory` and `sim` are made of |
//! | `map` | [`Mapping`]: bytes of a file in memory; the only `unsafe` |
//! | `layout` | every name that the store makes or parses |
//! | `root` | the root of a store, and the directories under it |
//! | `file` | an open file that knows its name |
//! | `volume` | a disk and a root: the calls that the rest of the crate makes, with errors that name the file |
//! | `publish` | a file that appears whole or not at all |
//! | `spare` | room that is kept for what a full disk must not prevent |
//! | `link` | a file in another directory: linked, else reflinked, else copied |
//!
//! Nothing here knows what the bytes mean.

use std::{
    ffi::OsString,
    fmt,
    io::{self, IoSlice},
    ops::Range,
};

mod anchor;
mod at;
#[cfg(feature = "testing")]
pub(crate) mod durable;
pub(crate) mod file;
mod guard;
pub(crate) mod layout;
pub(crate) mod link;
mod lock;
mod map;
pub(crate) mod member;
mod memory;
mod os;
mod place;
mod process;
pub(crate) mod publish;
pub(crate) mod root;
#[cfg(feature = "testing")]
pub(crate) mod sim;
#[cfg(feature = "testing")]
mod sim_file;
pub(crate) mod spare;
mod tree;
pub(crate) mod volume;

pub use at::{At, Dir};
use guard::NoLock;
pub(crate) use guard::SharedGuard;
pub use guard::{Lock, LockGuard};
pub(crate) use lock::{is_this_host_s_and_dead, this_process};
pub use map::Mapping;
pub use memory::MemoryDisk;
pub use os::OsDisk;

/// A file system, as far as a checkpoint store needs one.
///
/// The store talks to nothing else, so an own implementation is an own kind of storage. Each call says [where](At) by an
/// absolute path and, where the store has opened a directory, by a name below that; names that the store makes are ASCII,
/// at most 64 bytes long. All calls come from many threads at once and may block.
///
/// A disk that wraps another one passes [`At`] on as it is, and [`open_dir`](Disk::open_dir) and
/// [`is_dir`](Disk::is_dir) as well: else its stores go by path, and are not protected from directories that are exchanged
/// under them.
///
/// Errors are those of the operating system, unwrapped, so that [`io::Error::raw_os_error`] works where there is a
/// code. `Interrupted` may be returned by [`DiskFile::read_at`] and [`DiskFile::write_at`] alone: the store repeats
/// these. It never repeats a failed sync.
///
/// "Durable" means: still there after the power was cut, as soon as the call has returned. Only
/// [`sync_dir`](Disk::sync_dir) and [`DiskFile::sync_data`] make anything durable; everything else may survive, in any
/// combination, or not.
///
/// The module `testing` (feature `testing`) has a conformance kit that checks these promises, durability excepted.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens a directory, so that names below it lead there whatever becomes of the path. The last part of a name below an
    /// open directory is no symbolic link; a path may lead over any.
    ///
    /// By default nothing is opened, and calls go by path: right for a disk whose directories no other process can rename.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is nothing, `NotADirectory`, and those of the operating system.
    fn open_dir(&self, at: At<'_>) -> io::Result<Dir> {
        let _ = at;
        Ok(Dir::by_path())
    }

    /// Whether this still leads to a directory that was opened. By default it always does.
    ///
    /// # Errors
    ///
    /// Those of the operating system; that nothing is there any more is an answer.
    fn is_dir(&self, at: At<'_>, dir: &Dir) -> io::Result<bool> {
        let _ = (at, dir);
        Ok(true)
    }

    /// The same, and with it a stamp that is another one once a name in the directory was added, removed, or given to another
    /// file. `None`, the default, if the disk has none. It may miss changes within three seconds of each other, and what is
    /// mounted over a name.
    ///
    /// # Errors
    ///
    /// Those of [`is_dir`](Self::is_dir).
    fn is_dir_with_stamp(&self, at: At<'_>, dir: &Dir) -> io::Result<(bool, Option<i128>)> {
        Ok((self.is_dir(at, dir)?, None))
    }

    /// Creates one directory. Its parent must exist; `AlreadyExists` if the name does.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn create_dir(&self, at: At<'_>) -> io::Result<()>;

    /// Lists a directory in no particular order, without following symbolic links. Names that vanish meanwhile are
    /// left out.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such directory, and those of the operating system.
    fn list(&self, at: At<'_>) -> io::Result<Vec<DirEntry>>;

    /// What is under this name, without following a symbolic link at its end.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is nothing, and those of the operating system.
    fn metadata(&self, at: At<'_>) -> io::Result<Metadata>;

    /// Creates a new, empty file, open for reading and writing, in this directory, under a name of its own that begins
    /// with `.tmp-` and goes on with 12 ASCII letters or digits; returns the name. Other users may read the file as far
    /// as the process's umask allows.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn create_temp(&self, dir: At<'_>) -> io::Result<(OsString, Box<dyn DiskFile>)>;

    /// Creates a file under a [temporary](Disk::create_temp) name, and reserves blocks for this many bytes: they are taken
    /// from what is free until the file is removed. Its bytes mean nothing. Returns the name.
    ///
    /// # Errors
    ///
    /// `Unsupported` if blocks cannot be reserved, which is the default: the store keeps no room for a full disk then. Else
    /// those of the operating system, `StorageFull` among them. Nothing is left behind.
    fn reserve(&self, dir: At<'_>, len: u64) -> io::Result<OsString> {
        let _ = (dir, len);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens a regular file for reading, without waiting for anything. A symbolic link is not followed.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is nothing; [`not_a_file`] if there is something else: a directory, a link, a FIFO, a socket, a
    /// device; and those of the operating system.
    fn open(&self, at: At<'_>) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a regular file for reading and for writing over the bytes that it has, without waiting for anything. A symbolic
    /// link is not followed.
    ///
    /// By default it is what [`open`](Disk::open) returns: right for a disk whose files can all be written. A disk that wraps
    /// another one passes the call on.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Disk::open).
    fn open_writable(&self, at: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        self.open(at)
    }

    /// Gives a file another name in the same file system, replacing what has that name. At every moment, and after a
    /// crash at any moment, the new name is either what it was or the whole file. Open files stay open.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn rename(&self, from: At<'_>, to: At<'_>) -> io::Result<()>;

    /// Like [`rename`](Disk::rename), but only if the new name does not exist: of several callers at once, in several
    /// processes, exactly one succeeds. A crash may leave both names.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the new name exists, which then is untouched; and those of the operating system.
    fn rename_new(&self, from: At<'_>, to: At<'_>) -> io::Result<()>;

    /// Removes a file's name. Open files and mappings stay readable.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none, and those of the operating system.
    fn remove(&self, at: At<'_>) -> io::Result<()>;

    /// Gives the space of these ranges of a file back to the file system; a symbolic link is not followed. They read as zeros from then on, as far as they
    /// are given back; the length of the file and every other byte stay as they are. Nothing is durable on return.
    ///
    /// # Errors
    ///
    /// `Unsupported` if this cannot be done, which is the default: the store rewrites files with little in them then.
    /// Else those of the operating system; some of the ranges may have been given back.
    fn punch_holes(&self, at: At<'_>, ranges: &[Range<u64>]) -> io::Result<()> {
        let _ = (at, ranges);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Gives a file another name beside the one it has (a hard link), in a directory of the same file system. A symbolic
    /// link is not followed.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the new name exists, which then is untouched. `EXDEV`, `EPERM`, `EMLINK`, `EOPNOTSUPP` and
    /// `Unsupported`, which is the default, say that this cannot be done here: the store shares or copies the bytes then.
    /// Any other error is one.
    fn link(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether [`link`](Disk::link) can probably give this file a name in this directory. Nothing is tried, so that it costs
    /// little; by default it cannot.
    fn can_link(&self, from: At<'_>, dir: At<'_>) -> bool {
        let _ = (from, dir);
        false
    }

    /// Lets a file that is there and empty share all bytes of another one, without copying any (a reflink): until either of
    /// them is changed. Nothing is durable on return.
    ///
    /// # Errors
    ///
    /// Those of [`link`](Disk::link), `AlreadyExists` excepted; with one of those four the file is still empty.
    fn reflink(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Copies ranges of a file into another that is there, at the same offsets, without the bytes passing through this
    /// process. Nothing is durable on return.
    ///
    /// # Errors
    ///
    /// Those of [`link`](Disk::link), `AlreadyExists` excepted; with one of those four the store copies the ranges itself.
    /// Some of them may have been copied.
    fn copy_ranges(&self, from: At<'_>, to: At<'_>, ranges: &[Range<u64>]) -> io::Result<()> {
        let _ = (from, to, ranges);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none, `DirectoryNotEmpty` if there is something in it, `Unsupported` if this cannot be done,
    /// which is the default: it stays then. Else those of the operating system.
    fn remove_dir(&self, at: At<'_>) -> io::Result<()> {
        let _ = at;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// How many files this process may have open on this disk at once; `None`, the default, if nothing limits that.
    fn open_file_limit(&self) -> Option<u64> {
        None
    }

    /// How long a file of the manifest log is on this disk, in bytes, unless [`Options::log_size`](crate::Options::log_size)
    /// says it: 1 MiB by default. Where zeros are not free, less may be better.
    fn log_size(&self) -> u64 {
        1 << 20
    }

    /// Makes the names in this directory durable: all that were created, replaced or removed before the call. Not the
    /// directory's own name in its parent, and not the bytes of the files.
    ///
    /// # Errors
    ///
    /// Those of the operating system. After a failure it is unknown what is durable.
    fn sync_dir(&self, at: At<'_>) -> io::Result<()>;

    /// Takes the lock that this file stands for, or tells who has it. The file is created if it is missing, never
    /// removed. `owner` is written into it for people, and removed when the value is dropped; a file that cannot be written
    /// is locked all the same. A symbolic link is not followed. The lock ends when the value is dropped, or the process
    /// ends; a value that a process inherited from its parent ends nothing.
    ///
    /// # Errors
    ///
    /// Those of the operating system; a lock held elsewhere is not an error.
    fn try_lock(&self, at: At<'_>, owner: &str) -> io::Result<Lock>;

    /// Locks a number of a file together with others, in any process, until the value is dropped or the process ends;
    /// [`Lock::Held`] if it is locked [exclusively](Disk::lock_exclusive). Nothing is written. Numbers are below 2^63.
    ///
    /// By default nobody is kept from anything: right for a disk that one process alone can use, and on which no store lends
    /// files to another ([`Claim::Borrow`](crate::Claim::Borrow)).
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such file, and those of the operating system.
    fn lock_shared(&self, at: At<'_>, number: u64) -> io::Result<Lock> {
        let _ = (at, number);
        Ok(Lock::Taken(Box::new(NoLock)))
    }

    /// Locks a number of a file alone: [`Lock::Held`] if it is locked, shared or alone. The file is created if it is missing.
    /// All else is as with [`lock_shared`](Disk::lock_shared).
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn lock_exclusive(&self, at: At<'_>, number: u64) -> io::Result<Lock> {
        let _ = (at, number);
        Ok(Lock::Taken(Box::new(NoLock)))
    }
}

/// An open file of a [`Disk`].
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Reads at an offset; short reads are allowed, 0 means the end of the file or an empty buffer.
    ///
    /// # Errors
    ///
    /// Those of the operating system, `Interrupted` among them.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at an offset and returns how many bytes were accepted, which may be fewer than offered. A file grows as
    /// needed; a gap reads as zeros.
    ///
    /// # Errors
    ///
    /// Those of the operating system, `Interrupted` among them. Nothing was accepted then, but bytes at the offset may
    /// have changed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Like [`write_at`](DiskFile::write_at), of several runs of bytes one after the other. By default it writes the first
    /// that is not empty, and says so by what it returns.
    ///
    /// # Errors
    ///
    /// Those of [`write_at`](DiskFile::write_at).
    fn write_vectored_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.write_at(parts.iter().find(|part| !part.is_empty()).map_or(&[], |part| part), offset)
    }

    /// Fills a file that is empty with zeros, up to this length. They are written and not only reserved, so that later
    /// writes into the file change nothing but its bytes: a sync of such a write is the cheapest there is.
    ///
    /// # Errors
    ///
    /// `Unsupported` where this is of no use, which is the default: the file grows as it is written. A disk that encrypts by
    /// position leaves it at that, so that no position ever has two contents. Else those of the operating system.
    fn fill(&self, len: u64) -> io::Result<()> {
        let _ = len;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether this is the file that a name leads to now, which may have been replaced since this one was opened. `None`, the
    /// default, if that cannot be told: then the store reads the file of that name.
    ///
    /// # Errors
    ///
    /// Those of the operating system, but that there is no such name is no error: then this file has not got it.
    fn is_at(&self, at: At<'_>) -> io::Result<Option<bool>> {
        let _ = at;
        Ok(None)
    }

    /// Hints that these bytes will not change and will be synced soon: the operating system may begin to write them.
    /// Nothing is promised, and by default nothing is done.
    fn start_writeback(&self, offset: u64, len: u64) {
        let _ = (offset, len);
    }

    /// How many bytes the file has.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    ///
    /// Those of [`len`](DiskFile::len).
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Makes the bytes and the length of the file durable: all that were accepted before the call. Not its name.
    ///
    /// # Errors
    ///
    /// Those of the operating system. After a failure it is unknown what is durable, and a second call proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Whether to map a range costs the same however long it is. Then the store maps a whole file once for all the states
    /// in it; by default it maps each state by itself.
    fn maps_lazily(&self) -> bool {
        false
    }

    /// Maps a range of the file into memory, read-only. The range must lie inside the file, which may grow meanwhile.
    /// The caller promises to look at no byte of the mapping that is ever changed, and that the file is never cut
    /// shorter; and so does whoever else can write to it.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the file is shorter than the end of the range, and those of the operating system.
    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping>;
}

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link, a device, a socket, ...
    Other,
}

/// What is known of a name without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What the name stands for.
    pub kind: FileKind,
    /// Length of a regular file in bytes; of anything else it says nothing.
    pub len: u64,
    /// How many bytes of the medium a regular file takes: less than its length if ranges of it were punched out, more if
    /// its last block is not full. The length if it is not known.
    pub allocated: u64,
    /// How many names a regular file has; 1 if it is not known.
    pub links: u64,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name alone, without the directory.
    pub name: OsString,
    /// What it stands for.
    pub metadata: Metadata,
}

/// The name of a temporary file, without randomness: what precedes it.
const TEMP_PREFIX: &str = ".tmp-";
/// How many letters and digits follow [`TEMP_PREFIX`].
const TEMP_RANDOM: usize = 12;

/// What [`Disk::open`] answers of something that is no regular file.
#[must_use]
pub fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file")
}

/// The check that [`DiskFile::map`] promises.
fn check_range(offset: u64, len: usize, file_len: u64) -> io::Result<()> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= file_len => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the file has {file_len} bytes, {len} are needed from byte {offset}"),
        )),
    }
}
