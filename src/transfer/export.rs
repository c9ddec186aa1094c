//! A checkpoint as a store of its own, in another directory.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::files::{Needed, Transferred, by_file, bytes_of, progress_of, report};
use crate::{
    commit::sequence::Publisher,
    disk::{DirEntry, FileKind, layout, link::Way, publish::TempFile, root, this_process, volume::Volume},
    error::{Cause, Error, Result},
    format::{self, identity::Identity},
    id::{FileId, Scope, StoreId},
    manifest::{DataFile, Manifest, Origins},
    observe::Task,
    read::Checkpoint,
    records::{self, identity},
};

const OPERATION: &str = "export to";
/// What `mkfs` makes in the root of some file systems.
const LOST_AND_FOUND: &str = "lost+found";
/// For people; nothing reads it.
const MARK: &[u8] = b"This directory is an export that was not completed. Remove it, or export to it again.\n";

/// What [`Store::export`](crate::Store::export) made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exported {
    /// The directory, absolute.
    pub root: PathBuf,
    /// The id of the new store.
    pub id: StoreId,
    /// What became of each data file.
    pub files: Vec<Transferred>,
    /// How many bytes the small files have: the base of the manifest log, its copy, and the identity.
    pub overhead: u64,
}

impl Exported {
    /// How much of the medium the export takes that was free before: what its data files say, and the small files.
    #[must_use]
    pub fn space(&self) -> u64 {
        self.files.iter().fold(self.overhead, |sum, file| sum.saturating_add(file.space))
    }
}

/// A directory that is being made a store.
#[derive(Debug)]
struct Target {
    /// Locked.
    volume: Arc<Volume>,
}

pub(crate) fn export(publisher: &Publisher, checkpoint: &Checkpoint, root: PathBuf) -> Result<Exported> {
    let target = Target::claim(publisher.volume.elsewhere(root))?;
    let exported = target.mark().and_then(|()| target.fill(publisher, checkpoint));
    exported.inspect_err(|error| {
        if !error.is_indeterminate() {
            // What resists is removed by the next attempt.
            let _ = target.abandon();
        }
    })
}

impl Target {
    /// Step 2.
    fn claim(volume: Volume) -> Result<Self> {
        root::ensure(OPERATION, &volume)?;
        volume.open_root()?;
        // Before there is anything of ours in it.
        check_names(&volume)?;
        let lock = volume.lock(layout::LOCK, &this_process())?;
        volume.keep_lock(lock);
        volume.check_in_place(OPERATION)?;
        check_names(&volume)?;
        // By the lock the next attempt knows that a temporary file is ours, as long as there is no mark.
        volume.sync_dir("")?;
        let target = Self { volume: Arc::new(volume) };
        target.clear()?;
        Ok(target)
    }

    /// Removes what an interrupted export left, but for its mark.
    fn clear(&self) -> Result<()> {
        let volume = &self.volume;
        for dir in layout::DIRS {
            for entry in root::list_if_there(volume, dir)?.into_iter().filter(is_exported) {
                volume.remove(&Path::new(dir).join(entry.name))?;
            }
        }
        let is_left = |entry: &DirEntry| layout::is_temp(&entry.name) || entry.name == layout::DEPARTING;
        let temps = volume.list("")?.into_iter().filter(is_left);
        temps.map(|entry| entry.name).try_for_each(|name| volume.remove(name.as_ref()))
    }

    /// Takes everything back. The mark goes last, when what it stands for is gone for good; where it stays the next attempt
    /// knows what this is.
    fn abandon(&self) -> Result<()> {
        self.clear()?;
        layout::DIRS.iter().try_for_each(|dir| self.volume.remove_dir(dir))?;
        for dir in layout::DIRS {
            if self.volume.metadata(dir)?.is_some() {
                return Ok(());
            }
        }
        self.volume.remove(layout::READERS.as_ref())?;
        self.volume.sync_dir("")?;
        self.volume.remove(layout::PARTIAL.as_ref())
    }

    /// Step 3.
    fn mark(&self) -> Result<()> {
        if self.volume.metadata(layout::PARTIAL)?.is_none() {
            TempFile::write(&self.volume, Path::new(""), MARK)?.publish(layout::PARTIAL.as_ref())?;
        }
        self.volume.sync_dir("")?;
        self.volume.sync_above_root()
    }

