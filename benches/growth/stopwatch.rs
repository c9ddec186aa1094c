//! A disk that says how long those of its calls take that wait, and what the processor did between them. To look at the
//! processor's clock is a call of the operating system, so the others are not looked at.

use std::{
    ffi::OsString,
    io::{self, IoSlice},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use piton::disk::{At, Dir, DirEntry, Disk, DiskFile, Lock, LockGuard, Mapping, Metadata, OsDisk};
use rustix::time::{ClockId, clock_gettime};

/// The processor's time that this thread has had.
pub(crate) fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The processor's time that this thread has had since a moment.
pub(crate) fn processor_since(moment: Duration) -> Duration {
    processor().saturating_sub(moment)
}

/// What calls took since somebody asked last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// In calls, without the processor's time.
    pub(crate) waiting: Duration,
    /// The processor's time for removing files: locks of their own, calls, what is given back when a lock of a removed
    /// one ends, and syncs of directories.
    pub(crate) removing: Duration,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Stopwatch(Arc<Mutex<Spent>>);

#[derive(Debug)]
struct File {
    file: Box<dyn DiskFile>,
    watch: Stopwatch,
}

#[derive(Debug)]
struct Guard {
    guard: Option<Box<dyn LockGuard>>,
    watch: Stopwatch,
}

impl LockGuard for Guard {
    fn is_in_place(&self) -> io::Result<bool> {
        self.guard.as_ref().map_or(Ok(true), |guard| guard.is_in_place())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.watch.removing(|| drop(self.guard.take()));
    }
}

impl Stopwatch {
    pub(crate) fn take(&self) -> Spent {
        std::mem::take(&mut *self.spent())
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.0.lock().unwrap()
    }

    fn call<T>(&self, act: impl FnOnce() -> T) -> T {
        let (start, busy) = (Instant::now(), processor());
        let done = act();
        let now = processor();
        let mut spent = self.spent();
        spent.waiting += start.elapsed().saturating_sub(now.saturating_sub(busy));
        done
    }

    fn removing<T>(&self, act: impl FnOnce() -> T) -> T {
        let busy = processor();
        let done = self.call(act);
        self.spent().removing += processor_since(busy);
        done
    }

    fn wrap(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(File { file, watch: self.clone() })
    }
}

impl Disk for Stopwatch {
    fn open_dir(&self, at: At<'_>) -> io::Result<Dir> {
        OsDisk.open_dir(at)
    }

    fn is_dir(&self, at: At<'_>, dir: &Dir) -> io::Result<bool> {
        OsDisk.is_dir(at, dir)
    }

    fn create_dir(&self, at: At<'_>) -> io::Result<()> {
        OsDisk.create_dir(at)
    }

    fn list(&self, at: At<'_>) -> io::Result<Vec<DirEntry>> {
        OsDisk.list(at)
    }

    fn metadata(&self, at: At<'_>) -> io::Result<Metadata> {
        OsDisk.metadata(at)
    }

    fn create_temp(&self, dir: At<'_>) -> io::Result<(OsString, Box<dyn DiskFile>)> {
        self.call(|| OsDisk.create_temp(dir)).map(|(name, file)| (name, self.wrap(file)))
    }

    fn reserve(&self, dir: At<'_>, len: u64) -> io::Result<OsString> {
        OsDisk.reserve(dir, len)
    }

    fn open(&self, at: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        self.call(|| OsDisk.open(at)).map(|file| self.wrap(file))
    }

    fn open_writable(&self, at: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        self.call(|| OsDisk.open_writable(at)).map(|file| self.wrap(file))
    }

    fn rename(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.call(|| OsDisk.rename(from, to))
    }

    fn rename_new(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.call(|| OsDisk.rename_new(from, to))
    }

    fn remove(&self, at: At<'_>) -> io::Result<()> {
        self.removing(|| OsDisk.remove(at))
    }

    fn punch_holes(&self, at: At<'_>, ranges: &[Range<u64>]) -> io::Result<()> {
        OsDisk.punch_holes(at, ranges)
    }

    fn open_file_limit(&self) -> Option<u64> {
        OsDisk.open_file_limit()
    }

    fn sync_dir(&self, at: At<'_>) -> io::Result<()> {
        self.removing(|| OsDisk.sync_dir(at))
    }

    fn try_lock(&self, at: At<'_>, owner: &str) -> io::Result<Lock> {
        OsDisk.try_lock(at, owner)
    }

    fn lock_shared(&self, at: At<'_>, number: u64) -> io::Result<Lock> {
        OsDisk.lock_shared(at, number)
    }

    fn lock_exclusive(&self, at: At<'_>, number: u64) -> io::Result<Lock> {
        let lock = self.removing(|| OsDisk.lock_exclusive(at, number))?;
        Ok(match lock {
            Lock::Taken(guard) => Lock::Taken(Box::new(Guard { guard: Some(guard), watch: self.clone() })),
            other @ Lock::Held(_) => other,
        })
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn write_vectored_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.file.write_vectored_at(parts, offset)
    }

    fn fill(&self, len: u64) -> io::Result<()> {
        self.watch.call(|| self.file.fill(len))
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.file.start_writeback(offset, len);
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch.call(|| self.file.sync_data())
    }

    fn maps_lazily(&self) -> bool {
        self.file.maps_lazily()
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        self.file.map(offset, len)
    }
}
