//! Checkpoints in the making that callers address by their ids: for the verbs of the contracts, which know no values of
//! ours.
//!
//! Each is a pending checkpoint like any other, and what was saved for it so far. Saving its manifest commits it. It is
//! aborted when a higher id is committed, when it is deleted, and when the store is closed.

use std::{collections::BTreeMap, io::Write, sync::Arc};

use parking_lot::{Mutex, RwLock};

use super::{PendingCheckpoint, sequence::Publisher};
use crate::{
    error::{Error, Result},
    handle::StateHandle,
    id::{CheckpointId, Scope},
    manifest::{Artifact, Digest, Manifest, ManifestBuilder, OperatorState, PartitionState},
    manifests,
    read::Checkpoint,
};

#[derive(Debug)]
pub(crate) struct Staging {
    publisher: Arc<Publisher>,
    open: Mutex<BTreeMap<CheckpointId, Arc<Attempt>>>,
}

/// `None` once it has ended. Whoever saves artifacts has it shared, whoever ends it alone.
type Attempt = RwLock<Option<Draft>>;

#[derive(Debug)]
struct Draft {
    pending: PendingCheckpoint,
    staged: Mutex<Staged>,
}

#[derive(Debug, Default)]
struct Staged {
    sidecar: Option<StateHandle>,
    operators: BTreeMap<String, BTreeMap<u32, PartitionState>>,
}

/// What an artifact is to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArtifactKind {
    /// A second one replaces the first.
    Snapshot,
    /// One more.
    Delta,
}

impl Staging {
    pub(crate) fn new(publisher: &Arc<Publisher>) -> Self {
        Self { publisher: Arc::clone(publisher), open: Mutex::default() }
    }

    /// Commits a checkpoint with what was saved for it so far. If there is one of this id already, the same content is a
    /// success, whoever committed it, and any other a conflict.
    pub(crate) fn save(&self, manifest: &Manifest, sidecar: Option<&[&[u8]]>) -> Result<()> {
        let id = manifest.id;
        let saved = self.with_attempt(id, |attempt| {
            let mut draft = attempt.write();
            let draft = draft.take()?;
            let saved = draft.commit(manifest, sidecar);
            // Before anybody who waits for the attempt can look for it again.
            self.open.lock().remove(&id);
            Some(saved)
        });
        match saved {
            Ok(_) => {
                self.drop_below(id);
                Ok(())
            }
            Err(error) if error.is_conflict() => self.compare(manifest, sidecar, error),
            Err(error) => Err(error),
        }
    }

    /// Saves the sidecar of a checkpoint; a second one replaces the first.
    pub(crate) fn save_sidecar(&self, id: CheckpointId, chunks: &[&[u8]]) -> Result<()> {
        let saved = self.with_draft(id, |draft| {
            let handle = write(&draft.pending, Scope::Exclusive, chunks)?;
            draft.staged.lock().sidecar = Some(handle);
            Ok(())
        });
        match saved {
            Err(error) if error.is_conflict() => self.compare_sidecar(id, chunks, error),
            saved => saved,
        }
    }

    /// Saves a snapshot or a delta of a partition of an operator.
    pub(crate) fn save_artifact(
        &self,
        id: CheckpointId,
        kind: ArtifactKind,
        (operator, partition): (&str, u32),
        data: &[u8],
    ) -> Result<Digest> {
        let digest = Digest::of(data);
        let saved = self.with_draft(id, |draft| {
            let handle = write(&draft.pending, Scope::Shared, &[data])?;
            let artifact = Artifact { handle, digest: Some(digest) };
            draft.staged.lock().add(kind, (operator, partition), artifact);
            Ok(())
        });
        match saved {
            Err(error) if error.is_conflict() => self.compare_artifact(id, (operator, partition), &digest, error)?,
            saved => saved?,
        }
        Ok(digest)
    }

    /// Aborts a checkpoint in the making; false if there is none.
    pub(crate) fn abort(&self, id: CheckpointId) -> bool {
        let Some(attempt) = self.open.lock().remove(&id) else { return false };
        attempt.write().take().is_some()
    }

    /// Aborts them all.
    pub(crate) fn clear(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        for attempt in open.values() {
            drop(attempt.write().take());
        }
    }

    fn with_draft<T>(&self, id: CheckpointId, act: impl Fn(&Draft) -> Result<T>) -> Result<T> {
        self.with_attempt(id, |attempt| attempt.read().as_ref().map(&act))
    }

    /// Acts on the attempt at a checkpoint, which begins with it. One that has ended meanwhile is looked for again: it is
    /// committed then, or its id is used up.
    fn with_attempt<T>(&self, id: CheckpointId, act: impl Fn(&Attempt) -> Option<Result<T>>) -> Result<T> {
        loop {
            let attempt = self.attempt(id)?;
            if let Some(done) = act(&attempt) {
                return done;
            }
        }
    }

    fn attempt(&self, id: CheckpointId) -> Result<Arc<Attempt>> {
        let mut open = self.open.lock();
        if let Some(attempt) = open.get(&id) {
            return Ok(Arc::clone(attempt));
        }
        let draft = Draft { pending: self.publisher.begin(id)?, staged: Mutex::default() };
        let attempt = Arc::new(RwLock::new(Some(draft)));
        open.insert(id, Arc::clone(&attempt));
        Ok(attempt)
    }

    /// Those below a committed one can never be committed, whoever committed it.
    pub(crate) fn drop_outdated(&self) {
        if let Some(newest) = self.publisher.registry.catalog(|catalog| catalog.newest_committed()) {
            self.drop_below(newest);
        }
    }

