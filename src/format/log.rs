//! `manifests/*.log`: a header, then records, all of it twice.
//!
//! ```text
//! 0        4096     8192                                  8192 + half
//! | header | header | half 1: record, record, ...           | half 2: the same                     |
//! ```
//!
//! The header is in the first two blocks; either counts. A record takes the same range of both halves, which have the same
//! length, and is whole in each of them; either counts. It begins with a *head*. Records begin at multiples of 4096.
//!
//! The checksum of a head goes on from that of the header, so a head belongs to one log. It says at which offset it is, and
//! no offset is ever written twice. So a head can be checked by itself, behind damage too, and a state that holds a
//! copy of a log is never mistaken for a part of it.

use bincode::{Decode, Encode};

use super::{
    VERSION,
    codec::{Reader, Writer},
};
use crate::{
    error::Malformed,
    id::{LAST, StoreId},
};

type Parsed<T> = Result<T, Malformed>;

const HEADER_MAGIC: [u8; 8] = *b"PITONLOG";
const HEAD_MAGIC: [u8; 8] = *b"PITONREC";

/// In the features: the file had its whole length from the beginning.
const FILLED: u32 = 1;
/// Records begin at multiples of this. Each header takes as much.
pub(crate) const BLOCK: u64 = 4096;
/// No half is longer: it takes any record.
pub(crate) const MOST_HALF: u64 = 1 << 33;
/// Where the first half begins.
const HALVES: u64 = 2 * BLOCK;
/// Bytes of a header, its checksum included.
pub(crate) const HEADER_LEN: usize = 8 + 4 + 4 + 16 + 8 + 8 + 8 + 8 + 8 + 4;
/// Bytes of a head without its link and its record: what precedes them, and the checksum behind.
const LEAST_HEAD_LEN: usize = 8 + 8 + 8 + 8 + 4 + 4 + 4;

/// Which log of its store this is: that with the higher name is the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LogId {
    /// The generation that made it.
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
}

/// What is known of a log before anything is written to it. It never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) store: StoreId,
    pub(crate) id: LogId,
    /// A random number: a log of the same name in a copy of the store has another one.
    pub(crate) salt: u64,
    /// Bytes of each half.
    pub(crate) half: u64,
    /// Whether the file had its whole length from the beginning: a shorter one was cut.
    pub(crate) filled: bool,
    /// No id above this one is used before a later log that reserves it has its name durably.
    pub(crate) reserved_ids: u64,
}

/// Where a log goes on from. The first head of each log has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Link {
    /// The log before: its name, its salt, and where it ended. All zero for the first log of a store.
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    pub(crate) salt: u64,
    pub(crate) end: u64,
    /// Every id up to this one was used.
    pub(crate) id_floor: u64,
}

/// A place in the logs of a store: behind a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) log: LogId,
    pub(crate) salt: u64,
    /// Where in each half the next record begins.
    pub(crate) offset: u64,
    /// The number of the next record.
    pub(crate) number: u64,
}

/// Stands for one log in the checksums of its heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogTag {
    crc: u32,
    salt: u64,
    half: u64,
}

/// A head that is whole, in one half of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    /// Numbers of records count up by one, from log to log.
    pub(crate) number: u64,
    pub(crate) link: Option<Link>,
    pub(crate) record: &'a [u8],
    /// Where in each half the next record begins.
    pub(crate) end: u64,
}

#[derive(Encode, Decode)]
struct HeaderRecord {
    magic: [u8; 8],
    version: u32,
    features: u32,
    store: [u8; 16],
    generation: u64,
    sequence: u64,
    salt: u64,
    half: u64,
    reserved_ids: u64,
}

#[derive(Encode, Decode)]
struct HeadRecord {
    magic: [u8; 8],
    salt: u64,
    offset: u64,
    number: u64,
    record_len: u32,
    /// Whether a link precedes the record.
    first: u32,
}

impl Header {
    pub(crate) fn tag(&self) -> LogTag {
        let bytes = encode_header(self);
        // Without its checksum: with it, every header has the same.
        let crc = crc32fast::hash(bytes.get(..HEADER_LEN - 4).unwrap_or_default());
        LogTag { crc, salt: self.salt, half: self.half }
    }
}

