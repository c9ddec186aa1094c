//! The real file system.
#![expect(clippy::disallowed_methods, reason = "this is where the calls are made that others must not make")]

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, Read},
    num::NonZeroU64,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use fs2::FileExt as _;
use rustix::{
    fs::{Advice, AtFlags, CWD, FallocateFlags, OFlags},
    io::Errno,
};
use tempfile::TempPath;
use walkdir::WalkDir;

use super::{Disk, DiskFile, FileKind, Lock, LockGuard, Mapping, Metadata, TEMP_PREFIX, TEMP_RANDOM};

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

/// What `st_blocks` counts in, whatever the file system's own blocks are.
const STAT_BLOCK: u64 = 512;
/// So many bytes are copied by one call: it cannot be interrupted.
#[cfg(target_os = "linux")]
const MOST_COPIED: usize = 64 << 20;
/// Enough of the lock file to name its owner.
const OWNER_LEN: u64 = 256;

impl Disk for OsDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<super::DirEntry>> {
        let mut entries = Vec::new();
        for entry in WalkDir::new(path).min_depth(1).max_depth(1).follow_links(false) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return Err(io_error(error)),
            };
            match entry.metadata() {
                Ok(found) => entries
                    .push(super::DirEntry { name: entry.file_name().to_owned(), metadata: Metadata::from(found) }),
                Err(error) if error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {}
                Err(error) => return Err(io_error(error)),
            }
        }
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        fs::symlink_metadata(path).map(Metadata::from)
    }

    fn create_temp(&self, dir: &Path) -> io::Result<(OsString, Box<dyn DiskFile>)> {
        let open = |path: &Path| OpenOptions::new().read(true).write(true).create_new(true).mode(0o644).open(path);
        let (file, path) = tempfile::Builder::new()
            .prefix(TEMP_PREFIX)
            .rand_bytes(TEMP_RANDOM)
            .disable_cleanup(true)
            .make_in(dir, open)?
            .into_parts();
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok((name, Box::new(OsFile(file))))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OsFile(File::open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Renames without replacing where the kernel and the file system can; else links and removes the first name.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut from = TempPath::try_from_path(from)?;
        from.disable_cleanup(true);
        from.persist_noclobber(to).map_err(|refused| refused.error)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn punch_holes(&self, path: &Path, ranges: &[Range<u64>]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).custom_flags(no_follow()?).open(path)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for range in ranges {
            let len = range.end.saturating_sub(range.start);
            rustix::io::retry_on_intr(|| rustix::fs::fallocate(&file, flags, range.start, len))?;
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()).map_err(refused_if(&[Errno::NOSYS]))
    }

    /// Names of one file are on one device; across mounts of it, and across btrfs subvolumes, the call tells.
    fn can_link(&self, from: &Path, dir: &Path) -> bool {
        let device = |path: &Path| fs::symlink_metadata(path).map(|found| found.dev());
        let home = from.parent().unwrap_or(from);
        self.metadata(from).is_ok() && matches!((device(home), device(dir)), (Ok(home), Ok(dir)) if home == dir)
    }

    #[cfg(target_os = "linux")]
    fn reflink(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = open_pair(from, to)?;
        // Not known to the file system, or not for these two: to the caller all that is one.
        rustix::io::retry_on_intr(|| rustix::fs::ioctl_ficlone(&to, &from)).map_err(refused_if(&[
            Errno::NOTTY,
            Errno::INVAL,
            Errno::NOSYS,
            Errno::PERM,
            Errno::XDEV,
            // ZFS, of what is not on the medium yet.
            Errno::AGAIN,
        ]))
    }

    #[cfg(target_os = "linux")]
    fn copy_ranges(&self, from: &Path, to: &Path, ranges: &[Range<u64>]) -> io::Result<()> {
        let (from, to) = open_pair(from, to)?;
        for range in ranges {
            let (mut read, mut written) = (range.start, range.start);
            while read < range.end {
                let len = usize::try_from(range.end - read).unwrap_or(usize::MAX).min(MOST_COPIED);
                let mut copy = || rustix::fs::copy_file_range(&from, Some(&mut read), &to, Some(&mut written), len);
                match rustix::io::retry_on_intr(&mut copy) {
                    // The end of the file; or a file system that says so of whatever it cannot copy.
                    Ok(0) => return Err(io::ErrorKind::Unsupported.into()),
                    Ok(_) => {}
                    Err(error) => return Err(refused_if(&[Errno::INVAL, Errno::NOSYS, Errno::XDEV])(error)),
                }
            }
        }
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn try_lock(&self, path: &Path, owner: &str) -> io::Result<Lock> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644).custom_flags(no_follow()?);
        loop {
            let file = options.open(path)?;
            match file.try_lock_exclusive() {
                // Whoever had it may have removed it meanwhile, with the store: then it is the lock of nothing.
                Ok(()) if !is_at(&file, path)? => {}
                Ok(()) => {
                    file.set_len(0)?;
                    file.write_all_at(owner.as_bytes(), 0)?;
                    return Ok(Lock::Taken(Box::new(OsLock { file })));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut holder = Vec::new();
                    file.take(OWNER_LEN).read_to_end(&mut holder)?;
                    return Ok(Lock::Held(String::from_utf8_lossy(&holder).trim().to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Nothing is written, so a medium that is read-only will do.
    fn pin(&self, path: &Path) -> io::Result<Lock> {
        let file = OpenOptions::new().read(true).custom_flags(no_follow()?).open(path)?;
        lock_file(file, fs2::FileExt::try_lock_shared)
    }

    /// NFS gives such a lock only to who has the file open for writing; to remove it, one need not be allowed to.
    fn claim(&self, path: &Path) -> io::Result<Lock> {
        let open = |write| OpenOptions::new().read(true).write(write).custom_flags(no_follow()?).open(path);
        let file = open(true).or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => open(false),
            _ => Err(error),
        })?;
        lock_file(file, fs2::FileExt::try_lock_exclusive)
    }
}

/// Whether this name stands for this file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn lock_file(file: File, lock: fn(&File) -> io::Result<()>) -> io::Result<Lock> {
    match lock(&file) {
        Ok(()) => Ok(Lock::Taken(Box::new(OsLock { file }))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Lock::Held(String::new())),
        Err(error) => Err(error),
    }
}

/// Holds the flock. A crash gives it back as well; but a process that is being forked at that moment has a copy of the
/// descriptor, and would keep the lock until it becomes another program, so it is given back by hand.
#[derive(Debug)]
struct OsLock {
    file: File,
}

impl Drop for OsLock {
    fn drop(&mut self) {
        let _ = fs2::FileExt::unlock(&self.file);
    }
}

impl LockGuard for OsLock {}

#[derive(Debug)]
struct OsFile(File);

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(&self.0, bytes, offset)
    }

    fn write_vectored_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, parts, offset)?)
    }

    /// On Linux this begins to write the dirty pages of the range, and drops none of them.
    fn start_writeback(&self, offset: u64, len: u64) {
        if let Some(len) = NonZeroU64::new(len) {
            let _ = rustix::fs::fadvise(&self.0, offset, Some(len), Advice::DontNeed);
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn maps_lazily(&self) -> bool {
        true
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        super::check_range(offset, len, self.len()?)?;
        Mapping::of_file(&self.0, offset, len)
    }
}

impl From<fs::Metadata> for Metadata {
    fn from(found: fs::Metadata) -> Self {
        let kind = match found.file_type() {
            kind if kind.is_file() => FileKind::File,
            kind if kind.is_dir() => FileKind::Dir,
            _ => FileKind::Other,
        };
        Self { kind, len: found.len(), allocated: found.blocks().saturating_mul(STAT_BLOCK), links: found.nlink() }
    }
}

/// A file to copy from, and one to copy to.
#[cfg(target_os = "linux")]
fn open_pair(from: &Path, to: &Path) -> io::Result<(File, File)> {
    let from = OpenOptions::new().read(true).custom_flags(no_follow()?).open(from)?;
    let to = OpenOptions::new().write(true).custom_flags(no_follow()?).open(to)?;
    Ok((from, to))
}

/// One answer for all the ways in which a file system says that it cannot do this.
fn refused_if(codes: &[Errno]) -> impl FnOnce(Errno) -> io::Error {
    move |error| if codes.contains(&error) { io::ErrorKind::Unsupported.into() } else { error.into() }
}

/// For opening what must not be a link.
fn no_follow() -> io::Result<i32> {
    i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)
}

/// The operating system's own error, code and all.
fn io_error(error: walkdir::Error) -> io::Error {
    error.into_io_error().unwrap_or_else(|| io::Error::other("a directory contains itself"))
}
