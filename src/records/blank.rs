//! A log that this process made, while it is blank and while it takes records.

use std::sync::Arc;

use crate::{
    disk::{file::VolumeFile, layout, publish::TempFile, spare, volume::Volume},
    error::{Cause, Error, Malformed, Result},
    format::log::{BLOCK, Header, Link, LogId, LogTag, Position, encode_head, encode_header, place, room},
    id::StoreId,
};

/// What is appended to a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) record: &'a [u8],
    pub(crate) urgency: Urgency,
}

/// Whether a record may use the room that is kept for when the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    Ordinary,
    /// It gives room back.
    GivesRoom,
}

impl Entry<'_> {
    /// How many bytes of each half it takes.
    pub(super) fn room(&self, is_first: bool) -> u64 {
        room(is_first, self.record.len())
    }
}

/// A log, open for appending.
#[derive(Debug)]
pub(super) struct OpenLog {
    file: VolumeFile,
    header: Header,
    tag: LogTag,
    /// Where the next record begins, in each half.
    end: u64,
}

/// What a log that is to be made says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) store: StoreId,
    pub(super) id: LogId,
    pub(super) half: u64,
    pub(super) fill: Fill,
    pub(super) reserved_ids: u64,
}

/// Whether a log is written full of zeros when it is made, so that appending to it changes no metadata of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    Zeros,
    Nothing,
}

/// At most this much of a half is kept for records that give room back.
const MOST_KEPT: u64 = 64 * 1024;

/// How much of a half of this length is kept for records that give room back.
fn kept(half: u64) -> u64 {
    (half / 4).min(MOST_KEPT) / BLOCK * BLOCK
}

/// The length of a half that takes this record as its first one, and whatever is kept behind it.
pub(super) fn half_for(entry: &Entry<'_>, least: u64) -> u64 {
    entry.room(true).saturating_add(MOST_KEPT).max(least)
}

/// Makes a log with a first record, or a blank one: durably, under its name, which no other file has. A crash leaves a
/// temporary name, or the whole log.
///
/// # Errors
///
/// `is_fenced` if there is a file of this name: another opener made it. Those of the file system. After a failed sync of
/// the directory the store is poisoned: the name may come and go.
pub(super) fn make(volume: &Arc<Volume>, plan: Plan, first: Option<(u64, &Link, &Entry<'_>)>) -> Result<OpenLog> {
    let Plan { store, id, half, fill, reserved_ids } = plan;
    let salt = getrandom::u64().map_err(|e| Error::invalid("make a log", e.to_string()))?;
    let temp = TempFile::create(volume, layout::MANIFESTS.as_ref())?;
    let filled = fill == Fill::Zeros && temp.file().fill(place(half, 2, 0))?;
    let header = Header { store, id, salt, half, filled, reserved_ids };
    write_headers(temp.file(), &header)?;
    let mut end = 0;
    if let Some((number, link, entry)) = first {
        end = write_record(temp.file(), (&header, header.tag()), (0, number), Some(link), entry.record)?;
    }
    temp.file().sync()?;
    let name = layout::log(id.generation, id.sequence);
    let file = temp.publish(&name).map_err(|error| match volume.metadata(&name) {
        Ok(None) => error,
        // Another opener has made a log of this generation; or the name is ours, and the call failed all the same.
        _ => volume.in_doubt(fenced(volume, id.generation, error)),
    })?;
    volume.settle_dir(layout::MANIFESTS)?;
    Ok(OpenLog { file, header, tag: header.tag(), end })
}

impl OpenLog {
    pub(super) fn id(&self) -> LogId {
        self.header.id
    }

    pub(super) fn reserved_ids(&self) -> u64 {
        self.header.reserved_ids
    }

    /// Behind its last record; `number` is that of the next one.
    pub(super) fn position(&self, number: u64) -> Position {
        let Header { id, salt, .. } = self.header;
        Position { log: id, salt, offset: self.end, number }
    }

    /// Whether it takes a record.
    pub(super) fn takes(&self, entry: &Entry<'_>) -> bool {
        let kept = if entry.urgency == Urgency::Ordinary { kept(self.header.half) } else { 0 };
        let need = entry.room(self.end == 0).saturating_add(self.end);
        need <= self.header.half.saturating_sub(kept)
    }

    /// Appends a record: both halves, one sync. After a failure nothing is known of the record, and nothing more may be
    /// written to this log.
    pub(super) fn append(
        &mut self,
        volume: &Volume,
        number: u64,
        link: Option<&Link>,
        entry: &Entry<'_>,
    ) -> Result<()> {
        let write = || write_record(&self.file, (&self.header, self.tag), (self.end, number), link, entry.record);
        // Where a file system copies what it changes, this takes room on a full disk.
        let gives_room = entry.urgency == Urgency::GivesRoom;
        let end = if gives_room { spare::even_if_full(volume, write) } else { write() }?;
        self.file.sync()?;
        self.end = end;
        Ok(())
    }

    /// Fails if the file has not got its name any more: what was appended is lost with it.
    pub(super) fn check_in_place(&self, volume: &Volume) -> Result<()> {
        let LogId { generation, sequence } = self.header.id;
        let name = layout::log(generation, sequence);
        match volume.leads_to(&name, &self.file)? {
            Some(false) => Err(Error::at("append to", &volume.path(name), Cause::Exchanged("the log"))),
            _ => Ok(()),
        }
    }
}

fn fenced(volume: &Volume, generation: u64, error: Error) -> Error {
    let taken = Cause::Fenced { ours: generation, found: generation };
    if error.io_kind() != Some(std::io::ErrorKind::AlreadyExists) {
        return error;
    }
    let fenced = Error::at("make a log", volume.root(), taken);
    volume.note_fenced(&fenced);
    fenced
}

pub(super) fn write_headers(file: &VolumeFile, header: &Header) -> Result<()> {
    let bytes = encode_header(header);
    [0, BLOCK].iter().try_for_each(|at| file.write_all_at(&bytes, *at))
}

/// Writes a record to both halves. Returns where the next one begins.
pub(super) fn write_record(
    file: &VolumeFile,
    (header, tag): (&Header, LogTag),
    (offset, number): (u64, u64),
    link: Option<&Link>,
    record: &[u8],
) -> Result<u64> {
    let head = encode_head(tag, (offset, number), link, record);
    let head = head.ok_or_else(|| Malformed::new(offset, "a record of 4 GiB or more").at("append to", file.path()))?;
    [0, 1].iter().try_for_each(|which| file.write_all_at(&head, place(header.half, *which, offset)))?;
    Ok(offset.saturating_add(room(link.is_some(), record.len())))
}
