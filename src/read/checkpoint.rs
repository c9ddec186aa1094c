//! A published checkpoint, open for reading.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    files::{OpenSegment, ReadSettings},
    once_map::OnceMap,
    pin::Pin,
    reader::StateReader,
    segment::Segment,
    verify::{OPERATION, check_digest},
    view::StateView,
};
use crate::{
    disk::{Mapping, layout},
    error::{Error, Malformed, Result},
    format::segment::entry_end,
    handle::{Either, Extent, StateHandle},
    id::{CheckpointId, FileId},
    manifest::{Artifact, DataFile, Digest, Manifest, StateName},
    options::Verify,
};

/// A published checkpoint: its manifest, and a way to its states.
///
/// It is pinned while any clone of it, any view or any reader is alive: its states stay readable, byte for byte, also if
/// the checkpoint is forgotten meanwhile. The last one to go may remove files, on the thread it is dropped on.
#[derive(Clone, Debug)]
pub struct Checkpoint(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    manifest: Manifest,
    settings: Arc<ReadSettings>,
    /// The files that states were read from.
    segments: OnceMap<FileId, Arc<Segment>>,
    /// The file that was read last without a mapping: the next state is probably in the same.
    recent: Mutex<Option<Arc<OpenSegment>>>,
    pub(super) pin: Arc<Pin>,
}

/// Where a handle comes from. What the manifest names the checkpoint refers to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    ByManifest,
    ByCaller,
}

impl Checkpoint {
    pub(crate) fn new(manifest: Manifest, settings: &Arc<ReadSettings>, pin: Pin) -> Self {
        Self(Arc::new(Inner {
            manifest,
            settings: Arc::clone(settings),
            segments: OnceMap::default(),
            recent: Mutex::default(),
            pin: Arc::new(pin),
        }))
    }

    /// The id of the checkpoint.
    #[must_use]
    pub fn id(&self) -> CheckpointId {
        self.0.manifest.id()
    }

    /// What the checkpoint consists of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// What it is read with.
    pub(crate) fn reading(&self) -> &ReadSettings {
        &self.0.settings
    }

    /// The named state of this name, as [`read`](Self::read) gives it.
    ///
    /// # Errors
    ///
    /// `is_not_found` if the checkpoint has no state of this name; and those of `read`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use piton::{Manifest, Options, Scope};
    /// # let store = Options::memory().open("state")?;
    /// # let pending = store.begin_next()?;
    /// # let handle = pending.write(Scope::Shared, &[7; 5000])?;
    /// # pending.commit(Manifest::builder().state("weights", handle))?;
    /// let checkpoint = store.latest()?.expect("one was committed");
    /// assert_eq!(checkpoint.get("weights")?.len(), 5000);
    /// assert!(checkpoint.get("biases").unwrap_err().is_not_found());
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn get(&self, name: &str) -> Result<StateView> {
        let handle = self.manifest().state(name).ok_or_else(|| {
            let operation = format!("read {} of checkpoint {}", StateName::Named(name), self.id());
            Error::not_found(operation, "the checkpoint has no state of this name")
        })?;
        self.read_named(handle)
    }

    /// A state that the manifest names.
    pub(super) fn read_named(&self, handle: &StateHandle) -> Result<StateView> {
        match handle.place() {
            Either::Inline(bytes) => Ok(StateView::inline(bytes.clone())),
            Either::File(extent) => self.look(handle, &extent, Named::ByManifest, Inner::view),
        }
    }

    /// A state as a slice: mapped from its file, or held in the manifest.
    ///
    /// The first use of a state reads all of it, to compare its checksum, unless the store was opened with
    /// `Verify::Never`. From then on a view of it costs some fifty nanoseconds, in any number of threads: the file stays
    /// mapped as a whole, without a descriptor, until the last clone of the checkpoint and the last view of its states are
    /// dropped. (Only Linux 5.14 and later can do that safely. Elsewhere each view maps its state by itself.) Whoever reads many states saves seeks and faults with [`views`](Self::views). On the real file system the
    /// bytes are aligned in memory as [`Options::alignment`](crate::Options::alignment) says, unless the state travels
    /// inside its handle.
    ///
    /// # Errors
    ///
    /// `is_not_found` if this checkpoint does not refer to the state (an inline handle is its own state, and is always
    /// answered). `is_corrupt`, with the file, if the file is
    /// missing or too short, or the bytes are not those that were written. Errors of the file system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use piton::{Manifest, Options, Scope};
    /// # let store = Options::memory().open("state")?;
    /// # let pending = store.begin_next()?;
    /// # let handle = pending.write(Scope::Shared, &[7; 5000])?;
    /// # pending.commit(Manifest::builder().state("weights", handle))?;
    /// let checkpoint = store.latest()?.expect("one was committed");
    /// let weights = checkpoint.manifest().state("weights").expect("it was named");
    /// let view = checkpoint.read(weights)?;
    /// assert_eq!(view.len(), 5000);
    /// assert!(view.iter().all(|byte| *byte == 7));
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn read(&self, handle: &StateHandle) -> Result<StateView> {
        match handle.place() {
            Either::Inline(bytes) => Ok(StateView::inline(bytes.clone())),
            Either::File(extent) => self.look(handle, &extent, Named::ByCaller, Inner::view),
        }
    }

