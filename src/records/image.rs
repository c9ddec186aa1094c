//! What is in the file of a log.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    disk::file::VolumeFile,
    error::Result,
    format::log::{BLOCK, Head, Header, LogTag, begins_at, decode_head, decode_header, place},
};

/// How many bytes are read at a time. They fit into the cache of the processor, which looks at each of them.
const PIECE: usize = 256 << 10;
/// [`BLOCK`], as lengths in memory are.
const STEP: usize = 4096;
const _: () = assert!(STEP as u64 == BLOCK, "they are the same");
/// A block that was never written to. To compare a block with it is many times faster than to test each byte.
const BLANK: [u8; STEP] = [0; STEP];

/// The bytes of a log.
#[derive(Debug)]
pub(super) struct Image {
    header: Header,
    tag: LogTag,
    /// Whether both headers are whole.
    header_twice: bool,
    /// Whether the file is shorter than it was when it was made.
    is_cut: bool,
    halves: [Half; 2],
}

/// What was read of a half.
#[derive(Clone, Debug, Default)]
struct Half {
    /// The same for both halves where they are equal, as they mostly are.
    bytes: Arc<Vec<u8>>,
    /// Blocks that the medium did not give. They count as zeros.
    unreadable: BTreeSet<u64>,
}

/// A record that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) head: Head<'a>,
    /// Whether it is whole in both halves.
    pub(super) twice: bool,
}

impl Image {
    /// Reads a log; `None` if it has no header, which it had before it got its name.
    ///
    /// # Errors
    ///
    /// `is_newer_format` if the log has features that this version does not know; errors that say nothing of the file.
    pub(super) fn read(file: &VolumeFile) -> Result<Option<Self>> {
        let Some((header, header_twice)) = Self::read_headers(file)? else { return Ok(None) };
        let first = read_half(file, &header, 0, &Arc::default())?;
        let second = read_half(file, &header, 1, &first.bytes)?;
        let is_cut = header.filled && file.len()? < place(header.half, 2, 0);
        Ok(Some(Self { header, tag: header.tag(), header_twice, is_cut, halves: [first, second] }))
    }

    /// Reads the header alone.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    pub(super) fn read_header(file: &VolumeFile) -> Result<Option<Header>> {
        Ok(Self::read_headers(file)?.map(|(header, _)| header))
    }

    /// Whether a record seems to begin at an offset, in either half.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    pub(super) fn is_begun_at(file: &VolumeFile, offset: u64) -> Result<bool> {
        let Some(header) = Self::read_header(file)? else { return Ok(true) };
        let len = header.half.saturating_sub(offset).min(BLOCK);
        for which in [0, 1] {
            let (mut bytes, mut is_unreadable) = (Vec::new(), false);
            read_blocks(file, place(header.half, which, offset), len, &mut bytes, |_| is_unreadable = true)?;
            if is_unreadable || begins_at(header.tag(), offset, &bytes) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The header, and whether it is there twice.
    fn read_headers(file: &VolumeFile) -> Result<Option<(Header, bool)>> {
        let mut blocks = Vec::new();
        read_blocks(file, 0, 2 * BLOCK, &mut blocks, |_| ())?;
        let (mut headers, mut newer) = ([None, None], None);
        for (header, block) in headers.iter_mut().zip(blocks.chunks(STEP)) {
            match decode_header(block) {
                Ok(found) => *header = Some(found),
                Err(error) if error.newer.is_some() => newer = Some(error),
                Err(_) => {}
            }
        }
        let [one, other] = headers;
        let Some(header) = one.or(other) else {
            return newer.map_or(Ok(None), |error| Err(error.at("read log", file.path())));
        };
        Ok(Some((header, one == other)))
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Whether records may be gone that the file had at its end.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(super) fn header_is_twice(&self) -> bool {
        self.header_twice
    }

    /// The record at an offset, if it is whole in either half.
    pub(super) fn at(&self, offset: u64) -> Option<Found<'_>> {
        let [one, other] = [0, 1].map(|which| self.head(which, offset));
        let twice = one == other;
        one.or(other).map(|head| Found { head, twice })
    }

    /// Whether the medium gives the block at an offset in neither half: then nobody knows whether a record begins there.
    pub(super) fn is_unreadable(&self, offset: u64) -> bool {
        self.halves.iter().all(|half| half.unreadable.contains(&offset))
    }

    /// The first whole record at this offset or behind it, and its offset.
    pub(super) fn next_from(&self, offset: u64) -> Option<(u64, Found<'_>)> {
        let len = self.halves.iter().map(|half| half.bytes.len()).max().unwrap_or_default();
        let mut offsets = (offset..len as u64).step_by(STEP);
        offsets.find_map(|offset| Some((offset, self.at(offset)?)))
    }

    fn head(&self, which: usize, offset: u64) -> Option<Head<'_>> {
        let bytes = self.halves.get(which)?.bytes.get(usize::try_from(offset).ok()?..)?;
        decode_head(self.tag, offset, bytes).ok()
    }
}

