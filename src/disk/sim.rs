//! A simulated disk: what is visible, and what would be left if the power went now.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    io,
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    DirEntry, Disk, DiskFile, Lock, Mapping, Metadata,
    memory::Locks,
    tree::{Content, Names, Node, NodeId, ROOT, Tree, write_into},
};

/// A disk in memory that keeps a live and a durable image, and fails as told.
///
/// The durable image has what was synced: bytes by [`DiskFile::sync_data`], names by [`Disk::sync_dir`]. Everything else
/// may be lost or kept when the power is cut, each write and each name for itself, as [`Survival`] says; nothing is ever
/// made durable by accident. What a failed sync should have made durable no later sync can.
///
/// Every call is counted, from 1. [`fail`](SimDisk::fail) picks the call that goes wrong.
///
/// # Examples
///
/// ```
/// use piton::{Manifest, Options, Scope, testing::{SimDisk, Survival}};
///
/// let disk = SimDisk::new();
/// let store = Options::new().disk(disk.clone()).open("/state")?;
/// let pending = store.begin(store.next_id())?;
/// let handle = pending.write(Scope::Shared, &[1; 2000])?;
/// pending.commit(Manifest::builder().state("s", handle))?;
/// let lost = store.begin(store.next_id())?.write(Scope::Shared, &[2; 2000])?;
///
/// let disk = disk.cut_power(Survival::Nothing);
/// let store = Options::new().disk(disk).open("/state")?;
/// assert_eq!(store.checkpoint_ids().len(), 1);
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    locks: Locks,
}

/// What becomes of unsynced bytes and names when the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Everything unsynced is lost.
    Nothing,
    /// Everything unsynced survives.
    Everything,
    /// Each unsynced write is lost, kept or torn, each unsynced name lost or kept, as this seed has it.
    Random(u64),
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error code of the operating system and does nothing. A sync that fails so leaves the bytes or
    /// names marked clean: no later sync makes them durable.
    Error(i32),
    /// It takes effect, and fails with this error code nevertheless.
    ErrorAfter(i32),
    /// A write accepts half of what was offered; any other call is not affected.
    ShortWrite,
    /// The power goes: this call and every later one fails.
    PowerCut,
}

/// The kinds of calls, for [`SimDisk::count`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the call of `Disk` or `DiskFile` of that name")]
pub enum Call {
    CreateDir,
    List,
    Metadata,
    CreateTemp,
    Open,
    Rename,
    RenameNew,
    Remove,
    SyncDir,
    TryLock,
    ReadAt,
    WriteAt,
    Len,
    SyncData,
    Map,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    files: HashMap<NodeId, DurableFile>,
    dirs: HashMap<NodeId, DurableDir>,
    calls: u64,
    counts: BTreeMap<Call, u64>,
    faults: BTreeMap<u64, Fault>,
    powered: bool,
}

#[derive(Clone, Debug, Default)]
struct DurableFile {
    synced: Vec<u8>,
    /// Writes that a failed sync left behind: no later sync reaches them.
    doomed: Vec<(u64, Vec<u8>)>,
    unsynced: Vec<(u64, Vec<u8>)>,
}

#[derive(Clone, Debug, Default)]
struct DurableDir {
    synced: Names,
    doomed: Vec<(OsString, Option<NodeId>)>,
    unsynced: Vec<(OsString, Option<NodeId>)>,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        let dirs = HashMap::from([(ROOT, DurableDir::default())]);
        Self::of(Tree::new(), HashMap::new(), dirs)
    }

    fn of(tree: Tree, files: HashMap<NodeId, DurableFile>, dirs: HashMap<NodeId, DurableDir>) -> Self {
        let (calls, counts, faults) = (0, BTreeMap::new(), BTreeMap::new());
        let state = State { tree, files, dirs, calls, counts, faults, powered: true };
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
        Self::of(tree, files, dirs)
    }

    /// Kills the process that uses this disk: every later call on it fails. Returns the disk for the next process, with
    /// everything that was visible, synced or not.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.state.lock();
        state.powered = false;
        let tree = std::mem::replace(&mut state.tree, Tree::new());
        Self::of(tree, state.files.clone(), state.dirs.clone())
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
        state.files.insert(id, DurableFile { synced, ..DurableFile::default() });
        Ok(())
    }

    /// Counts a call and says what happens to it.
    fn enter(state: &mut State, call: Call) -> io::Result<Option<Fault>> {
        if !state.powered {
            return Err(no_power());
        }
        state.calls += 1;
        *state.counts.entry(call).or_default() += 1;
        match state.faults.get(&state.calls).copied() {
            Some(Fault::PowerCut) => {
                state.powered = false;
                Err(no_power())
            }
            fault => Ok(fault),
        }
    }

    fn call<T>(&self, call: Call, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
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
                files.insert(id, DurableFile { synced: content.bytes(), ..DurableFile::default() });
            }
            Node::Dir(names) => {
                dirs.insert(id, DurableDir { synced: names.clone(), ..DurableDir::default() });
            }
        }
    }
    (files, dirs)
}

