//! Where a state is, how long it is, and which checksum its bytes have.

use std::{fmt, ops::Deref, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    error::{Error, Result},
    id::{FileId, Scope, StoreId},
};

/// Names one state: where it is, how long, which CRC-32.
///
/// A handle is small and cheap to clone. It says which store it is of, and names files relative to that, so a store may be
/// moved. It has a text
/// form ([`Display`](fmt::Display), [`FromStr`]) and is serde-serialisable: as that text in formats for people, in
/// binary otherwise. Holding a handle keeps nothing alive: a state lives while a checkpoint, a pending checkpoint or an
/// open [`Checkpoint`](crate::Checkpoint) refers to it.
///
/// # Examples
///
/// ```
/// use piton::StateHandle;
///
/// let text = "shared:00112233445566778899aabbccddeeff:1.0.3@64+4096#1a2b3c4d";
/// let handle: StateHandle = text.parse()?;
/// assert_eq!((handle.len(), handle.to_string()), (4096, text.to_owned()));
/// assert_eq!(handle.store().unwrap().to_string(), "00112233445566778899aabbccddeeff");
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateHandle(pub(crate) Place);

/// Where the bytes of a state are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// In the handle itself, and so in every manifest that names it.
    Inline { bytes: InlineBytes, crc: u32 },
    /// In a file of a store.
    File { file: Arc<FileRef>, offset: u64, len: u64, crc: u32 },
}

/// The bytes of a state that travels inside its handle: a few in place, more of them shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum InlineBytes {
    Few { len: u8, bytes: [u8; FEW] },
    Many(Arc<[u8]>),
}

/// As many as take no room that a handle does not have.
const FEW: usize = 15;

impl Deref for InlineBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Few { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Many(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for InlineBytes {
    fn from(bytes: &[u8]) -> Self {
        let mut few = [0; FEW];
        match (few.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(bytes);
                Self::Few { len, bytes: few }
            }
            _ => Self::Many(bytes.into()),
        }
    }
}

/// A state's own bytes, or where they are.
pub(crate) enum Either<'a> {
    Inline(&'a InlineBytes),
    File(Extent),
}

/// A data file of a store: one for all handles of the states in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileRef {
    pub(crate) store: StoreId,
    pub(crate) file: FileId,
}

/// A handle as it is in binary formats.
#[derive(Serialize, Deserialize)]
enum Form {
    Inline { bytes: Arc<[u8]>, crc: u32 },
    File { store: StoreId, extent: Extent },
}

/// A run of bytes in a data file, with the checksum that they must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub(crate) file: FileId,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

impl Extent {
    /// One past the last byte. Offsets and lengths are bounded wherever they are read, so this cannot wrap there.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

impl StateHandle {
    /// A state that travels inside its handle, and so in every manifest that names it: for own implementations of
    /// [`CheckpointStream`](crate::contract::CheckpointStream), and for what is too small to be written. No store bounds its
    /// size.
    ///
    /// # Examples
    ///
    /// ```
    /// let handle = piton::StateHandle::inline(b"7:1234");
    /// assert_eq!(handle.inline_bytes(), Some(&b"7:1234"[..]));
    /// ```
    #[must_use]
    pub fn inline(bytes: &[u8]) -> Self {
        Self(Place::Inline { bytes: bytes.into(), crc: crc32fast::hash(bytes) })
    }

    pub(crate) fn file(store: StoreId, extent: Extent) -> Self {
        Self::in_file(&Arc::new(FileRef { store, file: extent.file }), &extent)
    }

    /// A state in this file, wherever in it the extent is.
    pub(crate) fn in_file(file: &Arc<FileRef>, extent: &Extent) -> Self {
        let Extent { offset, len, crc, .. } = *extent;
        Self(Place::File { file: Arc::clone(file), offset, len, crc })
    }

    /// The store whose state this is; `None` if the state travels inside the handle.
    #[must_use]
    pub fn store(&self) -> Option<StoreId> {
        match &self.0 {
            Place::File { file, .. } => Some(file.store),
            Place::Inline { .. } => None,
        }
    }

    /// Refuses a state of another store.
    pub(crate) fn check_store(&self, ours: StoreId, operation: &str) -> Result<()> {
        match self.store().filter(|store| *store != ours) {
            Some(store) => {
                let why =
                    format!("state {self} is of another store, {store}, and this is {ours}; import its checkpoint");
                Err(Error::invalid(operation, why))
            }
            None => Ok(()),
        }
    }

    /// Where the bytes of the state are.
    pub(crate) fn place(&self) -> Either<'_> {
        match &self.0 {
            Place::Inline { bytes, .. } => Either::Inline(bytes),
            Place::File { file, offset, len, crc } => {
                Either::File(Extent { file: file.file, offset: *offset, len: *len, crc: *crc })
            }
        }
    }

    /// The extent, unless the state travels inside the handle.
    pub(crate) fn extent(&self) -> Option<Extent> {
        match self.place() {
            Either::File(extent) => Some(extent),
            Either::Inline(_) => None,
        }
    }

    /// How many bytes the state has.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.0 {
            Place::Inline { bytes, .. } => bytes.len() as u64,
            Place::File { len, .. } => *len,
        }
    }

    /// Whether the state has no bytes. An empty state is a state: it can be named, committed and read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In which scope the state is; `None` if it travels inside the handle.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        self.extent().map(|extent| extent.file.scope)
    }

    /// Whether the state travels inside the handle and the manifest instead of a file.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        matches!(self.0, Place::Inline { .. })
    }

    /// The bytes of a state that travels inside the handle; `None` if it is in a file.
    #[must_use]
    pub fn inline_bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Place::Inline { bytes, .. } => Some(bytes),
            Place::File { .. } => None,
        }
    }

    /// The CRC-32 (IEEE) of the state's bytes.
    #[must_use]
    pub fn crc32(&self) -> u32 {
        match &self.0 {
            Place::Inline { crc, .. } | Place::File { crc, .. } => *crc,
        }
    }
}

