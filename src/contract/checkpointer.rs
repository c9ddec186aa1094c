//! Snapshots and deltas of partitions, by checkpoint.

use super::ArtifactPath;
use crate::{
    commit::staging::ArtifactKind,
    error::{Error, Result},
    id::CheckpointId,
    manifest::Manifest,
    store::Store,
};

/// A place for the snapshots and deltas of the partitions of operators, many of which are saved at once, from many
/// threads, and appear together with the manifest of their checkpoint.
///
/// # Examples
///
/// ```
/// use piton::{Digest, Manifest, Options, contract::Checkpointer};
///
/// let store = Options::memory().open("state")?;
/// let id = store.next_id()?;
/// let checkpointer: &dyn Checkpointer = &store;
/// std::thread::scope(|scope| {
///     for partition in 0..4 {
///         scope.spawn(move || checkpointer.save_snapshot(id, "window", partition, &[7; 5000]).unwrap());
///     }
/// });
/// let digest = checkpointer.save_delta(id, "window", 0, b"what has changed since")?;
/// assert_eq!(digest, Digest::of(b"what has changed since").to_string());
/// checkpointer.save_manifest(&Manifest::builder().build(id))?;
///
/// assert_eq!(checkpointer.read_latest()?, Some(id));
/// let delta = checkpointer.load_artifact(&format!("{id}/operators/window/partition-0.delta"))?;
/// assert_eq!(delta, b"what has changed since");
/// # Ok::<(), piton::Error>(())
/// ```
///
/// A double for tests, in memory:
///
/// ```
/// use std::{collections::BTreeMap, sync::Mutex};
/// use piton::{CheckpointId, Digest, Error, Manifest, Result, contract::Checkpointer};
///
/// #[derive(Default)]
/// struct InMemory { saved: Mutex<BTreeMap<CheckpointId, Manifest>>, artifacts: Mutex<BTreeMap<String, Vec<u8>>> }
///
/// fn missing() -> Error { Error::not_found("load", "there is no such thing") }
///
/// impl InMemory {
///     fn put(&self, path: String, data: &[u8]) -> Result<String> {
///         self.artifacts.lock().unwrap().insert(path, data.to_vec());
///         Ok(Digest::of(data).to_string())
///     }
/// }
///
/// impl Checkpointer for InMemory {
///     fn save_manifest(&self, manifest: &Manifest) -> Result<()> {
///         self.saved.lock().unwrap().insert(manifest.id(), manifest.clone());
///         Ok(())
///     }
///     fn load_manifest(&self, id: CheckpointId) -> Result<Manifest> {
///         self.saved.lock().unwrap().get(&id).cloned().ok_or_else(missing)
///     }
///     fn save_snapshot(&self, id: CheckpointId, operator: &str, partition: u32, data: &[u8]) -> Result<String> {
///         self.put(format!("{id}/operators/{operator}/partition-{partition}.snap"), data)
///     }
///     fn save_delta(&self, id: CheckpointId, operator: &str, partition: u32, data: &[u8]) -> Result<String> {
///         self.put(format!("{id}/operators/{operator}/partition-{partition}.delta"), data)
///     }
///     fn load_artifact(&self, path: &str) -> Result<Vec<u8>> {
///         self.artifacts.lock().unwrap().get(path).cloned().ok_or_else(missing)
///     }
///     fn update_latest(&self, id: CheckpointId) -> Result<()> {
///         self.saved.lock().unwrap().retain(|other, _| *other <= id);
///         Ok(())
///     }
///     fn read_latest(&self) -> Result<Option<CheckpointId>> { Ok(self.list_checkpoints()?.last().copied()) }
///     fn list_checkpoints(&self) -> Result<Vec<CheckpointId>> {
///         Ok(self.saved.lock().unwrap().keys().copied().collect())
///     }
///     fn delete_checkpoint(&self, id: CheckpointId) -> Result<()> {
///         self.saved.lock().unwrap().remove(&id).map(drop).ok_or_else(missing)
///     }
/// }
///
/// let checkpointer: &dyn Checkpointer = &InMemory::default();
/// checkpointer.save_snapshot(CheckpointId::FIRST, "window", 0, b"state")?;
/// checkpointer.save_manifest(&Manifest::builder().build(CheckpointId::FIRST))?;
/// assert_eq!(checkpointer.load_artifact("1/operators/window/partition-0.snap")?, b"state");
/// # Ok::<(), piton::Error>(())
/// ```
pub trait Checkpointer: Send + Sync {
    /// Saves a checkpoint with the artifacts that were saved for it, all or none. Durable when it returns.
    ///
    /// # Errors
    ///
    /// Those of [`CheckpointStore::save`](super::CheckpointStore::save).
    fn save_manifest(&self, manifest: &Manifest) -> Result<()>;

