//! Checkpoints by id: save, find, check, keep, throw away.

use crate::{
    check::{self, Issue, RecoveryReport, Validation, ValidationReport},
    error::Result,
    id::CheckpointId,
    manifest::Manifest,
    reclaim::forget::Reclaimed,
    recover::Orphans,
    store::Store,
};

/// A place for checkpoints that are addressed by their ids: a manifest each, and one optional state beside it.
///
/// All verbs block, from any threads; some have a default that is made of others. Ids only grow: one that is not above every id that was ever committed is refused.
///
/// # Examples
///
/// ```
/// use piton::{Manifest, Options, contract::CheckpointStore};
///
/// let store = Options::memory().open("state")?;
/// let store: &dyn CheckpointStore = &store;
/// let id = store.next_id()?;
/// let manifest = Manifest::builder().epoch(12).timestamp_ms(1_700_000_000_000).build(id);
/// store.save_with_state(&manifest, Some(&[b"state in ", b"two chunks"]))?;
/// assert_eq!(store.load_state_data(id)?.unwrap(), b"state in two chunks");
/// assert_eq!(store.list()?, [(id, 12)]);
/// assert_eq!(store.recover_latest_validated()?.chosen, Some(id));
/// # Ok::<(), piton::Error>(())
/// ```
///
/// A double for tests, in memory:
///
/// ```
/// use std::{collections::BTreeMap, sync::Mutex};
/// use piton::{CheckpointId, Error, Manifest, Reclaimed, Result, contract::CheckpointStore};
///
/// #[derive(Default)]
/// struct InMemory { saved: Mutex<BTreeMap<CheckpointId, Manifest>>, states: Mutex<BTreeMap<CheckpointId, Vec<u8>>> }
///
/// impl CheckpointStore for InMemory {
///     fn vnode_count(&self) -> u16 { 256 }
///     fn next_id(&self) -> Result<CheckpointId> {
///         let last = self.saved.lock().unwrap().keys().last().copied();
///         let next = last.map_or(Some(CheckpointId::FIRST), CheckpointId::next);
///         next.ok_or_else(|| Error::invalid("take the next id", "all are used"))
///     }
///     fn save_with_state(&self, manifest: &Manifest, chunks: Option<&[&[u8]]>) -> Result<()> {
///         let first = self.saved.lock().unwrap().entry(manifest.id()).or_insert(manifest.clone()).clone();
///         if first != *manifest {
///             return Err(Error::conflict("save", manifest.id()));
///         }
///         chunks.map_or(Ok(()), |chunks| self.save_state_data(manifest.id(), chunks))
///     }
///     fn update_manifest(&self, manifest: &Manifest) -> Result<()> {
///         let missing = || Error::not_found("update", "there is no such checkpoint");
///         *self.saved.lock().unwrap().get_mut(&manifest.id()).ok_or_else(missing)? = manifest.clone();
///         Ok(())
///     }
///     fn load_by_id(&self, id: CheckpointId) -> Result<Option<Manifest>> { Ok(self.saved.lock().unwrap().get(&id).cloned()) }
///     fn list_ids(&self) -> Result<Vec<CheckpointId>> { Ok(self.saved.lock().unwrap().keys().copied().collect()) }
///     fn prune(&self, keep: usize) -> Result<Reclaimed> {
///         let (ids, mut report) = (self.list_ids()?, Reclaimed::default());
///         report.checkpoints = ids[..ids.len().saturating_sub(keep.max(1))].to_vec();
///         self.saved.lock().unwrap().retain(|id, _| !report.checkpoints.contains(id));
///         Ok(report)
///     }
///     fn save_state_data(&self, id: CheckpointId, chunks: &[&[u8]]) -> Result<()> {
///         self.states.lock().unwrap().insert(id, chunks.concat());
///         Ok(())
///     }
///     fn load_state_data(&self, id: CheckpointId) -> Result<Option<Vec<u8>>> { Ok(self.states.lock().unwrap().get(&id).cloned()) }
/// }
///
/// let store: &dyn CheckpointStore = &InMemory::default();
/// let manifest = Manifest::builder().epoch(12).timestamp_ms(1).build(store.next_id()?);
/// store.save_with_state(&manifest, Some(&[b"state"]))?;
/// assert_eq!(store.load_state_data(manifest.id())?.unwrap(), b"state");
/// assert_eq!(store.recover_latest_validated()?.chosen, Some(manifest.id()));
/// # Ok::<(), piton::Error>(())
/// ```
pub trait CheckpointStore: Send + Sync {
    /// How many virtual nodes manifests should have: validation warns of one with another number.
    fn vnode_count(&self) -> u16;

