//! A disk and the root of a store on it: the calls that the rest of the crate makes, with errors that name the file,
//! repeated where a call was only interrupted.
//!
//! The volume also remembers the first failure after which nobody can know what is durable: from then on it refuses to
//! write, until the store is reopened and looks for itself.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    At, DirEntry, Disk, DiskFile, Lock, LockGuard, Metadata, NoLock,
    anchor::{Anchor, Opener},
    file::VolumeFile,
    layout,
};
use crate::{
    error::{Cause, Error, Malformed, Result},
    observe::{self, Event, Observer},
};

#[derive(Debug)]
pub(crate) struct Volume {
    disk: Arc<dyn Disk>,
    anchor: Anchor,
    opener: Opener,
    /// Off for `Durability::None`.
    syncs: bool,
    poison: OnceLock<Error>,
    /// Whether it was told that somebody else has the store.
    fenced: AtomicBool,
    observer: Observer,
    /// Held during a directory sync: if it fails, nobody else's sync of the same names may seem to succeed after it.
    dir_sync: Mutex<()>,
    /// Files that could not be removed; the next sweep tries again.
    leftovers: Mutex<Vec<PathBuf>>,
    /// What the last [`ReadersLocked`] had open.
    readers: Mutex<Option<Box<dyn LockGuard>>>,
}

/// Keeps other processes from opening checkpoints of a store, until it is dropped.
#[derive(Debug)]
pub(crate) struct ReadersLocked {
    volume: Arc<Volume>,
    guard: Option<Box<dyn LockGuard>>,
}

impl ReadersLocked {
    /// The same for another checkpoint: whether it could be had. `None` if the disk needs another lock for that.
    pub(crate) fn lock_more(&mut self, id: u64) -> Result<Option<bool>> {
        let Some(guard) = &mut self.guard else { return Ok(None) };
        guard.lock_more(id).map_err(|e| Error::io("lock", &self.volume.path(layout::READERS), e))
    }
}

impl Drop for ReadersLocked {
    /// The file stays open for the next one.
    fn drop(&mut self) {
        let guard = self.guard.take().filter(|_| !self.volume.opener.is_another());
        if let Some(mut guard) = guard
            && guard.unlock_all().unwrap_or(false)
        {
            *self.volume.readers.lock() = Some(guard);
        }
    }
}

/// Checks the first bytes of a file and its length.
type CheckHead = fn(&[u8], u64) -> std::result::Result<(), Malformed>;

impl Volume {
    pub(crate) fn new(disk: Arc<dyn Disk>, root: PathBuf, syncs: bool) -> Self {
        let (dir_sync, leftovers, readers) = Default::default();
        let (anchor, opener, poison) = (Anchor::new(root), Opener::this(), OnceLock::new());
        let (fenced, observer) = Default::default();
        Self { disk, anchor, opener, syncs, poison, fenced, observer, dir_sync, leftovers, readers }
    }

