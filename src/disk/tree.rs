//! Directories and files in memory: what the memory disk and the simulated disk are made of.
//!
//! A node keeps its number for as long as it has a name; an open file keeps its bytes also without one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    io,
    path::{Component, Path},
    sync::Arc,
};

use parking_lot::RwLock;

use super::{DirEntry, FileKind, Mapping, Metadata, TEMP_PREFIX, TEMP_RANDOM, check_range};

pub(super) type NodeId = u64;
pub(super) type Names = BTreeMap<OsString, NodeId>;

/// The number of the root directory.
pub(super) const ROOT: NodeId = 0;

/// How much a hole is made of.
pub(super) const BLOCK: u64 = 4096;

/// The bytes of a file, shared by its name and everybody who has it open.
#[derive(Clone, Debug, Default)]
pub(super) struct Content(Arc<RwLock<Bytes>>);

#[derive(Default)]
struct Bytes {
    bytes: Vec<u8>,
    /// The blocks that were punched out and not written since.
    holes: BTreeSet<u64>,
}

#[derive(Debug)]
pub(super) enum Node {
    File(Content),
    Dir(Names),
}

#[derive(Debug)]
pub(super) struct Tree {
    nodes: HashMap<NodeId, Node>,
    /// How many names a file has, if more than one: a crash may leave two.
    links: HashMap<NodeId, usize>,
    next: NodeId,
    temps: u64,
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, {} holes", self.bytes.len(), self.holes.len())
    }
}

