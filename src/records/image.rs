//! What is in the file of a log.

use crate::{
    disk::file::VolumeFile,
    error::Result,
    format::log::{BLOCK, Head, Header, LogTag, decode_head, decode_header, place},
};

/// [`BLOCK`], as lengths in memory are.
const STEP: usize = 4096;
const _: () = assert!(STEP as u64 == BLOCK, "they are the same");

/// The bytes of a log. A block that cannot be read is zeros, which are no record.
#[derive(Debug)]
pub(super) struct Image {
    header: Header,
    tag: LogTag,
    /// Whether both headers are whole.
    header_twice: bool,
    halves: [Vec<u8>; 2],
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
        let blocks = read_blocks(file, 0, 2 * BLOCK)?;
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
        let halves = [0, 1].map(|which| read_blocks(file, place(header.half, which, 0), header.half));
        let [first, second] = halves;
        Ok(Some(Self { header, tag: header.tag(), header_twice: one == other, halves: [first?, second?] }))
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
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

    /// The first whole record at this offset or behind it, and its offset.
    pub(super) fn next_from(&self, offset: u64) -> Option<(u64, Found<'_>)> {
        let len = self.halves.iter().map(Vec::len).max().unwrap_or_default();
        let mut offsets = (offset..len as u64).step_by(STEP);
        offsets.find_map(|offset| Some((offset, self.at(offset)?)))
    }

    /// The redo bytes of a record, in two runs that follow each other.
    pub(super) fn redo(&self, head: &Head<'_>) -> [&[u8]; 2] {
        let first = head.redo_len.div_ceil(2);
        [(0, first), (1, head.redo_len - first)].map(|(which, len)| self.run(which, head.redo_at, len))
    }

    /// The redo bytes of a record, as many as it says. Those that the file does not have are zeros.
    pub(super) fn whole_redo(&self, head: &Head<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (run, end) in self.redo(head).into_iter().zip([head.redo_len.div_ceil(2), head.redo_len]) {
            bytes.extend_from_slice(run);
            bytes.resize(usize::try_from(end).unwrap_or(bytes.len()), 0);
        }
        bytes
    }

    fn head(&self, which: usize, offset: u64) -> Option<Head<'_>> {
        let bytes = self.halves.get(which)?.get(usize::try_from(offset).ok()?..)?;
        decode_head(self.tag, offset, bytes).ok()
    }

    fn run(&self, which: usize, offset: u64, len: u64) -> &[u8] {
        let range = usize::try_from(offset).ok().zip(usize::try_from(offset.saturating_add(len)).ok());
        range.and_then(|(start, end)| self.halves.get(which)?.get(start..end)).unwrap_or_default()
    }
}

/// Reads what there is of a range, block by block if it cannot be read as a whole. A block that cannot be read is zeros.
fn read_blocks(file: &VolumeFile, offset: u64, len: u64) -> Result<Vec<u8>> {
    let there = file.len()?.saturating_sub(offset).min(len);
    let error = match file.read(offset, there) {
        Err(error) if !error.is_of_this_process() => error,
        read => return read,
    };
    let room = usize::try_from(there).map_err(|_| error)?;
    let mut bytes = vec![0; room];
    for (block, n) in bytes.chunks_mut(STEP).zip(0..) {
        match file.read_exact_at(block, offset + n * BLOCK) {
            Err(error) if error.is_of_this_process() => return Err(error),
            Err(_) => block.fill(0),
            Ok(()) => {}
        }
    }
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        format::log::{Link, LogId, Position, encode_head, room},
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
            let header = Header { store: StoreId([1; 16]), id, salt, half, reserved_ids: 1000 };
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
            log.append_with(Some(&link), &[6], &[]);
            log
        }

        pub(crate) fn append(mut self, record: &[u8]) -> Self {
            self.append_with(None, record, &[]);
            self
        }

        pub(crate) fn append_with(&mut self, link: Option<&Link>, record: &[u8], redo: &[u8]) {
            let (tag, offset) = (self.header.tag(), usize::try_from(self.end).unwrap());
            let head = encode_head(tag, (self.end, self.next), link, record, redo.len() as u64).unwrap();
            let (first, second) = redo.split_at(redo.len().div_ceil(2));
            for (half, redo) in self.halves.iter_mut().zip([first, second]) {
                half[offset..offset + head.len()].copy_from_slice(&head);
                half[offset + head.len()..][..redo.len()].copy_from_slice(redo);
            }
            self.end += room(link.is_some(), record.len(), redo.len() as u64);
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
            Image { header, tag: header.tag(), header_twice: true, halves }
        }
    }

    #[test]
    fn record_is_found_in_either_half_and_redo_in_both_together() {
        let mut log = Written::begun(1, 1, None);
        let at = log.end;
        log.append_with(None, b"record", &[7; 9001]);
        for damage in [&[][..], &[0], &[1]] {
            let image = log.clone().damaged(at, damage).image();
            let found = image.at(at).unwrap();
            assert_eq!((found.head.record, found.head.number), (&b"record"[..], 1));
            assert_eq!(found.twice, damage.is_empty());
            assert_eq!(image.redo(&found.head).concat(), [7; 9001]);
            assert_eq!(found.head.end, log.end);
        }
        let image = log.clone().damaged(at, &[0, 1]).image();
        assert_eq!(image.at(at), None);
        assert_eq!(image.next_from(at), None);
        let image = log.append(b"behind").damaged(at, &[0, 1]).image();
        assert_eq!(image.next_from(at).unwrap().1.head.number, 2);
    }
}
