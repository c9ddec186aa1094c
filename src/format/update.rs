//! `manifests/*.update`: what was changed of a checkpoint after it was published.
//!
//! A manifest is never changed. What may change beside it is in a file of its own, which is replaced as a whole, and says
//! to which manifest it belongs.

use std::sync::Arc;

use bincode::{Decode, Encode};

pub(crate) use super::frame::HEAD_LEN;
use super::{
    frame,
    manifest::{put_metadata, put_sink_status, take_metadata, take_sink_status},
};
use crate::{
    error::Malformed,
    id::{CheckpointId, StoreId},
    manifest::{Name, SinkCommitStatus},
    ordered::OrdMap,
};

const MAGIC: [u8; 8] = *b"PITONUPD";
const WHAT: &str = "update";

/// What `*.update` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) store: StoreId,
    pub(crate) id: CheckpointId,
    /// The checksum of the body of the manifest that it belongs to.
    pub(crate) manifest_crc: u32,
    /// Whether the checkpoint is exempt from pruning.
    pub(crate) pinned: bool,
    /// In place of what the manifest says.
    pub(crate) sink_status: OrdMap<Name, SinkCommitStatus>,
    /// In place of what the manifest says.
    pub(crate) metadata: OrdMap<Name, Arc<[u8]>>,
}

#[derive(Encode, Decode)]
struct Fixed {
    store: [u8; 16],
    id: u64,
    manifest_crc: u32,
    pinned: u8,
}

pub(crate) fn encode(update: &Update) -> Vec<u8> {
    let Update { store, id, manifest_crc, pinned, sink_status, metadata } = update;
    let mut writer = frame::begin();
    writer.put(Fixed { store: store.0, id: id.get(), manifest_crc: *manifest_crc, pinned: u8::from(*pinned) });
    put_sink_status(&mut writer, sink_status);
    put_metadata(&mut writer, metadata);
    frame::finish(MAGIC, writer)
}

/// Checks, by its first [`HEAD_LEN`] bytes, that an update of this length can be whole: before all of it is read.
pub(crate) fn check_head(head: &[u8], len: u64) -> Result<(), Malformed> {
    frame::check_head(MAGIC, head, len, WHAT)
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Update, Malformed> {
    let mut reader = frame::open(MAGIC, bytes, WHAT)?;
    let Fixed { store, id, manifest_crc, pinned } = reader.take("ids")?;
    let id = CheckpointId::new(id).filter(|_| pinned <= 1);
    let id = id.ok_or_else(|| reader.malformed("a field has a value that this version never writes"))?;
    let sink_status = take_sink_status(&mut reader)?;
    let metadata = take_metadata(&mut reader)?;
    reader.end()?;
    Ok(Update { store: StoreId(store), id, manifest_crc, pinned: pinned == 1, sink_status, metadata })
}

#[cfg(test)]
mod tests {
    use super::{super::assert_all_damage_is_noticed, *};

    #[test]
    fn comes_back_and_every_flipped_bit_and_every_cut_is_noticed() {
        let update = Update {
            store: StoreId([7; 16]),
            id: CheckpointId::FIRST,
            manifest_crc: 99,
            pinned: true,
            sink_status: [("out".into(), SinkCommitStatus::Failed("no".to_owned()))].into(),
            metadata: [("k".into(), *b"v")].into(),
        };
        let bytes = encode(&update);
        assert_eq!(decode(&bytes).unwrap(), update);
        assert_all_damage_is_noticed(&bytes, decode);
    }
}