    /// The manifest of a saved checkpoint.
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is none, `is_corrupt` if it is damaged.
    fn load_manifest(&self, id: CheckpointId) -> Result<Manifest>;

    /// Saves all of a partition of an operator, as of some moment, for a checkpoint that is still to be saved; a second
    /// one replaces the first. Returns the SHA-256 of the data: 64 lower-case hexadecimal digits. It appears with
    /// [`save_manifest`](Self::save_manifest), and is durable then. The operator may be any text.
    ///
    /// # Errors
    ///
    /// `is_conflict` if the checkpoint is saved already, with other data. And those of
    /// [`StateWriter`](crate::StateWriter).
    fn save_snapshot(&self, id: CheckpointId, operator: &str, partition: u32, data: &[u8]) -> Result<String>;

    /// Saves what has changed of a partition since its last snapshot or delta; several keep the order in which they were
    /// saved. Otherwise like [`save_snapshot`](Self::save_snapshot).
    ///
    /// What it goes on from is not kept by it: if that is in an earlier checkpoint, name its artifacts (from
    /// [`load_manifest`](Self::load_manifest)) in the manifest that is saved, and these deltas follow those; or the earlier
    /// one must stay.
    ///
    /// # Errors
    ///
    /// Those of [`save_snapshot`](Self::save_snapshot).
    fn save_delta(&self, id: CheckpointId, operator: &str, partition: u32, data: &[u8]) -> Result<String>;

    /// A snapshot or a delta of a saved checkpoint, by its [path](ArtifactPath): checksum and digest are verified.
    ///
    /// # Errors
    ///
    /// `is_invalid` if the text is no path, `is_not_found` if there is no such checkpoint or artifact, `is_corrupt` if it
    /// is damaged.
    fn load_artifact(&self, path: &str) -> Result<Vec<u8>>;

    /// Makes an older checkpoint the newest one until another is saved, durably: see
    /// [`Store::rollback_to`](crate::Store::rollback_to). There is no pointer that would have to be kept up to date.
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is none, `is_corrupt` if it is damaged; those of the storage, and of
    /// [`Store::rollback_to`](crate::Store::rollback_to).
    fn update_latest(&self, id: CheckpointId) -> Result<()>;

    /// The newest valid checkpoint; `None` if there are no checkpoints.
    ///
    /// # Errors
    ///
    /// The damage of the newest one if there are checkpoints and none is valid; `is_not_found` if all that are left were
    /// rolled back, `is_newer_format` if a newer version wrote the newest one.
    fn read_latest(&self) -> Result<Option<CheckpointId>>;

    /// The ids of all saved checkpoints, oldest first.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn list_checkpoints(&self) -> Result<Vec<CheckpointId>>;

    /// Deletes a checkpoint and all of its artifacts that no other checkpoint refers to, durably; or what was saved for
    /// one that is still to be saved. The id of a saved one is never used again.
    ///
    /// # Errors
    ///
    /// `is_not_found` if there is none; `is_in_use` if another process reads it. Those of the storage.
    fn delete_checkpoint(&self, id: CheckpointId) -> Result<()>;
}

impl Checkpointer for Store {
    fn save_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.staging().save(manifest, None)
    }

    fn load_manifest(&self, id: CheckpointId) -> Result<Manifest> {
        Ok(self.checkpoint(id)?.manifest().clone())
    }

    fn save_snapshot(&self, id: CheckpointId, operator: &str, partition: u32, data: &[u8]) -> Result<String> {
        let digest = self.staging().save_artifact(id, ArtifactKind::Snapshot, (operator, partition), data)?;
        Ok(digest.to_string())
    }

    fn save_delta(&self, id: CheckpointId, operator: &str, partition: u32, data: &[u8]) -> Result<String> {
        let digest = self.staging().save_artifact(id, ArtifactKind::Delta, (operator, partition), data)?;
        Ok(digest.to_string())
    }

    fn load_artifact(&self, path: &str) -> Result<Vec<u8>> {
        let path: ArtifactPath = path.parse()?;
        let checkpoint = self.checkpoint(path.id)?;
        let artifact = path.find(checkpoint.manifest());
        let artifact = artifact.ok_or_else(|| Error::not_found(format!("load {path}"), "there is no such artifact"))?;
        checkpoint.read_artifact(artifact)
    }

    fn update_latest(&self, id: CheckpointId) -> Result<()> {
        self.rollback_to(id)
    }

    fn read_latest(&self) -> Result<Option<CheckpointId>> {
        Ok(self.latest()?.map(|checkpoint| checkpoint.id()))
    }

    fn list_checkpoints(&self) -> Result<Vec<CheckpointId>> {
        Ok(self.checkpoint_ids())
    }

    fn delete_checkpoint(&self, id: CheckpointId) -> Result<()> {
        if self.staging().abort(id) {
            return Ok(());
        }
        self.forget(id).map(drop)
    }
}
