//! Checkpoints in the making that callers address by their ids: for the verbs of the contracts, which know no values of
//! ours.
//!
//! Each is a pending checkpoint like any other, and what was saved for it so far. Saving its manifest commits it. It is
//! aborted when a higher id is committed, when it is deleted, and when the store is closed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};

use super::{PendingCheckpoint, sequence::Publisher};
use crate::{
    error::{Error, Result},
    handle::StateHandle,
    id::{CheckpointId, Scope},
    manifest::{Artifact, Digest, Manifest, ManifestBuilder, ManifestContent, OperatorState, PartitionState},
    observe::Verb,
    read::Checkpoint,
};

#[derive(Debug)]
pub(crate) struct Staging {
    publisher: Arc<Publisher>,
    open: Mutex<BTreeMap<CheckpointId, Arc<Attempt>>>,
    /// What of checkpoints that are committed is known to have come from other calls than that with the manifest: somebody
    /// may save the same manifest again. Of the newest of them alone.
    added: Mutex<BTreeMap<CheckpointId, Added>>,
}

/// So many checkpoints are remembered in [`Staging::added`].
const MOST_ADDED: usize = 8;

/// What other calls added to a manifest: whether a sidecar; and for each partition whether a snapshot, and which deltas.
#[derive(Clone, Debug, Default)]
struct Added {
    sidecar: bool,
    operators: BTreeMap<String, BTreeMap<u32, AddedToPartition>>,
}