/// Bytes that are kept only if they differ from others.
struct Differing<'a> {
    others: &'a Arc<Vec<u8>>,
    len: usize,
    /// All of them, once one differs.
    own: Option<Vec<u8>>,
}

impl Differing<'_> {
    fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if self.own.is_none() && self.others.get(self.len..end) != Some(bytes) {
            self.own = self.others.get(..self.len).map(<[u8]>::to_vec);
        }
        if let Some(own) = &mut self.own {
            own.extend_from_slice(bytes);
        }
        self.len = end;
    }

    /// Whether the others go on with nothing but what fills their last block: the last record of a file ends before.
    fn lacks_only_padding(&self) -> bool {
        self.others.get(self.len..).is_some_and(|rest| rest.len() < STEP && rest.iter().all(|byte| *byte == 0))
    }

    fn finish(self) -> Arc<Vec<u8>> {
        match self.own {
            Some(mut own) => {
                own.shrink_to_fit();
                Arc::new(own)
            }
            None if self.lacks_only_padding() => Arc::clone(self.others),
            None => Arc::new(self.others.get(..self.len).unwrap_or_default().to_vec()),
        }
    }
}

/// Reads a half, and keeps what is in front of the zeros that it ends with, unless that is what the other half has.
fn read_half(file: &VolumeFile, header: &Header, which: u64, others: &Arc<Vec<u8>>) -> Result<Half> {
    let mut bytes = Differing { others, len: 0, own: None };
    let (mut zeros, mut unreadable) = (0, BTreeSet::new());
    let mut piece = Vec::new();
    for at in (0..header.half).step_by(PIECE) {
        let len = (header.half - at).min(PIECE as u64);
        read_blocks(file, place(header.half, which, at), len, &mut piece, |block| {
            unreadable.insert(at + block);
        })?;
        if piece.is_empty() {
            break;
        }
        let used = piece.chunks(STEP).rposition(|block| BLANK.get(..block.len()) != Some(block));
        let Some(used) = used.map(|last| ((last + 1) * STEP).min(piece.len())) else {
            zeros += piece.len();
            continue;
        };
        bytes.extend(&vec![0; zeros]);
        zeros = piece.len() - used;
        bytes.extend(piece.get(..used).unwrap_or_default());
    }
    Ok(Half { bytes: bytes.finish(), unreadable })
}

