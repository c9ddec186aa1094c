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
    /// Whether there are checkpoints, as far as was noted: then a store without any has lost them.
    pub(crate) populated: bool,
    pub(crate) take_over: TakeOver,
    pub(crate) roll_backs: RollBacks,
}

/// In `flags`.
const POPULATED: u32 = 1;

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

/// How many roll-backs are remembered.
const MOST_ROLL_BACKS: usize = 4;

/// The checkpoints that were rolled back: above the first number of a pair, up to the second. Ascending; pairs of zeros at
/// the end are unused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RollBacks([(u64, u64); MOST_ROLL_BACKS]);

impl RollBacks {
    /// These ranges, which are in order; `None` if there are more than can be remembered.
    pub(crate) fn of(ranges: &[(u64, u64)]) -> Option<Self> {
        let mut all = Self::default();
        all.0.get_mut(..ranges.len())?.copy_from_slice(ranges);
        Some(all)
    }

    /// Those that are used.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.into_iter().filter(|(to, from)| to < from)
    }

    /// Whether a checkpoint was rolled back.
    pub(crate) fn skips(&self, id: CheckpointId) -> bool {
        self.ranges().any(|(to, from)| to < id.get() && id.get() <= from)
    }

    fn is_sound(&self) -> bool {
        let used = self.ranges().count();
        let ascending = self.ranges().zip(self.ranges().skip(1)).all(|(before, after)| before < after);
        ascending
            && self.0.iter().take(used).all(|(to, from)| to < from)
            && self.0.iter().skip(used).all(|pair| *pair == (0, 0))
    }
}

/// Bytes of the file, its checksum included.
pub(crate) const LEN: usize = 132;

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
    roll_backs: [(u64, u64); MOST_ROLL_BACKS],
}

pub(crate) fn encode(identity: &Identity) -> Vec<u8> {
    let Identity { store, generation, id_floor, populated, take_over, roll_backs } = *identity;
    let mut writer = Writer::default();
    writer.put(Record {
        magic: MAGIC,
        version: VERSION,
        flags: if populated { POPULATED } else { 0 },
        store: store.0,
        generation,
        id_floor,
        take_over_generation: take_over.generation,
        take_over_newest: take_over.newest,
        roll_backs: roll_backs.0,
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
    let Record { store, flags, generation, id_floor, .. } = record;
    let take_over = TakeOver { generation: record.take_over_generation, newest: record.take_over_newest };
    let roll_backs = RollBacks(record.roll_backs);
    if flags & !POPULATED != 0 || generation == 0 || take_over.generation > generation || !roll_backs.is_sound() {
        return Err(Malformed::new(12, "a field has a value that this version never writes"));
    }
    let populated = flags & POPULATED != 0;
    Ok(Identity { store: StoreId(store), generation, id_floor, populated, take_over, roll_backs })
}

#[cfg(test)]
mod tests {
    use super::{super::assert_all_damage_is_noticed, *};

    #[test]
    fn comes_back_and_every_flipped_bit_and_every_cut_is_noticed() {
        let take_over = TakeOver { generation: 2, newest: 40 };
        let roll_backs = RollBacks::of(&[(3, 9), (9, 12)]).unwrap();
        let (store, populated) = (StoreId([7; 16]), true);
        let identity = Identity { store, generation: 3, id_floor: 41, populated, take_over, roll_backs };
        let bytes = encode(&identity);
        assert_eq!(bytes.len(), LEN);
        assert_eq!(decode(&bytes).unwrap(), identity);
        assert_all_damage_is_noticed(&bytes, decode);
    }

    #[test]
    fn roll_backs_have_one_form() {
        for (ranges, sound) in [
            (&[][..], true),
            (&[(1, 2), (2, 3), (4, 9), (9, 10)], true),
            (&[(1, 9), (2, 5), (2, 6), (7, 8)], true),
            (&[(4, 5), (1, 2)], false),
            (&[(1, 2), (1, 2)], false),
            (&[(2, 2)], false),
            (&[(0, 0), (1, 2)], false),
        ] {
            assert_eq!(RollBacks::of(ranges).unwrap().is_sound(), sound, "{ranges:?}");
        }
        assert_eq!(RollBacks::of(&[(1, 2); MOST_ROLL_BACKS + 1]), None);
    }
}
