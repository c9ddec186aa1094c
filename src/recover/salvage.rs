//! What is in a segment, without any manifest.

use std::{path::Path, sync::Arc};

use crate::{
    disk::{Disk, file::VolumeFile, volume::Volume},
    error::{Error, Result},
    format::segment::{Entry, HEADER_LEN, TRAILER_LEN, decode_header, entries, entry_end, tag},
    handle::StateHandle,
    id::{CheckpointId, FileId, StoreId},
};

/// How much of a file is looked at a time.
const WINDOW: u64 = 256 * 1024;

/// A whole state in a segment: [`list_segment`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentEntry {
    /// The handle that the state had when it was written, with its length and checksum.
    pub handle: StateHandle,
    /// The checkpoint it was written for. Whether that was ever committed is not known here.
    pub checkpoint: CheckpointId,
    /// Where its bytes begin in the file.
    pub offset: u64,
}

/// Lists every whole state in a data file (`*.seg`), in the order of the file, without any manifest: for looking into
/// a store, and for saving what can be saved when manifests are lost.
///
/// States that nobody refers to any more are listed as well, unless a hole was punched where they were. What is torn or
/// damaged is passed over. The whole file is read, a piece at a time.
///
/// # Errors
///
/// `is_corrupt` if the header is damaged: nobody knows then which file it is. `is_not_found`, `is_newer_format`, errors of
/// the file system.
///
/// # Examples
///
/// ```
/// use piton::{Manifest, Options, Scope, disk::OsDisk, list_segment};
///
/// let dir = tempfile::tempdir()?;
/// let store = Options::new().open(dir.path())?;
/// let pending = store.begin_next()?;
/// let first = pending.write(Scope::Shared, &[1; 5000])?;
/// let second = pending.write(Scope::Shared, &[2; 3000])?;
/// let manifest = Manifest::builder().state("first", first.clone()).state("second", second.clone());
/// pending.commit(manifest)?;
///
/// let file = std::fs::read_dir(dir.path().join("shared"))?.next().unwrap()?.path();
/// let found: Vec<_> = list_segment(OsDisk, &file)?.into_iter().map(|entry| entry.handle).collect();
/// assert_eq!(found, [first, second]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn list_segment(disk: impl Disk, path: impl AsRef<Path>) -> Result<Vec<SegmentEntry>> {
    let path = std::path::absolute(&path).map_err(|e| Error::io("list the states in", path.as_ref(), e))?;
    let file = Volume::new(Arc::new(disk), "/".into(), false).open(&path)?;
    let len = file.len()?;
    let (store, id) =
        decode_header(&file.read(0, len.min(HEADER_LEN))?).map_err(|e| e.at("list the states in", &path))?;
    scan(&file, len, store, id)
}

fn scan(file: &VolumeFile, len: u64, store: StoreId, id: FileId) -> Result<Vec<SegmentEntry>> {
    let tag = tag(store, id);
    let (mut found, mut end, mut at) = (Vec::new(), HEADER_LEN, HEADER_LEN);
    // Trailers that somebody made up may each claim the whole file.
    let mut budget = len.saturating_mul(4);
    while at + TRAILER_LEN <= len {
        // A trailer that begins in this window ends in what is read beyond it.
        let window = unless_bad(file.read(at, (len - at).min(WINDOW + TRAILER_LEN - 1)))?.unwrap_or_default();
        for Entry { extent, checkpoint } in entries(&window, at, tag, id) {
            if extent.offset < end || extent.len > budget {
                continue;
            }
            budget -= extent.len;
            if unless_bad(file.checksum(extent.offset, extent.len, |_| ()))? == Some(extent.crc) {
                end = entry_end(extent.offset, extent.len);
                found.push(SegmentEntry {
                    handle: StateHandle::file(store, extent),
                    checkpoint,
                    offset: extent.offset,
                });
            }
        }
        at += WINDOW;
    }
    Ok(found)
}

/// What lies in a bad sector is passed over.
fn unless_bad<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(error) if error.is_damage() => Ok(None),
        read => read.map(Some),
    }
}