#[derive(Clone, Debug, Default)]
struct AddedToPartition {
    snapshot: bool,
    deltas: BTreeSet<usize>,
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
        Self { publisher: Arc::clone(publisher), open: Mutex::default(), added: Mutex::default() }
    }

    /// Commits a checkpoint with what was saved for it so far. If there is one of this id already, the same content is a
    /// success, whoever committed it, and any other a conflict.
    pub(crate) fn save(&self, manifest: &Manifest, sidecar: Option<&[&[u8]]>) -> Result<()> {
        let _verb = self.verb();
        let id = manifest.id;
        let saved = self.with_attempt(id, |attempt| {
            let mut draft = attempt.write();
            let draft = draft.take()?;
            let added = draft.staged.lock().added(sidecar.is_some(), &manifest.content);
            let saved = draft.commit(manifest, sidecar);
            if saved.is_ok() {
                self.note_added(id, |all| *all = added);
            }
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
            Err(error) if error.is_conflict() => {
                self.compare_sidecar(id, chunks, error)?;
                self.note_added(id, |added| added.sidecar = true);
                Ok(())
            }
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
            Err(error) if error.is_conflict() => {
                let found = self.find_artifact(id, (operator, partition), &digest, error)?;
                self.note_added(id, |added| added.note(operator, partition, found));
            }
            saved => saved?,
        }
        Ok(digest)
    }

    fn note_added(&self, id: CheckpointId, note: impl FnOnce(&mut Added)) {
        let mut all = self.added.lock();
        note(all.entry(id).or_default());
        if all.len() > MOST_ADDED {
            all.pop_first();
        }
    }

    /// Aborts a checkpoint in the making; false if there is none.
    pub(crate) fn abort(&self, id: CheckpointId) -> bool {
        let _verb = self.verb();
        let Some(attempt) = self.open.lock().remove(&id) else { return false };
        attempt.write().take().is_some()
    }

    /// Aborts them all.
    pub(crate) fn clear(&self) {
        let _verb = self.verb();
        let open = std::mem::take(&mut *self.open.lock());
        for attempt in open.values() {
            drop(attempt.write().take());
        }
    }

    fn verb(&self) -> Verb {
        self.publisher.volume.observer().verb()
    }

    fn with_draft<T>(&self, id: CheckpointId, act: impl Fn(&Draft) -> Result<T>) -> Result<T> {
        let _verb = self.verb();
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
            // Whoever ended it takes it out, unless the disk panicked.
            let mut open = self.open.lock();
            if open.get(&id).is_some_and(|ended| Arc::ptr_eq(ended, &attempt)) {
                open.remove(&id);
            }
        }
    }

    fn attempt(&self, id: CheckpointId) -> Result<Arc<Attempt>> {
        let mut open = self.open.lock();
        if let Some(attempt) = open.get(&id) {
            return Ok(Arc::clone(attempt));
        }
        let draft = Draft { pending: self.publisher.begin(Some(id))?, staged: Mutex::default() };
        let attempt = Arc::new(RwLock::new(Some(draft)));
        open.insert(id, Arc::clone(&attempt));
        Ok(attempt)
    }

    /// Those below a committed one can never be committed, whoever committed it.
    pub(crate) fn drop_outdated(&self) {
        if let Some(newest) = self.publisher.registry.newest_committed() {
            self.drop_below(newest);
        }
    }

    fn drop_below(&self, id: CheckpointId) {
        let _verb = self.verb();
        let mut open = self.open.lock();
        let above = open.split_off(&id);
        let below = std::mem::replace(&mut *open, above);
        drop(open);
        // Outside of the lock: an abort removes files.
        drop(below);
    }

    /// Whether what is to be saved is there already, and can be used. What the manifest does not say itself was saved by
    /// other calls.
    fn compare(&self, manifest: &Manifest, sidecar: Option<&[&[u8]]>, conflict: Error) -> Result<()> {
        let id = manifest.id;
        let status = |_: &_| self.publisher.registry.status(id);
        let usable = |stored: &_| status(stored).is_none_or(|status| status.damage.is_none() && !status.rolled_back);
        let stored = self.load(id)?.filter(usable);
        let Some(Manifest { content: stored, .. }) = stored else { return Err(conflict) };
        let mut given = manifest.content.clone();
        given.vnode_count = given.vnode_count.or(stored.vnode_count);
        let given = self.publisher.name(id, given)?.content;
        if sidecar.is_none() && stored == given {
            return Ok(());
        }
        let mut added = self.added.lock().get(&id).cloned().unwrap_or_default();
        added.sidecar |= sidecar.is_some();
        if added.taken_out_of(stored) != added.taken_out_of(given) {
            return Err(conflict);
        }
        sidecar.map_or(Ok(()), |chunks| self.compare_sidecar(id, chunks, conflict))
    }

    fn compare_sidecar(&self, id: CheckpointId, chunks: &[&[u8]], conflict: Error) -> Result<()> {
        let Some(stored) = self.load(id)? else { return Err(conflict) };
        let same = self.publisher.open(stored).and_then(|checkpoint| {
            let Some(handle) = checkpoint.manifest().sidecar() else { return Ok(false) };
            let mut given = chunks.iter().copied().flatten();
            let same_bytes = checkpoint.read(handle)?.iter().all(|byte| given.next() == Some(byte));
            Ok(same_bytes && given.next().is_none())
        });
        match same {
            Ok(true) => Ok(()),
            Err(error) if !error.is_damage() && !error.is_not_found() => Err(error),
            _ => Err(conflict),
        }
    }

    /// Which artifact of a partition of a committed checkpoint has this digest: the snapshot, or the n-th delta.
    fn find_artifact(
        &self,
        id: CheckpointId,
        (operator, number): (&str, u32),
        digest: &Digest,
        conflict: Error,
    ) -> Result<Option<usize>> {
        let Some(stored) = self.load(id)? else { return Err(conflict) };
        let partition = stored.operator(operator).and_then(|operator| operator.partitions.get(&number));
        let is_it = |artifact: &Artifact| artifact.digest.as_ref() == Some(digest);
        let Some(partition) = partition else { return Err(conflict) };
        if partition.snapshot.as_ref().is_some_and(is_it) {
            return Ok(None);
        }
        let deltas = partition.deltas.iter().enumerate().filter(|(_, delta)| is_it(delta)).map(|(n, _)| n);
        // Several may have the same bytes: then each call stands for one.
        let added = self.added.lock();
        let noted = added.get(&id).and_then(|added| added.operators.get(operator)?.get(&number));
        let fresh = deltas.clone().find(|n| noted.is_none_or(|noted| !noted.deltas.contains(n)));
        fresh.or_else(|| deltas.clone().next()).map(Some).ok_or(conflict)
    }

    /// A checkpoint as it was published; `None` if its record is lost: then nothing can be compared.
    fn load(&self, id: CheckpointId) -> Result<Option<Manifest>> {
        self.publisher.journal.published(id).or_else(|error| if error.is_damage() { Ok(None) } else { Err(error) })
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
        let mut manifest = ManifestBuilder::from(manifest.content.clone());
        staged.merge_into(&mut manifest.content);
        Ok(pending.commit(manifest)?)
    }
}

