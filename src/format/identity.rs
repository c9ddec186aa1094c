//! `piton.store`: which store this is, how often it was opened for writing, below which id none is new, what was rolled
//! back, and since when older writers have nothing to say.

use bincode::{Decode, Encode};

use super::{
    VERSION,
    codec::{Reader, Writer},
};
use crate::{
    error::Malformed,
    id::{CheckpointId, StoreId},
};

const MAGIC: [u8; 8] = *b"PITONSTO";

/// What `piton.store` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    /// Raised durably each time the store is opened for writing.
    pub(crate) generation: u64,
    /// Every id up to this one was used, also if its checkpoint is gone.
    pub(crate) id_floor: u64,
    pub(crate) take_over: TakeOver,
    pub(crate) roll_back: RollBack,
}

/// The last time that the store was taken over: whoever had it before may publish nothing above what was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TakeOver {
    pub(crate) generation: u64,
    /// The highest id that was there then; 0 if there was none.
    pub(crate) newest: u64,
}

impl TakeOver {
    /// Whether a checkpoint was published by somebody who had lost the store before.
    pub(crate) fn outdates(&self, id: CheckpointId, generation: u64) -> bool {
        id.get() > self.newest && generation < self.generation
    }
}

/// The checkpoints that were rolled back: above `to`, up to `from`. None by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RollBack {
    pub(crate) to: u64,
    pub(crate) from: u64,
}

impl RollBack {
    /// Whether it skips this checkpoint.
    pub(crate) fn skips(&self, id: CheckpointId) -> bool {
        self.to < id.get() && id.get() <= self.from
    }
}

/// Bytes of the file, its checksum included.
pub(crate) const LEN: usize = 84;

#[derive(Encode, Decode)]
struct Record {
    magic: [u8; 8],
    version: u32,
    flags: u32,
    store: [u8; 16],
    generation: u64,
    id_floor: u64,
    take_over_generation: u64,
    take_over_newest: u64,
    roll_back_to: u64,
    roll_back_from: u64,
}

pub(crate) fn encode(identity: &Identity) -> Vec<u8> {
    let Identity { store, generation, id_floor, take_over, roll_back } = *identity;
    let mut writer = Writer::default();
    writer.put(Record {
        magic: MAGIC,
        version: VERSION,
        flags: 0,
        store: store.0,
        generation,
        id_floor,
        take_over_generation: take_over.generation,
        take_over_newest: take_over.newest,
        roll_back_to: roll_back.to,
        roll_back_from: roll_back.from,
    });
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
    let Record { store, generation, id_floor, .. } = record;
    let take_over = TakeOver { generation: record.take_over_generation, newest: record.take_over_newest };
    let roll_back = RollBack { to: record.roll_back_to, from: record.roll_back_from };
    if record.flags != 0 || generation == 0 || take_over.generation > generation || roll_back.to > roll_back.from {
        return Err(Malformed::new(12, "a field has a value that this version never writes"));
    }
    Ok(Identity { store: StoreId(store), generation, id_floor, take_over, roll_back })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_every_flipped_bit_and_every_cut_is_noticed() {
        let take_over = TakeOver { generation: 2, newest: 40 };
        let roll_back = RollBack { to: 3, from: 9 };
        let identity = Identity { store: StoreId([7; 16]), generation: 3, id_floor: 41, take_over, roll_back };
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
