//! What nobody needs, while the store is open.

use std::path::PathBuf;

use super::scan::scan;
use crate::{
    disk::{layout, volume::Volume},
    error::{Error, Result},
    id::{FileId, Scope},
    part::Membership,
    reclaim::{registry::Registry, sweep::Maintained},
    records::Journal,
};

const OPERATION: &str = "clean up";

/// Files that only this store can have made and that nobody refers to: see
/// [`Store::cleanup_orphans`](crate::Store::cleanup_orphans).
#[must_use = "it says what could not be done"]
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Orphans {
    /// Their names, relative to the root, and how many bytes they have.
    pub files: Vec<(PathBuf, u64)>,
    /// How many bytes they have together.
    pub bytes: u64,
    /// Whether they were removed, but for those that are named by a failure.
    pub removed: bool,
    /// What could not be removed; it is tried again.
    pub failures: Vec<Error>,
    /// Why data files were not looked for: a record is lost, and may have named any of them. `None` if they were.
    pub skipped: Option<Error>,
}

impl Orphans {
    fn add(&mut self, name: PathBuf, len: u64) {
        self.bytes = self.bytes.saturating_add(len);
        self.files.push((name, len));
    }
}

/// Closes the files of a member that was dismissed, and deletes those that nothing refers to.
pub(crate) fn clean_up_after(volume: &Volume, registry: &Registry, membership: &Membership) -> Result<Orphans> {
    let mut orphans = Orphans { removed: true, ..Orphans::default() };
    for scope in [Scope::Shared, Scope::Exclusive] {
        for entry in volume.list(layout::scope_dir(scope))? {
            if let Some(file) = layout::parse_segment(scope, &entry.name).filter(|file| membership.has_written(*file)) {
                if !registry.knows(file) {
                    orphans.add(layout::segment(file), entry.metadata.len);
                }
                registry.close_for(file, entry.metadata.len);
            }
        }
    }
    orphans.failures.extend(registry.remove_dead().failures);
    orphans.files.sort_unstable();
    Ok(orphans)
}

/// Finds orphans, and removes them unless it is only to tell.
///
/// A writer's files are known before they are there, and its temporary files are its own until it ends: those that are
/// left of other processes were removed, or noted as leftovers, when the store was opened.
pub(crate) fn cleanup(volume: &Volume, journal: &Journal, registry: &Registry, dry_run: bool) -> Result<Orphans> {
    volume.check_writable(OPERATION)?;
    journal.check_not_fenced(OPERATION)?;
    let mut orphans = Orphans { skipped: registry.unknown(), ..Orphans::default() };
    // Held, so that no checkpoint is published meanwhile.
    let turn = journal.turn();
    let found = scan(volume)?;
    let leftovers = volume.leftovers();
    for name in leftovers {
        let len = volume.metadata(&name)?.map_or(0, |found| found.len);
        orphans.add(name, len);
    }
    let ours = |generation| generation <= journal.generation();
    let unknown = found.segments.iter().filter(|(file, _)| orphans.skipped.is_none() && ours(file.generation));
    // A part that is still on its way may have states in a file of its member.
    let is_orphan = |file: FileId, len| registry.is_orphan(file, len, !dry_run);
    let dead: Vec<_> =
        unknown.filter(|(file, at)| is_orphan(**file, at.len)).map(|(file, at)| (*file, at.len)).collect();
    for (file, len) in &dead {
        orphans.add(layout::segment(*file), *len);
    }
    if !dry_run {
        drop(turn);
        orphans.failures.extend(volume.retry_leftovers());
        let Maintained { failures, .. } = registry.remove_dead();
        orphans.failures.extend(failures);
        orphans.removed = true;
    }
    orphans.files.sort_unstable();
    Ok(orphans)
}
