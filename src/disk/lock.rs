//! Locks of files of the operating system, and what a lock file says of its owner.
#![expect(clippy::disallowed_methods, reason = "this is where the calls are made that others must not make")]

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
};

use super::{
    At, Dir, Lock, LockGuard,
    place::{is_same, stat},
    process,
};

/// Enough of the lock file to name its owner.
const OWNER_LEN: u64 = 512;

/// Names this process to people: its number, and where that number means something.
pub(crate) fn this_process() -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    // Of Linux alone; elsewhere there is one namespace.
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok();
    let namespace =
        namespace.and_then(|link| Some(link.to_str()?.strip_prefix("pid:[")?.trim_end_matches(']').to_owned()));
    let namespace = namespace.map_or_else(String::new, |number| format!(", pid namespace {number}"));
    format!("process {} on host {host}{namespace}", process::id())
}

/// Whether a lock file says of its owner that it is a process of this host and namespace, and there is no such process.
pub(crate) fn is_this_host_s_and_dead(owner: &str) -> bool {
    let place = |owner: &str| Some(owner.strip_prefix("process ")?.split_once(' ')?.1.to_owned());
    let pid = || owner.strip_prefix("process ")?.split(' ').next()?.parse().ok();
    let is_here = place(owner).is_some_and(|place_of| place(&this_process()) == Some(place_of));
    let pid = pid().filter(|_| is_here).and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// What a lock does with the bytes of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner<'a> {
    /// They are left as they are.
    Unsaid,
    /// They say who has the lock, for as long as it is held.
    Said(&'a str),
}

/// What of a file is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// All of it, alone: a lock of the whole file (`flock`), which on NFS is one of all its bytes. A file has locks of this
    /// kind or of its bytes, never both.
    Whole,
    /// The byte of this number, together with others.
    Shared(u64),
    /// The byte of this number, alone.
    Exclusive(u64),
}

impl Kind {
    /// Locks without waiting, where bytes can be locked: `WouldBlock` if others have the lock.
    fn lock(self, file: &File) -> io::Result<()> {
        match self {
            Self::Whole => fs2::FileExt::try_lock_exclusive(file),
            Self::Shared(number) => bytes::lock(file, bytes::SHARED, number),
            Self::Exclusive(number) => bytes::lock(file, bytes::EXCLUSIVE, number),
        }
    }

    fn unlock(self, file: &File) -> io::Result<()> {
        match self {
            Self::Whole => fs2::FileExt::unlock(file),
            Self::Shared(number) | Self::Exclusive(number) => bytes::lock(file, bytes::UNLOCKED, number),
        }
    }
}

/// Locks of single bytes, which belong to an open file: two in one process are two, and the end of one is not that of the
/// other.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod bytes {
    use std::{fs::File, io};

    use nix::{
        errno::Errno,
        fcntl::{FcntlArg, fcntl},
        libc,
    };

    pub(super) const SHARED: i32 = libc::F_RDLCK;
    pub(super) const EXCLUSIVE: i32 = libc::F_WRLCK;
    pub(super) const UNLOCKED: i32 = libc::F_UNLCK;

    pub(super) fn lock(file: &File, how: i32, number: u64) -> io::Result<()> {
        let l_start = libc::off_t::try_from(number).map_err(io::Error::other)?;
        let l_type = libc::c_short::try_from(how).map_err(io::Error::other)?;
        let l_whence = libc::c_short::try_from(libc::SEEK_SET).map_err(io::Error::other)?;
        let range = libc::flock { l_type, l_whence, l_start, l_len: 1, l_pid: 0 };
        match fcntl(file, FcntlArg::F_OFD_SETLK(&range)) {
            Ok(_) => Ok(()),
            Err(Errno::EAGAIN | Errno::EACCES) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Elsewhere one lock of the whole file stands for all of its bytes: a reader keeps every checkpoint, and waits while any is
/// being forgotten.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod bytes {
    use std::{fs::File, io};

    pub(super) const SHARED: i32 = 0;
    pub(super) const EXCLUSIVE: i32 = 1;
    pub(super) const UNLOCKED: i32 = 2;

    pub(super) fn lock(file: &File, how: i32, _: u64) -> io::Result<()> {
        match how {
            SHARED => fs2::FileExt::lock_shared(file),
            EXCLUSIVE => fs2::FileExt::try_lock_exclusive(file),
            _ => fs2::FileExt::unlock(file),
        }
    }
}

/// Locks an open file, if it still has its name; `None` if it has not.
pub(super) fn lock_file(at: At<'_>, file: File, owner: Owner<'_>, kind: Kind) -> io::Result<Option<Lock>> {
    match kind.lock(&file) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && owner == Owner::Unsaid => {
            return Ok(Some(Lock::Held(String::new())));
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let mut holder = Vec::new();
            file.take(OWNER_LEN).read_to_end(&mut holder)?;
            return Ok(Some(Lock::Held(String::from_utf8_lossy(&holder).trim().to_owned())));
        }
        Err(error) => return Err(error),
    }
    let guard = OsLock {
        path: at.path().to_owned(),
        below: at.dir().map(|(dir, name)| (dir.clone(), name.to_owned())),
        process: process::id(),
        says_owner: matches!(owner, Owner::Said(_)),
        held: vec![kind],
        numbers: file.metadata().map(|ours| (ours.dev(), ours.ino()))?,
        file,
    };
    // The last holder may have removed the file, with the store: then it is the lock of nothing.
    if !guard.is_in_place()? {
        return Ok(None);
    }
    if let Owner::Said(owner) = owner {
        // For people alone: that the disk is full must not keep anybody from the store. What cannot be written is removed.
        let said = guard.file.write_all_at(owner.as_bytes(), 0);
        let len = if said.is_ok() { owner.len() as u64 } else { 0 };
        let _ = guard.file.set_len(len);
    }
    Ok(Some(Lock::Taken(Box::new(guard))))
}

/// Holds the lock. A crash gives it back as well; but a process that is being forked at that moment has a copy of the
/// descriptor, and would keep the lock until it becomes another program, so it is given back by hand.
///
/// A child of a fork has a copy for good. It must not give the lock away that is its parent's: there dropping closes the
/// descriptor, and nothing more.
#[derive(Debug)]
struct OsLock {
    file: File,
    path: PathBuf,
    below: Option<(Dir, PathBuf)>,
    process: u32,
    says_owner: bool,
    held: Vec<Kind>,
    /// By which the file is known while it is open.
    numbers: (u64, u64),
}

impl LockGuard for OsLock {
    fn is_in_place(&self) -> io::Result<bool> {
        let at = match &self.below {
            Some((dir, name)) => At::below(&self.path, dir, name),
            None => At::new(&self.path),
        };
        is_same(stat(at), self.numbers)
    }

    /// Where one lock of the file stands for all of its bytes, it is there.
    fn lock_more(&mut self, number: u64) -> io::Result<Option<bool>> {
        match Kind::Exclusive(number).lock(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(false)),
            locked => {
                locked?;
                self.held.push(Kind::Exclusive(number));
                Ok(Some(true))
            }
        }
    }

    fn unlock_all(&mut self) -> io::Result<bool> {
        self.held.drain(..).try_for_each(|kind| kind.unlock(&self.file))?;
        Ok(true)
    }
}

impl Drop for OsLock {
    fn drop(&mut self) {
        if self.process != process::id() {
            return;
        }
        if self.says_owner {
            let _ = self.file.set_len(0);
        }
        for kind in &self.held {
            let _ = kind.unlock(&self.file);
        }
    }
}