    fn drop_below(&self, id: CheckpointId) {
        let mut open = self.open.lock();
        let above = open.split_off(&id);
        let below = std::mem::replace(&mut *open, above);
        drop(open);
        // Outside of the lock: an abort removes files.
        drop(below);
    }

    /// Whether what is to be saved is there already. What the caller does not mention was saved by other calls.
    fn compare(&self, manifest: &Manifest, sidecar: Option<&[&[u8]]>, conflict: Error) -> Result<()> {
        let id = manifest.id;
        let damaged = self.publisher.registry.catalog(|catalog| catalog.damage(id)).is_some();
        let Some(loaded) = self.load(id).ok().filter(|_| !damaged) else { return Err(conflict) };
        let given = self.publisher.name(id, manifest.content.clone())?.content;
        let mut stored = loaded.into_published();
        let stored_sidecar = stored.sidecar.clone();
        if given.sidecar.is_none() {
            stored.sidecar = None;
        }
        forget_unmentioned(&mut stored, &given);
        if stored != given {
            return Err(conflict);
        }
        match sidecar {
            None => Ok(()),
            Some(_) if stored_sidecar.is_none() => Err(conflict),
            Some(chunks) => self.compare_sidecar(id, chunks, conflict),
        }
    }

    fn compare_sidecar(&self, id: CheckpointId, chunks: &[&[u8]], conflict: Error) -> Result<()> {
        let same = self.open(id).and_then(|checkpoint| {
            let Some(handle) = checkpoint.manifest().sidecar() else { return Ok(false) };
            let mut given = chunks.iter().copied().flatten();
            let same_bytes = checkpoint.read(handle)?.iter().all(|byte| given.next() == Some(byte));
            Ok(same_bytes && given.next().is_none())
        });
        if same.unwrap_or(false) { Ok(()) } else { Err(conflict) }
    }

    fn compare_artifact(
        &self,
        id: CheckpointId,
        (operator, partition): (&str, u32),
        digest: &Digest,
        conflict: Error,
    ) -> Result<()> {
        let Ok(loaded) = self.load(id) else { return Err(conflict) };
        let partition = loaded.manifest.operator(operator).and_then(|operator| operator.partitions.get(&partition));
        let mut artifacts = partition.into_iter().flat_map(|found| found.snapshot.iter().chain(&found.deltas));
        if artifacts.any(|artifact| artifact.digest.as_ref() == Some(digest)) { Ok(()) } else { Err(conflict) }
    }

    fn load(&self, id: CheckpointId) -> Result<manifests::Loaded> {
        manifests::load(&self.publisher.volume, self.publisher.identity.store(), id)
    }

    fn open(&self, id: CheckpointId) -> Result<Checkpoint> {
        self.publisher.open(self.load(id)?.manifest)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Draft {
    fn commit(self, manifest: &Manifest, sidecar: Option<&[&[u8]]>) -> Result<Checkpoint> {
        let Self { pending, staged } = self;
        let mut staged = staged.into_inner();
        if let Some(chunks) = sidecar {
            staged.sidecar = Some(write(&pending, Scope::Exclusive, chunks)?);
        }
        let mut content = manifest.content.clone();
        staged.merge_into(&mut content);
        pending.commit(content)
    }
}

impl Staged {
    fn add(&mut self, kind: ArtifactKind, (operator, partition): (&str, u32), artifact: Artifact) {
        if !self.operators.contains_key(operator) {
            self.operators.insert(operator.to_owned(), BTreeMap::new());
        }
        let Some(partitions) = self.operators.get_mut(operator) else { return };
        let partition = partitions.entry(partition).or_default();
        match kind {
            ArtifactKind::Snapshot => partition.snapshot = Some(artifact),
            ArtifactKind::Delta => partition.deltas.push(artifact),
        }
    }

    /// What was saved last counts: it replaces a snapshot or a sidecar that the manifest names, and deltas follow those
    /// that it names.
    fn merge_into(self, content: &mut ManifestBuilder) {
        content.sidecar = self.sidecar.or(content.sidecar.take());
        for (name, partitions) in self.operators {
            let operator = content.operators.entry(name).or_default();
            for (number, staged) in partitions {
                let partition = operator.partitions.entry(number).or_default();
                partition.snapshot = staged.snapshot.or(partition.snapshot.take());
                partition.deltas.extend(staged.deltas);
            }
        }
    }
}

/// Writes chunks one after the other as one state.
fn write(pending: &PendingCheckpoint, scope: Scope, chunks: &[&[u8]]) -> Result<StateHandle> {
    let mut writer = pending.writer(scope)?;
    chunks.iter().try_for_each(|chunk| writer.write_all(chunk)).map_err(Error::from_writer)?;
    writer.finish()
}

/// Takes out what artifacts the given content does not mention.
fn forget_unmentioned(stored: &mut ManifestBuilder, given: &ManifestBuilder) {
    for (name, operator) in &mut stored.operators {
        let given = given.operators.get(name);
        for (number, partition) in &mut operator.partitions {
            let given = given.and_then(|operator| operator.partitions.get(number));
            if given.is_none_or(|given| given.snapshot.is_none()) {
                partition.snapshot = None;
            }
            partition.deltas.truncate(given.map_or(0, |given| given.deltas.len()));
        }
        let mentions = |number: &u32| given.is_some_and(|operator| operator.partitions.contains_key(number));
        operator.partitions.retain(|number, partition| mentions(number) || !partition.is_empty());
    }
    let is_empty = |operator: &OperatorState| *operator == OperatorState::default();
    stored.operators.retain(|name, operator| given.operators.contains_key(name) || !is_empty(operator));
}
