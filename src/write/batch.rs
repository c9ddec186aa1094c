//! What one pending checkpoint has written, and what of it still waits for a sync.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    copies::Copies,
    lanes::Lanes,
    segment::{Appender, Payload, Segment},
    settings::WriteSettings,
    unsynced::{Touched, Unsynced},
};
use crate::{
    accounts::Kind,
    disk::layout,
    error::{Error, Result},
    format::{record::redo_len, segment::entry_end},
    handle::{Extent, StateHandle},
    id::{CheckpointId, FileId, NO_LANE, Scope},
    options::{Durability, Merging},
    reclaim::Hold,
};

/// So many bytes may be relocated, however little is written.
const LEAST_RELOCATION: u64 = 1 << 20;

/// The write side of one pending checkpoint.
#[derive(Debug)]
pub(crate) struct Batch {
    id: CheckpointId,
    pub(super) settings: Arc<WriteSettings>,
    /// `None` if every state has a segment of its own.
    lanes: Option<Arc<Lanes>>,
    pub(super) hold: Hold,
    /// Set under the lock of `state`, looked at without it by writers between their writes.
    closed: AtomicBool,
    pub(super) state: Mutex<State>,
    /// Bytes of states in files.
    written: AtomicU64,
    relocated: AtomicU64,
    /// Where relocated states are now.
    moved: Mutex<HashMap<Extent, StateHandle>>,
    /// The other names that files have for this checkpoint.
    links: Mutex<Links>,
}

/// By file and scope.
type Links = HashMap<(FileId, Scope), FileId>;

#[derive(Debug, Default)]
pub(super) struct State {
    writers: usize,
    unsynced: BTreeMap<FileId, Touched>,
    pub(super) dirs: BTreeSet<Scope>,
    copies: Copies,
}

impl State {
    /// The oldest one that takes no more, if there are more than `max`, for the caller to sync. It stays in the list until
    /// it is synced: others may have to wait for that as well.
    fn oldest(&mut self, max: usize) -> Option<(Arc<Segment>, u64)> {
        if self.unsynced.values().filter(|touched| !touched.syncing).count() <= max {
            return None;
        }
        let sealed = self.unsynced.values_mut().filter(|touched| touched.segment.is_sealed() && !touched.syncing);
        let oldest = sealed.min_by_key(|touched| touched.segment.id().sequence)?;
        oldest.syncing = true;
        Some((Arc::clone(&oldest.segment), oldest.end))
    }
}

/// Counts a writer as open until it is dropped.
#[derive(Debug)]
pub(super) struct OpenWriter(Arc<Batch>);

