//! Which store is to go because a checkpoint was taken over from it, and by whom. It is in a record of the store that takes
//! over, and in `piton.departing` of the one that goes; both have the same bytes.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

use super::frame;
pub(crate) use super::frame::HEAD_LEN;
use crate::{
    error::Malformed,
    id::{CheckpointId, StoreId},
};

const MAGIC: [u8; 8] = *b"PITONSRC";
const WHAT: &str = "source";

/// What is agreed between two stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The store that the checkpoint belongs to, and its id there.
    pub(crate) ours: (StoreId, CheckpointId),
    /// Which attempt at that checkpoint: an id comes back if an attempt failed, but not in the same generation.
    pub(crate) generation: u64,
    /// The store that it was taken over from, and its id there.
    pub(crate) theirs: (StoreId, CheckpointId),
    /// The directory of that store, absolute.
    pub(crate) root: PathBuf,
}

pub(crate) fn encode(source: &Source) -> Vec<u8> {
    let mut writer = frame::begin();
    for (store, id) in [source.ours, source.theirs] {
        writer.put_raw(&store.0);
        writer.put(id.get());
    }
    writer.put(source.generation);
    writer.put_bytes(source.root.as_os_str().as_bytes());
    frame::finish(MAGIC, writer)
}

/// Checks, by its first [`HEAD_LEN`] bytes, that a source of this length can be whole: before all of it is read.
pub(crate) fn check_head(head: &[u8], len: u64) -> Result<(), Malformed> {
    frame::check_head(MAGIC, head, len, WHAT)
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Source, Malformed> {
    let mut reader = frame::open(MAGIC, bytes, WHAT)?;
    let mut checkpoint = || {
        let store = StoreId(reader.take("store")?);
        let id = CheckpointId::new(reader.take("checkpoint")?);
        Ok((store, id.ok_or_else(|| reader.malformed("there is no such checkpoint"))?))
    };
    let (ours, theirs) = (checkpoint()?, checkpoint()?);
    let generation = reader.take("generation")?;
    let root = PathBuf::from(OsStr::from_bytes(reader.take_bytes("root")?));
    if !root.is_absolute() {
        return Err(reader.malformed("the root is not absolute"));
    }
    reader.end()?;
    Ok(Source { ours, generation, theirs, root })
}

#[cfg(test)]
mod tests {
    use super::{super::assert_all_damage_is_noticed, *};

    #[test]
    fn comes_back_and_every_flipped_bit_and_every_cut_is_noticed() {
        let id = CheckpointId::FIRST;
        let (ours, theirs) = ((StoreId([1; 16]), id), (StoreId([2; 16]), id.next().unwrap()));
        let source = Source { ours, generation: 3, theirs, root: "/their/store".into() };
        let bytes = encode(&source);
        assert_eq!((bytes.len(), crc32fast::hash(&bytes)), (108, 3_685_428_620), "other bytes are another version");
        assert_eq!(decode(&bytes).unwrap(), source);
        assert_all_damage_is_noticed(&bytes, decode);
        let relative = Source { root: "their/store".into(), ..source };
        assert!(decode(&encode(&relative)).is_err());
    }
}
