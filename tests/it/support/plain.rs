//! A disk that can do what every disk must, and nothing more.

use std::{ffi::OsString, io};

use piton::{
    disk::{At, DirEntry, Disk, DiskFile, Lock, Metadata},
    testing::SimDisk,
};

/// No links, no holes, no locks of files, no directory ever removed.
#[derive(Clone, Debug)]
pub(crate) struct PlainDisk(pub(crate) SimDisk);

/// The same, with reflinks that succeed and share only the first 100 bytes, as some versions of ZFS did.
#[derive(Clone, Debug)]
pub(crate) struct ShortDisk(pub(crate) PlainDisk);

/// What both do as the simulated disk does.
macro_rules! delegate {
    () => {
        fn create_dir(&self, path: At<'_>) -> io::Result<()> {
            self.0.create_dir(path)
        }

        fn list(&self, path: At<'_>) -> io::Result<Vec<DirEntry>> {
            self.0.list(path)
        }

        fn metadata(&self, path: At<'_>) -> io::Result<Metadata> {
            self.0.metadata(path)
        }

        fn create_temp(&self, dir: At<'_>) -> io::Result<(OsString, Box<dyn DiskFile>)> {
            self.0.create_temp(dir)
        }

        fn open(&self, path: At<'_>) -> io::Result<Box<dyn DiskFile>> {
            self.0.open(path)
        }

        fn rename(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
            self.0.rename(from, to)
        }

        fn rename_new(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
            self.0.rename_new(from, to)
        }

        fn remove(&self, path: At<'_>) -> io::Result<()> {
            self.0.remove(path)
        }

        fn sync_dir(&self, path: At<'_>) -> io::Result<()> {
            self.0.sync_dir(path)
        }

        fn try_lock(&self, path: At<'_>, owner: &str) -> io::Result<Lock> {
            self.0.try_lock(path, owner)
        }
    };
}

impl Disk for PlainDisk {
    delegate!();
}

impl Disk for ShortDisk {
    delegate!();

    fn reflink(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.0.0.copy_ranges(from, to, std::slice::from_ref(&(0..100)))
    }
}
