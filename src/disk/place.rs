//! Where a call of the operating system acts, and whether two names are of one file.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Stat},
    io::Errno,
};

use super::At;

/// A directory that is open, and the numbers by which it is known while it is.
#[derive(Debug)]
pub(super) struct OsDir {
    pub(super) fd: OwnedFd,
    pub(super) numbers: (u64, u64),
}

/// Where a call acts: below a directory that is open, or by its path.
pub(super) fn place(at: At<'_>) -> (BorrowedFd<'_>, &Path) {
    match at.dir().and_then(|(dir, name)| Some((dir.get::<OsDir>()?, name))) {
        Some((dir, name)) if name.as_os_str().is_empty() => (dir.fd.as_fd(), Path::new(".")),
        Some((dir, name)) => (dir.fd.as_fd(), name),
        None => (CWD, at.path()),
    }
}

/// What is under a name, without following a link at its end.
pub(super) fn stat(at: At<'_>) -> rustix::io::Result<Stat> {
    let (dir, name) = place(at);
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Whether this is the file or directory with these numbers; nothing is not.
pub(super) fn is_same(found: rustix::io::Result<Stat>, (device, inode): (u64, u64)) -> io::Result<bool> {
    match found {
        Ok(found) => Ok((found.st_dev, found.st_ino) == (device, inode)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