impl Content {
    #[cfg(feature = "testing")]
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(RwLock::new(Bytes { bytes, holes: BTreeSet::new() })))
    }

    #[cfg(feature = "testing")]
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.read().bytes.clone()
    }

    #[cfg(feature = "testing")]
    pub(super) fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.0.write().bytes);
    }

    /// Gives the file other bytes as a whole.
    pub(super) fn replace(&self, bytes: &[u8]) {
        self.0.write().bytes = bytes.to_vec();
    }

    pub(super) fn len(&self) -> u64 {
        self.0.read().bytes.len() as u64
    }

    fn allocated(&self) -> u64 {
        let content = self.0.read();
        (content.bytes.len() as u64).div_ceil(BLOCK).saturating_sub(content.holes.len() as u64) * BLOCK
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        let content = self.0.read();
        let rest = usize::try_from(offset).ok().and_then(|offset| content.bytes.get(offset..)).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        if let (Some(target), Some(source)) = (buffer.get_mut(..n), rest.get(..n)) {
            target.copy_from_slice(source);
        }
        n
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.0.write();
        write_into(&mut content.bytes, bytes, offset)?;
        let written = offset / BLOCK..(offset + bytes.len() as u64).div_ceil(BLOCK);
        content.holes.retain(|hole| !written.contains(hole));
        Ok(())
    }

    /// Turns a range into zeros; the whole blocks in it become holes. Returns the part of it that the file has.
    #[cfg(feature = "testing")]
    pub(super) fn punch(&self, range: &std::ops::Range<u64>) -> io::Result<std::ops::Range<u64>> {
        let mut content = self.0.write();
        let len = content.bytes.len() as u64;
        let range = range.start.min(len)..range.end.min(len);
        let zeros = vec![0; usize::try_from(range.end.saturating_sub(range.start)).unwrap_or_default()];
        write_into(&mut content.bytes, &zeros, range.start)?;
        let end = if range.end == len { len.div_ceil(BLOCK) } else { range.end / BLOCK };
        content.holes.extend(range.start.div_ceil(BLOCK)..end);
        Ok(range)
    }

    pub(super) fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        check_range(offset, len, self.len())?;
        let mut bytes = vec![0; len];
        self.read_at(&mut bytes, offset);
        Ok(Mapping::from_bytes(bytes))
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        Self::of(HashMap::from([(ROOT, Node::Dir(Names::new()))]), 0)
    }

    /// A tree of these nodes, which must hold a directory [`ROOT`]. What cannot be reached from it is dropped.
    pub(super) fn of(mut nodes: HashMap<NodeId, Node>, temps: u64) -> Self {
        let mut reachable = HashMap::new();
        let mut links = HashMap::new();
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            *links.entry(id).or_default() += 1;
            if let Some(node) = nodes.remove(&id) {
                if let Node::Dir(names) = &node {
                    open.extend(names.values());
                }
                reachable.insert(id, node);
            }
        }
        let next = reachable.keys().max().map_or(ROOT + 1, |last| last + 1);
        links.retain(|_, names| *names > 1);
        Self { nodes: reachable, links, next, temps }
    }

    #[cfg(feature = "testing")]
    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    /// How many temporary names were ever given out: a later tree must not give them out again.
    #[cfg(feature = "testing")]
    pub(super) fn temps(&self) -> u64 {
        self.temps
    }

    /// The node under a path.
    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut at = ROOT;
        for part in path.components() {
            match part {
                Component::Normal(name) => at = *self.names(at)?.get(name).ok_or(io::ErrorKind::NotFound)?,
                Component::RootDir => at = ROOT,
                Component::CurDir | Component::ParentDir | Component::Prefix(_) => {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
            }
        }
        Ok(at)
    }

    /// The file under a path; a directory is an error.
    pub(super) fn find_file(&self, path: &Path) -> io::Result<(NodeId, Content)> {
        let id = self.find(path)?;
        match self.nodes.get(&id) {
            Some(Node::File(content)) => Ok((id, content.clone())),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    /// The directory of a path and the name in it.
    pub(super) fn split<'a>(&self, path: &'a Path) -> io::Result<(NodeId, &'a OsStr)> {
        let (parent, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find(parent)?, name))
    }

    pub(super) fn names(&self, dir: NodeId) -> io::Result<&Names> {
        match self.nodes.get(&dir) {
            Some(Node::Dir(names)) => Ok(names),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn names_mut(&mut self, dir: NodeId) -> io::Result<&mut Names> {
        match self.nodes.get_mut(&dir) {
            Some(Node::Dir(names)) => Ok(names),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Adds a node under a name that must be free.
    pub(super) fn create(&mut self, dir: NodeId, name: &OsStr, node: Node) -> io::Result<NodeId> {
        let id = self.next;
        let names = self.names_mut(dir)?;
        if names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.insert(name.to_owned(), id);
        self.nodes.insert(id, node);
        self.next += 1;
        Ok(id)
    }

    /// Adds an empty file under a fresh temporary name.
    pub(super) fn create_temp(&mut self, dir: NodeId) -> io::Result<(OsString, NodeId, Content)> {
        self.temps += 1;
        let name = OsString::from(format!("{TEMP_PREFIX}{:0width$}", self.temps, width = TEMP_RANDOM));
        let content = Content::default();
        let id = self.create(dir, &name, Node::File(content.clone()))?;
        Ok((name, id, content))
    }

    /// Gives a file another name, in place of what has it.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<NodeId> {
        let (id, _) = self.find_file(from)?;
        match self.find(to) {
            // Two names of one file: nothing happens, as POSIX has it.
            Ok(other) if other == id => return Ok(id),
            Ok(_) => self.remove(to)?,
            Err(_) => {}
        }
        let ((from_dir, from_name), (to_dir, to_name)) = (self.split(from)?, self.split(to)?);
        self.names_mut(to_dir)?.insert(to_name.to_owned(), id);
        self.names_mut(from_dir)?.remove(from_name);
        Ok(id)
    }

    /// Gives a file another name, which must be free.
    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<NodeId> {
        let (id, _) = self.find_file(from)?;
        let (dir, name) = self.split(to)?;
        let names = self.names_mut(dir)?;
        if names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.insert(name.to_owned(), id);
        *self.links.entry(id).or_insert(1) += 1;
        Ok(id)
    }

    /// Removes a directory that is empty.
    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        if !self.names(id)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (dir, name) = self.split(path)?;
        self.names_mut(dir)?.remove(name);
        self.nodes.remove(&id);
        Ok(())
    }

    /// Removes a file's name, and with the last one the node.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (id, _) = self.find_file(path)?;
        let (dir, name) = self.split(path)?;
        self.names_mut(dir)?.remove(name);
        match self.links.get_mut(&id).filter(|names| **names > 1) {
            Some(names) => *names -= 1,
            None => drop(self.nodes.remove(&id)),
        }
        Ok(())
    }

    pub(super) fn metadata(&self, id: NodeId) -> Metadata {
        let links = self.links.get(&id).copied().unwrap_or(1) as u64;
        match self.nodes.get(&id) {
            Some(Node::File(content)) => {
                Metadata { kind: FileKind::File, len: content.len(), allocated: content.allocated(), links }
            }
            Some(Node::Dir(_)) => Metadata { kind: FileKind::Dir, len: 0, allocated: 0, links },
            None => Metadata { kind: FileKind::Other, len: 0, allocated: 0, links },
        }
    }

    pub(super) fn list(&self, dir: NodeId) -> io::Result<Vec<DirEntry>> {
        let names = self.names(dir)?.iter();
        Ok(names.map(|(name, id)| DirEntry { name: name.clone(), metadata: self.metadata(*id) }).collect())
    }
}

/// Writes into a run of bytes as into a file: it grows, and a gap reads as zeros.
pub(super) fn write_into(target: &mut Vec<u8>, bytes: &[u8], offset: u64) -> io::Result<()> {
    let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
    if target.len() < end {
        target.resize(end, 0);
    }
    if let Some(range) = target.get_mut(start..end) {
        range.copy_from_slice(bytes);
    }
    Ok(())
}