    /// Steps 4 to 7.
    fn fill(&self, publisher: &Publisher, checkpoint: &Checkpoint) -> Result<Exported> {
        let volume = &self.volume;
        root::make_dirs(volume)?;
        root::ensure_readers(volume)?;
        let manifest = checkpoint.manifest();
        let needed = by_file(manifest.all_states().map(|state| state.handle));
        publisher.write.seal_files(&needed.keys().copied().collect());
        needed.keys().try_for_each(|file| publisher.write.waiting.sync_file(*file))?;
        let (mut files, mut progress) = (Vec::new(), progress_of(Task::Export, &needed));
        for (file, extents) in &needed {
            let data = manifest.data_file(*file);
            let from = Needed { volume: &publisher.volume, data: &data, extents };
            from.check()?;
            let name = layout::segment(*file);
            // A file that a member appends to is copied as it is now.
            let may_link = !publisher.may_be_appended_to(*file)?;
            let way = from.place(volume, &name, || may_link.then(|| publisher.registry.lock_linking()))?;
            if way == Way::Linked && !is_synced(publisher, &data) {
                volume.open(&name)?.sync()?;
            }
            files.push(report(volume, &name, way)?);
            progress.done(bytes_of(extents));
            publisher.volume.observer().progress(progress);
        }
        [Scope::Shared, Scope::Exclusive].iter().try_for_each(|scope| volume.sync_dir(layout::scope_dir(*scope)))?;
        let exported = of_its_own(manifest, needed.keys())?;
        let log_len = records::write_export(volume, &exported, publisher.journal.generation())?;
        let identity = Identity { store: exported.store, generation: publisher.journal.generation() };
        // From the rename on nothing may be removed any more: a failure leaves the outcome unknown. Whoever has taken the
        // source over before may have punched holes into what was just being linked; who does so later sees two names.
        identity::write(volume, &identity, || {
            publisher.journal.check_not_fenced(OPERATION)?;
            volume.check_in_place(OPERATION)
        })?;
        // It means nothing any more, and the next open for writing removes it.
        let _ = volume.remove(layout::PARTIAL.as_ref());
        let overhead = log_len + format::identity::LEN as u64;
        Ok(Exported { root: volume.root().to_owned(), id: exported.store, files, overhead })
    }
}

/// Whether the states of a file are durable: a commit has synced them, or this export. An earlier opening of the store may
/// have synced nothing.
fn is_synced(publisher: &Publisher, data: &DataFile) -> bool {
    let now = (publisher.journal.store(), publisher.journal.generation());
    publisher.volume.syncs() && (data.store, data.written_as.generation) == now
}

/// What may be in a directory that is to become an export: nothing, or what an interrupted one left there.
fn check_names(volume: &Volume) -> Result<()> {
    let refuse = |why: String| Err(Error::at(OPERATION, volume.root(), Cause::Invalid(why)));
    let entries = volume.list("")?;
    let is = |entry: &DirEntry, name: &str| entry.name == name;
    if entries.iter().any(|entry| is(entry, layout::IDENTITY)) {
        return refuse("there is a store already; export to an empty directory".to_owned());
    }
    if is_part_of_a_store(volume)? {
        return refuse("it is a part of a store; export to a directory of its own".to_owned());
    }
    let partial = entries.iter().any(|entry| is(entry, layout::PARTIAL));
    let begun = partial || entries.iter().any(|entry| is(entry, layout::LOCK));
    for entry in &entries {
        let dir = layout::DIRS.iter().find(|dir| is(entry, dir));
        let temp = begun && layout::is_temp(&entry.name);
        let marks = [layout::LOCK, layout::READERS, layout::PARTIAL, layout::DEPARTING];
        let ours = marks.iter().any(|name| is(entry, name)) || temp;
        if entry.name == LOST_AND_FOUND && entry.metadata.kind == FileKind::Dir {
            // A fresh volume has it, and it is the file system's.
            continue;
        }
        if !(ours || partial && dir.is_some() && entry.metadata.kind == FileKind::Dir) {
            let name = Path::new(&entry.name).display();
            return refuse(format!("{name:?} is there, which no export has made; export to an empty directory"));
        }
        for file in dir.map_or(Ok(Vec::new()), |dir| volume.list(dir))? {
            if !is_exported(&file) {
                let name = Path::new(&entry.name).join(&file.name);
                return refuse(format!(
                    "{:?} is there, which no export has made; remove the directory",
                    name.display()
                ));
            }
        }
    }
    Ok(())
}

/// Whether this is one of the directories of a store.
fn is_part_of_a_store(volume: &Volume) -> Result<bool> {
    let name = volume.root().file_name();
    let Some(parent) = volume.root().parent().filter(|_| layout::DIRS.iter().any(|dir| name == Some(dir.as_ref())))
    else {
        return Ok(false);
    };
    Ok(volume.metadata(parent.join(layout::IDENTITY))?.is_some())
}

/// Whether an export makes such names in one of its directories.
fn is_exported(entry: &DirEntry) -> bool {
    entry.metadata.kind == FileKind::File && layout::is_ours(&entry.name)
}

/// The same checkpoint, as that of a new store: its files have the same names there, and all of them come from elsewhere.
fn of_its_own<'a>(manifest: &Manifest, files: impl Iterator<Item = &'a FileId>) -> Result<Manifest> {
    let store = identity::fresh_id()?;
    let origins: Origins = files.map(|file| (*file, manifest.data_file(*file).as_origin())).collect::<BTreeMap<_, _>>();
    Ok(Manifest { store, origins, ..manifest.clone() })
}
