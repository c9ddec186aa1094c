//! `manifests/*.base` and `*.copy`: all that is known at one place of the log, twice.
//!
//! ```text
//! 0        4096            4096 + 65536
//! | header | block 0       | block 1       | ... | last block |
//! ```
//!
//! The blocks carry records, each behind its length: those that lead to the checkpoints that there were. A block is checked by
//! itself. Its checksum goes on from that of the header, so blocks of a base and of its copy may be mixed, and those of
//! two bases may not.

use bincode::{Decode, Encode};

use super::{
    VERSION,
    codec::{Reader, Writer},
    log::{self, LogId, Position},
};
use crate::{
    error::Malformed,
    id::{LAST, StoreId},
};

type Parsed<T> = Result<T, Malformed>;

const MAGIC: [u8; 8] = *b"PITONBAS";

/// Bytes of the header, its checksum included.
pub(crate) const HEADER_LEN: usize = 8 + 4 + 4 + 16 + 5 * 8 + 5 * 8 + 4;
/// Where the first block begins.
const BLOCKS: u64 = 4096;
/// Bytes of a block, but of the last one, which may be shorter.
pub(crate) const BLOCK: usize = 64 * 1024;
/// Bytes of a block beside its content: number, length, checksum.
const AROUND: usize = 4 + 4 + 4;
/// In the length of a block: it is the last one.
const IS_LAST: u32 = 1 << 31;

/// What a base says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) store: StoreId,
    /// The generation that wrote it.
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    /// A random number: two bases never have the same one.
    pub(crate) salt: u64,
    /// Where the log goes on. All zero if it does not: that of an export.
    pub(crate) position: Position,
    /// Every id up to this one was used.
    pub(crate) id_floor: u64,
    /// No id above this one was used.
    pub(crate) reserved_ids: u64,
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
    id_floor: u64,
    reserved_ids: u64,
    log_generation: u64,
    log_sequence: u64,
    log_salt: u64,
    offset: u64,
    number: u64,
}

/// Stands for one base in the checksums of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BaseTag(u32);

impl Header {
    pub(crate) fn tag(&self) -> BaseTag {
        let bytes = encode_header(self);
        // Without its checksum: with it, every header has the same.
        BaseTag(crc32fast::hash(bytes.get(..HEADER_LEN - 4).unwrap_or_default()))
    }
}

pub(crate) fn encode_header(header: &Header) -> Vec<u8> {
    let Header { store, generation, sequence, salt, position, id_floor, reserved_ids } = *header;
    let mut writer = Writer::default();
    writer.put(HeaderRecord {
        magic: MAGIC,
        version: VERSION,
        features: 0,
        store: store.0,
        generation,
        sequence,
        salt,
        id_floor,
        reserved_ids,
        log_generation: position.log.generation,
        log_sequence: position.log.sequence,
        log_salt: position.salt,
        offset: position.offset,
        number: position.number,
    });
    writer.put_crc_from(0);
    writer.finish()
}

/// Reads a header. Features that this version does not know are those of a newer one.
pub(crate) fn decode_header(bytes: &[u8]) -> Parsed<Header> {
    Reader::new(bytes).take_magic(MAGIC, HEADER_LEN, "base of manifests")?;
    let mut reader = Reader::new(bytes.get(..HEADER_LEN).unwrap_or(bytes));
    let record: HeaderRecord = reader.take("header")?;
    reader.take_crc_from(0, "header")?;
    if record.features != 0 {
        return Err(Malformed::newer(12, VERSION.saturating_add(1), VERSION));
    }
    let HeaderRecord { generation, sequence, id_floor, reserved_ids, .. } = record;
    let log = LogId { generation: record.log_generation, sequence: record.log_sequence };
    let position = Position { log, salt: record.log_salt, offset: record.offset, number: record.number };
    let is_sound = (1..=LAST).contains(&generation)
        && (1..=LAST).contains(&sequence)
        && id_floor <= reserved_ids
        && reserved_ids <= LAST
        && position.offset.is_multiple_of(log::BLOCK)
        && position.offset <= log::MOST_HALF
        && position.number <= LAST;
    if !is_sound {
        return Err(Malformed::new(16, "a field has a value that this version never writes"));
    }
    let store = StoreId(record.store);
    Ok(Header { store, generation, sequence, salt: record.salt, position, id_floor, reserved_ids })
}

/// Where a block is.
pub(crate) fn place(block: u32) -> u64 {
    BLOCKS + u64::from(block) * BLOCK as u64
}

/// Cuts records into blocks, and hands each block on as soon as it is full.
#[derive(Debug)]
pub(crate) struct Blocks {
    tag: BaseTag,
    content: Vec<u8>,
    next: u32,
}

impl Blocks {
    pub(crate) fn new(header: &Header) -> Self {
        Self { tag: header.tag(), content: Vec::new(), next: 0 }
    }

