//! Bytes and nouns: pure functions over slices, no file and no clock.
//!
//! `docs/format.md` is normative for the bytes; `tests/fixtures/v1/` holds them. Reading treats every byte as hostile:
//! magic, version, length and checksum come before meaning, and a length is compared with the bytes that remain before
//! anything is allocated for it. Nothing empty and nothing filled with zeros parses.
//!
//! | file | holds |
//! |---|---|
//! | `base` | `manifests/*.base` and `*.copy` |
//! | `changes` | how the content of a checkpoint differs from that of an older one |
//! | `codec` | fixed-width little-endian records, bounded runs of bytes |
//! | `identity` | `piton.store` |
//! | `segment` | the head and the trailers of segments |
//! | `frame` | one piece with two checksums: `piton.departing`, and such a note in a record; sorted maps |
//! | `handles` | handles in a record, and its table of files |
//! | `key_groups` | the index of a state that is split into key groups |
//! | `log` | `manifests/*.log`: the header, and what records are framed by |
//! | `origins` | in a record, where files came from that were not written under their own names |
//! | `parts` | partitions, connectors, the status of sinks |
//! | `record` | what happens to the checkpoints of a store: the log and its bases are made of these |
//! | `source` | `piton.departing`, and in a record: which store is to go because its checkpoint was taken over |

pub(crate) mod base;
mod changes;
pub(crate) mod codec;
mod frame;
mod handles;
pub(crate) mod identity;
pub(crate) mod key_groups;
pub(crate) mod log;
mod origins;
mod parts;
pub(crate) mod record;
pub(crate) mod segment;
pub(crate) mod source;

/// The version of all formats. Files of a higher one are refused, untouched.
pub(crate) const VERSION: u32 = 1;

/// Every flipped bit, every cut, and zeros of every length are damage, and no newer version.
#[cfg(test)]
fn assert_all_damage_is_noticed<T: std::fmt::Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, crate::error::Malformed>,
) {
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode(&damaged).unwrap_err().newer, None, "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(decode(&bytes[..len]).is_err(), "cut to {len}");
        assert!(decode(&vec![0; len]).is_err(), "{len} zeros");
    }
}
