//! A disk that calls back at a chosen call: for what others do in the middle of something.

use std::{
    ffi::OsString,
    io,
    ops::Range,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use piton::{
    Options, Store,
    disk::{At, Dir, DirEntry, Disk, DiskFile, Lock, Mapping, Metadata},
    testing::SimDisk,
};

use super::ROOT;

pub(crate) type Hook = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Runs a hook, once, before the next call of a kind.
#[derive(Clone)]
pub(crate) struct HookedDisk {
    pub(crate) disk: SimDisk,
    pub(crate) before_data_sync: Hook,
    /// After bytes were made durable, before anybody is told.
    pub(crate) after_data_sync: Hook,
    /// The same for a segment alone.
    pub(crate) after_segment_sync: Hook,
    pub(crate) before_write: Hook,
    /// Where writing to the medium was begun, and for how many bytes.
    pub(crate) hinted: Arc<Mutex<Vec<(u64, u64)>>>,
    pub(crate) before_open_of_a_log: Hook,
    pub(crate) before_open_of_a_segment: Hook,
    pub(crate) after_open_of_the_identity: Hook,
    /// In the middle of a list of the manifests: it lacks what was added meanwhile, and what was removed.
    pub(crate) during_list_of_manifests: Hook,
    pub(crate) before_shared_lock: Hook,
    pub(crate) after_shared_lock: Hook,
    pub(crate) before_exclusive_lock: Hook,
    pub(crate) before_remove: Hook,
    /// The next read of a state, or of a log, gives wrong bytes if this is set.
    pub(crate) garble_a_read: Hook,
    /// Lengths of segments are too short by so many bytes, until somebody reads behind that.
    pub(crate) short_by: Arc<Mutex<u64>>,
    /// Whether it claims that to map a whole file costs no more than to map a part of it.
    pub(crate) maps_lazily: bool,
    pub(crate) open_file_limit: Option<u64>,
    /// No more can be mapped at once: memory has no room.
    pub(crate) most_mapped: usize,
    /// Lists lack data files.
    pub(crate) unlisted: Arc<AtomicBool>,
    /// No data file can be looked at or opened.
    pub(crate) denied: Arc<AtomicBool>,
    /// What was read or mapped of segments.
    pub(crate) touched: Touched,
    /// A file of which some bytes cannot be read, by its name, and the code of the error.
    pub(crate) unreadable: Arc<Mutex<Option<(OsString, Unreadable)>>>,
}

/// Offsets in any segment.
pub(crate) type Touched = Arc<Mutex<Vec<Range<u64>>>>;

/// Which bytes cannot be read, and the code of the error.
pub(crate) type Unreadable = (Range<u64>, i32);

struct HookedFile {
    maps_lazily: bool,
    most_mapped: usize,
    file: Box<dyn DiskFile>,
    before_sync: Hook,
    after_sync: Vec<Hook>,
    before_write: Hook,
    hinted: Arc<Mutex<Vec<(u64, u64)>>>,
    garble: Hook,
    short_by: Arc<Mutex<u64>>,
    unreadable: Option<Unreadable>,
    touched: Option<Touched>,
}

/// A read that is long enough to be of a state or of a log.
const LONG_READ: usize = 300;

fn run(hook: &Hook) {
    let hook = hook.lock().unwrap().take();
    if let Some(hook) = hook {
        hook();
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}

impl HookedDisk {
    fn permit(&self, path: At<'_>) -> io::Result<()> {
        let denied = self.denied.load(Ordering::Relaxed) && is_segment(path.path());
        if denied { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }

    pub(crate) fn new() -> Self {
        Self {
            disk: SimDisk::new(),
            before_data_sync: Hook::default(),
            after_data_sync: Hook::default(),
            after_segment_sync: Hook::default(),
            before_write: Hook::default(),
            hinted: Arc::default(),
            before_open_of_a_log: Hook::default(),
            before_open_of_a_segment: Hook::default(),
            after_open_of_the_identity: Hook::default(),
            during_list_of_manifests: Hook::default(),
            before_shared_lock: Hook::default(),
            after_shared_lock: Hook::default(),
            before_exclusive_lock: Hook::default(),
            before_remove: Hook::default(),
            garble_a_read: Hook::default(),
            short_by: Arc::default(),
            maps_lazily: false,
            open_file_limit: None,
            most_mapped: usize::MAX,
            unlisted: Arc::default(),
            denied: Arc::default(),
            unreadable: Arc::default(),
            touched: Arc::default(),
        }
    }

    pub(crate) fn open(&self) -> Store {
        Options::new().disk(self.clone()).open(ROOT).unwrap()
    }

    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(self.hooked(file, Arc::default(), None))
    }

    fn hooked(&self, file: Box<dyn DiskFile>, short_by: Arc<Mutex<u64>>, unreadable: Option<Unreadable>) -> HookedFile {
        let garble = Arc::clone(&self.garble_a_read);
        let (before_sync, after_sync) = (Arc::clone(&self.before_data_sync), vec![Arc::clone(&self.after_data_sync)]);
        let (before_write, hinted) = (Arc::clone(&self.before_write), Arc::clone(&self.hinted));
        let Self { maps_lazily, most_mapped, .. } = *self;
        HookedFile {
            maps_lazily,
            most_mapped,
            file,
            before_sync,
            after_sync,
            before_write,
            hinted,
            garble,
            short_by,
            unreadable,
            touched: None,
        }
    }
}

impl std::fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl std::fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.file.fmt(f)
    }
}

impl Disk for HookedDisk {
    fn open_dir(&self, at: At<'_>) -> io::Result<Dir> {
        self.disk.open_dir(at)
    }

    fn is_dir(&self, at: At<'_>, dir: &Dir) -> io::Result<bool> {
        self.disk.is_dir(at, dir)
    }

