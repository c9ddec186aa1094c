//! `manifests/*.manifest`: a header with its own checksum, a body, the body's checksum.
//!
//! The body has a table of the files that the states are in, sorted; a state refers to its file by index. All maps are
//! sorted and hold no name twice, so that equal manifests have equal bytes, and only these.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};

use super::{
    VERSION,
    codec::{Reader, Writer},
    segment::{HEADER_LEN, scope_code, scope_from},
};
use crate::{
    error::Malformed,
    handle::{Extent, Place, StateHandle},
    id::{CheckpointId, FileId, StoreId},
    manifest::{Manifest, ManifestBuilder},
};

const MAGIC: [u8; 8] = *b"PITONMAN";
/// Bytes of the header, its checksum included.
pub(crate) const HEAD_LEN: usize = 28;
const INLINE: u8 = 0;
const IN_FILE: u8 = 1;

#[derive(Encode, Decode)]
struct Head {
    magic: [u8; 8],
    version: u32,
    flags: u32,
    body_len: u64,
}

#[derive(Encode, Decode)]
struct Fixed {
    store: [u8; 16],
    id: u64,
    generation: u64,
    timestamp_ms: u64,
}

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

const FILE_RECORD_LEN: usize = 19;
/// An inline state without bytes under an empty name: two lengths, the kind, the checksum.
const LEAST_STATE_LEN: usize = 8 + 1 + 8 + 4;
/// No bytes under an empty name: two lengths.
const LEAST_METADATA_LEN: usize = 16;

/// The bytes of a manifest; `None` if its states are in more files than can be counted in 32 bits.
pub(crate) fn encode(manifest: &Manifest) -> Option<Vec<u8>> {
    encode_body(manifest).map(|body| frame(&body))
}

/// Header, body, checksum.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(HEAD_LEN + body.len() + 4);
    writer.put(Head { magic: MAGIC, version: VERSION, flags: 0, body_len: body.len() as u64 });
    writer.put_crc_from(0);
    writer.put_raw(body);
    writer.put_crc_from(HEAD_LEN);
    writer.finish()
}

fn encode_body(manifest: &Manifest) -> Option<Vec<u8>> {
    let Manifest { store, id, generation, content } = manifest;
    let files: BTreeSet<FileId> = content.handles().filter_map(StateHandle::extent).map(|e| e.file).collect();
    let index: BTreeMap<FileId, u32> = files.into_iter().zip(0..=u32::MAX).collect();
    let mut writer = Writer::default();
    writer.put(Fixed { store: store.0, id: id.get(), generation: *generation, timestamp_ms: content.timestamp_ms });
    writer.put(index.len() as u64);
    for FileId { scope, generation, lane, sequence } in index.keys().copied() {
        writer.put(FileRecord { scope: scope_code(scope), lane, generation, sequence });
    }
    writer.put(content.states.len() as u64);
    for (name, handle) in &content.states {
        writer.put_bytes(name.as_bytes());
        match &handle.0 {
            Place::Inline { bytes, crc } => {
                writer.put(INLINE);
                writer.put_bytes(bytes);
                writer.put(*crc);
            }
            Place::File(Extent { file, offset, len, crc }) => {
                writer.put(IN_FILE);
                writer.put(ExtentRecord { file: *index.get(file)?, offset: *offset, len: *len, crc: *crc });
            }
        }
    }
    writer.put(content.metadata.len() as u64);
    for (name, bytes) in &content.metadata {
        writer.put_bytes(name.as_bytes());
        writer.put_bytes(bytes);
    }
    Some(writer.finish())
}

/// The manifest that these bytes are, all of them.
pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, Malformed> {
    let mut reader = Reader::new(bytes);
    let body_len = decode_head(&mut reader, bytes.len() as u64)?;
    let body = reader.rest().get(..body_len).unwrap_or_default();
    reader.skip(body.len());
    reader.take_crc_from(HEAD_LEN, "body")?;
    reader.end()?;
    decode_body(body).map_err(|e| Malformed { offset: e.offset + HEAD_LEN as u64, ..e })
}

