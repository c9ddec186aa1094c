//! A data file while it is written.

use std::sync::Arc;

use crate::{
    disk::{
        layout,
        publish::TempFile,
        volume::{Volume, VolumeFile},
    },
    error::Result,
    format::segment::{HEADER_LEN, TRAILER_LEN, encode_header, encode_trailer},
    handle::Extent,
    id::{CheckpointId, FileId, StoreId},
};

/// One file with one state, under a temporary name until it is whole.
#[derive(Debug)]
pub(super) struct SegmentFile {
    id: FileId,
    temp: TempFile,
    /// Bytes of payload that the file has accepted.
    len: u64,
    /// Of those bytes.
    crc: crc32fast::Hasher,
}

/// A file with its final name, and the state in it.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) extent: Extent,
    pub(super) file: VolumeFile,
    pub(super) file_len: u64,
}

impl SegmentFile {
    pub(super) fn create(volume: &Arc<Volume>, store: StoreId, id: FileId) -> Result<Self> {
        let temp = TempFile::create(volume, layout::scope_dir(id.scope))?;
        temp.file().write_all_at(&encode_header(store, id), 0)?;
        Ok(Self { id, temp, len: 0, crc: crc32fast::Hasher::new() })
    }

    /// Appends to the payload.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.temp.file().write_all_at(bytes, HEADER_LEN + self.len)?;
        self.len += bytes.len() as u64;
        self.crc.update(bytes);
        Ok(())
    }

    /// Makes durable what was appended.
    pub(super) fn sync(&self) -> Result<()> {
        self.temp.file().sync()
    }

    /// Writes the trailer: the file is whole then, but has no final name yet.
    pub(super) fn complete(&mut self, checkpoint: CheckpointId) -> Result<Extent> {
        let crc = self.crc.clone().finalize();
        let extent = Extent { file: self.id, offset: HEADER_LEN, len: self.len, crc };
        self.temp.file().write_all_at(&encode_trailer(&extent, checkpoint), extent.end())?;
        Ok(extent)
    }

    /// Gives the whole file its final name.
    pub(super) fn publish(self, extent: Extent) -> Result<Written> {
        let file = self.temp.publish(&layout::segment(self.id))?;
        Ok(Written { extent, file, file_len: extent.end() + TRAILER_LEN })
    }
}
