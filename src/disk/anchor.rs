//! A store is a directory, not a name, and belongs to the process that opened it.
//!
//! The root and the directories under it are opened once, and every name is looked up below them from then on. So nothing
//! done to the names on the way (a directory is exchanged, a link is pointed elsewhere) leads a store into another one.
//! Before anything is published, changed or removed, the store looks whether its name still leads to it: else the caller
//! means another store by now.

use std::{
    path::{Component, Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{At, Dir, Disk, LockGuard, layout, process};
use crate::error::{Cause, Error, Result};

/// The process that opened a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opener(u32);

impl Opener {
    pub(super) fn this() -> Self {
        Self(process::id())
    }

    /// Whether this is another process: a child, which has a copy of all that its parent had.
    pub(crate) fn is_another(self) -> bool {
        self != Self::this()
    }

    /// Refuses in any other process.
    pub(super) fn check(self, operation: &str, path: &Path) -> Result<()> {
        if self.is_another() {
            return Err(Error::at(operation, path, Cause::Forked { opener: self.0, this: process::id() }));
        }
        Ok(())
    }
}

/// The directories of a store, once they were opened.
#[derive(Debug)]
pub(super) struct Anchor {
    root: PathBuf,
    /// The root.
    dir: OnceLock<Dir>,
    /// Those of [`layout::DIRS`] that were used.
    dirs: [OnceLock<Dir>; layout::DIRS.len()],
    /// That of the store, if this is the process that writes it.
    lock: OnceLock<Box<dyn LockGuard>>,
    names: Mutex<Names>,
}

/// What is known of the names in the root.
#[derive(Debug, Default)]
struct Names {
    stamp: Option<i128>,
    /// When the root had this stamp first.
    since: Option<Instant>,
    /// They were looked at when it had the stamp for so long that any change since would have given it another one.
    is_settled: bool,
}

/// No clock of a file system has longer ticks.
const TICK: Duration = Duration::from_secs(3);

impl Names {
    /// Whether the root has the stamp that it had when the names in it were looked at.
    fn are_as_before(&mut self, stamp: Option<i128>, now: Instant) -> bool {
        if stamp.is_none() || stamp != self.stamp {
            *self = Self { stamp, since: Some(now), is_settled: false };
        }
        self.is_settled
    }

    /// They were looked at after the root had this stamp.
    fn note(&mut self, stamp: Option<i128>, then: Instant) {
        let is_old = self.since.is_some_and(|since| then.duration_since(since) > TICK);
        self.is_settled |= stamp.is_some() && stamp == self.stamp && is_old;
    }
}

impl Anchor {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, dir: OnceLock::new(), dirs: Default::default(), lock: OnceLock::new(), names: Mutex::default() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a name.
    pub(super) fn path(&self, name: &Path) -> PathBuf {
        // Joined to nothing it would end with a slash, which says that it is a directory.
        if name.as_os_str().is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    /// Opens the root. What is done from then on is done in that directory, whatever becomes of its name.
    pub(super) fn open(&self, disk: &dyn Disk) -> Result<()> {
        let dir = disk.open_dir(At::new(&self.root)).map_err(|e| Error::io("open", &self.root, e))?;
        // A root is opened once.
        let _ = self.dir.set(dir);
        Ok(())
    }

    /// Keeps the lock of the store for as long as the volume is used.
    pub(super) fn keep_lock(&self, lock: Box<dyn LockGuard>) {
        let _ = self.lock.set(lock);
    }

    /// Where a name is: below the directory that it is in, if that is open. An absolute name is another store's.
    pub(super) fn at<'a>(&'a self, disk: &dyn Disk, path: &'a Path, name: &'a Path) -> At<'a> {
        let Some(root) = self.dir.get().filter(|_| !name.is_absolute()) else { return At::new(path) };
        let mut parts = name.components();
        let first = parts.next();
        let below = parts.as_path();
        match first {
            Some(Component::Normal(first)) if !below.as_os_str().is_empty() => match self.dir(disk, Path::new(first)) {
                Some(dir) => At::below(path, dir, below),
                None => At::below(path, root, name),
            },
            _ => At::below(path, root, name),
        }
    }

    /// A directory itself, to act in.
    pub(super) fn in_dir<'a>(&'a self, disk: &dyn Disk, path: &'a Path, name: &'a Path) -> At<'a> {
        match self.dir(disk, name) {
            Some(dir) => At::below(path, dir, Path::new("")),
            None => self.at(disk, path, name),
        }
    }

    /// One of the directories under the root, opened by the first call that needs it. `None` if the name is another one, or
    /// the directory cannot be opened: the call itself will say why.
    fn dir(&self, disk: &dyn Disk, name: &Path) -> Option<&Dir> {
        let (dir, root) =
            (self.dirs.get(layout::DIRS.iter().position(|dir| name == Path::new(dir))?)?, self.dir.get()?);
        if dir.get().is_none() {
            let opened = disk.open_dir(At::below(&self.path(name), root, name)).ok()?;
            let _ = dir.set(opened);
        }
        dir.get()
    }

    /// Refuses unless the names of the root and of its directories lead to the directories that were opened, and the lock
    /// file still has its name. Else the caller means another store by now, and another process may have that open. The names
    /// in the root are not looked at again as long as the root has not changed.
    pub(super) fn check_in_place(&self, disk: &dyn Disk, operation: &str) -> Result<()> {
        let Some(root) = self.dir.get() else { return Ok(()) };
        let refuse = |path: &Path, what| Err(Error::at(operation, path, Cause::Exchanged(what)));
        let look = |at: At<'_>, dir| disk.is_dir(at, dir).map_err(|e| Error::io("look at", at.path(), e));
        let (is_root, stamp) =
            disk.is_dir_with_stamp(At::new(&self.root), root).map_err(|e| Error::io("look at", &self.root, e))?;
        if !is_root {
            return refuse(&self.root, "the directory");
        }
        let now = Instant::now();
        if self.names.lock().are_as_before(stamp, now) {
            return Ok(());
        }
        for (name, dir) in layout::DIRS.iter().zip(&self.dirs) {
            let path = self.path(Path::new(name));
            if let Some(dir) = dir.get()
                && !look(At::below(&path, root, Path::new(name)), dir)?
            {
                return refuse(&path, "the directory");
            }
        }
        let path = self.path(Path::new(layout::LOCK));
        match self.lock.get().map_or(Ok(true), |lock| lock.is_in_place()) {
            Ok(true) => {
                self.names.lock().note(stamp, now);
                Ok(())
            }
            Ok(false) => refuse(&path, "the lock file"),
            Err(error) => Err(Error::io("look at", &path, error)),
        }
    }
}
