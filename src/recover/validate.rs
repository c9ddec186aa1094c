//! Which checkpoints are whole, and what each of them refers to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use super::{redo::Unwritten, scan::Found};
use crate::{
    accounts::retention::Facts,
    disk::{FileKind, Metadata, layout, volume::Volume},
    error::{Error, Malformed, Result},
    format::segment::entry_end,
    handle::Extent,
    id::FileId,
    manifest::{Lender, Manifest, ManifestContent},
    observe::{Progress, Task},
    reclaim::registry::Registry,
    records::{History, unreadable},
};

/// Enters every checkpoint into the registry, in the order in which they were published, damaged ones with their damage.
/// Returns the first reason for which it is unknown what a checkpoint refers to. What merely cannot be looked at now is no
/// damage: then the open fails.
pub(super) fn enter_all(
    volume: &Volume,
    found: &Found,
    history: &History,
    registry: &Registry,
    unwritten: &BTreeMap<FileId, Unwritten>,
) -> Result<Option<Error>> {
    let (mut unknown, mut files, mut whole) = (None, Files::of(&found.segments, unwritten), None);
    let mut progress = Progress::new(Task::CheckFiles, history.kept().count(), 0);
    for kept in history.kept() {
        let (id, pinned) = (kept.id, kept.marks.pinned);
        match history.manifest(kept) {
            Ok(manifest) => {
                files.look_at_lent(volume, &manifest);
                let damage = match without_epoch(volume, &manifest) {
                    Some(damage) => Some(damage),
                    None => files.find_missing(volume, &manifest, whole.as_ref())?,
                };
                // What is lent may be another's by now, whatever it was for an earlier checkpoint.
                let is_whole = damage.is_none() && manifest.origins.values().all(|origin| origin.lent.is_none());
                whole = is_whole.then(|| manifest.content.clone());
                let facts = Facts { pinned, ..Facts::of(&manifest) };
                registry.enter(&manifest, facts, |file| files.get(file), &files.unseen, damage)?;
            }
            Err(why) => {
                let error = unreadable(volume, why);
                registry.enter_unknown(id, Facts { pinned, ..Facts::default() }, error.clone());
                unknown.get_or_insert(error);
            }
        }
        progress.done(0);
        volume.observer().progress(progress);
    }
    registry.unpin_lenders();
    Ok(unknown)
}

/// No checkpoint is committed without.
fn without_epoch(volume: &Volume, manifest: &Manifest) -> Option<Error> {
    let what = format!("the epoch of checkpoint {} is 0", manifest.id);
    (manifest.epoch() == 0).then(|| Malformed::new(0, what).at("check", &volume.path(layout::MANIFESTS)))
}

/// The states that are not those of an older checkpoint, or all.
fn extents(content: &ManifestContent, older: Option<&ManifestContent>) -> Vec<Extent> {
    let mut extents = Vec::new();
    content.each_added(older, |extent| extents.push(extent));
    extents
}

fn data_file(manifest: &Manifest, file: FileId) -> PathBuf {
    layout::data_file(file, manifest.data_file(file).lent())
}

/// What is known of the files that manifests name.
struct Files<'a> {
    ours: &'a HashMap<FileId, Metadata>,
    /// Files that were looked at one by one: borrowed ones, and those that needed a second look.
    looked_at: HashMap<FileId, Option<Metadata>>,
    /// Lenders of the last manifest with a borrowed file that cannot be looked at now. The file counts as missing, and the open
    /// goes on.
    unseen: BTreeSet<Lender>,
    /// States that the log has and that could not be written again.
    unwritten: &'a BTreeMap<FileId, Unwritten>,
}

impl<'a> Files<'a> {
    fn of(ours: &'a HashMap<FileId, Metadata>, unwritten: &'a BTreeMap<FileId, Unwritten>) -> Self {
        Self { ours, looked_at: HashMap::new(), unseen: BTreeSet::new(), unwritten }
    }

    fn look_at_lent(&mut self, volume: &Volume, manifest: &Manifest) {
        self.unseen.clear();
        for (file, origin) in &manifest.origins {
            let Some(lent) = &origin.lent else { continue };
            let found = volume.metadata(data_file(manifest, *file));
            if found.is_err() {
                self.unseen.insert((*lent.by).clone());
            }
            self.looked_at.insert(*file, found.ok().flatten().filter(|found| found.kind == FileKind::File));
        }
    }

    fn get(&self, file: FileId) -> Option<Metadata> {
        self.looked_at.get(&file).copied().unwrap_or_else(|| self.ours.get(&file).copied())
    }

    /// Finds the first file that is missing, or too short for the states that the manifest has in it. A directory listing is
    /// not trusted alone: a second look opens the file, and its length counts. What an older checkpoint has as well, of which
    /// nothing is missing, is there.
    fn find_missing(
        &mut self,
        volume: &Volume,
        manifest: &Manifest,
        whole: Option<&ManifestContent>,
    ) -> Result<Option<Error>> {
        for in_one in extents(&manifest.content, whole).chunk_by(|one, other| one.file == other.file) {
            let ends = in_one.iter().map(|extent| (entry_end(extent.offset, extent.len), extent.file));
            let Some((end, file)) = ends.max() else { continue };
            let unwritten = self.unwritten.get(&file);
            if let Some(Unwritten { why_not, .. }) =
                unwritten.filter(|of| in_one.iter().any(|one| one.offset >= of.from))
            {
                return Ok(Some(why_not.clone()));
            }
            if self.get(file).is_some_and(|file| file.len >= end) {
                continue;
            }
            let (data, name) = (manifest.data_file(file), data_file(manifest, file));
            let reaches = volume.open(&name).and_then(|file| file.check_reaches(end));
            let Err(error) = reaches.and_then(|()| self.look_again(volume, &name, file, end)) else { continue };
            let missing = || Malformed::new(0, "the data file is missing").at("check", &volume.path(&name));
            let error = data.blame(if error.is_not_found() { missing() } else { error });
            // No error of a borrowed file is a reason not to open the store.
            return if error.is_damage() || data.lent.is_some() { Ok(Some(error)) } else { Err(error) };
        }
        Ok(None)
    }

    /// Replaces what the listing said of a file that reaches at least to `end`.
    fn look_again(&mut self, volume: &Volume, name: &Path, file: FileId, end: u64) -> Result<()> {
        let found = volume.metadata(name)?.filter(|found| found.kind == FileKind::File);
        self.looked_at.insert(file, found.map(|found| Metadata { len: found.len.max(end), ..found }));
        Ok(())
    }
}
