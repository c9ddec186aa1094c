//! Data files: a header that says which file this is, then entries, each a payload at an aligned offset with a trailer
//! behind it that says what it is.

use bincode::{Decode, Encode};

use super::{
    VERSION,
    codec::{Reader, Writer},
};
use crate::{
    error::Malformed,
    handle::Extent,
    id::{CheckpointId, FileId, Scope, StoreId},
};

const HEADER_MAGIC: [u8; 8] = *b"PITONSEG";
const TRAILER_MAGIC: [u8; 8] = *b"PITONEND";

/// Bytes of a header, and so the offset of the first payload.
pub(crate) const HEADER_LEN: u64 = 64;
/// Bytes of a trailer.
pub(crate) const TRAILER_LEN: u64 = 48;

#[derive(Encode, Decode)]
struct Header {
    magic: [u8; 8],
    version: u32,
    flags: u32,
    store: [u8; 16],
    generation: u64,
    sequence: u64,
    lane: u16,
    scope: u8,
    reserved: [u8; 9],
}

#[derive(Encode, Decode)]
struct Trailer {
    magic: [u8; 8],
    offset: u64,
    len: u64,
    checkpoint: u64,
    crc: u32,
    scope: u8,
    reserved: [u8; 7],
}

pub(crate) fn scope_code(scope: Scope) -> u8 {
    match scope {
        Scope::Exclusive => 1,
        Scope::Shared => 2,
    }
}

pub(crate) fn scope_from(code: u8) -> Option<Scope> {
    match code {
        1 => Some(Scope::Exclusive),
        2 => Some(Scope::Shared),
        _ => None,
    }
}

/// The first bytes of a data file.
pub(crate) fn encode_header(store: StoreId, file: FileId) -> Vec<u8> {
    let FileId { scope, generation, lane, sequence } = file;
    let mut writer = Writer::default();
    writer.put(Header {
        magic: HEADER_MAGIC,
        version: VERSION,
        flags: 0,
        store: store.0,
        generation,
        sequence,
        lane,
        scope: scope_code(scope),
        reserved: [0; 9],
    });
    writer.put_crc_from(0);
    writer.finish()
}

/// Which store and which file these first bytes belong to.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<(StoreId, FileId), Malformed> {
    Reader::new(bytes).take_magic(HEADER_MAGIC, bytes.len(), "data file")?;
    let mut reader = Reader::new(bytes);
    let header: Header = reader.take("header")?;
    reader.take_crc_from(0, "header")?;
    reader.end()?;
    let scope = scope_from(header.scope).filter(|_| header.flags == 0 && header.reserved == [0; 9]);
    let scope = scope.ok_or_else(|| Malformed::new(12, "a field has a value that this version never writes"))?;
    let Header { store, generation, lane, sequence, .. } = header;
    Ok((StoreId(store), FileId { scope, generation, lane, sequence }))
}

/// Checks that these first bytes are those of this file of this store.
pub(crate) fn check_header(bytes: &[u8], store: StoreId, file: FileId) -> Result<(), Malformed> {
    match decode_header(bytes)? {
        (found, _) if found != store => Err(Malformed::new(16, format!("it belongs to store {found}, not {store}"))),
        (_, found) if found != file => Err(Malformed::new(32, "it is another data file under this name")),
        _ => Ok(()),
    }
}

/// The bytes behind a payload.
pub(crate) fn encode_trailer(extent: &Extent, checkpoint: CheckpointId) -> Vec<u8> {
    let Extent { file, offset, len, crc } = *extent;
    let mut writer = Writer::default();
    let scope = scope_code(file.scope);
    let checkpoint = checkpoint.get();
    writer.put(Trailer { magic: TRAILER_MAGIC, offset, len, checkpoint, crc, scope, reserved: [0; 7] });
    writer.put_crc_from(0);
    writer.finish()
}

/// Checks that these bytes are the trailer of this state. `Malformed` counts from the trailer's own start.
pub(crate) fn check_trailer(bytes: &[u8], extent: &Extent) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    let trailer: Trailer = reader.take("trailer")?;
    reader.take_crc_from(0, "trailer")?;
    reader.end()?;
    let Trailer { magic, offset, len, crc, checkpoint, scope, reserved } = trailer;
    let ours = magic == TRAILER_MAGIC && scope == scope_code(extent.file.scope) && checkpoint != 0;
    if ours && reserved == [0; 7] && (offset, len, crc) == (extent.offset, extent.len, extent.crc) {
        return Ok(());
    }
    Err(Malformed::new(0, "the trailer is that of another state"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId { scope: Scope::Shared, generation: 2, lane: 1, sequence: 5 };
    const STORE: StoreId = StoreId([9; 16]);

    fn every_flip_and_cut_fails(bytes: &[u8], check: impl Fn(&[u8]) -> bool) {
        assert!(check(bytes));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!check(&damaged), "bit {bit}");
        }
        assert!((0..bytes.len()).all(|len| !check(&bytes[..len]) && !check(&vec![0; len])));
    }

    #[test]
    fn header_has_its_length_and_every_byte_of_it_counts() {
        let bytes = encode_header(STORE, FILE);
        assert_eq!(bytes.len() as u64, HEADER_LEN);
        assert_eq!(decode_header(&bytes).unwrap(), (STORE, FILE));
        every_flip_and_cut_fails(&bytes, |bytes| check_header(bytes, STORE, FILE).is_ok());
    }

    #[test]
    fn header_of_another_store_or_file_is_refused() {
        let bytes = encode_header(STORE, FILE);
        assert!(check_header(&bytes, StoreId([8; 16]), FILE).is_err());
        assert!(check_header(&bytes, STORE, FileId { sequence: 6, ..FILE }).is_err());
    }

    #[test]
    fn trailer_has_its_length_and_every_byte_of_it_counts() {
        let extent = Extent { file: FILE, offset: 64, len: 1000, crc: 77 };
        let bytes = encode_trailer(&extent, CheckpointId::FIRST);
        assert_eq!(bytes.len() as u64, TRAILER_LEN);
        every_flip_and_cut_fails(&bytes, |bytes| check_trailer(bytes, &extent).is_ok());
        assert!(check_trailer(&bytes, &Extent { len: 999, ..extent }).is_err());
    }
}
