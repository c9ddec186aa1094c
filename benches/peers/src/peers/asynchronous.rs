//! Stores with async interfaces, on a runtime of one thread.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use laminar_storage::{CheckpointManifest, CheckpointStore as _, FileSystemCheckpointStore, OperatorCheckpoint};
use object_store::{ObjectStoreExt as _, local::LocalFileSystem, path::Path as Key};
use tokio::runtime::Runtime;

use super::FEW;
use crate::{
    Result,
    peer::{Kind, Peer, touch},
    workload::{Changes, Workload},
};

/// Each checkpoint has all states, in one file beside its manifest.
pub const LAMINAR: Kind =
    Kind { name: "laminar-storage", keeps: "3", most_states: FEW, verifies: "SHA-256", open: open_laminar };
/// An object for each new state, and one with the names of all.
pub const OBJECT_STORE: Kind =
    Kind { name: "object_store", keeps: "3", most_states: FEW, verifies: "nothing", open: open_object_store };

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

struct Laminar {
    runtime: Runtime,
    store: FileSystemCheckpointStore,
    id: u64,
    /// It knows of no earlier checkpoint: whoever uses it has all states.
    states: BTreeMap<usize, Bytes>,
}

fn open_laminar(dir: &Path, _: &Workload) -> Result<Box<dyn Peer>> {
    let store = FileSystemCheckpointStore::new(dir, 3);
    Ok(Box::new(Laminar { runtime: runtime()?, store, id: 0, states: BTreeMap::new() }))
}

impl Peer for Laminar {
    fn checkpoint(&mut self, changes: &Changes) -> Result<()> {
        self.id += 1;
        let changed = changes.each().map(|(number, _, bytes)| (number, Bytes::copy_from_slice(bytes)));
        self.states.extend(changed);
        let mut manifest = CheckpointManifest::new(self.id, self.id);
        let mut offset = 0;
        for (number, bytes) in &self.states {
            let len = bytes.len() as u64;
            manifest.operator_states.insert(format!("state-{number:08}"), OperatorCheckpoint::external(offset, len));
            offset += len;
        }
        let chunks: Vec<_> = self.states.values().cloned().collect();
        Ok(self.runtime.block_on(self.store.save_with_state(&manifest, Some(&chunks)))?)
    }

    fn read_all(&mut self) -> Result<u64> {
        let recovered = self.runtime.block_on(self.store.recover_latest_validated())?;
        let id = recovered.chosen_id.ok_or("there is no checkpoint")?;
        let data = self.runtime.block_on(self.store.load_state_data(id))?;
        Ok(touch(&data.ok_or("the checkpoint has no states")?))
    }
}

struct Objects {
    runtime: Runtime,
    store: Arc<LocalFileSystem>,
    round: u64,
    /// The object of each state.
    objects: Vec<String>,
    /// What was replaced by each of the last checkpoints.
    replaced: VecDeque<Vec<String>>,
}

fn open_object_store(dir: &Path, workload: &Workload) -> Result<Box<dyn Peer>> {
    let store = Arc::new(LocalFileSystem::new_with_prefix(dir)?.with_fsync(true));
    let runtime = runtime()?;
    let manifest = runtime.block_on(async { store.get(&Key::from("manifest")).await?.bytes().await });
    let manifest = manifest.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let mut objects: Vec<_> = manifest.lines().map(str::to_owned).collect();
    objects.resize(workload.states, String::new());
    Ok(Box::new(Objects { runtime, store, round: 0, objects, replaced: VecDeque::new() }))
}

impl Peer for Objects {
    fn checkpoint(&mut self, changes: &Changes) -> Result<()> {
        self.round += 1;
        let Self { runtime, store, round, objects, replaced } = self;
        runtime.block_on(async {
            let mut old = Vec::new();
            for (number, name, bytes) in changes.each() {
                let name = format!("{name}.{round}");
                store.put(&Key::from(name.as_str()), Bytes::copy_from_slice(bytes).into()).await?;
                old.push(std::mem::replace(&mut objects[number], name));
            }
            store.put(&Key::from("manifest"), objects.join("\n").into()).await?;
            replaced.push_back(old);
            if replaced.len() > 2 {
                for name in replaced.pop_front().into_iter().flatten().filter(|name| !name.is_empty()) {
                    store.delete(&Key::from(name)).await?;
                }
            }
            Ok(())
        })
    }

    fn read_all(&mut self) -> Result<u64> {
        let Self { runtime, store, objects, .. } = self;
        runtime.block_on(async {
            let mut read = 0;
            for name in objects.iter() {
                read += touch(&store.get(&Key::from(name.as_str())).await?.bytes().await?);
            }
            Ok(read)
        })
    }
}
