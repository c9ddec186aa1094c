//! A header with its own checksum, a body, the body's checksum; and the maps that bodies and records are made of.
//!
//! A map is a count and then its entries in ascending order of their keys, each key once: it has one form only.

use bincode::{Decode, Encode};

use super::{
    VERSION,
    codec::{Reader, Writer},
};
use crate::error::Malformed;

type Parsed<T> = Result<T, Malformed>;

/// Bytes of the header, its checksum included.
pub(crate) const HEAD_LEN: usize = 28;
/// Bytes of a name without any.
pub(super) const LEAST_NAME_LEN: usize = 8;

#[derive(Encode, Decode)]
struct Head {
    magic: [u8; 8],
    version: u32,
    flags: u32,
    body_len: u64,
}

/// Begins a file with room for its header.
pub(super) fn begin() -> Writer {
    let mut writer = Writer::default();
    writer.put_raw(&[0; HEAD_LEN]);
    writer
}

/// Fills in the header of a file that [`begin`] began, and adds the checksum of its body.
pub(super) fn finish(magic: [u8; 8], mut writer: Writer) -> Vec<u8> {
    writer.put_crc_from(HEAD_LEN);
    let mut bytes = writer.finish();
    let body_len = (bytes.len() - HEAD_LEN - 4) as u64;
    let mut head = Writer::default();
    head.put(Head { magic, version: VERSION, flags: 0, body_len });
    head.put_crc_from(0);
    if let Some(target) = bytes.get_mut(..HEAD_LEN) {
        target.copy_from_slice(&head.finish());
    }
    bytes
}

/// The body of a file of this kind.
pub(super) fn open<'a>(magic: [u8; 8], bytes: &'a [u8], what: &str) -> Parsed<Reader<'a>> {
    let mut reader = Reader::new(bytes);
    let body_len = take_head(magic, &mut reader, bytes.len() as u64, what)?;
    let end = HEAD_LEN.saturating_add(body_len);
    reader.skip(body_len);
    reader.take_crc_from(HEAD_LEN, "body")?;
    reader.end()?;
    let mut body = Reader::new(bytes.get(..end).unwrap_or_default());
    body.skip(HEAD_LEN);
    Ok(body)
}

/// Checks, by its first [`HEAD_LEN`] bytes, that a file of this length can be whole: before all of it is read.
pub(super) fn check_head(magic: [u8; 8], head: &[u8], len: u64, what: &str) -> Parsed<()> {
    take_head(magic, &mut Reader::new(head), len, what).map(drop)
}

/// Takes the header off; returns the length of the body.
fn take_head(magic: [u8; 8], reader: &mut Reader<'_>, len: u64, what: &str) -> Parsed<usize> {
    Reader::new(reader.rest()).take_magic(magic, HEAD_LEN, what)?;
    let head: Head = reader.take("header")?;
    reader.take_crc_from(0, "header")?;
    if head.flags != 0 {
        return Err(Malformed::new(12, "a flag that this version never sets"));
    }
    let whole = head.body_len.checked_add(HEAD_LEN as u64 + 4) == Some(len);
    usize::try_from(head.body_len)
        .ok()
        .filter(|_| whole)
        .ok_or_else(|| reader.malformed(format!("{} bytes of body announced, {len} in all", head.body_len)))
}

pub(super) fn put_text(writer: &mut Writer, text: &str) {
    writer.put_bytes(text.as_bytes());
}

pub(super) fn put_option<T>(writer: &mut Writer, value: Option<&T>, put: impl FnOnce(&mut Writer, &T)) {
    writer.put(u8::from(value.is_some()));
    if let Some(value) = value {
        put(writer, value);
    }
}

pub(super) fn take_option<'a, T>(
    reader: &mut Reader<'a>,
    what: &str,
    take: impl FnOnce(&mut Reader<'a>) -> Parsed<T>,
) -> Parsed<Option<T>> {
    match reader.take::<u8>(what)? {
        0 => Ok(None),
        1 => take(reader).map(Some),
        other => Err(reader.malformed(format!("{what}: {other} is neither there nor not"))),
    }
}

/// A map by name, of so many entries in the order of their names.
pub(super) fn put_map<'a, K: AsRef<str> + 'a, T: 'a>(
    writer: &mut Writer,
    len: usize,
    entries: impl Iterator<Item = (&'a K, &'a T)>,
    mut put: impl FnMut(&mut Writer, &T),
) {
    writer.put(len as u64);
    for (name, value) in entries {
        put_text(writer, name.as_ref());
        put(writer, value);
    }
}

/// A map by name, of values of at least so many bytes.
pub(super) fn take_map<'a, K, T, M>(
    reader: &mut Reader<'a>,
    least: usize,
    what: &str,
    mut take: impl FnMut(&mut Reader<'a>) -> Parsed<T>,
) -> Parsed<M>
where
    K: for<'n> From<&'n str> + Ord + Clone,
    M: Default + Extend<(K, T)>,
{
    let least = LEAST_NAME_LEN + least;
    take_sorted(reader, least, what, |reader| Ok((K::from(reader.take_text(what)?), take(reader)?)))
}

/// A count, and so many entries of at least so many bytes, in ascending order of their keys, each key once. Nothing else of
/// them is held than what they are collected in.
pub(super) fn take_sorted<'a, K: Ord + Clone, T, M: Default + Extend<(K, T)>>(
    reader: &mut Reader<'a>,
    least: usize,
    what: &str,
    mut take: impl FnMut(&mut Reader<'a>) -> Parsed<(K, T)>,
) -> Parsed<M> {
    let count = reader.take_count(least, what)?;
    let (mut entries, mut before) = (M::default(), None);
    for _ in 0..count {
        let (key, value) = take(reader)?;
        if before.is_some_and(|before| before >= key) {
            return Err(reader.malformed(format!("{what}: not in order")));
        }
        before = Some(key.clone());
        entries.extend([(key, value)]);
    }
    Ok(entries)
}