    /// A state as a stream of bytes, read piece by piece: for states that should not be mapped. Memory stays small
    /// whatever the state's size.
    ///
    /// The first use of a state reads all of it, to compare its checksum, unless the store was opened with
    /// `Verify::Never`.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Checkpoint::read).
    pub fn reader(&self, handle: &StateHandle) -> Result<StateReader> {
        match handle.place() {
            Either::Inline(bytes) => Ok(StateReader::inline(bytes.clone())),
            Either::File(extent) => self.look(handle, &extent, Named::ByCaller, Inner::reader),
        }
    }

    /// The bytes of an artifact, if they have its digest as well.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Checkpoint::read); `is_corrupt` if the digest is another.
    pub fn read_artifact(&self, artifact: &Artifact) -> Result<Vec<u8>> {
        let bytes = self.read(&artifact.handle)?.to_vec();
        self.check_digest(&artifact.handle, artifact.digest.as_ref(), &bytes)?;
        Ok(bytes)
    }

    /// Fails if a state has a digest that its bytes have not.
    pub(super) fn check_digest(&self, handle: &StateHandle, expected: Option<&Digest>, bytes: &[u8]) -> Result<()> {
        let Some(expected) = expected else { return Ok(()) };
        let (name, offset) = match handle.extent() {
            Some(extent) => {
                let data = self.0.manifest.data_file(extent.file);
                (layout::data_file(data.id, data.lent()), extent.offset)
            }
            None => (layout::MANIFESTS.into(), 0),
        };
        check_digest(offset, expected, &Digest::of(bytes))
            .map_err(|error| error.at(OPERATION, &self.0.settings.volume().path(name)))
    }

    fn is_ours(&self, handle: &StateHandle) -> bool {
        handle.store() == Some(self.0.manifest.store)
    }

    /// Fails unless this checkpoint refers to a state.
    fn check_refers(&self, handle: &StateHandle, extent: &Extent) -> Result<()> {
        if !self.is_ours(handle) {
            handle.check_store(self.0.manifest.store, &format!("read a state of checkpoint {}", self.id()))?;
        }
        if self.0.pin.refers(extent) {
            return Ok(());
        }
        let operation = format!("read state {handle} of checkpoint {}", self.id());
        Err(Error::not_found(operation, "the checkpoint does not refer to it"))
    }

    /// Reads a state by one of the functions below. `read` is told whether the state was verified before, and returns whether
    /// the segment may remember it as verified. A state that seems damaged is read a second time, through a file that is
    /// opened anew. The second look counts.
    pub(super) fn look<T>(
        &self,
        handle: &StateHandle,
        extent: &Extent,
        named: Named,
        read: impl Fn(&Inner, &Arc<Segment>, &Extent, bool) -> Result<(T, bool)>,
    ) -> Result<T> {
        let inner = &*self.0;
        let known = inner.segments.get(&extent.file);
        if let Some(segment) = known.filter(|segment| self.is_ours(handle) && segment.knows(extent)) {
            match read(inner, segment, extent, true) {
                Err(error) if error.is_damage() => {}
                done => return done.map(|(done, _)| done),
            }
        }
        if named == Named::ByCaller {
            self.check_refers(handle, extent)?;
        }
        let first_look = |segment: &Arc<Segment>| {
            let (done, remember) = read(inner, segment, extent, inner.settings.verify == Verify::Never)?;
            if remember {
                segment.note(extent);
            }
            Ok(done)
        };
        known
            .map_or_else(|| first_look(&inner.segment(extent.file)), first_look)
            .or_else(|error: Error| {
                if !error.is_damage() {
                    return Err(error);
                }
                inner.settings.check_in_place()?;
                *inner.recent.lock() = None;
                first_look(&inner.new_segment(extent.file))
            })
            .inspect_err(|error| self.note_damage(extent, error))
    }