impl Batch {
    pub(crate) fn new(id: CheckpointId, settings: Arc<WriteSettings>, hold: Hold) -> Self {
        let lanes = match settings.merging {
            Merging::Off => None,
            Merging::WithinCheckpoint => Some(Arc::new(Lanes::new(&settings.allocator))),
            Merging::AcrossCheckpoints => Some(Arc::clone(&settings.lanes)),
        };
        let state = State { copies: Copies::new(settings.redo), ..State::default() };
        Self {
            id,
            settings,
            lanes,
            hold,
            closed: AtomicBool::new(false),
            state: Mutex::new(state),
            written: AtomicU64::new(0),
            relocated: AtomicU64::new(0),
            moved: Mutex::default(),
            links: Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> CheckpointId {
        self.id
    }

    pub(crate) fn hold(&self) -> &Hold {
        &self.hold
    }

    pub(super) fn settings(&self) -> &WriteSettings {
        &self.settings
    }

    /// How many bytes of states were moved out of files that should go, or were about to be.
    pub(crate) fn relocated(&self) -> u64 {
        self.relocated.load(Ordering::Relaxed)
    }

    /// How many bytes of new states were written into files.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Reserves the right to relocate so many bytes: as many as this checkpoint or the one before it wrote anew, and at
    /// least any one state that shares a segment. A checkpoint of which the record has all states stays one: it relocates
    /// what goes into the record as well, if that is not less than what it wrote.
    pub(crate) fn may_relocate(&self, len: u64) -> bool {
        if self.settings.full.load(Ordering::Relaxed) {
            return false;
        }
        let last = self.settings.last_written.load(Ordering::Relaxed);
        let any_one = self.settings.write_buffer as u64;
        let (written, redo) = (self.written(), self.settings.redo);
        let (budget, takes) = if written.max(last) < redo {
            (written.max(redo - written), redo_len(len))
        } else {
            (written.max(last).max(LEAST_RELOCATION).max(any_one), len)
        };
        // One that is longer than the whole budget must be able to go as well.
        let budget = if len <= any_one { budget.max(takes) } else { budget };
        let more = |relocated: u64| relocated.checked_add(takes).filter(|relocated| *relocated <= budget);
        self.relocated.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts bytes that members have written for this checkpoint.
    pub(crate) fn note_accepted(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Where a state was relocated to for this checkpoint, if it was.
    pub(crate) fn moved(&self, extent: &Extent) -> Option<StateHandle> {
        self.moved.lock().get(extent).cloned()
    }

    pub(crate) fn note_moved(&self, extent: Extent, to: StateHandle) {
        self.moved.lock().insert(extent, to);
    }

    /// Held while a file is given another name for this checkpoint, which is the only one that needs it then.
    pub(crate) fn lock_links(&self) -> MutexGuard<'_, Links> {
        self.links.lock()
    }

    /// The checkpoint was committed.
    pub(crate) fn note_committed(&self) {
        self.settings.last_written.store(self.written(), Ordering::Relaxed);
        self.settings.full.store(false, Ordering::Relaxed);
    }

    /// A state could not be written.
    pub(crate) fn note_failed(&self, error: &Error) {
        if error.is_no_space() {
            // What was removed takes its room as long as it is open.
            self.settings.waiting.let_go(|file| self.hold.registry().knows(file));
            self.settings.full.store(true, Ordering::Relaxed);
        }
    }

    /// Counts a new writer, unless nothing can be written any more.
    pub(super) fn open_writer(self: &Arc<Self>, kind: Kind) -> Result<OpenWriter> {
        self.settings.volume.check_writable("write a state in")?;
        let mut state = self.state.lock();
        self.check_open_to(kind)?;
        state.writers += 1;
        Ok(OpenWriter(Arc::clone(self)))
    }

    /// A segment for one state. If no more files can be open, those that wait for the commit are synced and closed first.
    pub(super) fn own_segment(&self, scope: Scope) -> Result<Appender> {
        loop {
            match self.settings.allocator.create(scope, NO_LANE) {
                Err(error) if error.is_out_of_files() && self.close_files()? => {}
                created => return created,
            }
        }
    }

    /// Syncs and closes files that wait for that; whether there were any.
    fn close_files(&self) -> Result<bool> {
        if self.sync_oldest(0)? {
            return Ok(true);
        }
        let waits = !self.settings.waiting.is_empty();
        self.settings.waiting.sync()?;
        Ok(waits)
    }

    /// Writes a whole state, into a lane if it may share one.
    pub(super) fn append(&self, scope: Scope, payload: &[u8], kind: Kind) -> Result<StateHandle> {
        let lanes = self.lanes.as_ref().filter(|_| self.settings.allocator.merges(payload.len() as u64));
        let (extent, segment) = if let Some(lanes) = lanes {
            // One that is relocated is as good where it was, if it cannot be written.
            let payload = &if kind == Kind::New { Payload::gathered(payload) } else { Payload::new(payload) };
            let accept =
                |extent: &Extent, segment: &Arc<Segment>| self.accept(extent, segment, kind, Some(payload.bytes()));
            // A checkpoint that ended meanwhile has sealed its lanes, but for the one that was leased.
            lanes.append(scope, payload, self.id, accept).inspect_err(|_| self.seal_own_lanes())?
        } else {
            let mut appender = self.own_segment(scope)?;
            let extent = appender.append(&Payload::new(payload), self.id)?;
            self.accept(&extent, appender.segment(), kind, None)?;
            (extent, Arc::clone(appender.segment()))
        };
        self.settle(&extent, &segment)?;
        Ok(segment.handle(&extent))
    }

    /// Takes over a whole state while nobody else can append to its segment; with its bytes if it may wait for its sync.
    fn accept(&self, extent: &Extent, segment: &Arc<Segment>, kind: Kind, bytes: Option<&[u8]>) -> Result<()> {
        let end = entry_end(extent.offset, extent.len);
        let mut state = self.state.lock();
        self.check_open_to(kind)?;
        let touched = state.unsynced.entry(segment.id());
        let touched = touched.or_insert_with(|| Touched { segment: Arc::clone(segment), end, syncing: false });
        touched.end = touched.end.max(end);
        if let Some(bytes) = bytes {
            state.copies.add(extent, bytes);
        }
        self.hold.add(extent, end, kind);
        if kind == Kind::New {
            self.written.fetch_add(extent.len, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes over a state that was streamed into a segment of its own, which is sealed.
    pub(super) fn accept_own(&self, extent: &Extent, appender: Appender, kind: Kind) -> Result<StateHandle> {
        self.accept(extent, appender.segment(), kind, None)?;
        let segment = Arc::clone(appender.segment());
        drop(appender);
        self.settle(extent, &segment)?;
        Ok(segment.handle(extent))
    }

    /// Syncs what must not wait for the commit, where no writer waits.
    fn settle(&self, extent: &Extent, segment: &Segment) -> Result<()> {
        if self.settings.durability == Durability::PerState {
            self.sync(segment, entry_end(extent.offset, extent.len))?;
            if !segment.is_named() {
                self.settings.volume.sync_dir(layout::scope_dir(extent.file.scope))?;
                segment.note_named();
            }
        }
        self.sync_oldest(self.settings.max_unsynced).map(drop)
    }

    fn sync(&self, segment: &Segment, end: u64) -> Result<()> {
        // That it could not be written says nothing of states that were committed.
        segment.write_to(end)?;
        segment.sync_to(end).inspect_err(|error| self.settings.waiting.note_failed(segment.id(), error))
    }

    /// Writes a state of this checkpoint to its file, if the state is still in memory. The caller reads it from the file.
    pub(crate) fn write_out(&self, extent: &Extent) -> Result<()> {
        let segment = self.state.lock().unsynced.get(&extent.file).map(|touched| Arc::clone(&touched.segment));
        segment.map_or(Ok(()), |segment| segment.write_to(entry_end(extent.offset, extent.len)))
    }

    /// If more than `max` segments are open, syncs and closes the oldest one that takes no more; whether there was one. If
    /// that fails it stays, and the commit fails with it.
    fn sync_oldest(&self, max: usize) -> Result<bool> {
        let Some((segment, end)) = self.state.lock().oldest(max) else { return Ok(false) };
        let synced = self.sync(&segment, end);
        let mut state = self.state.lock();
        let Some(touched) = state.unsynced.get_mut(&segment.id()) else { return synced.map(|()| true) };
        touched.syncing = false;
        if synced.is_ok() && touched.end <= end {
            state.unsynced.remove(&segment.id());
            if !segment.is_named() {
                state.dirs.insert(segment.id().scope);
            }
        }
        synced.map(|()| true)
    }

    /// Makes a file ready for another name: complete, and all of it durable that can be referred to.
    pub(crate) fn finish_file(&self, file: FileId) -> Result<()> {
        if let Some(lanes) = &self.lanes {
            lanes.seal_files(&BTreeSet::from([file]));
        }
        self.settings.waiting.sync_file(file)?;
        let unsynced = {
            let state = self.state.lock();
            state.unsynced.get(&file).map(|touched| (Arc::clone(&touched.segment), touched.end))
        };
        unsynced.map_or(Ok(()), |(segment, end)| self.sync(&segment, end))
    }

    /// Refers to states of others, unless the pending checkpoint has ended: nobody would let go of them again.
    pub(crate) fn refer(&self, extents: impl Iterator<Item = Extent>, what: &str) -> Result<()> {
        let _state = self.state.lock();
        self.check_open()?;
        self.refer_sealed(extents, what)
    }

    /// Refers to what a member has written, in the same way.
    pub(crate) fn refer_to_part<T>(&self, refer: impl FnOnce(&Hold) -> T) -> Result<T> {
        let _state = self.state.lock();
        self.check_open()?;
        Ok(refer(&self.hold))
    }

    /// The same for the commit, which [closed it to writers](Self::close_to_writers).
    pub(crate) fn refer_sealed(&self, extents: impl Iterator<Item = Extent>, what: &str) -> Result<()> {
        self.hold.refer(extents).map_err(|extent| self.unknown(extent, what))
    }

    /// A state that cannot be referred to.
    pub(crate) fn unknown(&self, extent: Extent, what: &str) -> Error {
        let operation =
            format!("{what} checkpoint {}: state {}", self.id, StateHandle::file(self.settings.store(), extent));
        Error::not_found(operation, "no checkpoint refers to it, or it is damaged; write it anew")
    }

    /// Fails once the pending checkpoint has ended.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            let why = "the pending checkpoint was aborted or committed";
            return Err(Error::invalid(format!("write a state of checkpoint {}", self.id), why));
        }
        Ok(())
    }

    /// The same for a state of this kind: those that the commit copies come when all others have ended.
    pub(crate) fn check_open_to(&self, kind: Kind) -> Result<()> {
        if kind == Kind::Kept { Ok(()) } else { self.check_open() }
    }

    /// From here on only the commit can write, or whatever `what` says for errors. Refuses while a writer is open.
    pub(crate) fn close_to_writers(&self, what: &str) -> Result<()> {
        let state = self.state.lock();
        if state.writers > 0 {
            let why = format!("{} of its writers are still open: finish or drop them first", state.writers);
            return Err(Error::invalid(format!("{what} checkpoint {}", self.id), why));
        }
        self.closed.store(true, Ordering::Release);
        Ok(())
    }

    /// Ends writing, which is [closed](Self::close_to_writers) to all others.
    pub(crate) fn seal(&self) -> Unsynced {
        let mut state = self.state.lock();
        let State { unsynced: segments, dirs, copies, .. } = std::mem::take(&mut *state);
        drop(state);
        self.seal_own_lanes();
        Unsynced { segments, dirs, copies }
    }

    /// The commit was refused: the checkpoint goes on as it was.
    pub(crate) fn reopen(&self) {
        let _state = self.state.lock();
        self.closed.store(false, Ordering::Release);
    }

    /// Ends writing for an abort: writers that are still open fail from now on.
    pub(crate) fn close(&self) {
        if self.hold.registry().is_in_child() {
            return;
        }
        let mut state = self.state.lock();
        self.closed.store(true, Ordering::Release);
        let (unsynced, copies) = (std::mem::take(&mut state.unsynced), std::mem::take(&mut state.copies));
        drop(state);
        drop((unsynced, copies));
        self.seal_own_lanes();
        self.hold.release();
    }

    /// Segments that belong to this checkpoint alone take no more; of the others, those that nobody should append to.
    fn seal_own_lanes(&self) {
        match (self.settings.merging, &self.lanes) {
            (Merging::WithinCheckpoint, Some(lanes)) => lanes.seal(),
            (_, Some(lanes)) => lanes.shed(),
            (_, None) => {}
        }
    }
}

impl Drop for OpenWriter {
    fn drop(&mut self) {
        if !self.0.hold.registry().is_in_child() {
            self.0.state.lock().writers -= 1;
        }
    }
}

impl OpenWriter {
    pub(super) fn batch(&self) -> &Arc<Batch> {
        &self.0
    }
}
