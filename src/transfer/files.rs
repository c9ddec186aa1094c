//! One data file on its way to another directory.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{
        file::VolumeFile,
        layout,
        link::{self, Original, Way},
        volume::Volume,
    },
    error::{Error, Malformed, Result},
    format::segment::{HEADER_LEN, entry_end},
    handle::{Extent, FileRef, StateHandle},
    id::FileId,
    manifest::DataFile,
    observe::{Progress, Task},
    read::OpenSegment,
};

/// What became of one data file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transferred {
    /// Where it is now.
    pub path: PathBuf,
    /// How it came there.
    pub way: Way,
    /// How many bytes the file has.
    pub len: u64,
    /// How much of the medium it takes that was free before: nothing, unless it was copied.
    pub space: u64,
}

/// The progress before the first of these files. Bytes are those of the states in them.
pub(super) fn progress_of(task: Task, files: &BTreeMap<FileId, Vec<Extent>>) -> Progress {
    let all_bytes = files.values().fold(0, |sum: u64, extents| sum.saturating_add(bytes_of(extents)));
    Progress::new(task, files.len(), all_bytes)
}

pub(super) fn bytes_of(extents: &[Extent]) -> u64 {
    extents.iter().fold(0, |sum, extent| sum.saturating_add(extent.len))
}

/// The files of these states, with the states in the order of their offsets, each once.
pub(super) fn by_file<'a>(handles: impl Iterator<Item = &'a StateHandle>) -> BTreeMap<FileId, Vec<Extent>> {
    let mut files: BTreeMap<FileId, Vec<Extent>> = BTreeMap::new();
    let mut extents = handles.filter_map(StateHandle::extent).peekable();
    // Mostly they come file by file.
    while let Some(first) = extents.next() {
        let of_it = files.entry(first.file).or_default();
        of_it.push(first);
        while let Some(extent) = extents.next_if(|extent| extent.file == first.file) {
            of_it.push(extent);
        }
    }
    for extents in files.values_mut() {
        extents.sort_unstable_by_key(|extent| (extent.offset, extent.len, extent.crc));
        extents.dedup();
    }
    files
}

/// The same state in the copy of its file, if that has one.
pub(super) fn moved(handle: &StateHandle, copies: &BTreeMap<FileId, Arc<FileRef>>) -> StateHandle {
    let copy = handle.extent().and_then(|extent| Some((copies.get(&extent.file)?, extent)));
    copy.map_or_else(|| handle.clone(), |(file, extent)| StateHandle::in_file(file, &extent))
}

/// What of a file these states need: its header, and each with its trailer.
fn ranges(extents: &[Extent]) -> Vec<Range<u64>> {
    let entries = extents.iter().map(|extent| extent.offset..entry_end(extent.offset, extent.len));
    std::iter::once(0..HEADER_LEN).chain(entries).collect()
}

/// A data file, where it is, and the states of it that are needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needed<'a> {
    pub(super) volume: &'a Volume,
    pub(super) data: &'a DataFile,
    pub(super) extents: &'a [Extent],
}

impl Needed<'_> {
    fn name(&self) -> PathBuf {
        layout::data_file(self.data.id, self.data.lent())
    }

    /// Gives the file another name on the same disk; false if that cannot be done here, or must not: what is lent may still
    /// be appended to by its owner.
    pub(super) fn link(&self, to: &Volume, name: &Path) -> Result<bool> {
        if self.data.lent.is_some() {
            return Ok(false);
        }
        let linked = link::link(self.volume, &self.name(), to, name);
        // It is the file that is missing, and not the directory.
        linked.map_err(|error| if error.is_not_found() { self.check().err().unwrap_or(error) } else { error })
    }

    /// Puts the file under another name. What `lock` gives is held while it is linked; without it is not.
    pub(super) fn place<L>(&self, to: &Arc<Volume>, name: &Path, lock: impl FnOnce() -> Option<L>) -> Result<Way> {
        let (original, ranges) = (self.name(), ranges(self.extents));
        let from = Original { volume: self.volume, name: &original, ranges: &ranges };
        let lock = || if self.data.lent.is_some() { None } else { lock() };
        let placed = link::place(from, to, name, lock, |copy| {
            let check = |file: &VolumeFile| OpenSegment::check_copy(file, self.data, self.extents);
            // The copy is no better than the original: that is the one to be named.
            check(copy).map_err(|error| {
                let original = self.volume.open(&original).and_then(|file| check(&file)).err();
                original.map_or(error, |error| self.data.blame(error))
            })
        });
        // It may have gone, or been cut, since it was looked at.
        let may_be_gone = |error: &Error| error.is_not_found() || error.is_corrupt();
        placed.map_err(|error| if may_be_gone(&error) { self.check().err().unwrap_or(error) } else { error })
    }

    /// The file must be the one that it should be, and as long as the states need.
    pub(super) fn check(&self) -> Result<u64> {
        self.look().map_err(|error| self.data.blame(error))
    }

    fn look(&self) -> Result<u64> {
        let name = self.name();
        let missing = || Malformed::new(0, "the data file is missing").at("check", &self.volume.path(&name));
        let file = self.volume.open(&name).map_err(|error| if error.is_not_found() { missing() } else { error })?;
        let same_place = self.extents.array_windows().find(|[one, other]| one.offset == other.offset);
        if let Some([_, other]) = same_place {
            let what = "two different states are said to be here";
            return Err(Malformed::new(other.offset, what).at("check", file.path()));
        }
        OpenSegment::check_copy(&file, self.data, &[])?;
        let (len, end) = (file.len()?, self.extents.iter().map(|extent| entry_end(extent.offset, extent.len)).max());
        if end.is_some_and(|end| len < end) {
            return Err(Malformed::new(len, "the file ends here").at("check", file.path()));
        }
        Ok(len)
    }
}

/// What a file is and takes that was just put under this name.
pub(super) fn report(volume: &Volume, name: &Path, way: Way) -> Result<Transferred> {
    let found = volume.metadata(name)?;
    let space = found.filter(|_| way == Way::Copied).map_or(0, |found| found.allocated);
    Ok(Transferred { path: volume.path(name), way, len: found.map_or(0, |found| found.len), space })
}
