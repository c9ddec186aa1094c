//! Files by hand: what any store has to be compared with.

use std::{
    collections::{BTreeSet, VecDeque},
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{ANY, FEW};
use crate::{
    Result,
    peer::{Kind, Peer, touch},
    workload::{Changes, Workload},
};

/// The changed bytes are appended to one file, which is synced. Nothing says what they are.
pub const FLOOR: Kind =
    Kind { name: "floor", keeps: "-", most_states: ANY, verifies: "-", open: |dir, _| Appended::open(dir, None) };

/// The same, and a manifest of 64 bytes for each state takes the place of the one before, durably.
pub const PUBLISHED: Kind = Kind {
    name: "published",
    keeps: "1",
    most_states: ANY,
    verifies: "nothing",
    open: |dir, workload| Appended::open(dir, Some(workload.states * 64)),
};

/// Each new state is a file that is synced and renamed, and so is a manifest with the names of all.
pub const FILE_PER_STATE: Kind =
    Kind { name: "file per state", keeps: "3", most_states: FEW, verifies: "nothing", open: FilePerState::open };

struct Appended {
    dir: PathBuf,
    file: File,
    end: u64,
    /// How long the manifest is, if there is one.
    manifest: Option<usize>,
    /// Where the newest bytes begin.
    newest: u64,
}

impl Appended {
    fn open(dir: &Path, manifest: Option<usize>) -> Result<Box<dyn Peer>> {
        let file = create(dir)?;
        let end = file.metadata()?.len();
        Ok(Box::new(Self { dir: dir.to_owned(), file, end, manifest, newest: 0 }))
    }
}

/// A longer file is begun anew.
const MOST: u64 = 1 << 30;

fn create(dir: &Path) -> Result<File> {
    Ok(File::options().create(true).truncate(false).read(true).write(true).open(dir.join("data"))?)
}

/// Writes a file, and gives it its name once it is durable.
fn publish(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let temp = dir.join("temp");
    let mut file = File::create(&temp)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    Ok(fs::rename(temp, dir.join(name))?)
}

fn sync_dir(dir: &Path) -> Result<()> {
    Ok(File::open(dir)?.sync_all()?)
}

impl Peer for Appended {
    fn checkpoint(&mut self, changes: &Changes) -> Result<()> {
        self.file.write_all_at(changes.bytes(), self.end)?;
        self.newest = self.end;
        self.end += changes.bytes().len() as u64;
        self.file.sync_data()?;
        if let Some(len) = self.manifest {
            publish(&self.dir, "manifest", &vec![7; len])?;
            sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Begins a new file, so that old checkpoints do not fill the disk.
    fn rest(&mut self) -> Result<()> {
        if self.end > MOST {
            fs::remove_file(self.dir.join("data"))?;
            (self.file, self.end) = (create(&self.dir)?, 0);
        }
        Ok(())
    }

    /// As much as a checkpoint has, at least.
    fn read_all(&mut self) -> Result<u64> {
        let mut buffer = vec![0; 1 << 20];
        let (mut at, mut read) = (0, 0);
        loop {
            let n = self.file.read_at(&mut buffer, at)?;
            if n == 0 {
                return Ok(read);
            }
            read += touch(&buffer[..n]);
            at += n as u64;
        }
    }
}

struct FilePerState {
    dir: PathBuf,
    round: u64,
    /// The file of each state.
    files: Vec<String>,
    /// What was replaced by each of the last checkpoints.
    replaced: VecDeque<Vec<String>>,
}

impl FilePerState {
    fn open(dir: &Path, workload: &Workload) -> Result<Box<dyn Peer>> {
        let manifest = fs::read_to_string(dir.join("manifest")).unwrap_or_default();
        let mut files: Vec<_> = manifest.lines().map(str::to_owned).collect();
        files.resize(workload.states, String::new());
        Ok(Box::new(Self { dir: dir.to_owned(), round: 0, files, replaced: VecDeque::new() }))
    }
}

impl Peer for FilePerState {
    fn checkpoint(&mut self, changes: &Changes) -> Result<()> {
        self.round += 1;
        let mut replaced = Vec::new();
        for (number, name, bytes) in changes.each() {
            let name = format!("{name}.{}", self.round);
            publish(&self.dir, &name, bytes)?;
            replaced.push(std::mem::replace(&mut self.files[number], name));
        }
        publish(&self.dir, "manifest", self.files.join("\n").as_bytes())?;
        sync_dir(&self.dir)?;
        self.replaced.push_back(replaced);
        if self.replaced.len() > 2 {
            let gone: BTreeSet<_> =
                self.replaced.pop_front().into_iter().flatten().filter(|name| !name.is_empty()).collect();
            gone.iter().try_for_each(|name| fs::remove_file(self.dir.join(name)))?;
        }
        Ok(())
    }

    /// By links to its files.
    fn export(&mut self, to: &Path) -> Result<bool> {
        fs::create_dir(to)?;
        for name in self.files.iter().map(String::as_str).chain(["manifest"]) {
            fs::hard_link(self.dir.join(name), to.join(name))?;
        }
        sync_dir(to)?;
        Ok(true)
    }

    fn prune(&mut self) -> Result<bool> {
        let gone: Vec<_> = self.replaced.drain(..).flatten().filter(|name| !name.is_empty()).collect();
        gone.iter().try_for_each(|name| fs::remove_file(self.dir.join(name)))?;
        Ok(true)
    }

    fn read_all(&mut self) -> Result<u64> {
        self.files.iter().map(|name| Ok(touch(&fs::read(self.dir.join(name))?))).sum()
    }
}
