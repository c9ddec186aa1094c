//! The real file system. Every call goes through the open directory that it is given, if there is one.
#![expect(clippy::disallowed_methods, reason = "this is where the calls are made that others must not make")]

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, IoSlice},
    num::NonZeroU64,
    ops::Range,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::FileExt},
    },
    path::Path,
    sync::OnceLock,
};

use rustix::{
    fs::{Advice, AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Stat},
    io::Errno,
};

use super::{
    At, Dir, Disk, DiskFile, FileKind, Lock, Mapping, Metadata, TEMP_PREFIX, TEMP_RANDOM,
    lock::{Kind, Owner, lock_file},
    not_a_file,
    place::{OsDir, is_same, place, stat},
};

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

/// What `st_blocks` counts in, whatever the file system's own blocks are.
const STAT_BLOCK: u64 = 512;
/// So many bytes are copied by one call: it cannot be interrupted.
#[cfg(target_os = "linux")]
const MOST_COPIED: usize = 64 << 20;
/// The process's umask decides who may read and write.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const DIR_MODE: Mode = Mode::from_raw_mode(0o777);

fn require_file(found: &Stat) -> io::Result<()> {
    if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile { Ok(()) } else { Err(not_a_file()) }
}

/// Opens a regular file. Nothing else is opened, for to open a FIFO may wait for ever, and to open a device may do
/// something: so it is looked at before, and again once it is open.
fn open_file(at: At<'_>, flags: OFlags) -> io::Result<File> {
    require_file(&stat(at)?)?;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let (dir, name) = place(at);
    let file = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|error| match error {
        Errno::LOOP | Errno::NXIO => not_a_file(),
        error => error.into(),
    })?;
    require_file(&rustix::fs::fstat(&file)?)?;
    Ok(File::from(file))
}

/// Creates a file under a random name.
fn create_temp(dir: At<'_>) -> io::Result<(File, OsString)> {
    let (fd, below) = place(dir);
    let create = |path: &Path| {
        let name = below.join(path.file_name().unwrap_or_default());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(File::from(rustix::fs::openat(fd, &name, flags, FILE_MODE)?))
    };
    let (file, path) = tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .rand_bytes(TEMP_RANDOM)
        .disable_cleanup(true)
        .make_in(dir.path(), create)?
        .into_parts();
    let name = path.file_name().unwrap_or_default().to_owned();
    Ok((file, name))
}

/// Whether a file is on a file system of this machine: ext2 to ext4, XFS, btrfs, tmpfs, overlayfs, F2FS or ZFS.
#[cfg(target_os = "linux")]
fn is_local(file: &File) -> bool {
    const LOCAL: [i64; 7] = [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630, 0xF2F5_2010, 0x2FC1_2FC1];
    #[expect(clippy::useless_conversion, reason = "how wide the type of a file system is differs between targets")]
    rustix::fs::fstatfs(file).is_ok_and(|found| LOCAL.contains(&i64::from(found.f_type)))
}

#[cfg(not(target_os = "linux"))]
fn is_local(_: &File) -> bool {
    false
}

/// Whether a file is on btrfs: that sets aside much more for the smallest change than the change takes, and copies what it
/// changes.
#[cfg(target_os = "linux")]
fn is_btrfs(file: &File) -> bool {
    const BTRFS: i64 = 0x9123_683E;
    #[expect(clippy::useless_conversion, reason = "how wide the type of a file system is differs between targets")]
    rustix::fs::fstatfs(file).is_ok_and(|found| i64::from(found.f_type) == BTRFS)
}

#[cfg(not(target_os = "linux"))]
fn is_btrfs(_: &File) -> bool {
    false
}

/// Reserves blocks: four times as many on btrfs. The length of the file is what was asked for, there as well.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if is_btrfs(file) {
        rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, len.saturating_mul(4))?;
        return file.set_len(len);
    }
    fs2::FileExt::allocate(file, len)
}