impl fmt::Display for StateHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Inline { bytes, crc } => {
                f.write_str("inline:")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                write!(f, "#{crc:08x}")
            }
            Place::File { file, offset, len, crc } => {
                let FileRef { store, file: FileId { scope, generation, lane, sequence } } = **file;
                let scope = scope_name(scope);
                write!(f, "{scope}:{store}:{generation}.{lane}.{sequence}@{offset}+{len}#{crc:08x}")
            }
        }
    }
}

impl FromStr for StateHandle {
    type Err = Error;

    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// `is_invalid` if the text is none, if an inline state does not have the checksum it claims, or if a state would
    /// end beyond the largest file.
    fn from_str(text: &str) -> Result<Self> {
        parse(text).filter(Self::is_sound).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            Error::invalid("parse state handle", format!("{shown:?} is not the text of a state handle"))
        })
    }
}

impl StateHandle {
    /// Whether a handle that came from outside can be one of ours.
    fn is_sound(&self) -> bool {
        match &self.0 {
            Place::Inline { bytes, crc } => crc32fast::hash(bytes) == *crc,
            Place::File { offset, len, .. } => offset.checked_add(*len).is_some(),
        }
    }
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Exclusive => "exclusive",
        Scope::Shared => "shared",
    }
}

fn parse(text: &str) -> Option<StateHandle> {
    let (rest, crc) = text.rsplit_once('#')?;
    let crc = hex(crc, 8)?;
    let (kind, rest) = rest.split_once(':')?;
    let scope = match kind {
        "inline" => return Some(StateHandle(Place::Inline { bytes: bytes(rest)?[..].into(), crc })),
        "exclusive" => Scope::Exclusive,
        "shared" => Scope::Shared,
        _ => return None,
    };
    let (store, rest) = rest.split_once(':')?;
    let store = StoreId::parse(store)?;
    let (file, range) = rest.split_once('@')?;
    let (offset, len) = range.split_once('+')?;
    let mut parts = file.splitn(3, '.');
    let generation = parts.next()?.parse().ok()?;
    let lane = parts.next()?.parse().ok()?;
    let sequence = parts.next()?.parse().ok()?;
    let file = FileId { scope, generation, lane, sequence };
    Some(StateHandle::file(store, Extent { file, offset: offset.parse().ok()?, len: len.parse().ok()?, crc }))
}

fn hex(text: &str, digits: usize) -> Option<u32> {
    let all_digits = text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    all_digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn bytes(text: &str) -> Option<Arc<[u8]>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|pair| u8::try_from(hex(std::str::from_utf8(pair).ok()?, 2)?).ok()).collect()
}

impl Serialize for StateHandle {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        let form = match (&self.0, self.extent()) {
            (Place::File { file, .. }, Some(extent)) => Form::File { store: file.store, extent },
            _ => Form::Inline { bytes: self.inline_bytes().unwrap_or_default().into(), crc: self.crc32() },
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StateHandle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(D::Error::custom);
        }
        let handle = match Form::deserialize(deserializer)? {
            Form::Inline { bytes, crc } => Self(Place::Inline { bytes: bytes[..].into(), crc }),
            Form::File { store, extent } => Self::file(store, extent),
        };
        if handle.is_sound() { Ok(handle) } else { Err(D::Error::custom("not a state handle")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_and_binary_forms_come_back() {
        let file = FileId { scope: Scope::Exclusive, generation: 9, lane: 2, sequence: u64::MAX };
        let extent = Extent { file, offset: 64, len: 1 << 40, crc: 0x00ab_cdef };
        let in_file = StateHandle::file(StoreId([0xa5; 16]), extent);
        for handle in [StateHandle::inline(b""), StateHandle::inline(b"\0\xff"), in_file] {
            assert_eq!(handle.to_string().parse::<StateHandle>().unwrap(), handle);
            let json = serde_json::to_string(&handle).unwrap();
            assert_eq!(serde_json::from_str::<StateHandle>(&json).unwrap(), handle);
        }
    }

    #[test]
    fn handle_is_small_and_all_of_one_file_share_what_they_have_in_common() {
        assert!(size_of::<StateHandle>() <= 32);
    }

    #[test]
    fn text_that_is_no_handle_is_refused_by_name() {
        for text in [
            "",
            "inline:00",
            "inline:00#00000000",
            "inline:0#d202ef8d",
            "inline:+1#d202ef8d",
            "shared:1.0.2@64+4#00000000",
            "shared:00112233445566778899aabbccddeeff:1.0@64+4#00000000",
            "shared:00112233445566778899AABBCCDDEEFF:1.0.2@64+4#00000000",
            "shared:00112233445566778899aabbccddeef:1.0.2@64+4#00000000",
            "shared:00112233445566778899aabbccddeeff:1.0.2@18446744073709551615+1#00000000",
            "elsewhere:00112233445566778899aabbccddeeff:1.0.2@64+4#00000000",
            "shared:00112233445566778899aabbccddeeff:1.0.2@64+4#+0000000",
        ] {
            let error = text.parse::<StateHandle>().unwrap_err();
            assert!(error.is_invalid() && error.to_string().contains(text), "{error}");
        }
    }
}
