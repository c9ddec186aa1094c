//! `piton.store`: which store this is, and how often it was opened for writing. It is there twice, in blocks of its own;
//! either counts.

use bincode::{Decode, Encode};

use super::{
    VERSION,
    codec::{Reader, Writer},
};
use crate::{
    error::Malformed,
    id::{LAST, StoreId},
};

const MAGIC: [u8; 8] = *b"PITONSTO";

/// What `piton.store` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    /// Raised durably each time the store is opened for writing.
    pub(crate) generation: u64,
}

/// Bytes of one of the two records, its checksum included.
pub(crate) const RECORD_LEN: usize = 8 + 4 + 4 + 16 + 8 + 4;
/// Where the two records begin.
pub(crate) const PLACES: [u64; 2] = [0, 4096];
/// Bytes of the file.
#[expect(clippy::cast_possible_truncation, reason = "it is 4096")]
pub(crate) const LEN: usize = PLACES[1] as usize + RECORD_LEN;

#[derive(Encode, Decode)]
struct Record {
    magic: [u8; 8],
    version: u32,
    flags: u32,
    store: [u8; 16],
    generation: u64,
}

/// The whole file.
pub(crate) fn encode(identity: &Identity) -> Vec<u8> {
    let Identity { store, generation } = *identity;
    let mut writer = Writer::default();
    writer.put(Record { magic: MAGIC, version: VERSION, flags: 0, store: store.0, generation });
    writer.put_crc_from(0);
    let record = writer.finish();
    let mut file = record.clone();
    file.resize(LEN - RECORD_LEN, 0);
    file.extend_from_slice(&record);
    file
}

/// Reads one of the two records: the bytes from its place on.
pub(crate) fn decode(bytes: &[u8]) -> Result<Identity, Malformed> {
    Reader::new(bytes).take_magic(MAGIC, RECORD_LEN, "store identity")?;
    let mut reader = Reader::new(bytes.get(..RECORD_LEN).unwrap_or(bytes));
    let Record { store, flags, generation, .. } = reader.take("identity")?;
    reader.take_crc_from(0, "identity")?;
    if flags != 0 {
        return Err(Malformed::newer(12, VERSION.saturating_add(1), VERSION));
    }
    if !(1..=LAST).contains(&generation) {
        return Err(Malformed::new(32, "a field has a value that this version never writes"));
    }
    Ok(Identity { store: StoreId(store), generation })
}

#[cfg(test)]
mod tests {
    use super::{super::assert_all_damage_is_noticed, *};

    #[test]
    fn comes_back_from_either_place_and_every_flipped_bit_and_every_cut_is_noticed() {
        let identity = Identity { store: StoreId([7; 16]), generation: 3 };
        let bytes = encode(&identity);
        assert_eq!(bytes.len(), LEN);
        for place in PLACES {
            let record = &bytes[usize::try_from(place).unwrap()..];
            assert_eq!(decode(record).unwrap(), identity);
            assert_all_damage_is_noticed(&record[..RECORD_LEN], decode);
        }
    }
}