/// Checks, by its first [`HEAD_LEN`] bytes, that a manifest of this length can be whole: before all of it is read.
pub(crate) fn check_head(head: &[u8], len: u64) -> Result<(), Malformed> {
    decode_head(&mut Reader::new(head), len).map(drop)
}

/// Takes the header off; returns the length of the body.
fn decode_head(reader: &mut Reader<'_>, len: u64) -> Result<usize, Malformed> {
    Reader::new(reader.rest()).take_magic(MAGIC, HEAD_LEN, "manifest")?;
    let head: Head = reader.take("header")?;
    reader.take_crc_from(0, "header")?;
    if head.flags != 0 {
        return Err(Malformed::new(12, "a flag that this version never sets"));
    }
    let whole = head.body_len.checked_add(HEAD_LEN as u64 + 4) == Some(len);
    usize::try_from(head.body_len)
        .ok()
        .filter(|_| whole)
        .ok_or_else(|| reader.malformed(format!("{} bytes of body announced, {len} in all", head.body_len)))
}

fn decode_body(body: &[u8]) -> Result<Manifest, Malformed> {
    let mut reader = Reader::new(body);
    let fixed: Fixed = reader.take("ids")?;
    let id = CheckpointId::new(fixed.id).ok_or_else(|| Malformed::new(16, "checkpoint id 0"))?;
    let files = decode_files(&mut reader)?;
    let states = decode_states(&mut reader, &files)?;
    let metadata = decode_metadata(&mut reader)?;
    reader.end()?;
    let Fixed { store, generation, timestamp_ms, .. } = fixed;
    let content = ManifestBuilder { timestamp_ms, states, metadata };
    let manifest = Manifest { store: StoreId(store), id, generation, content };
    Ok(manifest)
}

fn decode_files(reader: &mut Reader<'_>) -> Result<Vec<FileId>, Malformed> {
    let count = reader.take_count(FILE_RECORD_LEN, "files")?;
    let mut files: Vec<FileId> = Vec::with_capacity(count);
    for _ in 0..count {
        let record: FileRecord = reader.take("file")?;
        let scope = scope_from(record.scope).ok_or_else(|| reader.malformed("unknown scope"))?;
        let FileRecord { lane, generation, sequence, .. } = record;
        let file = FileId { scope, generation, lane, sequence };
        if files.last().is_some_and(|last| *last >= file) {
            return Err(reader.malformed("files are not in order"));
        }
        files.push(file);
    }
    Ok(files)
}

fn decode_states(reader: &mut Reader<'_>, files: &[FileId]) -> Result<BTreeMap<String, StateHandle>, Malformed> {
    let count = reader.take_count(LEAST_STATE_LEN, "states")?;
    let mut states = BTreeMap::new();
    let mut used = BTreeSet::new();
    for _ in 0..count {
        let name = take_next_name(reader, &states)?;
        let handle = decode_handle(reader, files)?;
        used.extend(handle.extent().map(|extent| extent.file));
        states.insert(name, handle);
    }
    if used.len() != files.len() {
        return Err(reader.malformed("a file in the table that no state is in"));
    }
    Ok(states)
}

fn decode_handle(reader: &mut Reader<'_>, files: &[FileId]) -> Result<StateHandle, Malformed> {
    match reader.take::<u8>("kind of state")? {
        INLINE => {
            let handle = StateHandle::inline(reader.take_bytes("inline state")?);
            let crc: u32 = reader.take("checksum of an inline state")?;
            if crc == handle.crc32() { Ok(handle) } else { Err(reader.malformed("wrong checksum of an inline state")) }
        }
        IN_FILE => {
            let ExtentRecord { file, offset, len, crc } = reader.take("place of a state")?;
            let file = usize::try_from(file).ok().and_then(|file| files.get(file)).copied();
            let file = file.ok_or_else(|| reader.malformed("a file that is not in the table"))?;
            if offset < HEADER_LEN || offset.checked_add(len).is_none() {
                return Err(reader.malformed("a state outside of its file"));
            }
            Ok(StateHandle::file(Extent { file, offset, len, crc }))
        }
        kind => Err(reader.malformed(format!("unknown kind of state {kind}"))),
    }
}

