//! Every name in the store, sorted into ours, temporary and foreign.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::{
    disk::{DirEntry, FileKind, Metadata, layout, volume::Volume},
    error::Result,
    id::{FileId, Scope},
};

#[derive(Debug, Default)]
pub(super) struct Found {
    /// With their lengths, and what they take.
    pub(super) segments: HashMap<FileId, Metadata>,
    pub(super) temps: Vec<PathBuf>,
    pub(super) foreign: Vec<PathBuf>,
    /// By generation and number.
    pub(super) members: Vec<(u64, u32)>,
}

impl Found {
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
            let member = layout::parse_member(&entry.name);
            found.sort(root, &entry, |found| {
                found.members.extend(member);
                own || member.is_some()
            });
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
        // Whatever has such a name: one that is no regular file is one that cannot be read.
        if !layout::is_of_log(&entry.name) {
            found.sort(dir, &entry, |_| false);
        }
    }
    found.foreign.sort_unstable();
    Ok(found)
}
