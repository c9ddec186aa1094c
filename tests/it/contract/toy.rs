//! The contracts over a map in memory: that others can implement them, with the verbs that are made of others, and that the
//! kit asks for nothing that is `Store`'s alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use piton::{
    CheckpointId, Digest, Error, Manifest, PartitionState, Reclaimed, Result,
    contract::{ArtifactPath, ArtifactRole, CheckpointStore, Checkpointer},
};

#[derive(Default)]
pub(super) struct Toy(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    saved: BTreeMap<CheckpointId, Saved>,
    staged: BTreeMap<CheckpointId, Staged>,
    used: BTreeSet<CheckpointId>,
    highest: u64,
    rolled_back: Option<CheckpointId>,
}

struct Saved {
    first: Manifest,
    now: Manifest,
    staged: Staged,
}

#[derive(Clone, Default, PartialEq)]
struct Staged {
    sidecar: Option<Vec<u8>>,
    artifacts: BTreeMap<ArtifactPath, Vec<u8>>,
}

impl Inner {
    fn stage(&mut self, id: CheckpointId) -> Result<&mut Staged> {
        if self.saved.contains_key(&id) {
            return Err(Error::conflict("save", id));
        }
        if id.get() <= self.highest || (self.used.contains(&id) && !self.staged.contains_key(&id)) {
            return Err(Error::invalid("save", format!("{id} was used")));
        }
        self.used.insert(id);
        Ok(self.staged.entry(id).or_default())
    }

    fn save(&mut self, manifest: &Manifest, chunks: Option<&[&[u8]]>) -> Result<()> {
        let id = manifest.id();
        let sidecar = chunks.map(<[&[u8]]>::concat);
        if let Some(saved) = self.saved.get(&id) {
            let skipped = self.rolled_back.is_some_and(|latest| id > latest);
            let same = !skipped
                && same(&saved.first, manifest)
                && sidecar.is_none_or(|given| saved.staged.sidecar == Some(given));
            return if same { Ok(()) } else { Err(Error::conflict("save", id)) };
        }
        if manifest.epoch() == 0 {
            return Err(Error::invalid("save", "epoch 0"));
        }
        self.stage(id)?;
        let mut staged = self.staged.remove(&id).unwrap_or_default();
        staged.sidecar = sidecar.or(staged.sidecar);
        self.staged.retain(|staged, _| *staged > id);
        let now = with_artifacts(manifest, &staged);
        self.saved.insert(id, Saved { first: manifest.clone(), now, staged });
        self.highest = id.get();
        self.rolled_back = None;
        Ok(())
    }

    fn latest(&self) -> Option<CheckpointId> {
        self.rolled_back.or(self.saved.keys().next_back().copied())
    }

    fn artifact(&mut self, path: ArtifactPath, data: &[u8]) -> Result<String> {
        let digest = Digest::of(data).to_string();
        if let Some(saved) = self.saved.get(&path.id) {
            let there = saved.staged.artifacts.get(&path).is_some_and(|saved| saved == data);
            return if there { Ok(digest) } else { Err(Error::conflict("save", path.id)) };
        }
        self.stage(path.id)?.artifacts.insert(path, data.to_vec());
        Ok(digest)
    }
}

/// Equal but for what the caller left out.
fn same(a: &Manifest, b: &Manifest) -> bool {
    let shown = |manifest: &Manifest| {
        format!("{:?}", (manifest.epoch(), manifest.timestamp_ms(), manifest.watermark_ms(), manifest.sink_status()))
            + &format!("{:?}", manifest.all_metadata().collect::<Vec<_>>())
    };
    shown(a) == shown(b)
}

fn with_artifacts(manifest: &Manifest, staged: &Staged) -> Manifest {
    let mut content = Manifest::based_on(manifest).epoch(manifest.epoch()).timestamp_ms(manifest.timestamp_ms());
    content = content.kind(manifest.kind()).vnode_count(manifest.vnode_count());
    content = manifest.parent().into_iter().fold(content, piton::ManifestBuilder::parent);
    let mut partitions = BTreeMap::new();
    for (path, data) in &staged.artifacts {
        let named = || manifest.operator(&path.operator)?.partitions.get(&path.partition).cloned();
        let partition: &mut PartitionState = partitions
            .entry((path.operator.clone(), path.partition))
            .or_insert_with(|| named().map_or_else(PartitionState::default, Arc::unwrap_or_clone));
        let empty = "inline:#00000000".parse().unwrap();
        let artifact = piton::Artifact { handle: empty, digest: Some(Digest::of(data)) };
        match path.role {
            ArtifactRole::Snapshot => partition.snapshot = Some(artifact),
            ArtifactRole::Delta(_) => partition.deltas.push(artifact),
        }
    }
    let content = partitions.into_iter().fold(content, |c, ((operator, n), state)| c.partition(operator, n, state));
    content.build(manifest.id())
}

impl CheckpointStore for Toy {
    fn vnode_count(&self) -> u16 {
        256
    }