impl State {
    /// Notes that a name in a directory changed.
    fn note(&mut self, dir: NodeId, name: &OsStr, now: Option<NodeId>) {
        self.dirs.entry(dir).or_default().unsynced.push((name.to_owned(), now));
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.tree.rename(from, to)?;
        let ((from_dir, from_name), (to_dir, to_name)) = (self.tree.split(from)?, self.tree.split(to)?);
        self.note(to_dir, to_name, Some(id));
        self.note(from_dir, from_name, None);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Call::CreateDir, |state| {
            let (dir, name) = state.tree.split(path)?;
            let id = state.tree.create(dir, name, Node::Dir(Names::new()))?;
            state.dirs.insert(id, DurableDir::default());
            state.note(dir, name, Some(id));
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.call(Call::List, |state| state.tree.list(state.tree.find(path)?))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.call(Call::Metadata, |state| Ok(state.tree.metadata(state.tree.find(path)?)))
    }

    fn create_temp(&self, dir: &Path) -> io::Result<(OsString, Box<dyn DiskFile>)> {
        let (name, id, content) = self.call(Call::CreateTemp, |state| {
            let dir = state.tree.find(dir)?;
            let (name, id, content) = state.tree.create_temp(dir)?;
            state.files.insert(id, DurableFile::default());
            state.note(dir, &name, Some(id));
            Ok((name, id, content))
        })?;
        Ok((name, self.file(id, content)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let (id, content) = self.call(Call::Open, |state| state.tree.find_file(path))?;
        Ok(self.file(id, content))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Rename, |state| state.rename(from, to))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::RenameNew, |state| {
            if state.tree.find(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.rename(from, to)
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Remove, |state| {
            state.tree.remove(path)?;
            let (dir, name) = state.tree.split(path)?;
            state.note(dir, name, None);
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let fault = Self::enter(&mut state, Call::SyncDir)?;
        let id = state.tree.find(path)?;
        state.tree.names(id)?;
        state.dirs.entry(id).or_default().sync(fault)
    }

    fn try_lock(&self, path: &Path, owner: &str) -> io::Result<Lock> {
        self.call(Call::TryLock, |state| {
            if state.tree.find(path).is_err() {
                let (dir, name) = state.tree.split(path)?;
                let id = state.tree.create(dir, name, Node::File(Content::default()))?;
                state.files.insert(id, DurableFile::default());
                state.note(dir, name, Some(id));
            }
            Ok(self.locks.try_lock(path, owner))
        })
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: NodeId,
    content: Content,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.call(Call::ReadAt, |_| Ok(self.content.read_at(buffer, offset)))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        let fault = SimDisk::enter(&mut state, Call::WriteAt)?;
        if let Some(Fault::Error(code)) = fault {
            return Err(io::Error::from_raw_os_error(code));
        }
        let accepted = if fault == Some(Fault::ShortWrite) { bytes.len().div_ceil(2) } else { bytes.len() };
        let bytes = bytes.get(..accepted).unwrap_or_default();
        self.content.write_at(bytes, offset)?;
        state.files.entry(self.node).or_default().unsynced.push((offset, bytes.to_vec()));
        match fault {
            Some(Fault::ErrorAfter(code)) => Err(io::Error::from_raw_os_error(code)),
            _ => Ok(accepted),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.call(Call::Len, |_| Ok(self.content.len()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let fault = SimDisk::enter(&mut state, Call::SyncData)?;
        state.files.entry(self.node).or_default().sync(fault)
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        self.disk.call(Call::Map, |_| self.content.map(offset, len))
    }
}

impl DurableFile {
    fn sync(&mut self, fault: Option<Fault>) -> io::Result<()> {
        let unsynced = std::mem::take(&mut self.unsynced);
        if let Some(Fault::Error(code)) = fault {
            self.doomed.extend(unsynced);
            return Err(io::Error::from_raw_os_error(code));
        }
        for (offset, bytes) in unsynced {
            write_into(&mut self.synced, &bytes, offset)?;
        }
        match fault {
            Some(Fault::ErrorAfter(code)) => Err(io::Error::from_raw_os_error(code)),
            _ => Ok(()),
        }
    }

    fn survivor(&self, chance: &mut Chance) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for (offset, written) in self.doomed.iter().chain(&self.unsynced) {
            let kept = chance.prefix(written.len());
            // In memory a write into a run of bytes that was written before cannot fail.
            let _ = write_into(&mut bytes, written.get(..kept).unwrap_or_default(), *offset);
        }
        bytes
    }
}

impl DurableDir {
    fn sync(&mut self, fault: Option<Fault>) -> io::Result<()> {
        let unsynced = std::mem::take(&mut self.unsynced);
        if let Some(Fault::Error(code)) = fault {
            self.doomed.extend(unsynced);
            return Err(io::Error::from_raw_os_error(code));
        }
        for (name, now) in unsynced {
            self.doomed.retain(|(doomed, _)| *doomed != name);
            set(&mut self.synced, name, now);
        }
        match fault {
            Some(Fault::ErrorAfter(code)) => Err(io::Error::from_raw_os_error(code)),
            _ => Ok(()),
        }
    }

    fn survivor(&self, chance: &mut Chance) -> Names {
        let mut names = self.synced.clone();
        for (name, now) in self.doomed.iter().chain(&self.unsynced) {
            if chance.keep() {
                set(&mut names, name.clone(), *now);
            }
        }
        names
    }
}

fn set(names: &mut Names, name: OsString, now: Option<NodeId>) {
    match now {
        Some(id) => names.insert(name, id),
        None => names.remove(&name),
    };
}

/// What is kept and what is lost.
#[derive(Debug)]
struct Chance {
    survival: Survival,
    state: u64,
}

impl Chance {
    fn of(survival: Survival) -> Self {
        let state = if let Survival::Random(seed) = survival { seed } else { 0 };
        Self { survival, state }
    }

    /// splitmix64: <https://prng.di.unimi.it/splitmix64.c>.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn keep(&mut self) -> bool {
        match self.survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Random(_) => self.next().is_multiple_of(2),
        }
    }

    /// How many bytes of a write survive.
    fn prefix(&mut self, len: usize) -> usize {
        match self.survival {
            Survival::Nothing => 0,
            Survival::Everything => len,
            Survival::Random(_) => match self.next() % 3 {
                0 => 0,
                1 => len,
                _ => usize::try_from(self.next() % (len as u64 + 1)).unwrap_or(len),
            },
        }
    }
}
