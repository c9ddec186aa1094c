//! Files by hand: what any store has to be compared with.

use std::{
    collections::{BTreeSet, VecDeque},
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    Result,
    peer::{Kind, Peer, touch},
    workload::{Changes, Workload},
};

/// The changed bytes are appended to one file, which is synced. Nothing says what they are.
pub const FLOOR: Kind = Kind { name: "floor", keeps: "-", verifies: "-", open: |dir, _| Appended::open(dir, None) };

/// The same, and a manifest of 64 bytes for each state takes the place of the one before, durably.
pub const PUBLISHED: Kind = Kind {
    name: "published",
    keeps: "1",
    verifies: "nothing",
    open: |dir, workload| Appended::open(dir, Some(workload.states * 64)),
};

/// Each new state is a file that is synced and renamed, and so is a manifest with the names of all.
pub const FILE_PER_STATE: Kind =
    Kind { name: "file per state", keeps: "3", verifies: "nothing", open: FilePerState::open };

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
        let file = File::options().create(true).truncate(false).read(true).write(true).open(dir.join("data"))?;
        let end = file.metadata()?.len();
        Ok(Box::new(Self { dir: dir.to_owned(), file, end, manifest, newest: 0 }))
    }
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

    /// The first checkpoint has all states, and is as long as any.
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

    fn read_all(&mut self) -> Result<u64> {
        self.files.iter().map(|name| Ok(touch(&fs::read(self.dir.join(name))?))).sum()
    }
}
