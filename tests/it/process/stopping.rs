//! A disk that stops its process at a call, as a debugger, a hypervisor or a very slow network would.

use std::{
    ffi::OsString,
    io,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use piton::disk::{At, Dir, DirEntry, Disk, DiskFile, Lock, Metadata, OsDisk};

#[derive(Clone, Debug, Default)]
pub(super) struct StoppingDisk {
    at: Arc<Mutex<String>>,
}

impl StoppingDisk {
    /// Stops at the next call that makes a temporary manifest (`create`), or gives it its name (`publish`).
    pub(super) fn stop_at(&self, at: &str) {
        at.clone_into(&mut self.at.lock().unwrap());
    }

    fn pass(&self, call: &str, path: &Path) {
        let mut at = self.at.lock().unwrap();
        if *at == call && path.components().any(|part| part.as_os_str() == "manifests") {
            at.clear();
            // The shell's parent is this process.
            assert!(Command::new("sh").args(["-c", "kill -STOP $PPID"]).status().unwrap().success());
            // A signal may take a moment to reach every thread.
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
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
        self.pass("create", dir.path());
        OsDisk.create_temp(dir)
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
        self.pass("publish", to.path());
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