    fn next_id(&self) -> Result<CheckpointId> {
        let inner = self.0.lock().unwrap();
        Ok(inner.used.last().map_or(CheckpointId::FIRST, |last| last.next().unwrap()))
    }

    fn update_manifest(&self, manifest: &Manifest) -> Result<()> {
        let mut inner = self.0.lock().unwrap();
        let saved = inner.saved.get_mut(&manifest.id());
        let saved = saved.ok_or_else(|| Error::not_found("update", "there is no such checkpoint"))?;
        let changed =
            manifest.sink_status().iter().fold(saved.now.clone(), |m, (k, v)| m.with_sink_status(k, v.clone()));
        let gone: Vec<_> = saved.now.all_metadata().map(|(name, _)| name.to_owned()).collect();
        let changed = gone.into_iter().fold(changed, |m, name| m.with_metadata(name, None));
        let changed = manifest.all_metadata().fold(changed, |m, (k, v)| m.with_metadata(k, Some(v.to_vec())));
        if changed != *manifest {
            return Err(Error::invalid("update", "something else differs"));
        }
        saved.now = changed;
        Ok(())
    }

    fn load_latest(&self) -> Result<Option<Manifest>> {
        let inner = self.0.lock().unwrap();
        Ok(inner.latest().map(|id| inner.saved[&id].now.clone()))
    }

    fn load_by_id(&self, id: CheckpointId) -> Result<Option<Manifest>> {
        Ok(self.0.lock().unwrap().saved.get(&id).map(|saved| saved.now.clone()))
    }

    fn list_ids(&self) -> Result<Vec<CheckpointId>> {
        Ok(self.0.lock().unwrap().saved.keys().copied().collect())
    }

    fn prune(&self, keep: usize) -> Result<Reclaimed> {
        let mut inner = self.0.lock().unwrap();
        let gone = inner.saved.len().saturating_sub(keep.max(1));
        let mut report = Reclaimed::default();
        report.checkpoints = inner.saved.keys().copied().take(gone).collect();
        report.checkpoints.iter().for_each(|id| drop(inner.saved.remove(id)));
        Ok(report)
    }

    fn save_state_data(&self, id: CheckpointId, chunks: &[&[u8]]) -> Result<()> {
        let mut inner = self.0.lock().unwrap();
        if inner.saved.get(&id).is_some_and(|saved| saved.staged.sidecar == Some(chunks.concat())) {
            return Ok(());
        }
        inner.stage(id)?.sidecar = Some(chunks.concat());
        Ok(())
    }

    fn load_state_data(&self, id: CheckpointId) -> Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().saved.get(&id).and_then(|saved| saved.staged.sidecar.clone()))
    }

    fn save_with_state(&self, manifest: &Manifest, chunks: Option<&[&[u8]]>) -> Result<()> {
        self.0.lock().unwrap().save(manifest, chunks)
    }
}

impl Checkpointer for Toy {
    fn save_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.save(manifest)
    }

    fn load_manifest(&self, id: CheckpointId) -> Result<Manifest> {
        self.load_by_id(id)?.ok_or_else(|| Error::not_found("load", "there is no such checkpoint"))
    }

    fn save_snapshot(&self, id: CheckpointId, operator: &str, partition: u32, data: &[u8]) -> Result<String> {
        let path = ArtifactPath { id, operator: operator.to_owned(), partition, role: ArtifactRole::Snapshot };
        self.0.lock().unwrap().artifact(path, data)
    }

    fn save_delta(&self, id: CheckpointId, operator: &str, partition: u32, data: &[u8]) -> Result<String> {
        let mut inner = self.0.lock().unwrap();
        let delta = |n| ArtifactPath { id, operator: operator.to_owned(), partition, role: ArtifactRole::Delta(n) };
        let staged = inner.staged.get(&id);
        let taken = (1..usize::MAX)
            .take_while(|n| staged.is_some_and(|staged| staged.artifacts.contains_key(&delta(*n))))
            .count();
        inner.artifact(delta(taken + 1), data)
    }

    fn load_artifact(&self, path: &str) -> Result<Vec<u8>> {
        let path: ArtifactPath = path.parse()?;
        let inner = self.0.lock().unwrap();
        let artifact = inner.saved.get(&path.id).and_then(|saved| saved.staged.artifacts.get(&path));
        artifact.cloned().ok_or_else(|| Error::not_found("load", "there is no such artifact"))
    }

    fn update_latest(&self, id: CheckpointId) -> Result<()> {
        self.load_manifest(id)?;
        self.0.lock().unwrap().rolled_back = Some(id);
        Ok(())
    }

    fn read_latest(&self) -> Result<Option<CheckpointId>> {
        Ok(self.0.lock().unwrap().latest())
    }

    fn list_checkpoints(&self) -> Result<Vec<CheckpointId>> {
        self.list_ids()
    }

    fn delete_checkpoint(&self, id: CheckpointId) -> Result<()> {
        let mut inner = self.0.lock().unwrap();
        let gone = inner.staged.remove(&id).is_some() | inner.saved.remove(&id).is_some();
        if gone { Ok(()) } else { Err(Error::not_found("delete", "there is no such checkpoint")) }
    }
}
