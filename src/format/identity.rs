//! `piton.store`: which store this is, how often it was opened for writing, and below which id none is new.

use bincode::{Decode, Encode};

use super::{
    VERSION,
    codec::{Reader, Writer},
};
use crate::{error::Malformed, id::StoreId};

const MAGIC: [u8; 8] = *b"PITONSTO";

/// What `piton.store` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    /// Raised durably each time the store is opened for writing.
    pub(crate) generation: u64,
    /// Every id up to this one was used, also if its checkpoint is gone.
    pub(crate) id_floor: u64,
}

/// Bytes of the file, its checksum included.
pub(crate) const LEN: usize = 52;

#[derive(Encode, Decode)]
struct Record {
    magic: [u8; 8],
    version: u32,
    flags: u32,
    store: [u8; 16],
    generation: u64,
    id_floor: u64,
}

pub(crate) fn encode(identity: &Identity) -> Vec<u8> {
    let Identity { store, generation, id_floor } = *identity;
    let mut writer = Writer::default();
    writer.put(Record { magic: MAGIC, version: VERSION, flags: 0, store: store.0, generation, id_floor });
    writer.put_crc_from(0);
    writer.finish()
}

/// Checks that a file of this length can be an identity: before it is read. That of another version may be longer.
pub(crate) fn check_head(head: &[u8], len: u64) -> Result<(), Malformed> {
    Reader::new(head).take_magic(MAGIC, LEN, "store identity")?;
    if len == LEN as u64 { Ok(()) } else { Err(Malformed::new(len, format!("{LEN} bytes are an identity"))) }
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Identity, Malformed> {
    Reader::new(bytes).take_magic(MAGIC, LEN, "store identity")?;
    let mut reader = Reader::new(bytes);
    let record: Record = reader.take("identity")?;
    reader.take_crc_from(0, "identity")?;
    reader.end()?;
    if record.flags != 0 || record.generation == 0 {
        return Err(Malformed::new(12, "a field has a value that this version never writes"));
    }
    let Record { store, generation, id_floor, .. } = record;
    Ok(Identity { store: StoreId(store), generation, id_floor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_every_flipped_bit_and_every_cut_is_noticed() {
        let identity = Identity { store: StoreId([7; 16]), generation: 3, id_floor: 41 };
        let bytes = encode(&identity);
        assert_eq!(bytes.len(), LEN);
        assert_eq!(decode(&bytes).unwrap(), identity);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged).unwrap_err().newer, None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut to {len}");
            assert!(decode(&vec![0; len]).is_err(), "{len} zeros");
        }
    }
}
