//! Bytes and nouns: pure functions over slices, no file and no clock.
//!
//! `docs/format.md` is normative for the bytes; `tests/fixtures/v1/` holds them. Reading treats every byte as hostile:
//! magic, version, length and checksum come before meaning, and a length is compared with the bytes that remain before
//! anything is allocated for it. Nothing empty and nothing filled with zeros parses.
//!
//! | file | holds |
//! |---|---|
//! | `codec` | fixed-width little-endian records, bounded runs of bytes |
//! | `identity` | `piton.store` |
//! | `segment` | the head and the trailers of segments |
//! | `frame` | what manifests and updates have in common: header, body, checksums, sorted maps |
//! | `handles` | handles in a manifest, and its table of files |
//! | `manifest` | `manifests/*.manifest` |
//! | `origins` | in a manifest, where files came from that were not written under their own names |
//! | `update` | `manifests/*.update` |
//! | `source` | `manifests/*.source` |

pub(crate) mod codec;
mod frame;
mod handles;
pub(crate) mod identity;
pub(crate) mod manifest;
mod origins;
pub(crate) mod segment;
pub(crate) mod source;
pub(crate) mod update;

/// The version of all formats. Files of a higher one are refused, untouched.
pub(crate) const VERSION: u32 = 1;
