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

    fn sort(&mut self, dir: &Path, entry: &DirEntry, ours: impl FnOnce(&mut Self) -> bool) {
        let is_file = entry.metadata.kind == FileKind::File;
        if is_file && layout::is_temp(&entry.name) {
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
        let own = [layout::IDENTITY, layout::LOCK].iter().any(|name| entry.name == *name);
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
        match layout::parse_manifest(&entry.name) {
            Some(id) => found.manifests.extend([(id, entry.metadata.kind)]),
            None => found.sort(dir, &entry, |_| false),
        }
    }
    found.foreign.sort_unstable();
    Ok(found)
}