    fn create_dir(&self, path: At<'_>) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, path: At<'_>) -> io::Result<Vec<DirEntry>> {
        let before = self.disk.list(path)?;
        if !path.path().ends_with("manifests") {
            let short_by = *self.short_by.lock().unwrap();
            let shorten = |mut entry: DirEntry| {
                entry.metadata.len = entry.metadata.len.saturating_sub(short_by);
                entry
            };
            let is_listed =
                |entry: &DirEntry| !(self.unlisted.load(Ordering::Relaxed) && is_segment(entry.name.as_ref()));
            return Ok(before.into_iter().filter(is_listed).map(shorten).collect());
        }
        run(&self.during_list_of_manifests);
        let after = self.disk.list(path)?;
        Ok(before.into_iter().filter(|entry| after.iter().any(|other| other.name == entry.name)).collect())
    }

    fn metadata(&self, path: At<'_>) -> io::Result<Metadata> {
        self.permit(path)?;
        self.disk.metadata(path)
    }

    fn create_temp(&self, dir: At<'_>) -> io::Result<(OsString, Box<dyn DiskFile>)> {
        let of_segment = dir.path().ends_with("shared").then(|| Arc::clone(&self.after_segment_sync));
        self.disk.create_temp(dir).map(|(name, file)| {
            let mut file = self.hooked(file, Arc::default(), None);
            file.after_sync.extend(of_segment);
            (name, Box::new(file) as Box<dyn DiskFile>)
        })
    }

    fn open_writable(&self, path: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        self.permit(path)?;
        self.disk.open_writable(path).map(|file| self.file(file))
    }

    fn open(&self, path: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        if path.path().extension().is_some_and(|extension| extension == "log") {
            run(&self.before_open_of_a_log);
        }
        if is_segment(path.path()) {
            run(&self.before_open_of_a_segment);
        }
        self.permit(path)?;
        let file = self.disk.open(path)?;
        if path.path().ends_with("piton.store") {
            run(&self.after_open_of_the_identity);
        }
        // Each open file has to find out by itself.
        let short_by = if is_segment(path.path()) { *self.short_by.lock().unwrap() } else { 0 };
        let unreadable = self.unreadable.lock().unwrap();
        let unreadable = unreadable.as_ref().filter(|(name, _)| path.path().file_name() == Some(name));
        let unreadable = unreadable.map(|(_, unreadable)| unreadable.clone());
        let mut file = self.hooked(file, Arc::new(Mutex::new(short_by)), unreadable);
        file.touched = is_segment(path.path()).then(|| Arc::clone(&self.touched));
        Ok(Box::new(file))
    }

    fn rename(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn rename_new(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.disk.rename_new(from, to)
    }

    fn remove(&self, path: At<'_>) -> io::Result<()> {
        run(&self.before_remove);
        self.disk.remove(path)
    }

    fn punch_holes(&self, path: At<'_>, ranges: &[Range<u64>]) -> io::Result<()> {
        self.disk.punch_holes(path, ranges)
    }

    fn sync_dir(&self, path: At<'_>) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn try_lock(&self, path: At<'_>, owner: &str) -> io::Result<Lock> {
        self.disk.try_lock(path, owner)
    }

    fn lock_shared(&self, path: At<'_>, number: u64) -> io::Result<Lock> {
        run(&self.before_shared_lock);
        let lock = self.disk.lock_shared(path, number);
        run(&self.after_shared_lock);
        lock
    }

    fn open_file_limit(&self) -> Option<u64> {
        self.open_file_limit
    }

    fn lock_exclusive(&self, path: At<'_>, number: u64) -> io::Result<Lock> {
        run(&self.before_exclusive_lock);
        self.disk.lock_exclusive(path, number)
    }
}

impl HookedFile {
    fn note(&self, offset: u64, len: usize) {
        if let Some(touched) = &self.touched {
            touched.lock().unwrap().push(offset..offset + len as u64);
        }
    }
}

impl DiskFile for HookedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.note(offset, buffer.len());
        let touches = |bytes: &Range<u64>| offset < bytes.end && offset + buffer.len() as u64 > bytes.start;
        if let Some((_, code)) = self.unreadable.as_ref().filter(|(bytes, _)| touches(bytes)) {
            return Err(io::Error::from_raw_os_error(*code));
        }
        let n = self.file.read_at(buffer, offset)?;
        if offset + buffer.len() as u64 > self.len()? {
            *self.short_by.lock().unwrap() = 0;
        }
        if n > LONG_READ && self.garble.lock().unwrap().take().is_some() {
            buffer[n / 2] ^= 1;
        }
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn write_vectored_at(&self, parts: &[io::IoSlice<'_>], offset: u64) -> io::Result<usize> {
        run(&self.before_write);
        self.file.write_vectored_at(parts, offset)
    }

    fn fill(&self, len: u64) -> io::Result<()> {
        self.file.fill(len)
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.hinted.lock().unwrap().push((offset, len));
        self.file.start_writeback(offset, len);
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.len()?.saturating_sub(*self.short_by.lock().unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        run(&self.before_sync);
        let synced = self.file.sync_data();
        self.after_sync.iter().for_each(run);
        synced
    }

    fn maps_lazily(&self) -> bool {
        self.maps_lazily
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        self.note(offset, len);
        if len > self.most_mapped { Err(io::ErrorKind::OutOfMemory.into()) } else { self.file.map(offset, len) }
    }
}

pub(crate) fn set(hook: &Hook, what: impl FnOnce() + Send + 'static) {
    *hook.lock().unwrap() = Some(Box::new(what));
}

/// Another process takes the store over: its lock was lost.
pub(crate) fn take_over(disk: &HookedDisk) -> Store {
    disk.disk.break_locks();
    disk.open()
}
