//! Fixed-width little-endian records, and runs of bytes whose length is checked before it is believed.

use bincode::{
    Decode, Encode,
    config::{Configuration, Fixint, LittleEndian},
};

use super::VERSION;
use crate::error::Malformed;

type Parsed<T> = Result<T, Malformed>;

const CONFIG: Configuration<LittleEndian, Fixint> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding();

/// Appends records to a growing run of bytes.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Appends a record of fixed width.
    pub(crate) fn put(&mut self, record: impl Encode) {
        let encoded = bincode::encode_into_std_write(record, &mut self.bytes, CONFIG);
        debug_assert!(encoded.is_ok(), "memory takes every record of integers and arrays");
    }

    /// Appends a run of bytes behind its length (u64).
    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) {
        self.put(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends bytes as they are.
    pub(crate) fn put_raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends the CRC-32 of everything from `start` on.
    pub(crate) fn put_crc_from(&mut self, start: usize) {
        let crc = crc32fast::hash(self.bytes.get(start..).unwrap_or_default());
        self.put(crc);
    }

    /// Appends the CRC-32 of everything so far, as if bytes with this CRC-32 preceded it.
    pub(crate) fn put_crc_after(&mut self, before: u32) {
        let crc = crc_after(before, &self.bytes);
        self.put(crc);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// The CRC-32 of a run of bytes behind another run, of which only the CRC-32 is known.
fn crc_after(before: u32, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(before);
    crc.update(bytes);
    crc.finalize()
}

/// Takes records off a run of bytes; every failure names the offset.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Passes over bytes that are there.
    pub(crate) fn skip(&mut self, len: usize) {
        self.at = self.at.saturating_add(len).min(self.bytes.len());
    }

    /// A failure at the current offset.
    pub(crate) fn malformed(&self, what: impl Into<String>) -> Malformed {
        Malformed::new(self.at as u64, what)
    }

    /// The next record of fixed width.
    pub(crate) fn take<T: Decode<()>>(&mut self, what: &str) -> Parsed<T> {
        let (record, used) = bincode::decode_from_slice(self.rest(), CONFIG)
            .map_err(|_| self.malformed(format!("{what}: cut short")))?;
        self.at += used;
        Ok(record)
    }

    /// The next run of bytes, behind its length.
    pub(crate) fn take_bytes(&mut self, what: &str) -> Parsed<&'a [u8]> {
        let len: u64 = self.take(what)?;
        let run = usize::try_from(len).ok().and_then(|len| self.rest().get(..len));
        let run = run.ok_or_else(|| self.malformed(format!("{what}: {len} bytes are more than remain")))?;
        self.at += run.len();
        Ok(run)
    }

    /// The next run of bytes, as text.
    pub(crate) fn take_text(&mut self, what: &str) -> Parsed<&'a str> {
        let start = self.at;
        let bytes = self.take_bytes(what)?;
        std::str::from_utf8(bytes).map_err(|e| Malformed::new(start as u64, format!("{what}: {e}")))
    }

    /// A count of things of at least `least` bytes each, bounded by the bytes that remain.
    pub(crate) fn take_count(&mut self, least: usize, what: &str) -> Parsed<usize> {
        let count: u64 = self.take(what)?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= self.rest().len() / least.max(1))
            .ok_or_else(|| self.malformed(format!("{what}: {count} are more than remain")))
    }

    /// Checks the CRC-32 that follows: it covers everything from `start` up to here.
    pub(crate) fn take_crc_from(&mut self, start: usize, what: &str) -> Parsed<()> {
        let expected = crc32fast::hash(self.bytes.get(start..self.at).unwrap_or_default());
        self.take_crc(expected, what)
    }

    /// Checks the CRC-32 that follows: it covers everything up to here, as if bytes with the given one preceded it.
    pub(crate) fn take_crc_after(&mut self, before: u32, what: &str) -> Parsed<()> {
        let expected = crc_after(before, self.bytes.get(..self.at).unwrap_or_default());
        self.take_crc(expected, what)
    }

    fn take_crc(&mut self, expected: u32, what: &str) -> Parsed<()> {
        let at = self.at;
        let found: u32 = self.take(what)?;
        if found == expected {
            return Ok(());
        }
        Err(Malformed::new(at as u64, format!("{what}: checksum {found:08x}, the bytes have {expected:08x}")))
    }

    /// Checks magic and version, the first twelve bytes of every file of ours.
    ///
    /// A header is of `head_len` bytes, its checksum included. If the checksum is right for our version, another one is
    /// a flipped bit and no newer format.
    pub(crate) fn take_magic(&mut self, magic: [u8; 8], head_len: usize, what: &str) -> Parsed<()> {
        let found: [u8; 8] = self.take("magic")?;
        if found != magic {
            return Err(Malformed::new(0, format!("this is not a {what} of piton")));
        }
        let version: u32 = self.take("version")?;
        match version {
            VERSION => Ok(()),
            0 => Err(Malformed::new(8, "format version 0")),
            _ if self.is_ours_but_for_its_version(head_len) => Err(Malformed::new(8, "the version is damaged")),
            newer => Err(Malformed::newer(8, newer, VERSION)),
        }
    }

    fn is_ours_but_for_its_version(&self, head_len: usize) -> bool {
        let Some((covered, crc)) = self.bytes.get(..head_len).and_then(<[u8]>::split_last_chunk::<4>) else {
            return false;
        };
        let mut covered = covered.to_vec();
        if let Some(version) = covered.get_mut(8..12) {
            version.copy_from_slice(&VERSION.to_le_bytes());
        }
        crc32fast::hash(&covered) == u32::from_le_bytes(*crc)
    }

    /// Checks that nothing follows.
    pub(crate) fn end(&self) -> Parsed<()> {
        match self.rest().len() {
            0 => Ok(()),
            more => Err(self.malformed(format!("{more} bytes too many"))),
        }
    }
}
