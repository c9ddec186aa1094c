//! A simulated disk: what is visible, and what would be left if the power went now.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    io,
    ops::Range,
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    At, DirEntry, Disk, DiskFile, Lock, Metadata,
    durable::{Call, Chance, DurableDir, DurableFile, Fault, Survival},
    memory::Locks,
    sim_file::SimFile,
    tree::{BLOCK, Content, Names, Node, NodeId, ROOT, Tree},
};

/// A disk in memory that keeps a live and a durable image, and fails as told.
///
/// The durable image has what was synced: bytes by [`DiskFile::sync_data`], names by [`Disk::sync_dir`]. Everything else
/// may be lost or kept when the power is cut, each write and each name for itself, as [`Survival`] says; nothing is ever
/// made durable by accident. What a failed sync should have made durable no later sync can. Every call is counted, from 1. [`fail`](SimDisk::fail) picks the call that goes wrong.
///
/// # Examples
///
/// ```
/// use piton::{Manifest, Options, Scope, testing::{SimDisk, Survival}};
///
/// let disk = SimDisk::new();
/// let store = Options::new().disk(disk.clone()).open("/state")?;
/// let pending = store.begin_next()?;
/// let handle = pending.write(Scope::Shared, &[1; 2000])?;
/// pending.commit(Manifest::builder().state("s", handle))?;
/// let lost = store.begin_next()?.write(Scope::Shared, &[2; 2000])?;
///
/// let disk = disk.cut_power(Survival::Nothing);
/// let store = Options::new().disk(disk).open("/state")?;
/// assert_eq!(store.checkpoint_ids().len(), 1);
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimDisk {
    pub(super) state: Arc<Mutex<State>>,
    locks: Locks,
}