fn decode_metadata(reader: &mut Reader<'_>) -> Result<BTreeMap<String, Vec<u8>>, Malformed> {
    let count = reader.take_count(LEAST_METADATA_LEN, "metadata")?;
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let name = take_next_name(reader, &metadata)?;
        metadata.insert(name, reader.take_bytes("metadata")?.to_vec());
    }
    Ok(metadata)
}

/// The next name of a sorted map: above every one before it, so that a manifest has one form only.
fn take_next_name<T>(reader: &mut Reader<'_>, before: &BTreeMap<String, T>) -> Result<String, Malformed> {
    let name = reader.take_text("name")?;
    if before.last_key_value().is_some_and(|(last, _)| last.as_str() >= name) {
        return Err(reader.malformed("names are not in order"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Scope;

    fn sample() -> Manifest {
        let file = FileId { scope: Scope::Shared, generation: 1, lane: 0, sequence: 4 };
        let content = Manifest::builder()
            .state("a", StateHandle::inline(b"tiny"))
            .state("b", StateHandle::file(Extent { file, offset: 64, len: 9, crc: 5 }))
            .state("", StateHandle::inline(b""))
            .metadata("k", b"v")
            .timestamp_ms(1234);
        Manifest { store: StoreId([3; 16]), id: CheckpointId::FIRST, generation: 1, content }
    }

    #[test]
    fn comes_back_and_equal_manifests_have_equal_bytes() {
        let bytes = encode(&sample()).unwrap();
        assert_eq!(decode(&bytes).unwrap(), sample());
        assert_eq!(encode(&decode(&bytes).unwrap()).unwrap(), bytes);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode(&sample()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged).unwrap_err().newer, None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err() && decode(&vec![0; len]).is_err());
        }
    }

    #[test]
    fn hostile_body_with_right_checksums_is_refused_without_allocating_for_it() {
        let bytes = encode(&sample()).unwrap();
        // Every eight bytes of the body in turn become the largest number: lengths, counts, offsets.
        for at in HEAD_LEN..bytes.len() - 12 {
            let mut body = bytes[HEAD_LEN..bytes.len() - 4].to_vec();
            body[at - HEAD_LEN..at - HEAD_LEN + 8].fill(0xff);
            let hostile = frame(&body);
            if let Ok(manifest) = decode(&hostile) {
                assert_eq!(encode(&manifest).unwrap(), hostile, "byte {at}: another form of one manifest");
            }
        }
    }

    #[test]
    fn file_in_the_table_that_no_state_is_in_is_refused() {
        let extent = |sequence| {
            let file = FileId { scope: Scope::Shared, generation: 1, lane: 0, sequence };
            StateHandle::file(Extent { file, offset: 64, len: 9, crc: 5 })
        };
        let content = Manifest::builder().state("a", extent(1)).state("b", extent(2));
        let mut body = encode_body(&Manifest { content, ..sample() }).unwrap();
        assert!(decode(&frame(&body)).is_ok());
        // Behind the second name and kind: the index, which the first state has, too.
        let at = body.windows(3).position(|window| window == [b'b', IN_FILE, 1]).unwrap() + 2;
        body[at] = 0;
        assert!(decode(&frame(&body)).unwrap_err().what.contains("no state is in"));
    }

    #[test]
    fn newer_version_is_told_apart_from_damage() {
        let mut bytes = encode(&sample()).unwrap();
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..HEAD_LEN - 4]);
        bytes[HEAD_LEN - 4..HEAD_LEN].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(&bytes).unwrap_err().newer, Some((2, VERSION)));
    }
}