    /// Adds a record. `write` gets each block that is full now.
    pub(crate) fn add<E>(
        &mut self,
        record: &[u8],
        mut write: impl FnMut(u32, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let len = (record.len() as u64).to_le_bytes();
        for mut piece in [&len[..], record] {
            while !piece.is_empty() {
                if self.content.len() == BLOCK - AROUND {
                    self.flush(0, &mut write)?;
                }
                let (now, later) = piece.split_at(piece.len().min(BLOCK - AROUND - self.content.len()));
                self.content.extend_from_slice(now);
                piece = later;
            }
        }
        Ok(())
    }

    /// Writes what is left, as the last block.
    pub(crate) fn finish<E>(mut self, mut write: impl FnMut(u32, &[u8]) -> Result<(), E>) -> Result<(), E> {
        self.flush(IS_LAST, &mut write)
    }

    fn flush<E>(&mut self, flag: u32, write: &mut impl FnMut(u32, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut writer = Writer::default();
        writer.put((self.next, u32::try_from(self.content.len()).unwrap_or_default() | flag));
        writer.put_raw(&self.content);
        writer.put_crc_after(self.tag.0);
        write(self.next, &writer.finish())?;
        self.content.clear();
        self.next += 1;
        Ok(())
    }
}

/// The content of a block, and whether it is the last one. `bytes` may go on behind it.
pub(crate) fn decode_block(tag: BaseTag, block: u32, bytes: &[u8]) -> Parsed<(&[u8], bool)> {
    let mut reader = Reader::new(bytes);
    let (number, len): (u32, u32) = reader.take("block")?;
    let is_last = len & IS_LAST != 0;
    let len = usize::try_from(len & !IS_LAST).unwrap_or(usize::MAX);
    let content = reader.rest().get(..len).filter(|_| number == block && (is_last || len == BLOCK - AROUND));
    let content = content.ok_or_else(|| reader.malformed("this is not the block that should be here"))?;
    reader.skip(content.len());
    reader.take_crc_after(tag.0, "block")?;
    Ok((content, is_last))
}

/// The records in the contents of all blocks.
pub(crate) fn records(contents: &[u8]) -> impl Iterator<Item = Parsed<&[u8]>> {
    let mut reader = Reader::new(contents);
    std::iter::from_fn(move || (!reader.rest().is_empty()).then(|| reader.take_bytes("record of a base")))
}

#[cfg(test)]
mod tests {
    use super::{super::assert_all_damage_is_noticed, *};

    fn header() -> Header {
        let position = Position { log: LogId { generation: 3, sequence: 8 }, salt: 77, offset: 8192, number: 41 };
        Header {
            store: StoreId([5; 16]),
            generation: 3,
            sequence: 2,
            salt: 9,
            position,
            id_floor: 12,
            reserved_ids: 99,
        }
    }

    fn blocks(header: &Header, records: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let (mut blocks, mut all) = (Blocks::new(header), Vec::new());
        let mut keep = |n: u32, block: &[u8]| {
            assert_eq!(n as usize, all.len());
            all.push(block.to_vec());
            Ok::<_, ()>(())
        };
        for record in records {
            blocks.add(record, &mut keep).unwrap();
        }
        blocks.finish(&mut keep).unwrap();
        all
    }

    fn read(header: &Header, blocks: &[Vec<u8>]) -> Parsed<Vec<Vec<u8>>> {
        let mut contents = Vec::new();
        for (n, block) in (0..).zip(blocks) {
            let (content, is_last) = decode_block(header.tag(), n, block)?;
            contents.extend_from_slice(content);
            assert_eq!(is_last, n as usize + 1 == blocks.len());
        }
        records(&contents).map(|record| record.map(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn header_comes_back_and_every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode_header(&header());
        assert_eq!(bytes.len(), HEADER_LEN);
        assert_eq!(decode_header(&bytes).unwrap(), header());
        assert_all_damage_is_noticed(&bytes, decode_header);
    }

    #[test]
    fn records_of_every_length_around_a_block_come_back() {
        let full = BLOCK - AROUND;
        for lens in [
            vec![],
            vec![0],
            vec![1, 2, 3],
            vec![full - 8],
            vec![full - 9, 1],
            vec![full - 12, 5],
            vec![full, full],
            vec![3 * full + 17, 1],
        ] {
            let all: Vec<_> = lens.iter().map(|len| vec![7; *len]).collect();
            assert_eq!(read(&header(), &blocks(&header(), &all)).unwrap(), all, "{lens:?}");
        }
    }

    #[test]
    fn block_counts_at_its_place_in_its_base_alone_and_every_flipped_byte_is_noticed() {
        let all = blocks(&header(), &[vec![7; 2 * BLOCK]]);
        assert_eq!(all.len(), 3);
        assert!(decode_block(header().tag(), 1, &all[0]).is_err());
        let other = Header { salt: 10, ..header() };
        assert!(decode_block(other.tag(), 0, &all[0]).is_err());
        let last = all.last().unwrap();
        for at in 0..last.len() {
            let mut damaged = last.clone();
            damaged[at] ^= 4;
            assert!(decode_block(header().tag(), 2, &damaged).is_err(), "byte {at}");
        }
        for len in 0..last.len() {
            assert!(decode_block(header().tag(), 2, &last[..len]).is_err(), "cut to {len}");
        }
    }
}
