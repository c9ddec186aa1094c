//! A state of its own for a pending checkpoint, in another scope, with the bytes of one that is there.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use super::files::{Needed, by_file};
use crate::{
    commit::{PendingCheckpoint, sequence::resolve},
    disk::{
        layout,
        link::{self, Way},
    },
    error::Result,
    handle::{Extent, StateHandle},
    id::{FileId, Scope},
    manifest::DataFile,
};

impl PendingCheckpoint {
    /// Whether [`duplicate`](Self::duplicate) would take no more than a hard link for this state. Nothing is tried, so that
    /// asking costs little; what is answered is what is likely.
    ///
    /// False for a state that travels inside its handle, which costs nothing at all, and for one that is gone.
    #[must_use]
    pub fn can_fast_duplicate(&self, handle: &StateHandle, scope: Scope) -> bool {
        let Some(extent) = handle.extent() else { return false };
        let publisher = self.publisher();
        let data = self.data_file(extent.file);
        let original = layout::data_file(data.id, data.lent());
        self.batch().hold().may_refer(extent)
            && !publisher.cannot_link.load(Ordering::Relaxed)
            && link::can_link(&publisher.volume, &original, layout::scope_dir(scope))
    }

    /// Gives this checkpoint states of its own with the bytes of others, in a scope of its choice: of those that an
    /// earlier checkpoint has, or that were written for this one. Returns the handles of the new states, in order.
    ///
    /// The file of the old states gets another name (a hard link), one for all of them, so that this costs no bytes however many
    /// states there are and however long they are. Where there are no hard links it is reflinked, else the states are
    /// copied, and their checksums compared. A state that travels inside its handle is returned as it is.
    ///
    /// The new states live and die apart from the old ones. Durable with the checkpoint, or on return with
    /// `Durability::PerState`.
    ///
    /// # Errors
    ///
    /// `is_not_found` if no published checkpoint refers to one of the states any more, or if it is known to be damaged;
    /// `is_corrupt` if one is found to be damaged while it is copied; errors of the file system. Nothing is left behind
    /// once this checkpoint ends.
    ///
    /// # Examples
    ///
    /// A shared state for one checkpoint alone:
    ///
    /// ```
    /// # use piton::{Manifest, Options, Scope};
    /// # let store = Options::memory().open("state")?;
    /// let pending = store.begin(store.next_id())?;
    /// let shared = pending.write(Scope::Shared, &[7; 5000])?;
    /// pending.commit(Manifest::builder().state("weights", shared.clone()))?;
    ///
    /// let pending = store.begin(store.next_id())?;
    /// assert!(pending.can_fast_duplicate(&shared, Scope::Exclusive));
    /// let own = pending.duplicate(&[shared], Scope::Exclusive)?.remove(0);
    /// assert_eq!(own.scope(), Some(Scope::Exclusive));
    /// pending.commit(Manifest::builder().state("weights", own))?;
    /// # Ok::<(), piton::Error>(())
    /// ```
    pub fn duplicate(&self, handles: &[StateHandle], scope: Scope) -> Result<Vec<StateHandle>> {
        let batch = self.batch();
        resolve(batch, handles.iter(), "duplicate states for")?;
        let files = by_file(handles.iter());
        batch.finish_files(&files.keys().copied().collect::<BTreeSet<_>>())?;
        let mut copies = std::collections::BTreeMap::new();
        for (file, extents) in files {
            copies.insert(file, self.duplicate_file(file, extents, scope)?);
        }
        let of = |extent: &Extent| copies.get(&extent.file).map(|file| Extent { file: *file, ..*extent });
        let copy =
            |handle: &StateHandle| handle.extent().and_then(of).map_or_else(|| handle.clone(), StateHandle::file);
        Ok(handles.iter().map(copy).collect())
    }

    fn data_file(&self, file: FileId) -> DataFile {
        let publisher = self.publisher();
        publisher.registry.data_file(publisher.identity.store(), file)
    }

    /// One name for all states of a file that are duplicated, in however many calls; but a copy has only those that it was
    /// made for.
    fn duplicate_file(&self, file: FileId, extents: Vec<Extent>, scope: Scope) -> Result<FileId> {
        let (batch, publisher) = (self.batch(), self.publisher());
        let mut links = batch.lock_links();
        if let Some(linked) = links.get(&(file, scope)) {
            batch.adopt_more(*linked, extents)?;
            return Ok(*linked);
        }
        let (volume, data) = (&publisher.volume, self.data_file(file));
        let (copy, way) = batch.adopt(scope, file.lane, extents.clone(), |name| {
            let needed = Needed { volume, data: &data, extents: &extents };
            let way = needed.place(volume, name, || Some(publisher.registry.lock_linking()))?;
            Ok((way, data.as_origin()))
        })?;
        if way == Way::Copied {
            self.note_refusal(&data)?;
        } else {
            links.insert((file, scope), copy);
        }
        Ok(copy)
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
