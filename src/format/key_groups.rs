//! States that are split into key groups: the bytes of the groups one behind the other, then an index, then its footer.
//!
//! The index says where the bytes of each group are and which checksum they have, so that a group is read and verified without
//! the others. The footer has two checksums: its own, and that of the index.

use std::ops::Range;

use bincode::{Decode, Encode};

use super::{
    VERSION,
    codec::{Reader, Writer},
};
use crate::{error::Malformed, manifest::KeyGroupRange};

const MAGIC: [u8; 8] = *b"PITONKGS";

/// Bytes of the footer; it ends with the state.
pub(crate) const FOOTER_LEN: u64 = 24;
/// Bytes of an entry of the index.
const ENTRY_LEN: u64 = 24;

/// Where the bytes of a key group are in its state, and which checksum they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Group {
    pub(crate) number: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

#[derive(Encode, Decode)]
struct Footer {
    magic: [u8; 8],
    version: u32,
    groups: u32,
    index_crc: u32,
}

/// The index of a state, by the footer: where it is in the state, and its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) place: Range<u64>,
    crc: u32,
}

/// The bytes behind the groups: index and footer. `None` if there are more groups than can be counted in 32 bits.
pub(crate) fn encode(groups: &[Group]) -> Option<Vec<u8>> {
    let count = u32::try_from(groups.len()).ok()?;
    let mut index = Writer::default();
    for group in groups {
        index.put(*group);
    }
    let mut bytes = index.finish();
    let mut footer = Writer::default();
    footer.put(Footer { magic: MAGIC, version: VERSION, groups: count, index_crc: crc32fast::hash(&bytes) });
    footer.put_crc_from(0);
    bytes.extend(footer.finish());
    Some(bytes)
}

/// Where the index of a state of this length is, by the footer. `Malformed` counts from the start of the footer.
pub(crate) fn decode_footer(footer: &[u8], state_len: u64) -> Result<Index, Malformed> {
    let mut reader = Reader::new(footer);
    Reader::new(footer).take_magic(MAGIC, footer.len(), "state that is split into key groups")?;
    let Footer { groups, index_crc, .. } = reader.take("footer of key groups")?;
    reader.take_crc_from(0, "footer of key groups")?;
    reader.end()?;
    let end = state_len.checked_sub(FOOTER_LEN);
    let start = end.and_then(|end| end.checked_sub(u64::from(groups) * ENTRY_LEN));
    let place = start.zip(end).map(|(start, end)| start..end);
    let place = place.ok_or_else(|| {
        Malformed::new(12, format!("an index of {groups} key groups is longer than the {state_len} bytes of the state"))
    })?;
    Ok(Index { place, crc: index_crc })
}