/// Opens a directory. The last part of a name below an open directory is no link.
fn open_directory(at: At<'_>) -> io::Result<OwnedFd> {
    let (dir, name) = place(at);
    let no_follow = if at.dir().is_some() { OFlags::NOFOLLOW } else { OFlags::empty() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | no_follow;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

impl Disk for OsDisk {
    fn open_dir(&self, at: At<'_>) -> io::Result<Dir> {
        let fd = open_directory(at)?;
        let found = rustix::fs::fstat(&fd)?;
        Ok(Dir::held(OsDir { fd, numbers: (found.st_dev, found.st_ino) }))
    }

    fn is_dir(&self, at: At<'_>, dir: &Dir) -> io::Result<bool> {
        Ok(self.is_dir_with_stamp(at, dir)?.0)
    }

    /// The time of the last change, which nobody can set.
    fn is_dir_with_stamp(&self, at: At<'_>, dir: &Dir) -> io::Result<(bool, Option<i128>)> {
        let Some(dir) = dir.get::<OsDir>() else { return Ok((true, None)) };
        // A path may lead over links, like the one that was opened.
        let found = if at.dir().is_some() { stat(at) } else { rustix::fs::stat(at.path()) };
        let changed = found.map(|found| i128::from(found.st_ctime) * 1_000_000_000 + i128::from(found.st_ctime_nsec));
        // A file system without such times says 0.
        let stamp = changed.ok().filter(|changed| *changed > 0);
        Ok((is_same(found, dir.numbers)?, stamp))
    }

    fn create_dir(&self, at: At<'_>) -> io::Result<()> {
        let (dir, name) = place(at);
        Ok(rustix::fs::mkdirat(dir, name, DIR_MODE)?)
    }

    /// Each list opens the directory anew: a descriptor has one position, which all who share it would move.
    fn list(&self, at: At<'_>) -> io::Result<Vec<super::DirEntry>> {
        let dir = open_directory(at)?;
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => {
                    entries.push(super::DirEntry { name: name.to_owned(), metadata: Metadata::from(found) });
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(entries)
    }

    fn metadata(&self, at: At<'_>) -> io::Result<Metadata> {
        Ok(stat(at)?.into())
    }

    fn create_temp(&self, dir: At<'_>) -> io::Result<(OsString, Box<dyn DiskFile>)> {
        let (file, name) = create_temp(dir)?;
        Ok((name, Box::new(OsFile::new(file))))
    }

    fn reserve(&self, dir: At<'_>, len: u64) -> io::Result<OsString> {
        let (file, name) = create_temp(dir)?;
        match allocate(&file, len) {
            Ok(()) => Ok(name),
            Err(error) => {
                let (fd, below) = place(dir);
                let _ = rustix::fs::unlinkat(fd, below.join(name), AtFlags::empty());
                Err(error)
            }
        }
    }

    fn open(&self, at: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OsFile::new(open_file(at, OFlags::RDONLY)?)))
    }

    fn open_writable(&self, at: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OsFile::new(open_file(at, OFlags::RDWR)?)))
    }

    fn rename(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (place(from), place(to));
        Ok(rustix::fs::renameat(from_dir, from, to_dir, to)?)
    }

    /// Renames without replacing where the kernel and the file system can; else links and removes the first name.
    fn rename_new(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (place(from), place(to));
        match rustix::fs::renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                rustix::fs::linkat(from_dir, from, to_dir, to, AtFlags::empty())?;
                Ok(rustix::fs::unlinkat(from_dir, from, AtFlags::empty())?)
            }
            renamed => Ok(renamed?),
        }
    }

    fn remove(&self, at: At<'_>) -> io::Result<()> {
        let (dir, name) = place(at);
        Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)
    }

    fn punch_holes(&self, at: At<'_>, ranges: &[Range<u64>]) -> io::Result<()> {
        let file = open_file(at, OFlags::WRONLY)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        for range in ranges {
            let len = range.end.saturating_sub(range.start);
            rustix::io::retry_on_intr(|| rustix::fs::fallocate(&file, flags, range.start, len))?;
        }
        Ok(())
    }

    fn link(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (place(from), place(to));
        rustix::fs::linkat(from_dir, from, to_dir, to, AtFlags::empty()).map_err(refused_if(&[Errno::NOSYS]))
    }

    /// Names of one file are on one device; across mounts of it, and across btrfs subvolumes, the call tells.
    fn can_link(&self, from: At<'_>, dir: At<'_>) -> bool {
        matches!((stat(from), stat(dir)), (Ok(file), Ok(dir)) if file.st_dev == dir.st_dev)
    }

    #[cfg(target_os = "linux")]
    fn reflink(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
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
    fn copy_ranges(&self, from: At<'_>, to: At<'_>, ranges: &[Range<u64>]) -> io::Result<()> {
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

    fn remove_dir(&self, at: At<'_>) -> io::Result<()> {
        let (dir, name) = place(at);
        Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
    }

    fn open_file_limit(&self) -> Option<u64> {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    }

    /// An open directory is synced as it is, which takes no descriptor.
    fn sync_dir(&self, at: At<'_>) -> io::Result<()> {
        match at.dir().filter(|(_, name)| name.as_os_str().is_empty()).and_then(|(dir, _)| dir.get::<OsDir>()) {
            Some(dir) => Ok(rustix::fs::fsync(&dir.fd)?),
            None => Ok(rustix::fs::fsync(open_directory(at)?)?),
        }
    }

    fn try_lock(&self, at: At<'_>, owner: &str) -> io::Result<Lock> {
        loop {
            let file = create_or_open(at, OFlags::RDWR)?;
            if let Some(lock) = lock_file(at, file, Owner::Said(owner), Kind::Whole)? {
                return Ok(lock);
            }
        }
    }

    fn lock_shared(&self, at: At<'_>, number: u64) -> io::Result<Lock> {
        lock_number(at, || open_file(at, OFlags::RDONLY), Kind::Shared(number))
    }

    fn log_size(&self) -> u64 {
        4 << 20
    }

    /// Such a lock needs a file that is open for writing.
    fn lock_exclusive(&self, at: At<'_>, number: u64) -> io::Result<Lock> {
        lock_number(at, || create_or_open(at, OFlags::RDWR), Kind::Exclusive(number))
    }
}

/// Locks a number of a file that still has its name then.
fn lock_number(at: At<'_>, open: impl Fn() -> io::Result<File>, kind: Kind) -> io::Result<Lock> {
    loop {
        if let Some(lock) = lock_file(at, open()?, Owner::Unsaid, kind)? {
            return Ok(lock);
        }
    }
}

/// Opens a file, without following a link, and creates it if it is missing.
fn create_or_open(at: At<'_>, access: OFlags) -> io::Result<File> {
    let flags = access | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let (dir, name) = place(at);
    let file = rustix::fs::openat(dir, name, flags, FILE_MODE).map_err(|error| match error {
        Errno::LOOP | Errno::NXIO | Errno::ISDIR => not_a_file(),
        error => error.into(),
    })?;
    require_file(&rustix::fs::fstat(&file)?)?;
    Ok(file.into())
}

#[derive(Debug)]
struct OsFile {
    file: File,
    /// By which it is known while it is open, on a local file system.
    numbers: OnceLock<Option<(u64, u64)>>,
}

impl OsFile {
    fn new(file: File) -> Self {
        Self { file, numbers: OnceLock::new() }
    }
}

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.file, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(&self.file, bytes, offset)
    }

    fn write_vectored_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.file, parts, offset)?)
    }

    fn fill(&self, len: u64) -> io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut at = 0;
        while at < len {
            let piece = zeros.get(..usize::try_from(len - at).unwrap_or(zeros.len())).unwrap_or(&zeros);
            self.file.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Not over a network, where the answer may come out of a cache: to open the name asks the server.
    fn is_at(&self, at: At<'_>) -> io::Result<Option<bool>> {
        if self.numbers.get().is_none() {
            let found = rustix::fs::fstat(&self.file)?;
            let _ = self.numbers.set(is_local(&self.file).then_some((found.st_dev, found.st_ino)));
        }
        self.numbers.get().copied().flatten().map(|numbers| is_same(stat(at), numbers)).transpose()
    }

    /// On Linux this begins to write the dirty pages of the range, and drops none of them.
    fn start_writeback(&self, offset: u64, len: u64) {
        if let Some(len) = NonZeroU64::new(len) {
            let _ = rustix::fs::fadvise(&self.file, offset, Some(len), Advice::DontNeed);
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn maps_lazily(&self) -> bool {
        true
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        super::check_range(offset, len, self.len()?)?;
        Mapping::of_file(&self.file, offset, len)
    }
}

impl From<Stat> for Metadata {
    #[expect(clippy::useless_conversion, reason = "how wide the number of links is differs between targets")]
    fn from(found: Stat) -> Self {
        let kind = match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Dir,
            _ => FileKind::Other,
        };
        let [len, blocks] = [found.st_size, found.st_blocks].map(|number| u64::try_from(number).unwrap_or_default());
        Self { kind, len, allocated: blocks.saturating_mul(STAT_BLOCK), links: found.st_nlink.into() }
    }
}

/// A file to copy from, and one to copy to.
#[cfg(target_os = "linux")]
fn open_pair(from: At<'_>, to: At<'_>) -> io::Result<(File, File)> {
    Ok((open_file(from, OFlags::RDONLY)?, open_file(to, OFlags::WRONLY)?))
}

/// One answer for all the ways in which a file system says that it cannot do this.
fn refused_if(codes: &[Errno]) -> impl FnOnce(Errno) -> io::Error {
    move |error| if codes.contains(&error) { io::ErrorKind::Unsupported.into() } else { error.into() }
}
