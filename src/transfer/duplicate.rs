//! A state of its own for a pending checkpoint, in another scope, with the bytes of one that is there.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use super::files::{Needed, by_file, moved};
use crate::{
    commit::{CheckpointStreams, PendingCheckpoint},
    disk::{
        layout,
        link::{self, Way},
    },
    error::{Error, Result},
    handle::{Extent, FileRef, StateHandle},
    id::{FileId, Scope},
    manifest::DataFile,
};

/// What this is called in errors, before the checkpoint that it is for.
const DUPLICATE: &str = "duplicate states for";

impl PendingCheckpoint {
    /// Whether [`duplicate`](Self::duplicate) would take no more than a hard link for this state. Nothing is tried, so that
    /// asking costs little; what is answered is what is likely.
    ///
    /// False for a state that travels inside its handle, which costs nothing at all, and for one that is gone.
    #[must_use]
    pub fn can_fast_duplicate(&self, handle: &StateHandle, scope: Scope) -> bool {
        self.streams.can_fast_duplicate(handle, scope)
    }

    /// Gives this checkpoint states of its own with the bytes of others, in a scope of its choice: of those that an
    /// earlier checkpoint has, or that were written for this one. Returns the handles of the new states, in order.
    ///
    /// The file of the old states gets another name (a hard link), one for all of them, so that this costs no bytes however
    /// many states there are and however long they are. Where there are no hard links it is reflinked, else the states are
    /// copied, and their checksums compared. A state that travels inside its handle is returned as it is.
    ///
    /// A file that a [member](crate::Member) may still append to is never linked. It is reflinked, else the states are
    /// copied, once for each call: pass all of its states in one.
    ///
    /// The new states live and die apart from the old ones. Durable with the checkpoint, or on return with
    /// `Durability::PerState`.
    ///
    /// # Errors
    ///
    /// `is_not_found` if no published checkpoint refers to one of the states any more, or if it is known to be damaged;
    /// `is_corrupt` if a file is missing, or a state is found to be damaged while it is copied; `is_unavailable` if that is
    /// borrowed; errors of the file system. Nothing is left behind once this checkpoint ends.
    ///
    /// # Examples
    ///
    /// A shared state for one checkpoint alone:
    ///
    /// ```
    /// # use piton::{Manifest, Options, Scope};
    /// # let store = Options::memory().open("state")?;
    /// let pending = store.begin_next()?;
    /// let shared = pending.write(Scope::Shared, &[7; 5000])?;
    /// pending.commit(Manifest::builder().state("weights", shared.clone()))?;
    ///
    /// let pending = store.begin_next()?;
    /// assert!(pending.can_fast_duplicate(&shared, Scope::Exclusive));
    /// let own = pending.duplicate(&[shared], Scope::Exclusive)?.remove(0);
    /// assert_eq!(own.scope(), Some(Scope::Exclusive));
    /// pending.commit(Manifest::builder().state("weights", own))?;
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn duplicate(&self, handles: &[StateHandle], scope: Scope) -> Result<Vec<StateHandle>> {
        self.streams.duplicate(handles, scope)
    }
}

impl CheckpointStreams {
    pub(crate) fn can_fast_duplicate(&self, handle: &StateHandle, scope: Scope) -> bool {
        let is_ours = handle.store() == Some(self.publisher().journal.store());
        let Some(extent) = handle.extent().filter(|_| is_ours && self.batch().check_open().is_ok()) else {
            return false;
        };
        let publisher = self.publisher();
        let data = self.data_file(extent.file);
        let original = layout::data_file(data.id, data.lent());
        data.lent.is_none()
            && self.batch().hold().may_refer(&extent)
            && !publisher.cannot_link.load(Ordering::Relaxed)
            && !publisher.may_be_appended_to(extent.file).unwrap_or(true)
            && link::can_link(&publisher.volume, &original, layout::scope_dir(scope))
    }

    pub(crate) fn duplicate(&self, handles: &[StateHandle], scope: Scope) -> Result<Vec<StateHandle>> {
        self.batch().check_open()?;
        let store = self.publisher().journal.store();
        handles.iter().try_for_each(|handle| handle.check_store(store, DUPLICATE))?;
        let mut copies = BTreeMap::new();
        for (file, extents) in by_file(handles.iter()) {
            let copy = self.duplicate_file(file, &extents, scope).or_else(|error| self.unless_ended(error))?;
            copies.insert(file, Arc::new(FileRef { store, file: copy }));
        }
        Ok(handles.iter().map(|handle| moved(handle, &copies)).collect())
    }

    /// What nobody refers to any more may have gone meanwhile: that says nothing about it. Nor does anybody need a name
    /// that was made.
    fn unless_ended(&self, error: Error) -> Result<FileId> {
        let ended = self.batch().check_open();
        if ended.is_err() {
            let _ = self.publisher().registry.tidy(0);
        }
        ended.and(Err(error))
    }

    fn data_file(&self, file: FileId) -> DataFile {
        let publisher = self.publisher();
        publisher.registry.data_file(publisher.journal.store(), file)
    }

    /// One name for all states of a file that are duplicated, in however many calls; but a copy has only those that it was
    /// made for.
    fn duplicate_file(&self, file: FileId, extents: &[Extent], scope: Scope) -> Result<FileId> {
        let (batch, publisher) = (self.batch(), self.publisher());
        let mut links = batch.lock_links();
        self.check(extents)?;
        batch.finish_file(file)?;
        if let Some(linked) = links.get(&(file, scope)) {
            batch.adopt_more(*linked, extents)?;
            return Ok(*linked);
        }
        let (volume, data) = (&publisher.volume, self.data_file(file));
        let needed = Needed { volume, data: &data, extents };
        let may_link = !publisher.may_be_appended_to(file)?;
        let (copy, way) = batch.adopt(scope, file.lane, extents, |name| {
            let way = if may_link && self.link(&needed, name)? { Way::Linked } else { self.copy(&needed, name)? };
            Ok((way, data.as_origin()))
        })?;
        match way {
            // What a member appends later is not in it.
            _ if !may_link => {}
            Way::Copied => self.note_refusal(&data)?,
            _ => drop(links.insert((file, scope), copy)),
        }
        Ok(copy)
    }

    /// Nobody can punch holes into the file meanwhile; and when it has two names nobody will.
    fn link(&self, needed: &Needed<'_>, name: &Path) -> Result<bool> {
        let _alone = self.publisher().registry.lock_linking();
        self.check(needed.extents)?;
        needed.link(&self.publisher().volume, name)
    }

    /// While this takes the old states must stay.
    fn copy(&self, needed: &Needed<'_>, name: &Path) -> Result<Way> {
        self.batch().refer(needed.extents.iter().copied(), DUPLICATE)?;
        needed.place(&self.publisher().volume, name, || None::<()>)
    }

    fn check(&self, extents: &[Extent]) -> Result<()> {
        self.batch().hold().may_refer_all(extents).map_err(|extent| self.batch().unknown(extent, DUPLICATE))
    }

    /// A file with one name that could not get another one: none can. One with many may have as many as can be.
    fn note_refusal(&self, data: &DataFile) -> Result<()> {
        let publisher = self.publisher();
        let found = publisher.volume.metadata(layout::data_file(data.id, data.lent()))?;
        if data.lent.is_none() && found.is_some_and(|found| found.links == 1) {
            publisher.cannot_link.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}
