//! A disk that stops its process at a call, as a debugger, a hypervisor or a very slow network would.

use std::{
    ffi::OsString,
    io,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use piton::disk::{At, Dir, DirEntry, Disk, DiskFile, Lock, Mapping, Metadata, OsDisk};

#[derive(Clone, Debug, Default)]
pub(super) struct StoppingDisk {
    at: Arc<Mutex<String>>,
}

/// A file of such a disk.
#[derive(Debug)]
struct StoppingFile {
    disk: StoppingDisk,
    file: Box<dyn DiskFile>,
    is_of_log: bool,
}

impl StoppingDisk {
    /// Stops at the next call of this name: `sync data` of a segment; the `first half` of a record, or its `second half`,
    /// before it is written; `sync log`; `name log`.
    pub(super) fn stop_at(&self, at: &str) {
        at.clone_into(&mut self.at.lock().unwrap());
    }

    fn pass(&self, call: &str) {
        let mut at = self.at.lock().unwrap();
        if *at == call {
            at.clear();
            // The shell's parent is this process.
            assert!(Command::new("sh").args(["-c", "kill -STOP $PPID"]).status().unwrap().success());
            // A signal may take a moment to reach every thread.
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }

    /// A half of a record is about to be written.
    fn pass_half(&self) {
        self.pass("first half");
        let mut at = self.at.lock().unwrap();
        if *at == "second half" {
            "first half".clone_into(&mut at);
        }
    }

    fn file(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let is_of_log = path.components().any(|part| part.as_os_str() == "manifests");
        Box::new(StoppingFile { disk: self.clone(), file, is_of_log })
    }
}

impl Disk for StoppingDisk {
    fn open_dir(&self, at: At<'_>) -> io::Result<Dir> {
        OsDisk.open_dir(at)
    }

    fn is_dir(&self, at: At<'_>, dir: &Dir) -> io::Result<bool> {
        OsDisk.is_dir(at, dir)
    }

    fn create_dir(&self, path: At<'_>) -> io::Result<()> {
        OsDisk.create_dir(path)
    }

    fn list(&self, path: At<'_>) -> io::Result<Vec<DirEntry>> {
        OsDisk.list(path)
    }

    fn metadata(&self, path: At<'_>) -> io::Result<Metadata> {
        OsDisk.metadata(path)
    }

    fn create_temp(&self, dir: At<'_>) -> io::Result<(OsString, Box<dyn DiskFile>)> {
        OsDisk.create_temp(dir).map(|(name, file)| (name, self.file(dir.path(), file)))
    }

    fn open(&self, path: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        OsDisk.open(path)
    }

    fn open_writable(&self, path: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        OsDisk.open_writable(path)
    }

    fn rename(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        OsDisk.rename(from, to)
    }

    fn rename_new(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        if to.path().extension().is_some_and(|extension| extension == "log") {
            self.pass("name log");
        }
        OsDisk.rename_new(from, to)
    }

    fn remove(&self, path: At<'_>) -> io::Result<()> {
        OsDisk.remove(path)
    }

    fn sync_dir(&self, path: At<'_>) -> io::Result<()> {
        OsDisk.sync_dir(path)
    }

    fn try_lock(&self, path: At<'_>, owner: &str) -> io::Result<Lock> {
        OsDisk.try_lock(path, owner)
    }

    fn lock_shared(&self, path: At<'_>, number: u64) -> io::Result<Lock> {
        OsDisk.lock_shared(path, number)
    }

    fn lock_exclusive(&self, path: At<'_>, number: u64) -> io::Result<Lock> {
        OsDisk.lock_exclusive(path, number)
    }
}

impl DiskFile for StoppingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn write_vectored_at(&self, parts: &[io::IoSlice<'_>], offset: u64) -> io::Result<usize> {
        // Where no log is made, nothing but records is written there.
        if self.is_of_log {
            self.disk.pass_half();
        }
        self.file.write_vectored_at(parts, offset)
    }

    fn fill(&self, len: u64) -> io::Result<()> {
        self.file.fill(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.pass(if self.is_of_log { "sync log" } else { "sync data" });
        self.file.sync_data()
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        self.file.map(offset, len)
    }
}