pub(crate) fn encode_header(header: &Header) -> Vec<u8> {
    let Header { store, id: LogId { generation, sequence }, salt, half, filled, reserved_ids } = *header;
    let (magic, version, features, store) = (HEADER_MAGIC, VERSION, if filled { FILLED } else { 0 }, store.0);
    let mut writer = Writer::default();
    writer.put(HeaderRecord { magic, version, features, store, generation, sequence, salt, half, reserved_ids });
    writer.put_crc_from(0);
    writer.finish()
}

/// Reads a header. Features that this version does not know are those of a newer one.
pub(crate) fn decode_header(bytes: &[u8]) -> Parsed<Header> {
    Reader::new(bytes).take_magic(HEADER_MAGIC, HEADER_LEN, "manifest log")?;
    let mut reader = Reader::new(bytes.get(..HEADER_LEN).unwrap_or(bytes));
    let HeaderRecord { features, store, generation, sequence, salt, half, reserved_ids, .. } = reader.take("header")?;
    reader.take_crc_from(0, "header")?;
    if features & !FILLED != 0 {
        return Err(Malformed::newer(12, VERSION.saturating_add(1), VERSION));
    }
    let is_sound = (1..=LAST).contains(&generation)
        && (1..=LAST).contains(&sequence)
        && half % BLOCK == 0
        && (BLOCK..=MOST_HALF).contains(&half)
        && reserved_ids <= LAST;
    if !is_sound {
        return Err(Malformed::new(16, "a field has a value that this version never writes"));
    }
    let (id, filled) = (LogId { generation, sequence }, features & FILLED != 0);
    Ok(Header { store: StoreId(store), id, salt, half, filled, reserved_ids })
}

/// Where in its file an offset of a half is: of the first one (0) or the second one (1).
pub(crate) fn place(half: u64, which: u64, offset: u64) -> u64 {
    HALVES + which * half + offset
}

/// How many bytes of each half a record takes.
pub(crate) fn room(link: bool, record_len: usize) -> u64 {
    let head = LEAST_HEAD_LEN + if link { LINK_LEN } else { 0 } + record_len;
    (head as u64).saturating_add(BLOCK - 1) / BLOCK * BLOCK
}

const LINK_LEN: usize = 5 * 8;

/// The head of a record that goes to this offset; `None` if the record is of 4 GiB or more.
pub(crate) fn encode_head(
    tag: LogTag,
    (offset, number): (u64, u64),
    link: Option<&Link>,
    record: &[u8],
) -> Option<Vec<u8>> {
    let (magic, salt, first) = (HEAD_MAGIC, tag.salt, u32::from(link.is_some()));
    let record_len = u32::try_from(record.len()).ok()?;
    let mut writer = Writer::default();
    writer.put(HeadRecord { magic, salt, offset, number, record_len, first });
    if let Some(link) = link {
        writer.put(*link);
    }
    writer.put_raw(record);
    writer.put_crc_after(tag.crc);
    Some(writer.finish())
}

/// Whether a head of this log seems to begin here, at this offset of a half. Nothing but its first fields is looked at.
pub(crate) fn begins_at(tag: LogTag, offset: u64, bytes: &[u8]) -> bool {
    let head: Parsed<HeadRecord> = Reader::new(bytes).take("head");
    head.is_ok_and(|head| (head.magic, head.salt, head.offset) == (HEAD_MAGIC, tag.salt, offset))
}

/// Reads the head at an offset of a half of a log, of which these are the bytes from there on. All else is no head: zeros,
/// what a power cut left, the inside of a record.
pub(crate) fn decode_head(tag: LogTag, offset: u64, bytes: &[u8]) -> Parsed<Head<'_>> {
    let mut reader = Reader::new(bytes);
    let head: HeadRecord = reader.take("head")?;
    if (head.magic, head.salt, head.offset) != (HEAD_MAGIC, tag.salt, offset) {
        return Err(Malformed::new(offset, "there is no record of this log"));
    }
    let link = match head.first {
        0 => None,
        1 => Some(reader.take::<Link>("link")?),
        _ => return Err(Malformed::new(offset, "a field has a value that this version never writes")),
    };
    let record = usize::try_from(head.record_len).ok().and_then(|len| reader.rest().get(..len));
    let record = record.ok_or_else(|| reader.malformed("the record is longer than its log"))?;
    reader.skip(record.len());
    reader.take_crc_after(tag.crc, "record")?;
    let end = offset.saturating_add(room(link.is_some(), record.len()));
    if end > tag.half || link.is_some() != (offset == 0) {
        return Err(Malformed::new(offset, "the record does not fit into its log"));
    }
    Ok(Head { number: head.number, link, record, end })
}

