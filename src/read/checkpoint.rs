//! A published checkpoint, open for reading.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;

use super::{
    pin::Pin,
    reader::StateReader,
    segments::{OpenSegment, ReadSettings},
    verify::check_digest,
    view::StateView,
};
use crate::{
    disk::layout,
    error::{Error, Result},
    handle::{Either, Extent, StateHandle},
    id::CheckpointId,
    manifest::{Artifact, Digest, Manifest},
    options::Verify,
};

/// A published checkpoint: its manifest, and a way to its states.
///
/// It is pinned while any clone of it, any view or any reader is alive: its states stay readable, byte for byte, also if
/// the checkpoint is forgotten meanwhile. The last one to go may remove files, on the thread it is dropped on.
#[derive(Clone, Debug)]
pub struct Checkpoint(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    manifest: Manifest,
    settings: Arc<ReadSettings>,
    /// Which states were found to have their checksum.
    verified: Mutex<HashSet<Extent>>,
    /// The file that was read last: the next state is probably in the same.
    recent: Mutex<Option<Arc<OpenSegment>>>,
    pin: Pin,
}

impl Checkpoint {
    pub(crate) fn new(manifest: Manifest, settings: &Arc<ReadSettings>, pin: Pin) -> Self {
        let (verified, recent) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { manifest, settings: Arc::clone(settings), verified, recent, pin }))
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

    /// A state as a slice: mapped from its file, or held in the manifest.
    ///
    /// The first use of a state reads all of it, to compare its checksum, unless the store was opened with
    /// `Verify::Never`. On the real file system the bytes are aligned in memory as
    /// [`Options::alignment`](crate::Options::alignment) says, unless the state travels inside its handle; all views of
    /// states that share a segment share one mapping, and keep one descriptor open.
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
        let extent = match handle.place() {
            Either::Inline(bytes) => return Ok(StateView::inline(bytes.clone())),
            Either::File(extent) => extent,
        };
        let (segment, mapped) = self.with_segment(handle, &extent, |segment| {
            let complete = self.0.pin.complete(&extent);
            segment.map(&extent, complete)
        })?;
        Ok(StateView::mapped(mapped, segment, self.clone()))
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
        let extent = match handle.place() {
            Either::Inline(bytes) => return Ok(StateReader::inline(bytes.clone())),
            Either::File(extent) => extent,
        };
        Ok(StateReader::file(self.with_segment(handle, &extent, |_| Ok(()))?.0, extent, self.clone()))
    }

    /// The bytes of an artifact, if they have its digest as well.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Checkpoint::read); `is_corrupt` if the digest is another.
    pub fn read_artifact(&self, artifact: &Artifact) -> Result<Vec<u8>> {
        let bytes = self.read(&artifact.handle)?.to_vec();
        let Some(expected) = artifact.digest else { return Ok(bytes) };
        let (name, offset) = match artifact.handle.extent() {
            Some(extent) => {
                let data = self.0.manifest.data_file(extent.file);
                (layout::data_file(data.id, data.lent()), extent.offset)
            }
            None => (layout::manifest(self.id()), 0),
        };
        check_digest(offset, &expected, &Digest::of(&bytes))
            .map_err(|error| error.at("verify", &self.0.settings.volume().path(name)))?;
        Ok(bytes)
    }

    /// Opens the file of a state that this checkpoint refers to, verifies the state on first use, and does something with
    /// the file. What is found to be damaged is looked at again, through a file that is opened anew: the second look
    /// counts.
    fn with_segment<T>(
        &self,
        handle: &StateHandle,
        extent: &Extent,
        act: impl Fn(&OpenSegment) -> Result<T>,
    ) -> Result<(Arc<OpenSegment>, T)> {
        handle.check_store(self.0.manifest.store, &format!("read a state of checkpoint {}", self.id()))?;
        if !self.0.pin.refers(extent) {
            let operation = format!("read state {handle} of checkpoint {}", self.id());
            return Err(Error::not_found(operation, "the checkpoint does not refer to it"));
        }
        let data = || self.0.manifest.data_file(extent.file);
        let look = |segment: Result<Arc<OpenSegment>>| {
            let segment = segment?;
            self.verify_once(&segment, extent)?;
            act(&segment).map(|done| (segment, done))
        };
        let recent = self.0.recent.lock().clone().filter(|recent| recent.id() == extent.file);
        let first = look(recent.map_or_else(|| self.0.settings.open_shared(data()), Ok));
        let found = first
            .or_else(|error| if error.is_damage() { look(self.0.settings.open_again(data())) } else { Err(error) });
        let (segment, done) = found.inspect_err(|error| self.note_damage(extent, error))?;
        *self.0.recent.lock() = Some(Arc::clone(&segment));
        Ok((segment, done))
    }

    /// Verification reads, also where a mapping follows: a bad sector is then an error, and not a SIGBUS.
    fn verify_once(&self, segment: &OpenSegment, extent: &Extent) -> Result<()> {
        if self.0.settings.verify == Verify::Never || self.0.verified.lock().contains(extent) {
            return Ok(());
        }
        segment.verify_state(extent, |_| ())?;
        self.0.verified.lock().insert(*extent);
        Ok(())
    }

    /// Every checkpoint with a state that was found to be damaged is skipped by `latest` and not counted by `prune` from
    /// now on, and the state cannot be reused.
    fn note_damage(&self, extent: &Extent, error: &Error) {
        if error.is_corrupt() {
            self.0.pin.mark_damaged(extent, error);
        }
    }
}