/// Reads what there is of a range, block by block if the medium does not give it as a whole. A block that it does not give is
/// zeros, and `note` gets its offset in the range. The bytes replace those of `bytes`. `len` is at most a [piece](PIECE).
fn read_blocks(file: &VolumeFile, offset: u64, len: u64, bytes: &mut Vec<u8>, mut note: impl FnMut(u64)) -> Result<()> {
    let there = file.len()?.saturating_sub(offset).min(len);
    bytes.resize(usize::try_from(there).map_or(PIECE, |there| there.min(PIECE)), 0);
    match file.read_exact_at(bytes, offset) {
        Err(error) if error.is_damage() => {}
        read => return read,
    }
    for (block, n) in bytes.chunks_mut(STEP).zip(0..) {
        match file.read_exact_at(block, offset + n * BLOCK) {
            Err(error) if !error.is_damage() => return Err(error),
            Err(_) => {
                block.fill(0);
                note(n * BLOCK);
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        format::{
            log::{Link, LogId, Position, encode_head, room},
            record,
        },
        id::StoreId,
    };

    /// A log in memory, to which records are appended as a writer does it.
    #[derive(Clone, Debug)]
    pub(crate) struct Written {
        header: Header,
        halves: [Vec<u8>; 2],
        pub(crate) end: u64,
        pub(crate) next: u64,
    }

    impl Written {
        pub(crate) fn blank(generation: u64, sequence: u64) -> Self {
            let (id, half) = (LogId { generation, sequence }, 16 * BLOCK);
            let salt = generation * 1000 + sequence;
            let header = Header { store: StoreId([1; 16]), id, salt, half, filled: true, reserved_ids: 1000 };
            let zeros = vec![0; usize::try_from(half).unwrap()];
            Self { header, halves: [zeros.clone(), zeros], end: 0, next: 0 }
        }

        /// A log that goes on from a place, with one record.
        pub(crate) fn begun(generation: u64, sequence: u64, from: Option<Position>) -> Self {
            let mut log = Self::blank(generation, sequence);
            let nothing = Link { generation: 0, sequence: 0, salt: 0, end: 0, id_floor: 0 };
            let link = from.map_or(nothing, |Position { log, salt, offset, .. }| Link {
                generation: log.generation,
                sequence: log.sequence,
                salt,
                end: offset,
                id_floor: 0,
            });
            log.next = from.map_or(0, |from| from.number);
            log.append_with(Some(&link), &record::ids_used(0));
            log
        }

        pub(crate) fn append(mut self, record: &[u8]) -> Self {
            self.append_with(None, record);
            self
        }

        fn append_with(&mut self, link: Option<&Link>, record: &[u8]) {
            let (tag, offset) = (self.header.tag(), usize::try_from(self.end).unwrap());
            let head = encode_head(tag, (self.end, self.next), link, record).unwrap();
            for half in &mut self.halves {
                half[offset..offset + head.len()].copy_from_slice(&head);
            }
            self.end += room(link.is_some(), record.len());
            self.next += 1;
        }

        /// Destroys what begins at an offset, in these halves.
        pub(crate) fn damaged(mut self, offset: u64, halves: &[usize]) -> Self {
            for which in halves {
                self.halves[*which][usize::try_from(offset).unwrap() + 9] ^= 0xff;
            }
            self
        }

        pub(crate) fn position(&self) -> Position {
            let Header { id, salt, .. } = self.header;
            Position { log: id, salt, offset: self.end, number: self.next }
        }

        pub(crate) fn image(self) -> Image {
            let Self { header, halves, .. } = self;
            let halves = halves.map(|bytes| Half { bytes: Arc::new(bytes), ..Half::default() });
            Image { header, tag: header.tag(), header_twice: true, is_cut: false, halves }
        }
    }

    #[test]
    fn record_is_found_in_either_half() {
        let log = Written::begun(1, 1, None);
        let at = log.end;
        let log = log.append(&[7; 9001]);
        for damage in [&[][..], &[0], &[1]] {
            let image = log.clone().damaged(at, damage).image();
            let found = image.at(at).unwrap();
            assert_eq!((found.head.record, found.head.number), (&[7; 9001][..], 1));
            assert_eq!(found.twice, damage.is_empty());
            assert_eq!(found.head.end, log.end);
        }
        let image = log.clone().damaged(at, &[0, 1]).image();
        assert_eq!(image.at(at), None);
        assert_eq!(image.next_from(at), None);
        let image = log.append(b"behind").damaged(at, &[0, 1]).image();
        assert_eq!(image.next_from(at).unwrap().1.head.number, 2);
    }
}