impl Staged {
    /// What is here, which goes behind what a manifest names, unless the call that commits has the sidecar with it.
    fn added(&self, other_sidecar: bool, manifest: &ManifestContent) -> Added {
        let mut added = Added { sidecar: self.sidecar.is_some() && !other_sidecar, ..Added::default() };
        for (name, partitions) in &self.operators {
            for (number, partition) in partitions {
                let named = manifest.operators.get(&**name).and_then(|operator| operator.partitions.get(number));
                let before = named.map_or(0, |named| named.deltas.len());
                let deltas = (before..before + partition.deltas.len()).map(Some);
                let all = partition.snapshot.iter().map(|_| None).chain(deltas);
                all.for_each(|artifact| added.note(name, *number, artifact));
            }
        }
        added
    }

    fn add(&mut self, kind: ArtifactKind, (operator, partition): (&str, u32), artifact: Artifact) {
        let partition = self.operators.entry(operator.to_owned()).or_default().entry(partition).or_default();
        match kind {
            ArtifactKind::Snapshot => partition.snapshot = Some(artifact),
            ArtifactKind::Delta => partition.deltas.push(artifact),
        }
    }

    /// What was saved last counts: it replaces a snapshot or a sidecar that the manifest names, and deltas follow those
    /// that it names.
    fn merge_into(self, content: &mut ManifestContent) {
        content.sidecar = self.sidecar.or(content.sidecar.take());
        for (name, partitions) in self.operators {
            let mut operator =
                content.operators.remove(&*name).map_or_else(OperatorState::default, Arc::unwrap_or_clone);
            for (number, staged) in partitions {
                let named = operator.partitions.remove(&number);
                let mut partition = named.map_or_else(PartitionState::default, Arc::unwrap_or_clone);
                partition.snapshot = staged.snapshot.or(partition.snapshot.take());
                partition.deltas.extend(staged.deltas);
                operator.partitions.insert(number, Arc::new(partition));
            }
            content.operators.insert(name.into(), Arc::new(operator));
        }
    }
}

/// Writes chunks one after the other as one state.
fn write(pending: &PendingCheckpoint, scope: Scope, chunks: &[&[u8]]) -> Result<StateHandle> {
    let mut writer = pending.writer(scope)?;
    chunks.iter().try_for_each(|chunk| writer.write_all(chunk)).map_err(Error::from_writer)?;
    writer.finish()
}

impl Added {
    /// The snapshot of a partition was added, or its n-th delta.
    fn note(&mut self, operator: &str, partition: u32, artifact: Option<usize>) {
        let partition = self.operators.entry(operator.to_owned()).or_default().entry(partition).or_default();
        match artifact {
            None => partition.snapshot = true,
            Some(delta) => drop(partition.deltas.insert(delta)),
        }
    }

    /// The content without it, and without what is empty then.
    fn taken_out_of(&self, mut content: ManifestContent) -> ManifestContent {
        if self.sidecar {
            content.sidecar = None;
        }
        for (name, partitions) in &self.operators {
            let Some(operator) = content.operators.get_mut(&**name).map(Arc::make_mut) else { continue };
            for (number, added) in partitions {
                let Some(partition) = operator.partitions.get_mut(number).map(Arc::make_mut) else { continue };
                partition.snapshot = partition.snapshot.take().filter(|_| !added.snapshot);
                let deltas = std::mem::take(&mut partition.deltas).into_iter().enumerate();
                partition.deltas = deltas.filter(|(n, _)| !added.deltas.contains(n)).map(|(_, delta)| delta).collect();
                if partition.is_empty() {
                    operator.partitions.remove(number);
                }
            }
            if *operator == OperatorState::default() {
                content.operators.remove(&**name);
            }
        }
        content
    }
}