    /// The first id that no checkpoint and no attempt has had.
    ///
    /// # Errors
    ///
    /// `is_invalid` if all ids were used.
    fn next_id(&self) -> Result<CheckpointId>;

    /// Saves a checkpoint, all or none, with what was saved for it before ([`save_state_data`](Self::save_state_data),
    /// and the artifacts of [`Checkpointer`](super::Checkpointer)). Durable when it returns.
    ///
    /// To save the same content under the same id again is a success that changes nothing, whoever was first, so a caller
    /// that does not know what became of a call may repeat it. What other calls added to it (state, artifacts) is not
    /// compared if they were made, or repeated, since the store was opened; for a checkpoint that must not be used (damaged, rolled back) it is a conflict.
    ///
    /// # Errors
    ///
    /// `is_conflict` if there is another content under this id already; the first one stays, also if several save at
    /// once; or if an attempt that failed had this id. `is_invalid` if the id is not above every committed one. Take
    /// [`next_id`](Self::next_id) then. `is_not_found` if the manifest names a state that is gone. And those of
    /// [`PendingCheckpoint::commit`](crate::PendingCheckpoint::commit).
    fn save(&self, manifest: &Manifest) -> Result<()> {
        self.save_with_state(manifest, None)
    }

    /// Replaces the commit status of the sinks and the metadata of a checkpoint, atomically. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is none; `is_invalid` if anything else differs from what is stored; `is_corrupt` if it is
    /// damaged. Those of the storage.
    fn update_manifest(&self, manifest: &Manifest) -> Result<()>;

    /// The newest valid checkpoint; `None` if there are no checkpoints. A damaged one is passed over.
    /// By default that with the highest id of those that can be read.
    ///
    /// # Errors
    ///
    /// The damage of the newest one if there are checkpoints and none is valid: that is not the same as `None`.
    /// `is_not_found` if all that are left were rolled back, `is_newer_format` if a newer version wrote the newest one.
    fn load_latest(&self) -> Result<Option<Manifest>> {
        check::latest("load the newest checkpoint", || all_ids(self.list_ids()), |id| self.load_by_id(id))
    }

    /// The checkpoint with this id; `None` if there is none.
    ///
    /// # Errors
    ///
    /// `is_corrupt` if it is damaged.
    fn load_by_id(&self, id: CheckpointId) -> Result<Option<Manifest>>;

    /// The ids of all checkpoints, ascending, damaged ones included.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn list_ids(&self) -> Result<Vec<CheckpointId>>;

