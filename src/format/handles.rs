//! Handles in a record: a table of the files that states are in, sorted; a state refers to its file by index.

use std::{collections::BTreeMap, sync::Arc};

use bincode::{Decode, Encode};

use super::{
    codec::{Reader, Writer},
    frame::{put_option, take_option, take_sorted},
    segment::{HEADER_LEN, scope_code, scope_from},
};
use crate::{
    error::Malformed,
    handle::{FileRef, Place, StateHandle},
    id::{FileId, StoreId},
    manifest::{Artifact, Digest},
    ordered::OrdMap,
};

const INLINE: u8 = 0;
const IN_FILE: u8 = 1;

pub(super) const FILE_RECORD_LEN: usize = 19;
/// An inline state without bytes: the kind, a length, the checksum.
pub(super) const LEAST_HANDLE_LEN: usize = 1 + 8 + 4;
/// The same, and no digest.
pub(super) const LEAST_ARTIFACT_LEN: usize = LEAST_HANDLE_LEN + 1;

#[derive(Encode, Decode)]
struct FileRecord {
    scope: u8,
    lane: u16,
    generation: u64,
    sequence: u64,
}

#[derive(Encode, Decode)]
struct ExtentRecord {
    file: u32,
    offset: u64,
    len: u64,
    crc: u32,
}

pub(super) fn put_file(writer: &mut Writer, file: FileId) {
    let FileId { scope, generation, lane, sequence } = file;
    writer.put(FileRecord { scope: scope_code(scope), lane, generation, sequence });
}

pub(super) fn take_file(reader: &mut Reader<'_>) -> Result<FileId, Malformed> {
    let FileRecord { scope, lane, generation, sequence } = reader.take("file")?;
    let scope = scope_from(scope).ok_or_else(|| reader.malformed("unknown scope"))?;
    Ok(FileId { scope, generation, lane, sequence })
}

/// Collects the files that states are in, for a table.
#[derive(Default)]
pub(super) struct FileSet {
    files: BTreeMap<FileId, u32>,
    last: Option<FileId>,
}

impl FileSet {
    pub(super) fn add(&mut self, handle: &StateHandle) {
        let Some(file) = handle.extent().map(|extent| extent.file) else { return };
        // Mostly they come file by file.
        if self.last.replace(file) != Some(file) {
            self.files.insert(file, 0);
        }
    }
}

/// The files of a manifest that is being written, by their places in its table.
pub(super) struct FileIndex(BTreeMap<FileId, u32>);

impl FileIndex {
    /// Writes the table of these files; `None` if there are more than can be counted in 32 bits.
    pub(super) fn put_set(writer: &mut Writer, FileSet { files: mut index, .. }: FileSet) -> Option<Self> {
        u32::try_from(index.len()).ok()?;
        writer.put(index.len() as u64);
        for ((file, place), n) in index.iter_mut().zip(0..) {
            put_file(writer, *file);
            *place = n;
        }
        Some(Self(index))
    }

    pub(super) fn get(&self, file: FileId) -> Option<u32> {
        self.0.get(&file).copied()
    }

    pub(super) fn put_handle(&self, writer: &mut Writer, handle: &StateHandle) {
        match &handle.0 {
            Place::Inline { bytes, crc } => {
                writer.put(INLINE);
                writer.put_bytes(bytes);
                writer.put(*crc);
            }
            Place::File { file, offset, len, crc } => {
                writer.put(IN_FILE);
                // Every file of every handle is in the table.
                let file = self.0.get(&file.file).copied().unwrap_or(u32::MAX);
                writer.put(ExtentRecord { file, offset: *offset, len: *len, crc: *crc });
            }
        }
    }

    pub(super) fn put_artifact(&self, writer: &mut Writer, artifact: &Artifact) {
        self.put_handle(writer, &artifact.handle);
        put_option(writer, artifact.digest.as_ref(), |writer, digest| writer.put_raw(&digest.0));
    }
}

/// The files of a manifest that is being read.
pub(super) struct FileTable {
    files: Vec<Arc<FileRef>>,
    /// Whether a state is in it.
    used: Vec<bool>,
}

impl FileTable {
    pub(super) fn take(reader: &mut Reader<'_>, store: StoreId) -> Result<Self, Malformed> {
        let files: OrdMap<_, ()> =
            take_sorted(reader, FILE_RECORD_LEN, "files", |reader| Ok((take_file(reader)?, ())))?;
        let used = vec![false; files.len()];
        Ok(Self { files: files.keys().map(|file| Arc::new(FileRef { store, file: *file })).collect(), used })
    }

    pub(super) fn get(&self, index: u32) -> Option<FileId> {
        self.files.get(usize::try_from(index).ok()?).map(|file| file.file)
    }

    pub(super) fn take_handle(&mut self, reader: &mut Reader<'_>) -> Result<StateHandle, Malformed> {
        match reader.take::<u8>("kind of state")? {
            INLINE => {
                let handle = StateHandle::inline(reader.take_bytes("inline state")?);
                let crc: u32 = reader.take("checksum of an inline state")?;
                let right = crc == handle.crc32();
                right.then_some(handle).ok_or_else(|| reader.malformed("wrong checksum of an inline state"))
            }
            IN_FILE => {
                let ExtentRecord { file, offset, len, crc } = reader.take("place of a state")?;
                let file = self.use_file(file).ok_or_else(|| reader.malformed("a file that is not in the table"))?;
                if offset < HEADER_LEN || offset.checked_add(len).is_none() {
                    return Err(reader.malformed("a state outside of its file"));
                }
                Ok(StateHandle(Place::File { file, offset, len, crc }))
            }
            kind => Err(reader.malformed(format!("unknown kind of state {kind}"))),
        }
    }

    pub(super) fn take_artifact(&mut self, reader: &mut Reader<'_>) -> Result<Artifact, Malformed> {
        let handle = self.take_handle(reader)?;
        let digest = take_option(reader, "digest", |reader| reader.take("digest"))?;
        Ok(Artifact { handle, digest: digest.map(Digest) })
    }

    fn use_file(&mut self, index: u32) -> Option<Arc<FileRef>> {
        let index = usize::try_from(index).ok()?;
        *self.used.get_mut(index)? = true;
        self.files.get(index).map(Arc::clone)
    }

    /// Refuses a table with files that no state is in: a manifest has one form.
    pub(super) fn end(&self, reader: &Reader<'_>) -> Result<(), Malformed> {
        if self.used.contains(&false) {
            return Err(reader.malformed("a file in the table that no state is in"));
        }
        Ok(())
    }
}
