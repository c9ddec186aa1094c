//! Every name in the store, sorted into ours, temporary and foreign.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use crate::{
    disk::{DirEntry, FileKind, Metadata, layout, volume::Volume},
    error::Result,
    id::{CheckpointId, FileId, Scope},
};

#[derive(Debug, Default)]
pub(super) struct Found {
    /// With what is under their names: a manifest that is no regular file is one that cannot be read.
    pub(super) manifests: BTreeMap<CheckpointId, FileKind>,
    /// With the lengths of the files.
    pub(super) updates: BTreeMap<CheckpointId, u64>,
    /// Which store is to go because a checkpoint was taken over from it.
    pub(super) sources: BTreeMap<CheckpointId, u64>,
    /// With their lengths, and what they take.
    pub(super) segments: HashMap<FileId, Metadata>,
    pub(super) temps: Vec<PathBuf>,
    pub(super) foreign: Vec<PathBuf>,
}

impl Found {
    /// Whether anything was ever committed or written here.
    pub(super) fn is_empty(&self) -> bool {
        self.manifests.is_empty() && self.segments.is_empty()
    }

    /// The updates of checkpoints that are not there, with their lengths.
    pub(super) fn stray_updates(&self) -> impl Iterator<Item = (CheckpointId, u64)> {
        self.updates.iter().filter(|(id, _)| !self.manifests.contains_key(*id)).map(|(id, len)| (*id, *len))
    }

    fn sort(&mut self, dir: &Path, entry: &DirEntry, ours: impl FnOnce(&mut Self) -> bool) {
        let is_file = entry.metadata.kind == FileKind::File;
        let is_mark = [layout::PARTIAL, layout::DEPARTING].iter().any(|mark| entry.name == *mark);
        let is_temp = layout::is_temp(&entry.name) || dir.as_os_str().is_empty() && is_mark;
        if is_file && is_temp {
            self.temps.push(dir.join(&entry.name));
        } else if !(is_file && ours(self)) {
            self.foreign.push(dir.join(&entry.name));
        }
    }
}

pub(super) fn scan(volume: &Volume) -> Result<Found> {
    let mut found = Found::default();
    let root = Path::new("");
    for entry in volume.list(root)? {
        let own =
            [layout::IDENTITY, layout::LOCK, layout::READERS, layout::SPARE].iter().any(|name| entry.name == *name);
        let dir = layout::DIRS.iter().any(|name| entry.name == *name) && entry.metadata.kind == FileKind::Dir;
        if !dir {
            found.sort(root, &entry, |_| own);
        }
    }
    for scope in [Scope::Shared, Scope::Exclusive] {
        let dir = layout::scope_dir(scope);
        for entry in volume.list(dir)? {
            let file = layout::parse_segment(scope, &entry.name);
            found.sort(dir, &entry, |found| {
                found.segments.extend(file.map(|file| (file, entry.metadata)));
                file.is_some()
            });
        }
    }
    let dir = Path::new(layout::MANIFESTS);
    for entry in volume.list(dir)? {
        // Whatever has the name: while it is no manifest, it is unknown what the checkpoint refers to.
        if let Some(id) = layout::parse_manifest(&entry.name) {
            found.manifests.insert(id, entry.metadata.kind);
            continue;
        }
        let (update, source) = (layout::parse_update(&entry.name), layout::parse_source(&entry.name));
        found.sort(dir, &entry, |found| {
            found.updates.extend(update.map(|id| (id, entry.metadata.len)));
            found.sources.extend(source.map(|id| (id, entry.metadata.len)));
            update.is_some() || source.is_some()
        });
    }
    found.foreign.sort_unstable();
    Ok(found)
}