    /// Every checkpoint with a state that was found to be damaged is skipped by `latest` and not counted by `prune` from
    /// now on, and the state cannot be reused.
    fn note_damage(&self, extent: &Extent, error: &Error) {
        if error.is_corrupt() {
            self.0.pin.mark_damaged(extent, error);
        }
    }
}

impl Inner {
    /// What is kept of a file.
    fn segment(&self, file: FileId) -> Arc<Segment> {
        let kept = self.segments.get_or_add(file, || self.new_segment(file));
        kept.map_or_else(|| self.new_segment(file), Arc::clone)
    }

    fn new_segment(&self, file: FileId) -> Arc<Segment> {
        Arc::new(Segment::new(self.manifest.data_file(file), &self.pin))
    }

    /// Opens a file, or shares it with whoever read from it last.
    pub(super) fn file(&self, data: &DataFile) -> Result<Arc<OpenSegment>> {
        let recent = self.recent.lock().clone().filter(|recent| recent.id() == data.id);
        let file = recent.map_or_else(|| self.settings.open(data.clone()).map(Arc::new), Ok)?;
        *self.recent.lock() = Some(Arc::clone(&file));
        Ok(file)
    }

    /// The mapping of a whole file, if it can be had at the price of mapping one state.
    pub(super) fn mapping<'a>(&self, segment: &'a Segment, extent: &Extent) -> Result<Option<&'a Mapping>> {
        if let Some(mapping) = segment.mapping() {
            return Ok(Some(mapping));
        }
        let Some(permit) = self.settings.permit_mapping() else { return Ok(None) };
        let file = self.file(segment.data())?;
        if !file.maps_lazily() {
            return Ok(None);
        }
        file.check_reaches(entry_end(extent.offset, extent.len))?;
        // Memory may have room for the state where it has none for the whole file.
        let Ok(mapping) = file.map_whole() else { return Ok(None) };
        let mapping = segment.keep(mapping, permit);
        // What is mapped need not stay open.
        *self.recent.lock() = None;
        Ok(Some(mapping))
    }

    fn view(&self, segment: &Arc<Segment>, extent: &Extent, is_verified: bool) -> Result<(StateView, bool)> {
        let Some(mapping) = self.mapping(segment, extent)? else {
            return Ok((self.view_alone(segment, extent, is_verified)?, true));
        };
        let Some(place) = segment.place(extent) else {
            return Err(self.blame(segment, Malformed::new(extent.offset, "the file ends before the state does")));
        };
        if is_verified || self.verify(segment, mapping, extent)? {
            return Ok((StateView::shared(segment, place), true));
        }
        Ok((self.view_alone(segment, extent, false)?, false))
    }

    /// A view with its own mapping, of the same open file that was verified.
    fn view_alone(&self, segment: &Segment, extent: &Extent, is_verified: bool) -> Result<StateView> {
        let file = self.file(segment.data())?;
        if !is_verified {
            file.verify_state(extent, |_| ())?;
        }
        Ok(StateView::own(file.map(extent)?, &self.pin))
    }

    /// Verifies a state, also if it was verified before. For the first state of a file the segment forgets what it has read
    /// ahead.
    pub(super) fn check(&self, segment: &Segment, extent: &Extent, is_first: bool) -> Result<((), bool)> {
        if let Some(mapping) = self.mapping(segment, extent)? {
            if is_first {
                segment.read_anew();
            }
            if self.verify(segment, mapping, extent)? {
                return Ok(((), true));
            }
        }
        self.file(segment.data())?.verify_state(extent, |_| ())?;
        Ok(((), segment.mapping().is_none()))
    }

    /// Verifies a state in the mapping. Returns false if the mapping cannot be read without the danger of a SIGBUS, as over a
    /// bad sector: the caller reads the file instead, and gets an error.
    fn verify(&self, segment: &Segment, mapping: &Mapping, extent: &Extent) -> Result<bool> {
        let Some(found) = segment.verify(mapping, extent) else { return Ok(false) };
        found.map_err(|wrong| self.blame(segment, wrong)).map(|()| true)
    }

    pub(super) fn blame(&self, segment: &Segment, wrong: Malformed) -> Error {
        let data = segment.data();
        let path = self.settings.volume().path(layout::data_file(data.id, data.lent()));
        data.blame(wrong.at(OPERATION, &path))
    }

    fn reader(&self, segment: &Arc<Segment>, extent: &Extent, is_verified: bool) -> Result<(StateReader, bool)> {
        let file = self.file(segment.data())?;
        if !is_verified {
            file.verify_state(extent, |_| ())?;
        }
        // A mapping that is kept may be of a file that had the name before.
        Ok((StateReader::file(file, extent, &self.pin), segment.mapping().is_none()))
    }
}