/// The groups of a state that are in this range. All of the index is checked. `Malformed` counts from the start of the index.
pub(crate) fn decode(bytes: &[u8], index: &Index, wanted: KeyGroupRange) -> Result<Vec<Group>, Malformed> {
    let found = crc32fast::hash(bytes);
    if found != index.crc {
        let what = format!("index of key groups: the bytes have checksum {found:08x} instead of {:08x}", index.crc);
        return Err(Malformed::new(0, what));
    }
    let mut reader = Reader::new(bytes);
    let (mut groups, mut before, mut end) = (Vec::new(), None, 0_u64);
    while !reader.rest().is_empty() {
        let group: Group = reader.take("key group")?;
        if before.is_some_and(|before| before >= group.number) {
            return Err(reader.malformed(format!("key group {} is not in order", group.number)));
        }
        let next = group.offset.checked_add(group.len).filter(|next| group.offset == end && *next <= index.place.start);
        end = next.ok_or_else(|| reader.malformed(format!("the bytes of key group {} are elsewhere", group.number)))?;
        before = Some(group.number);
        if wanted.contains(group.number) {
            groups.push(group);
        }
    }
    if end != index.place.start {
        return Err(Malformed::new(0, format!("{} bytes of the state are in no key group", index.place.start - end)));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: (u32, u32) = (0, u32::MAX);
    const FOOTER: usize = 24;
    const ENTRY: usize = 24;

    /// Reads index and footer of a state, as a reader does.
    fn read(state: &[u8], (start, end): (u32, u32)) -> Result<Vec<Group>, Malformed> {
        let footer_at = state.len().saturating_sub(FOOTER);
        let index = decode_footer(&state[footer_at..], state.len() as u64)?;
        let [start_at, end_at] = [index.place.start, index.place.end].map(|at| usize::try_from(at).unwrap());
        decode(&state[start_at..end_at], &index, KeyGroupRange::of(start, end).unwrap())
    }

    /// A state with groups of these lengths.
    fn state(groups: &[(u32, usize)]) -> (Vec<u8>, Vec<Group>) {
        let (mut state, mut index) = (Vec::new(), Vec::new());
        for (number, len) in groups {
            let bytes = vec![7; *len];
            let (offset, len, crc) = (state.len() as u64, *len as u64, crc32fast::hash(&bytes));
            index.push(Group { number: *number, offset, len, crc });
            state.extend(bytes);
        }
        state.extend(encode(&index).unwrap());
        (state, index)
    }

    /// The same bytes with other entries, under checksums that are right.
    fn forged(groups: &[Group], payload: usize) -> Vec<u8> {
        [vec![7; payload], encode(groups).unwrap()].concat()
    }

    #[test]
    fn index_comes_back_whole_and_in_part() {
        let (bytes, groups) = state(&[(3, 10), (4, 0), (9, 100)]);
        assert_eq!(bytes.len(), 110 + 3 * ENTRY + FOOTER);
        assert_eq!(read(&bytes, ALL).unwrap(), groups);
        assert_eq!(read(&bytes, (4, 9)).unwrap(), groups[1..2]);
        assert_eq!(read(&bytes, (10, 11)).unwrap(), []);
        assert_eq!(read(&state(&[]).0, ALL).unwrap(), []);
    }

    #[test]
    fn every_flipped_bit_of_index_and_footer_is_damage_and_no_newer_version() {
        let (bytes, _) = state(&[(3, 10), (9, 0)]);
        for bit in 10 * 8..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&damaged, ALL).unwrap_err().newer, None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len], ALL).is_err() && read(&vec![0; len], ALL).is_err(), "{len}");
        }
    }

    #[test]
    fn newer_version_is_told_from_damage() {
        let mut footer = Writer::default();
        footer.put(Footer { magic: MAGIC, version: VERSION + 1, groups: 0, index_crc: 0 });
        footer.put_crc_from(0);
        assert_eq!(read(&footer.finish(), ALL).unwrap_err().newer, Some((VERSION + 1, VERSION)));
    }

    #[test]
    fn index_that_lies_under_right_checksums_is_refused() {
        let group = |number, offset, len| Group { number, offset, len, crc: 0 };
        for (what, groups) in [
            ("is not in order", vec![group(3, 0, 5), group(3, 5, 5)]),
            ("is not in order", vec![group(3, 0, 5), group(2, 5, 5)]),
            ("are elsewhere", vec![group(3, 1, 9)]),
            ("are elsewhere", vec![group(3, 0, 5), group(4, 6, 4)]),
            ("are elsewhere", vec![group(3, 0, 5), group(4, 4, 6)]),
            ("are elsewhere", vec![group(3, 0, 11)]),
            ("are elsewhere", vec![group(3, 0, 5), group(4, 5, u64::MAX)]),
            ("are in no key group", vec![group(3, 0, 9)]),
            ("are in no key group", vec![]),
        ] {
            let error = read(&forged(&groups, 10), ALL).unwrap_err();
            assert!(error.what.contains(what), "{groups:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_reading_returns_and_takes_no_more_room_than_they(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300),
            count in any::<u32>(),
            seal in any::<bool>(),
        ) {
            if seal && bytes.len() >= 24 {
                let at = bytes.len() - 24;
                let few = if count.is_multiple_of(2) { count } else { count % 12 };
                let index = bytes[at.saturating_sub(few as usize % 12 * 24)..at].to_vec();
                let mut footer = Writer::default();
                let index_crc = crc32fast::hash(&index);
                footer.put(Footer { magic: MAGIC, version: VERSION, groups: few, index_crc });
                footer.put_crc_from(0);
                bytes.splice(at.., footer.finish());
            }
            if let Ok(groups) = read(&bytes, ALL) {
                prop_assert!(groups.capacity() <= 4 + 2 * bytes.len() / 24);
                prop_assert!(groups.iter().all(|group| group.offset + group.len <= bytes.len() as u64));
            }
        }
    }
}