    /// Ids and epochs of all checkpoints whose manifests can be read, by ascending id.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn list(&self) -> Result<Vec<(CheckpointId, u64)>> {
        let mut epochs = Vec::new();
        for id in self.list_ids()? {
            match self.load_by_id(id) {
                Ok(found) => epochs.extend(found.map(|manifest| (id, manifest.epoch()))),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(epochs)
    }

    /// Forgets all but the newest `keep` valid checkpoints, at least one. What one that stays refers to stays, and so do
    /// savepoints, and what is pinned or in use; damaged ones, and those that were rolled back, go. Durable when it returns.
    ///
    /// # Errors
    ///
    /// Those of the storage; what merely could not be removed is in the report.
    fn prune(&self, keep: usize) -> Result<Reclaimed>;

    /// Writes the one state beside the manifest of a checkpoint that is still to be saved, chunk by chunk. It appears with
    /// [`save`](Self::save), and is durable then; a second call before replaces it. No chunk, or empty ones, are an empty
    /// state.
    ///
    /// # Errors
    ///
    /// `is_conflict` if there is a checkpoint of this id with another state or none. And those of
    /// [`StateWriter`](crate::StateWriter).
    fn save_state_data(&self, id: CheckpointId, chunks: &[&[u8]]) -> Result<()>;

    /// The one state beside the manifest of a saved checkpoint, verified; `None` if it has none, or there is none.
    ///
    /// # Errors
    ///
    /// `is_corrupt` if it is damaged.
    fn load_state_data(&self, id: CheckpointId) -> Result<Option<Vec<u8>>>;

    /// Finds what nobody refers to, and removes it unless it is only to tell. Nothing of checkpoints that are still to be
    /// saved is touched.
    /// By default there is nothing to find.
    ///
    /// # Errors
    ///
    /// Those of the storage; what merely could not be removed is in the report.
    fn cleanup_orphans(&self, dry_run: bool) -> Result<Orphans> {
        Ok(Orphans { removed: !dry_run, ..Orphans::default() })
    }

    /// Reads every byte of a checkpoint, and says all that is wrong with it. A missing one is an issue, not an error.
    /// By default it looks at what the manifest says, and at no state.
    ///
    /// # Errors
    ///
    /// Those of the storage that say nothing about the checkpoint.
    fn validate_checkpoint(&self, id: CheckpointId) -> Result<ValidationReport> {
        let issues = match self.load_by_id(id) {
            Ok(Some(manifest)) => Issue::of_content(&manifest, self.vnode_count()),
            Ok(None) => vec![Issue::Missing],
            Err(error) if error.is_damage() => vec![Issue::Unreadable(error)],
            Err(error) => return Err(error),
        };
        Ok(ValidationReport::new(id, issues))
    }

    /// The newest checkpoint of which every byte is what it should be.
    /// By default the highest id that [validates](Self::validate_checkpoint).
    ///
    /// # Errors
    ///
    /// Those of the storage that say nothing about a checkpoint.
    fn recover_latest_validated(&self) -> Result<RecoveryReport> {
        check::recover(|| all_ids(self.list_ids()), |id| self.validate_checkpoint(id))
    }

    /// [`save_state_data`](Self::save_state_data), unless there are no chunks to save, and [`save`](Self::save), all or
    /// none.
    ///
    /// # Errors
    ///
    /// Those of both.
    fn save_with_state(&self, manifest: &Manifest, chunks: Option<&[&[u8]]>) -> Result<()>;
}

/// None of these was rolled back, as far as an implementation says.
fn all_ids(ids: Result<Vec<CheckpointId>>) -> Result<check::Ids> {
    Ok(ids?.into_iter().map(|id| (id, false)).collect())
}

impl CheckpointStore for Store {
    fn vnode_count(&self) -> u16 {
        Store::vnode_count(self)
    }

    fn next_id(&self) -> Result<CheckpointId> {
        Store::next_id(self)
    }

    fn save(&self, manifest: &Manifest) -> Result<()> {
        self.staging().save(manifest, None)
    }

    fn update_manifest(&self, manifest: &Manifest) -> Result<()> {
        Store::update_manifest(self, manifest)
    }

    fn load_latest(&self) -> Result<Option<Manifest>> {
        Ok(self.latest()?.map(|checkpoint| checkpoint.manifest().clone()))
    }

    fn load_by_id(&self, id: CheckpointId) -> Result<Option<Manifest>> {
        Ok(self.find(id)?.map(|checkpoint| checkpoint.manifest().clone()))
    }

    fn list_ids(&self) -> Result<Vec<CheckpointId>> {
        Ok(self.checkpoint_ids())
    }

    fn list(&self) -> Result<Vec<(CheckpointId, u64)>> {
        Ok(self.epochs())
    }

    fn prune(&self, keep: usize) -> Result<Reclaimed> {
        Store::prune(self, keep)
    }

    fn save_state_data(&self, id: CheckpointId, chunks: &[&[u8]]) -> Result<()> {
        self.staging().save_sidecar(id, chunks)
    }

    fn load_state_data(&self, id: CheckpointId) -> Result<Option<Vec<u8>>> {
        let Some(checkpoint) = self.find(id)? else { return Ok(None) };
        let sidecar = checkpoint.manifest().sidecar();
        sidecar.map(|handle| Ok(checkpoint.read(handle)?.to_vec())).transpose()
    }

    fn cleanup_orphans(&self, dry_run: bool) -> Result<Orphans> {
        Store::cleanup_orphans(self, dry_run)
    }

    fn validate_checkpoint(&self, id: CheckpointId) -> Result<ValidationReport> {
        self.validate(id, Validation::Full)
    }

    fn recover_latest_validated(&self) -> Result<RecoveryReport> {
        Store::recover_latest_validated(self)
    }

    fn save_with_state(&self, manifest: &Manifest, chunks: Option<&[&[u8]]>) -> Result<()> {
        self.staging().save(manifest, chunks)
    }
}