#[derive(Debug)]
pub(super) struct State {
    tree: Tree,
    pub(super) files: HashMap<NodeId, DurableFile>,
    dirs: HashMap<NodeId, DurableDir>,
    calls: u64,
    counts: BTreeMap<Call, u64>,
    faults: BTreeMap<u64, Fault>,
    faults_by_kind: BTreeMap<(Call, u64), Fault>,
    powered: bool,
    /// How many bytes files may take.
    capacity: Option<u64>,
    /// Whether files can be filled with zeros.
    pub(super) zeros: bool,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        let dirs = HashMap::from([(ROOT, DurableDir::default())]);
        Self::of(Tree::new(), HashMap::new(), dirs, false)
    }

    fn of(tree: Tree, files: HashMap<NodeId, DurableFile>, dirs: HashMap<NodeId, DurableDir>, zeros: bool) -> Self {
        let (counts, faults, faults_by_kind) = Default::default();
        let (calls, powered, capacity) = (0, true, None);
        let state = State { tree, files, dirs, calls, counts, faults, faults_by_kind, powered, capacity, zeros };
        Self { state: Arc::new(Mutex::new(state)), locks: Locks::default() }
    }

    /// How many calls were made.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// How many calls of one kind were made.
    #[must_use]
    pub fn count(&self, call: Call) -> u64 {
        self.state.lock().counts.get(&call).copied().unwrap_or_default()
    }

    /// Lets the call with this number go wrong; the first call of a disk has number 1.
    pub fn fail(&self, call: u64, fault: Fault) {
        self.state.lock().faults.insert(call, fault);
    }

    /// Lets the n-th call of a kind, counted from now on and from 1, go wrong.
    pub fn fail_nth(&self, call: Call, nth: u64, fault: Fault) {
        let mut state = self.state.lock();
        let number = state.counts.get(&call).copied().unwrap_or_default() + nth;
        state.faults_by_kind.insert((call, number), fault);
    }

    /// How many bytes files take, in blocks of 4 KiB.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Files may take this many bytes together: what would take more fails with `ENOSPC`. Such a disk reserves blocks.
    /// Without a capacity, as at first, files may take what they like, and no blocks are reserved.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Whether files can be [filled](DiskFile::fill) with zeros, as on the real file system. They cannot at first.
    pub fn set_fills(&self, fills: bool) {
        self.state.lock().zeros = fills;
    }

    /// How many writes and names would be lost, each for itself, if the power were cut now with [`Survival::Nothing`].
    #[must_use]
    pub fn unsynced(&self) -> u64 {
        let state = self.state.lock();
        let writes = state.files.values().map(DurableFile::unsynced);
        writes.chain(state.dirs.values().map(DurableDir::unsynced)).map(|count| count as u64).sum()
    }

    /// Takes back every fault that has not happened yet.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.faults_by_kind.clear();
    }

    /// Cuts the power: every later call on this disk fails. Returns the disk as it comes up again.
    #[must_use]
    pub fn cut_power(&self, survival: Survival) -> Self {
        let mut state = self.state.lock();
        state.powered = false;
        let mut chance = Chance::of(survival);
        let mut nodes = HashMap::new();
        for (id, file) in sorted(&state.files) {
            nodes.insert(id, Node::File(Content::of(file.survivor(&mut chance))));
        }
        for (id, dir) in sorted(&state.dirs) {
            nodes.insert(id, Node::Dir(dir.survivor(&mut chance)));
        }
        let dangling: Vec<_> = nodes.keys().copied().collect();
        for node in nodes.values_mut() {
            if let Node::Dir(names) = node {
                names.retain(|_, id| dangling.contains(id));
            }
        }
        let tree = Tree::of(nodes, state.tree.temps());
        let (files, dirs) = all_synced(&tree);
        Self::of(tree, files, dirs, state.zeros)
    }

    /// Kills the process that uses this disk: every later call on it fails. Returns the disk for the next process, with
    /// everything that was visible, synced or not.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.state.lock();
        state.powered = false;
        let tree = std::mem::replace(&mut state.tree, Tree::new());
        Self::of(tree, state.files.clone(), state.dirs.clone(), state.zeros)
    }

    /// Forgets every lock that is held, as if somebody had removed the lock files: for tests of stalled writers.
    pub fn break_locks(&self) {
        self.locks.clear();
    }

    /// Changes the bytes of a file behind everybody's back, durably: for tests of damage.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.state.lock();
        let (id, content) = state.tree.find_file(path)?;
        content.change(change);
        let synced = content.bytes();
        state.files.insert(id, DurableFile::synced(synced));
        Ok(())
    }

    /// Counts a call and says what happens to it.
    pub(super) fn enter(state: &mut State, call: Call) -> io::Result<Option<Fault>> {
        if !state.powered {
            return Err(no_power());
        }
        state.calls += 1;
        let count = state.counts.entry(call).or_default();
        *count += 1;
        let fault = state.faults_by_kind.get(&(call, *count)).or_else(|| state.faults.get(&state.calls));
        match fault.copied() {
            Some(Fault::PowerCut) => {
                state.powered = false;
                Err(no_power())
            }
            fault => Ok(fault),
        }
    }

    pub(super) fn call<T>(&self, call: Call, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        match Self::enter(&mut state, call)? {
            Some(Fault::Error(code)) => Err(io::Error::from_raw_os_error(code)),
            Some(Fault::ErrorAfter(code)) => {
                act(&mut state)?;
                Err(io::Error::from_raw_os_error(code))
            }
            _ => act(&mut state),
        }
    }

    fn file(&self, node: NodeId, content: Content) -> Box<dyn DiskFile> {
        Box::new(SimFile { disk: self.clone(), node, content })
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

fn sorted<T>(map: &HashMap<NodeId, T>) -> impl Iterator<Item = (NodeId, &T)> {
    map.iter().map(|(id, node)| (*id, node)).collect::<BTreeMap<_, _>>().into_iter()
}

fn all_synced(tree: &Tree) -> (HashMap<NodeId, DurableFile>, HashMap<NodeId, DurableDir>) {
    let (mut files, mut dirs) = (HashMap::new(), HashMap::new());
    for (id, node) in tree.nodes() {
        match node {
            Node::File(content) => {
                files.insert(id, DurableFile::synced(content.bytes()));
            }
            Node::Dir(names) => {
                dirs.insert(id, DurableDir::synced(names.clone()));
            }
        }
    }
    (files, dirs)
}

impl State {
    fn create_or_find(&mut self, path: &Path) -> io::Result<Content> {
        if self.tree.find(path).is_err() {
            let (dir, name) = self.tree.split(path)?;
            let id = self.tree.create(dir, name, Node::File(Content::default()))?;
            self.files.insert(id, DurableFile::default());
            self.note(dir, name, Some(id));
        }
        Ok(self.tree.find_file(path)?.1)
    }

    fn used(&self) -> u64 {
        let nodes = self.tree.nodes().map(|(id, _)| self.tree.metadata(id));
        nodes.fold(0, |sum: u64, found| sum.saturating_add(found.allocated))
    }

    /// Fails if this many bytes more are too many.
    pub(super) fn check_room(&self, more: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if self.used().saturating_add(more) > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    /// Notes that a name in a directory changed.
    fn note(&mut self, dir: NodeId, name: &OsStr, now: Option<NodeId>) {
        self.dirs.entry(dir).or_default().note(name.to_owned(), now);
    }

    fn copy(&mut self, source: &Content, to: &Path, ranges: &[Range<u64>]) -> io::Result<()> {
        let (id, target) = self.tree.find_file(to)?;
        for range in ranges {
            if range.end > source.len() {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or_default()];
            source.read_at(&mut bytes, range.start);
            target.write_at(&bytes, range.start)?;
            self.files.entry(id).or_default().note(range.start, bytes);
        }
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let is_other = self.tree.find(from)? != self.tree.find(to).unwrap_or(ROOT);
        let id = self.tree.rename(from, to)?;
        if !is_other {
            return Ok(());
        }
        let ((from_dir, from_name), (to_dir, to_name)) = (self.tree.split(from)?, self.tree.split(to)?);
        self.note(to_dir, to_name, Some(id));
        self.note(from_dir, from_name, None);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, at: At<'_>) -> io::Result<()> {
        self.call(Call::CreateDir, |state| {
            let (dir, name) = state.tree.split(at.path())?;
            let id = state.tree.create(dir, name, Node::Dir(Names::new()))?;
            state.dirs.insert(id, DurableDir::default());
            state.note(dir, name, Some(id));
            Ok(())
        })
    }

    fn list(&self, at: At<'_>) -> io::Result<Vec<DirEntry>> {
        self.call(Call::List, |state| state.tree.list(state.tree.find(at.path())?))
    }

    fn metadata(&self, at: At<'_>) -> io::Result<Metadata> {
        self.call(Call::Metadata, |state| Ok(state.tree.metadata(state.tree.find(at.path())?)))
    }

    fn create_temp(&self, dir: At<'_>) -> io::Result<(OsString, Box<dyn DiskFile>)> {
        let (name, id, content) = self.call(Call::CreateTemp, |state| {
            // Its first block, for the name.
            state.check_room(BLOCK)?;
            let dir = state.tree.find(dir.path())?;
            let (name, id, content) = state.tree.create_temp(dir)?;
            state.files.insert(id, DurableFile::default());
            state.note(dir, &name, Some(id));
            Ok((name, id, content))
        })?;
        Ok((name, self.file(id, content)))
    }

    fn reserve(&self, dir: At<'_>, len: u64) -> io::Result<OsString> {
        if self.state.lock().capacity.is_none() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.call(Call::Reserve, |state| {
            state.check_room(len)?;
            let dir = state.tree.find(dir.path())?;
            let (name, id, content) = state.tree.create_temp(dir)?;
            content.write_at(&vec![0; usize::try_from(len).unwrap_or_default()], 0)?;
            state.files.insert(id, DurableFile::default());
            state.note(dir, &name, Some(id));
            Ok(name)
        })
    }

    fn open(&self, at: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        let (id, content) = self.call(Call::Open, |state| state.tree.find_file(at.path()))?;
        Ok(self.file(id, content))
    }

    fn rename(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.call(Call::Rename, |state| state.rename(from.path(), to.path()))
    }

    fn rename_new(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.call(Call::RenameNew, |state| {
            if state.tree.find(to.path()).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.rename(from.path(), to.path())
        })
    }

    fn remove(&self, at: At<'_>) -> io::Result<()> {
        self.call(Call::Remove, |state| {
            state.tree.remove(at.path())?;
            let (dir, name) = state.tree.split(at.path())?;
            state.note(dir, name, None);
            Ok(())
        })
    }

    fn remove_dir(&self, at: At<'_>) -> io::Result<()> {
        self.call(Call::RemoveDir, |state| {
            state.tree.remove_dir(at.path())?;
            let (dir, name) = state.tree.split(at.path())?;
            state.note(dir, name, None);
            Ok(())
        })
    }

    fn link(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.call(Call::Link, |state| {
            let id = state.tree.link(from.path(), to.path())?;
            let (dir, name) = state.tree.split(to.path())?;
            state.note(dir, name, Some(id));
            Ok(())
        })
    }

    fn can_link(&self, from: At<'_>, dir: At<'_>) -> bool {
        let tree = &self.state.lock().tree;
        tree.find_file(from.path()).is_ok() && tree.find(dir.path()).is_ok()
    }

    /// Shares nothing: what is copied counts as unsynced bytes of the new file, which is what must be survived.
    fn reflink(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.call(Call::Reflink, |state| {
            let (_, source) = state.tree.find_file(from.path())?;
            state.copy(&source, to.path(), &[Range { start: 0, end: source.len() }])
        })
    }

    fn copy_ranges(&self, from: At<'_>, to: At<'_>, ranges: &[Range<u64>]) -> io::Result<()> {
        self.call(Call::CopyRanges, |state| {
            let (_, source) = state.tree.find_file(from.path())?;
            state.copy(&source, to.path(), ranges)
        })
    }

    /// Not durable until the file is synced: until then the zeros may be lost, kept or torn.
    fn punch_holes(&self, at: At<'_>, ranges: &[Range<u64>]) -> io::Result<()> {
        self.call(Call::PunchHoles, |state| {
            let (id, content) = state.tree.find_file(at.path())?;
            for range in ranges {
                let range = content.punch(range)?;
                let zeros = vec![0; usize::try_from(range.end - range.start).unwrap_or_default()];
                state.files.entry(id).or_default().note(range.start, zeros);
            }
            Ok(())
        })
    }

    fn log_size(&self) -> u64 {
        128 << 10
    }

    fn sync_dir(&self, at: At<'_>) -> io::Result<()> {
        let mut state = self.state.lock();
        let fault = Self::enter(&mut state, Call::SyncDir)?;
        let id = state.tree.find(at.path())?;
        state.tree.names(id)?;
        state.dirs.entry(id).or_default().sync(fault)
    }

    fn try_lock(&self, at: At<'_>, owner: &str) -> io::Result<Lock> {
        self.call(Call::TryLock, |state| {
            let found = state.create_or_find(at.path());
            found.map(|content| self.locks.try_lock((at.path(), None), owner, Some(content)))
        })
    }

    fn lock_shared(&self, at: At<'_>, number: u64) -> io::Result<Lock> {
        self.call(Call::LockShared, |state| {
            state.tree.find_file(at.path()).map(|_| self.locks.share((at.path(), Some(number))))
        })
    }

    fn lock_exclusive(&self, at: At<'_>, number: u64) -> io::Result<Lock> {
        self.call(Call::LockExclusive, |state| {
            state.create_or_find(at.path()).map(|_| self.locks.try_lock((at.path(), Some(number)), "", None))
        })
    }
}
