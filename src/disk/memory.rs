//! A file system in memory.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    At, DirEntry, Disk, DiskFile, Lock, LockGuard, Mapping, Metadata,
    tree::{Content, Names, Node, Tree},
};

/// A file system in memory, for small jobs and tests: nothing outlives the value and its clones, which share it.
///
/// # Examples
///
/// ```
/// use piton::{Options, disk::MemoryDisk};
///
/// let disk = MemoryDisk::new();
/// Options::new().disk(disk.clone()).open("/state")?.close()?;
/// Options::new().disk(disk).open("/state")?; // the same store again
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    tree: Arc<Mutex<Tree>>,
    locks: Locks,
}

impl MemoryDisk {
    /// An empty file system.
    #[must_use]
    pub fn new() -> Self {
        Self { tree: Arc::new(Mutex::new(Tree::new())), locks: Locks::default() }
    }

    fn create_or_find(&self, path: &Path) -> io::Result<Content> {
        let mut tree = self.tree.lock();
        if tree.find(path).is_err() {
            let (dir, name) = tree.split(path)?;
            tree.create(dir, name, Node::File(Content::default()))?;
        }
        Ok(tree.find_file(path)?.1)
    }
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, at: At<'_>) -> io::Result<()> {
        let mut tree = self.tree.lock();
        let (dir, name) = tree.split(at.path())?;
        tree.create(dir, name, Node::Dir(Names::new())).map(drop)
    }

    fn list(&self, at: At<'_>) -> io::Result<Vec<DirEntry>> {
        let tree = self.tree.lock();
        tree.list(tree.find(at.path())?)
    }

    fn metadata(&self, at: At<'_>) -> io::Result<Metadata> {
        let tree = self.tree.lock();
        Ok(tree.metadata(tree.find(at.path())?))
    }

    fn create_temp(&self, dir: At<'_>) -> io::Result<(OsString, Box<dyn DiskFile>)> {
        let mut tree = self.tree.lock();
        let dir = tree.find(dir.path())?;
        let (name, _, content) = tree.create_temp(dir)?;
        Ok((name, Box::new(MemoryFile(content))))
    }

    fn open(&self, at: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        let (_, content) = self.tree.lock().find_file(at.path())?;
        Ok(Box::new(MemoryFile(content)))
    }

    fn rename(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.tree.lock().rename(from.path(), to.path()).map(drop)
    }

    fn rename_new(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        let mut tree = self.tree.lock();
        if tree.find(to.path()).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        tree.rename(from.path(), to.path()).map(drop)
    }

    fn remove(&self, at: At<'_>) -> io::Result<()> {
        self.tree.lock().remove(at.path())
    }

    fn link(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.tree.lock().link(from.path(), to.path()).map(drop)
    }

    fn can_link(&self, from: At<'_>, dir: At<'_>) -> bool {
        let tree = &self.tree.lock();
        tree.find_file(from.path()).is_ok() && tree.find(dir.path()).is_ok()
    }

    fn remove_dir(&self, at: At<'_>) -> io::Result<()> {
        self.tree.lock().remove_dir(at.path())
    }

    fn log_size(&self) -> u64 {
        128 << 10
    }

    fn sync_dir(&self, at: At<'_>) -> io::Result<()> {
        let tree = self.tree.lock();
        tree.names(tree.find(at.path())?).map(drop)
    }

    fn try_lock(&self, at: At<'_>, owner: &str) -> io::Result<Lock> {
        let content = self.create_or_find(at.path())?;
        Ok(self.locks.try_lock((at.path(), None), owner, Some(content)))
    }

    fn lock_shared(&self, at: At<'_>, number: u64) -> io::Result<Lock> {
        self.tree.lock().find_file(at.path())?;
        Ok(self.locks.share((at.path(), Some(number))))
    }

    fn lock_exclusive(&self, at: At<'_>, number: u64) -> io::Result<Lock> {
        self.create_or_find(at.path())?;
        Ok(self.locks.try_lock((at.path(), Some(number)), "", None))
    }
}

#[derive(Debug)]
struct MemoryFile(Content);

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.0.read_at(buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset).map(|()| bytes.len())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        self.0.map(offset, len)
    }
}

/// The locks that are held.
#[derive(Clone, Debug, Default)]
pub(super) struct Locks(Arc<Mutex<HashMap<Locked, Held>>>);

/// A file that is locked: all of it, or a number of it.
type Locked = (PathBuf, Option<u64>);

#[derive(Debug)]
enum Held {
    /// By one alone, who says who it is.
    By(String),
    /// By so many at once.
    Shared(usize),
}

impl Locks {
    #[cfg(feature = "testing")]
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// For oneself. The file says who it is for as long as that is so, if it is given.
    pub(super) fn try_lock(&self, (path, number): (&Path, Option<u64>), owner: &str, file: Option<Content>) -> Lock {
        let mut held = self.0.lock();
        let locked = (path.to_owned(), number);
        match held.get(&locked) {
            Some(Held::By(holder)) => Lock::Held(holder.clone()),
            Some(Held::Shared(_)) => Lock::Held(String::new()),
            None => {
                held.insert(locked.clone(), Held::By(owner.to_owned()));
                if let Some(file) = &file {
                    file.replace(owner.as_bytes());
                }
                self.guard(locked, file)
            }
        }
    }

    /// Along with others.
    pub(super) fn share(&self, (path, number): (&Path, Option<u64>)) -> Lock {
        let locked = (path.to_owned(), number);
        match self.0.lock().entry(locked.clone()).or_insert(Held::Shared(0)) {
            Held::By(holder) => Lock::Held(holder.clone()),
            Held::Shared(holders) => {
                *holders += 1;
                self.guard(locked, None)
            }
        }
    }

    fn guard(&self, locked: Locked, file: Option<Content>) -> Lock {
        Lock::Taken(Box::new(MemoryLock { locks: self.clone(), locked, file }))
    }
}

#[derive(Debug)]
struct MemoryLock {
    locks: Locks,
    locked: Locked,
    /// It says who has the lock.
    file: Option<Content>,
}

impl LockGuard for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.replace(&[]);
        }
        let mut held = self.locks.0.lock();
        match held.get_mut(&self.locked) {
            Some(Held::Shared(holders)) if *holders > 1 => *holders -= 1,
            _ => drop(held.remove(&self.locked)),
        }
    }
}