    /// Tells this observer what happens.
    pub(crate) fn observed_by(self, observer: &Observer) -> Self {
        Self { observer: observer.clone(), ..self }
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Opens the root. What is done from then on is done in that directory, whatever becomes of its name.
    pub(crate) fn open_root(&self) -> Result<()> {
        self.anchor.open(&*self.disk)
    }

    /// Keeps the lock of the store for as long as the volume is used.
    pub(crate) fn keep_lock(&self, lock: Box<dyn LockGuard>) {
        self.anchor.keep_lock(lock);
    }

    /// The process that may change something here.
    pub(crate) fn opener(&self) -> Opener {
        self.opener
    }

    fn at<'a>(&'a self, path: &'a Path, name: &'a Path) -> At<'a> {
        self.anchor.at(&*self.disk, path, name)
    }

    fn in_dir<'a>(&'a self, path: &'a Path, name: &'a Path) -> At<'a> {
        self.anchor.in_dir(&*self.disk, path, name)
    }

    /// Refuses unless the store is still where its name leads to: see [`Anchor::check_in_place`].
    pub(crate) fn check_in_place(&self, operation: &str) -> Result<()> {
        self.anchor.check_in_place(&*self.disk, operation)
    }

    /// Whether a name still leads to an open file; `None` if the disk cannot tell.
    pub(crate) fn leads_to(&self, name: &Path, file: &VolumeFile) -> Result<Option<bool>> {
        let path = self.path(name);
        file.is_at(self.at(&path, name)).map_err(|e| Error::io("look at", &path, e))
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
        self.anchor.root()
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.anchor.path(name.as_ref())
    }

    /// Refuses to write once the volume is poisoned, and in a child of the process that opened it.
    pub(crate) fn check_writable(&self, operation: &str) -> Result<()> {
        self.opener.check(operation, self.root())?;
        match self.poison.get() {
            Some(first) => Err(Error::at(operation, self.root(), Cause::Poisoned(first.clone()))),
            None => Ok(()),
        }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    /// Latches the first failure after which the durable state is unknown.
    pub(crate) fn poison(&self, cause: &Error) {
        // A later failure adds nothing: the first one stays.
        if self.poison.set(cause.clone()).is_ok() {
            self.observer.note(|| Event::Poisoned { error: cause.clone() });
        }
    }

    /// Tells, once, that another process has opened the store for writing since.
    pub(crate) fn note_fenced(&self, error: &Error) {
        if !self.fenced.swap(true, Ordering::Relaxed) {
            self.observer.note(|| Event::Fenced { error: error.clone() });
        }
    }

    /// Creates a directory if it is missing; a file or a link under its name is an error.
    pub(crate) fn ensure_dir(&self, name: impl AsRef<Path>) -> Result<()> {
        let (path, name) = (self.path(&name), name.as_ref());
        self.opener.check("create directory", &path)?;
        match self.disk.create_dir(self.at(&path, name)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = self.disk.metadata(self.at(&path, name)).map_err(|e| Error::io("look at", &path, e))?;
                match found.kind {
                    super::FileKind::Dir => Ok(()),
                    _ => Err(Error::io("create directory", &path, io::ErrorKind::NotADirectory.into())),
                }
            }
            Err(error) => Err(Error::io("create directory", &path, error)),
        }
    }

    pub(crate) fn list(&self, name: impl AsRef<Path>) -> Result<Vec<DirEntry>> {
        let path = self.path(&name);
        self.disk.list(self.in_dir(&path, name.as_ref())).map_err(|e| Error::io("list", &path, e))
    }

    /// What is under this name; `None` if nothing is.
    pub(crate) fn metadata(&self, name: impl AsRef<Path>) -> Result<Option<Metadata>> {
        let path = self.path(&name);
        match self.disk.metadata(self.at(&path, name.as_ref())) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look at", &path, error)),
        }
    }

    /// Opens a file for reading.
    pub(crate) fn open(&self, name: impl AsRef<Path>) -> Result<VolumeFile> {
        let path = self.path(&name);
        self.opened(self.disk.open(self.at(&path, name.as_ref())), path)
    }

    /// Opens a file for writing over the bytes that it has.
    pub(crate) fn open_writable(&self, name: impl AsRef<Path>) -> Result<VolumeFile> {
        let path = self.path(&name);
        self.opener.check("write", &path)?;
        self.opened(self.disk.open_writable(self.at(&path, name.as_ref())), path)
    }

    fn opened(&self, file: io::Result<Box<dyn DiskFile>>, path: PathBuf) -> Result<VolumeFile> {
        match file {
            Ok(file) => Ok(VolumeFile::new(file, path, self.syncs, self.opener)),
            // The bytes that the caller needs are not there.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory) => {
                Err(Malformed::new(0, "it is not a regular file").at("open", &path))
            }
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
        self.opener.check("create a file in", &path)?;
        let created = self.disk.create_temp(self.in_dir(&path, dir));
        let (name, file) = created.map_err(|e| Error::io("create a file in", &path, e))?;
        Ok((VolumeFile::new(file, path.join(&name), self.syncs, self.opener), dir.join(name)))
    }

    /// Reserves blocks in this directory; returns the temporary name that they have.
    pub(super) fn reserve(&self, dir: &Path, len: u64) -> Result<PathBuf> {
        let path = self.path(dir);
        self.opener.check("reserve room in", &path)?;
        let name = self.disk.reserve(self.in_dir(&path, dir), len);
        Ok(dir.join(name.map_err(|e| Error::io("reserve room in", &path, e))?))
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let (old, new) = (self.path(from), self.path(to));
        self.opener.check("rename a file to", &new)?;
        let renamed = self.disk.rename(self.at(&old, from), self.at(&new, to));
        renamed.map_err(|e| Error::io("rename a file to", &new, e))
    }

    pub(super) fn rename_new(&self, from: &Path, to: &Path) -> Result<()> {
        let (old, new) = (self.path(from), self.path(to));
        self.opener.check("publish", &new)?;
        self.disk.rename_new(self.at(&old, from), self.at(&new, to)).map_err(|e| Error::io("publish", &new, e))
    }

    /// Removes a file that may be gone already. After a failure the name tells: a call may fail that took effect.
    pub(crate) fn remove(&self, name: &Path) -> Result<()> {
        let path = self.path(name);
        self.opener.check("remove", &path)?;
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let at = self.at(&path, name);
        match self.disk.remove(at) {
            Ok(()) => Ok(()),
            Err(error) if gone(&error) || self.disk.metadata(at).as_ref().is_err_and(gone) => Ok(()),
            Err(error) => Err(Error::io("remove", &path, error)),
        }
    }

    /// Removes a directory; one that is not empty stays, and so does each on a disk that cannot do this.
    pub(crate) fn remove_dir(&self, name: impl AsRef<Path>) -> Result<()> {
        use io::ErrorKind::{DirectoryNotEmpty, NotFound, Unsupported};
        let path = self.path(&name);
        self.opener.check("remove directory", &path)?;
        // No directory is removed from within itself. It is empty, whatever it is: else it stays.
        let at = if name.as_ref().as_os_str().is_empty() { At::new(&path) } else { self.at(&path, name.as_ref()) };
        match self.disk.remove_dir(at) {
            Err(error) if !matches!(error.kind(), NotFound | DirectoryNotEmpty | Unsupported) => {
                Err(Error::io("remove directory", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// Removes a file that nobody needs. On failure it is remembered: [`Volume::retry_leftovers`] tries again.
    pub(crate) fn discard(&self, name: &Path) -> Result<()> {
        self.remove(name).inspect_err(|error| {
            self.leftovers.lock().push(name.to_owned());
            self.note_left_over(error);
        })
    }

    /// Tells that something could not be done that is tried again.
    pub(crate) fn note_left_over(&self, error: &Error) {
        self.observer.note(|| Event::LeftOver { error: error.clone() });
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
        self.opener.check("punch holes into", &path)?;
        match self.disk.punch_holes(self.at(&path, name), ranges) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
            Err(error) => Err(Error::io("punch holes into", &path, error)),
        }
    }

    /// Gives a file of another volume on the same disk a second name here.
    pub(super) fn link(&self, from: &Self, original: &Path, name: &Path) -> io::Result<()> {
        let (old, new) = (from.path(original), self.path(name));
        self.disk.link(from.at(&old, original), self.at(&new, name))
    }

    /// Whether [`link`](Self::link) can probably do that in this directory.
    pub(super) fn can_link(&self, original: &Path, dir: &Path) -> bool {
        let (old, new) = (self.path(original), self.path(dir));
        self.disk.can_link(self.at(&old, original), self.in_dir(&new, dir))
    }

    /// Lets an empty file here share the bytes of a file of another volume on the same disk.
    pub(super) fn reflink(&self, from: &Self, original: &Path, name: &Path) -> io::Result<()> {
        let (old, new) = (from.path(original), self.path(name));
        self.disk.reflink(from.at(&old, original), self.at(&new, name))
    }

    /// Copies ranges of a file of another volume on the same disk into a file here.
    pub(super) fn copy_ranges(
        &self,
        from: &Self,
        original: &Path,
        name: &Path,
        ranges: &[Range<u64>],
    ) -> io::Result<()> {
        let (old, new) = (from.path(original), self.path(name));
        self.disk.copy_ranges(from.at(&old, original), self.at(&new, name), ranges)
    }

    /// Makes the names in a directory durable. A failure leaves those of everybody unknown, so it poisons the volume;
    /// but not if the directory could not even be opened for want of descriptors.
    pub(crate) fn sync_dir(&self, name: impl AsRef<Path>) -> Result<()> {
        if !self.syncs {
            return Ok(());
        }
        let path = self.path(&name);
        // A child of a fork must not wait for a lock that a thread of its parent had.
        self.opener.check("sync directory", &path)?;
        let _alone = self.dir_sync.lock();
        self.check_writable("sync directory")?;
        observe::note_sync();
        self.disk
            .sync_dir(self.in_dir(&path, name.as_ref()))
            .map_err(|e| Error::io("sync directory", &path, e))
            .inspect_err(|error| {
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
        let above = self.root().ancestors().skip(1).take_while(|_| self.syncs);
        for dir in above {
            match self.disk.sync_dir(At::new(dir)) {
                Err(error) if cannot_be_synced(error.kind()) => {}
                synced => synced.map_err(|e| Error::io("sync directory", dir, e))?,
            }
        }
        Ok(())
    }

    /// Takes the lock that a file stands for.
    pub(crate) fn lock(&self, name: &str, owner: &str) -> Result<Box<dyn LockGuard>> {
        let path = self.path(name);
        self.opener.check("lock", &path)?;
        match self.disk.try_lock(self.at(&path, name.as_ref()), owner).map_err(|e| Error::io("lock", &path, e))? {
            Lock::Taken(guard) => Ok(guard),
            Lock::Held(owner) => {
                let owner = if owner.is_empty() { "another process".to_owned() } else { owner };
                Err(Error::at("lock", &path, Cause::Locked { owner }))
            }
        }
    }

    /// Keeps a checkpoint of the store whose readers lock this file from being forgotten, in any process. `None` if it is
    /// just being forgotten. The caller then looks whether the checkpoint is there.
    ///
    /// Where there is no such file, no store was open for writing since it was lost: nothing is locked then.
    pub(crate) fn lock_shared(&self, readers: &Path, id: u64) -> Result<Option<Box<dyn LockGuard>>> {
        let path = self.path(readers);
        match self.disk.lock_shared(self.at(&path, readers), id) {
            Ok(Lock::Taken(guard)) => Ok(Some(guard)),
            Ok(Lock::Held(_)) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Box::new(NoLock))),
            Err(error) => Err(Error::io("lock", &path, error)),
        }
    }

    /// Keeps every other process from opening a checkpoint of this store; `None` if one has it open.
    pub(crate) fn lock_exclusive(self: &Arc<Self>, id: u64) -> Result<Option<ReadersLocked>> {
        let (path, name) = (self.path(layout::READERS), Path::new(layout::READERS));
        self.opener.check("lock", &path)?;
        let locked = |guard| ReadersLocked { volume: Arc::clone(self), guard: Some(guard) };
        let open = self.readers.lock().take();
        if let Some(guard) = open.filter(|guard| guard.is_in_place().unwrap_or(false)) {
            let mut locked = locked(guard);
            match locked.lock_more(id) {
                Ok(Some(is_locked)) => return Ok(is_locked.then_some(locked)),
                // What is open is good for nothing any more.
                _ => locked.guard = None,
            }
        }
        match self.disk.lock_exclusive(self.at(&path, name), id).map_err(|e| Error::io("lock", &path, e))? {
            Lock::Taken(guard) => Ok(Some(locked(guard))),
            Lock::Held(_) => Ok(None),
        }
    }

    /// Locks the file of a member; `None` if another process has it locked.
    pub(super) fn lock_member(&self, name: &Path) -> Result<Option<Box<dyn LockGuard>>> {
        let path = self.path(name);
        self.opener.check("lock", &path)?;
        match self.disk.lock_exclusive(self.at(&path, name), 0).map_err(|e| Error::io("lock", &path, e))? {
            Lock::Taken(guard) => Ok(Some(guard)),
            Lock::Held(_) => Ok(None),
        }
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

/// Somebody else's directory, or a file system that syncs no directories.
pub(crate) fn cannot_be_synced(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(kind, InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported)
}