#[cfg(test)]
mod tests {
    use super::{super::assert_all_damage_is_noticed, *};

    fn header() -> Header {
        let id = LogId { generation: 3, sequence: 8 };
        Header { store: StoreId([5; 16]), id, salt: 77, half: 16 * BLOCK, filled: true, reserved_ids: 1 << 20 }
    }

    fn link() -> Link {
        Link { generation: 2, sequence: 9, salt: 4, end: 3 * BLOCK, id_floor: 12 }
    }

    #[test]
    fn header_comes_back_and_every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode_header(&header());
        assert_eq!(bytes.len(), HEADER_LEN);
        assert_eq!(decode_header(&bytes).unwrap(), header());
        assert_all_damage_is_noticed(&bytes, decode_header);
    }

    #[test]
    fn header_with_unknown_features_is_of_a_newer_version() {
        let mut bytes = encode_header(&header());
        bytes[12] = 3;
        let crc = crc32fast::hash(&bytes[..HEADER_LEN - 4]);
        bytes[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        assert!(decode_header(&bytes).unwrap_err().newer.is_some());
    }

    #[test]
    fn head_comes_back_and_every_flipped_bit_and_every_cut_is_noticed() {
        let tag = header().tag();
        for (offset, link) in [(0, Some(link())), (3 * BLOCK, None)] {
            let bytes = encode_head(tag, (offset, 41), link.as_ref(), b"record").unwrap();
            let head = decode_head(tag, offset, &bytes).unwrap();
            assert_eq!((head.number, head.link, head.record), (41, link, &b"record"[..]));
            let long = encode_head(tag, (offset, 41), link.as_ref(), &[7; 5000]).unwrap();
            let ends = [head.end, decode_head(tag, offset, &long).unwrap().end];
            assert_eq!(ends, [offset + BLOCK, offset + 2 * BLOCK], "whole blocks");
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_head(tag, offset, &damaged).is_err(), "bit {bit}");
            }
            for len in 0..bytes.len() {
                assert!(
                    decode_head(tag, offset, &bytes[..len]).is_err()
                        && decode_head(tag, offset, &vec![0; len]).is_err()
                );
            }
        }
    }

    #[test]
    fn head_counts_in_its_log_at_its_offset_alone() {
        let tag = header().tag();
        let bytes = encode_head(tag, (2 * BLOCK, 41), None, b"record").unwrap();
        assert!(decode_head(tag, 2 * BLOCK, &bytes).is_ok());
        assert!(decode_head(tag, 3 * BLOCK, &bytes).is_err());
        let others = [
            Header { store: StoreId([6; 16]), ..header() },
            Header { id: LogId { generation: 3, sequence: 9 }, ..header() },
            Header { salt: 78, ..header() },
        ];
        for other in others {
            assert!(decode_head(other.tag(), 2 * BLOCK, &bytes).is_err(), "{other:?}");
        }
    }

    #[test]
    fn head_that_reaches_beyond_its_half_or_is_first_elsewhere_is_refused() {
        let tag = header().tag();
        let last = encode_head(tag, (15 * BLOCK, 1), None, b"").unwrap();
        assert!(decode_head(tag, 15 * BLOCK, &last).is_ok());
        let too_long = encode_head(tag, (15 * BLOCK, 1), None, &[0; 4096]).unwrap();
        assert!(decode_head(tag, 15 * BLOCK, &too_long).is_err());
        let first = encode_head(tag, (2 * BLOCK, 1), Some(&link()), b"").unwrap();
        assert!(decode_head(tag, 2 * BLOCK, &first).is_err());
        let not_first = encode_head(tag, (0, 1), None, b"").unwrap();
        assert!(decode_head(tag, 0, &not_first).is_err());
    }
}
