//! Records: what happens to the checkpoints of a store, one after the other.
//!
//! The manifest log is made of them, and so is a base, which has those that lead to the same checkpoints in fewer steps. A
//! checkpoint is recorded as its differences from another one, which it names.

use std::sync::Arc;

use bincode::{Decode, Encode};

use super::{
    VERSION, changes,
    codec::{Reader, Writer},
    frame::LEAST_NAME_LEN,
    handles::{FILE_RECORD_LEN, put_file, take_file},
    parts::{put_status, take_status},
    segment::HEADER_LEN,
    source::{self, Source},
};
use crate::{
    error::Malformed,
    handle::Extent,
    id::{CheckpointId, LAST, StoreId},
    manifest::{CheckpointKind, Manifest, ManifestContent, Name, Origins, SinkCommitStatus},
    ordered::OrdMap,
};

type Parsed<T> = Result<T, Malformed>;

const CHECKPOINT: u8 = 1;
const FORGOTTEN: u8 = 2;
const UPDATED: u8 = 3;
const ROLLED_BACK: u8 = 4;
const LOST: u8 = 5;
const IDS_USED: u8 = 6;
const DEPARTING: u8 = 7;
const DEPARTED: u8 = 8;

/// In the flags of a checkpoint.
const PINNED: u8 = 1;
const UNSYNCED: u8 = 2;

/// A state without bytes: its file, its offset, its checksum, a length.
const LEAST_REDO_LEN: usize = FILE_RECORD_LEN + 8 + 4 + 8;

/// The checkpoints above the first id, up to the second, were rolled back. Ascending.
pub(crate) type RolledBack = Vec<(u64, u64)>;

/// Whether a checkpoint was rolled back.
pub(crate) fn is_rolled_back(ranges: &RolledBack, id: CheckpointId) -> bool {
    ranges.iter().any(|(to, from)| *to < id.get() && id.get() <= *from)
}

/// What a record says of a checkpoint beside what it consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) pinned: bool,
    /// It was committed without syncs: a power cut may have taken any of its states.
    pub(crate) unsynced: bool,
}

impl Marks {
    fn flags(self) -> u8 {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        flag(self.pinned, PINNED) | flag(self.unsynced, UNSYNCED)
    }

    /// `None` if there are flags that this version does not know.
    fn of(flags: u8) -> Option<Self> {
        let marks = Self { pinned: flags & PINNED != 0, unsynced: flags & UNSYNCED != 0 };
        (marks.flags() == flags).then_some(marks)
    }
}

/// A record, as far as it can be read without what it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// A checkpoint was published, and these were given up with it.
    Checkpoint(Published<'a>),
    Forgotten(Vec<CheckpointId>),
    /// Sinks, metadata or the pin of a checkpoint were changed.
    Updated(Updated<'a>),
    /// All roll-backs that count from now on, ascending.
    RolledBack(RolledBack),
    /// There is a checkpoint of which nothing else is known. In bases alone.
    Lost(Unknown),
    /// Every id up to this one was used. Also the first record of a log that has nothing else to say.
    IdsUsed(u64),
    /// A store is to go because this checkpoint is taken over from it.
    Departing(Source),
    /// The store that this checkpoint was taken over from is gone, or stays.
    Departed(CheckpointId),
}

/// A checkpoint that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published<'a> {
    pub(crate) id: CheckpointId,
    /// The checkpoint that the differences are from; none for an empty content.
    pub(crate) against: Option<CheckpointId>,
    pub(crate) marks: Marks,
    pub(crate) forgotten: Vec<CheckpointId>,
    pub(crate) redo: Vec<Redo<'a>>,
    fixed: Fixed,
    changes: &'a [u8],
}

/// A state whose segment was not synced: its bytes are in the record as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Redo<'a> {
    pub(crate) extent: Extent,
    pub(crate) bytes: &'a [u8],
}

/// A checkpoint of which the content is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    pub(crate) id: CheckpointId,
    /// The generation that published it.
    pub(crate) generation: u64,
    pub(crate) pinned: bool,
}

/// What may change of a checkpoint after it was published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changeable {
    pub(crate) sink_status: OrdMap<Name, SinkCommitStatus>,
    pub(crate) metadata: OrdMap<Name, Arc<[u8]>>,
}

impl Changeable {
    pub(crate) fn of(content: &ManifestContent) -> Self {
        Self { sink_status: content.sink_status.clone(), metadata: content.metadata.clone() }
    }

    pub(crate) fn apply(self, content: &mut ManifestContent) {
        (content.sink_status, content.metadata) = (self.sink_status, self.metadata);
    }
}

/// A checkpoint that was changed after it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Updated<'a> {
    pub(crate) id: CheckpointId,
    pub(crate) pinned: bool,
    changes: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Fixed {
    id: u64,
    /// 0 for none.
    against: u64,
    generation: u64,
    epoch: u64,
    timestamp_ms: u64,
    kind: u8,
    /// 0 for none.
    parent: u64,
    vnode_count: u16,
    flags: u8,
}

/// The checkpoint that another one is recorded by its differences from, with its content. The default is an empty content.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Against<'a>(pub(crate) Option<(CheckpointId, &'a ManifestContent)>);

/// How many bytes of a record a state of this length takes that is to be redone.
pub(crate) fn redo_len(len: u64) -> u64 {
    len.saturating_add(LEAST_REDO_LEN as u64)
}

/// A checkpoint as its differences from another one, with the states whose segments are not synced. `None` if the states
/// that came are in more files than can be counted in 32 bits.
pub(crate) fn checkpoint(
    manifest: &Manifest,
    marks: Marks,
    Against(against): Against<'_>,
    forgotten: &[CheckpointId],
    redo: &[Redo<'_>],
) -> Option<Vec<u8>> {
    let empty = ManifestContent::default();
    let before = against.map_or(&empty, |(_, content)| content);
    let Manifest { id, generation, origins, content, .. } = manifest;
    let mut writer = Writer::default();
    writer.put(CHECKPOINT);
    writer.put(Fixed {
        id: id.get(),
        against: against.map_or(0, |(id, _)| id.get()),
        generation: *generation,
        epoch: manifest.epoch(),
        timestamp_ms: content.timestamp_ms,
        kind: match content.kind {
            CheckpointKind::Checkpoint => 1,
            CheckpointKind::Savepoint => 2,
        },
        parent: content.parent.map_or(0, CheckpointId::get),
        vnode_count: manifest.vnode_count(),
        flags: marks.flags(),
    });
    put_ids(&mut writer, forgotten);
    put_redo(&mut writer, redo);
    changes::put(&mut writer, before, content, origins)?;
    Some(writer.finish())
}

pub(crate) fn forgotten(ids: &[CheckpointId]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.put(FORGOTTEN);
    put_ids(&mut writer, ids);
    writer.finish()
}

/// What may change of a checkpoint after it was published, as it is now: recorded by how it differs from what was published.
pub(crate) fn updated(id: CheckpointId, pinned: bool, published: &ManifestContent, now: &Changeable) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.put((UPDATED, id.get(), u8::from(pinned)));
    changes::put_map(&mut writer, &published.sink_status, &now.sink_status, |writer, _, status| {
        put_status(writer, status);
    });
    changes::put_map(&mut writer, &published.metadata, &now.metadata, |writer, _, bytes| writer.put_bytes(bytes));
    writer.finish()
}

pub(crate) fn rolled_back(ranges: &RolledBack) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.put((ROLLED_BACK, ranges.len() as u64));
    for range in ranges {
        writer.put(*range);
    }
    writer.finish()
}

pub(crate) fn lost(Unknown { id, generation, pinned }: Unknown) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.put((LOST, id.get(), generation, u8::from(pinned)));
    writer.finish()
}

pub(crate) fn ids_used(up_to: u64) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.put((IDS_USED, up_to));
    writer.finish()
}

pub(crate) fn departing(source: &Source) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.put(DEPARTING);
    writer.put_raw(&source::encode(source));
    writer.finish()
}

pub(crate) fn departed(id: CheckpointId) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.put((DEPARTED, id.get()));
    writer.finish()
}

/// Reads a record: all of these bytes.
pub(crate) fn decode(bytes: &[u8]) -> Parsed<Record<'_>> {
    let mut reader = Reader::new(bytes);
    let record = match reader.take::<u8>("kind of record")? {
        CHECKPOINT => {
            let fixed: Fixed = reader.take("checkpoint")?;
            let id = id_of(&reader, fixed.id)?;
            let is_known = matches!(fixed.kind, 1 | 2) && fixed.generation.max(fixed.parent).max(fixed.against) <= LAST;
            let marks = Marks::of(fixed.flags).filter(|_| is_known);
            let unknown = || reader.malformed("a field has a value that this version never writes");
            let (against, marks) = (CheckpointId::new(fixed.against), marks.ok_or_else(unknown)?);
            let forgotten = take_ids(&mut reader)?;
            let redo = take_redo(&mut reader)?;
            let changes = reader.rest();
            return Ok(Record::Checkpoint(Published { id, against, marks, forgotten, redo, fixed, changes }));
        }
        UPDATED => {
            let id: u64 = reader.take("updated checkpoint")?;
            let id = id_of(&reader, id)?;
            let pinned = take_pin(&mut reader)?;
            return Ok(Record::Updated(Updated { id, pinned, changes: reader.rest() }));
        }
        FORGOTTEN => Record::Forgotten(take_ids(&mut reader)?),
        ROLLED_BACK => Record::RolledBack(take_ranges(&mut reader)?),
        LOST => {
            let (id, generation): (u64, u64) = reader.take("lost checkpoint")?;
            if generation > LAST {
                return Err(reader.malformed(format!("no store has generation {generation}")));
            }
            let (id, pinned) = (id_of(&reader, id)?, take_pin(&mut reader)?);
            Record::Lost(Unknown { id, generation, pinned })
        }
        IDS_USED => {
            let id: u64 = reader.take("used ids")?;
            if id > LAST {
                return Err(reader.malformed(format!("{id} is no id of a checkpoint")));
            }
            Record::IdsUsed(id)
        }
        DEPARTING => return source::decode(reader.rest()).map(Record::Departing),
        DEPARTED => {
            let id: u64 = reader.take("checkpoint")?;
            Record::Departed(id_of(&reader, id)?)
        }
        // The record is whole: a newer version wrote it.
        _ => return Err(Malformed::newer(0, VERSION.saturating_add(1), VERSION)),
    };
    reader.end()?;
    Ok(record)
}

impl Published<'_> {
    /// The generation that published the checkpoint.
    pub(crate) fn generation(&self) -> u64 {
        self.fixed.generation
    }

    pub(crate) fn kind(&self) -> CheckpointKind {
        if self.fixed.kind == 1 { CheckpointKind::Checkpoint } else { CheckpointKind::Savepoint }
    }

    /// The content, given the one that the differences are from, and the origins of the files of the states that came.
    pub(crate) fn content(&self, store: StoreId, before: &ManifestContent) -> Parsed<(ManifestContent, Origins)> {
        let mut reader = Reader::new(self.changes);
        let (content, origins) = changes::take(&mut reader, store, before)?;
        reader.end()?;
        let Fixed { epoch, timestamp_ms, parent, vnode_count, .. } = self.fixed;
        let content = ManifestContent {
            epoch: Some(epoch),
            timestamp_ms,
            kind: self.kind(),
            parent: CheckpointId::new(parent),
            vnode_count: Some(vnode_count),
            ..content
        };
        Ok((content, origins))
    }
}

impl Updated<'_> {
    /// What may change of the checkpoint, as it is from now on, given what was published.
    pub(crate) fn changeable(&self, published: &ManifestContent) -> Parsed<Changeable> {
        let mut reader = Reader::new(self.changes);
        let (status, metadata) = (&published.sink_status, &published.metadata);
        let sink_status =
            changes::take_map(&mut reader, status, 1, "sink commit status", |reader, _| take_status(reader))?;
        let metadata = changes::take_map(&mut reader, metadata, LEAST_NAME_LEN, "metadata", |reader, _| {
            reader.take_bytes("metadata").map(Arc::from)
        })?;
        reader.end()?;
        Ok(Changeable { sink_status, metadata })
    }
}

fn id_of(reader: &Reader<'_>, id: u64) -> Parsed<CheckpointId> {
    CheckpointId::new(id).ok_or_else(|| reader.malformed(format!("{id} is no id of a checkpoint")))
}

fn take_pin(reader: &mut Reader<'_>) -> Parsed<bool> {
    match reader.take::<u8>("pin")? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(reader.malformed(format!("pin: {other} is neither on nor off"))),
    }
}

fn put_ids(writer: &mut Writer, ids: &[CheckpointId]) {
    writer.put(ids.len() as u64);
    for id in ids {
        writer.put(id.get());
    }
}

fn take_ids(reader: &mut Reader<'_>) -> Parsed<Vec<CheckpointId>> {
    let count = reader.take_count(8, "forgotten checkpoints")?;
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        let id: u64 = reader.take("forgotten checkpoint")?;
        ids.push(id_of(reader, id)?);
    }
    Ok(ids)
}

fn put_redo(writer: &mut Writer, redo: &[Redo<'_>]) {
    writer.put(redo.len() as u64);
    for Redo { extent, bytes } in redo {
        put_file(writer, extent.file);
        writer.put((extent.offset, extent.crc));
        writer.put_bytes(bytes);
    }
}

fn take_redo<'a>(reader: &mut Reader<'a>) -> Parsed<Vec<Redo<'a>>> {
    let count = reader.take_count(LEAST_REDO_LEN, "states to redo")?;
    let mut redo = Vec::with_capacity(count);
    for _ in 0..count {
        let file = take_file(reader)?;
        let (offset, crc): (u64, u32) = reader.take("state to redo")?;
        let bytes = reader.take_bytes("state to redo")?;
        let extent = Extent { file, offset, len: bytes.len() as u64, crc };
        if offset < HEADER_LEN || offset.checked_add(extent.len).is_none() {
            return Err(reader.malformed(format!("no state begins at {offset} of its file")));
        }
        redo.push(Redo { extent, bytes });
    }
    Ok(redo)
}

fn take_ranges(reader: &mut Reader<'_>) -> Parsed<RolledBack> {
    let count = reader.take_count(16, "roll-backs")?;
    let mut ranges = RolledBack::with_capacity(count);
    for _ in 0..count {
        let range: (u64, u64) = reader.take("roll-back")?;
        if range.0 >= range.1 || range.1 > LAST || ranges.last().is_some_and(|last| *last >= range) {
            return Err(reader.malformed("roll-backs that are empty, or not in order"));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::parts::tests::sample,
        id::{FileId, Scope},
    };

    fn id(n: u64) -> CheckpointId {
        CheckpointId::new(n).unwrap()
    }

    fn unknown() -> Unknown {
        Unknown { id: id(8), generation: 3, pinned: true }
    }

    fn source() -> Source {
        let (ours, theirs) = ((StoreId([1; 16]), id(4)), (StoreId([2; 16]), id(7)));
        Source { ours, generation: 3, theirs, root: "/their/store".into() }
    }

    fn redo(bytes: &[u8]) -> Redo<'_> {
        let file = FileId { scope: Scope::Shared, generation: 2, lane: 1, sequence: 5 };
        Redo { extent: Extent { file, offset: 4096, len: bytes.len() as u64, crc: 7 }, bytes }
    }

    const MARKS: Marks = Marks { pinned: true, unsynced: true };

    fn all() -> Vec<Vec<u8>> {
        let Manifest { content, .. } = sample();
        let mut after = content.clone();
        after.metadata.insert("k2".into(), Arc::from(&b"v2"[..]));
        vec![
            checkpoint(&sample(), MARKS, Against::default(), &[id(3), id(5)], &[redo(b"state")]).unwrap(),
            checkpoint(&sample(), Marks::default(), Against(Some((id(7), &content))), &[], &[]).unwrap(),
            forgotten(&[id(1), id(9)]),
            updated(id(4), true, &content, &Changeable::of(&after)),
            rolled_back(&vec![(1, 4), (6, 9)]),
            lost(unknown()),
            ids_used(9),
            departing(&source()),
            departed(id(4)),
        ]
    }

    #[test]
    fn checkpoint_comes_back_by_what_it_differs_from() {
        for before in [ManifestContent::default(), sample().content] {
            let bytes =
                checkpoint(&sample(), MARKS, Against(Some((id(7), &before))), &[id(3)], &[redo(b"state")]).unwrap();
            let Record::Checkpoint(published) = decode(&bytes).unwrap() else { panic!("another kind") };
            let (content, origins) = published.content(sample().store, &before).unwrap();
            assert_eq!(content, sample().content);
            let expected = if before == content { Origins::new() } else { sample().origins };
            assert_eq!(origins, expected, "those of the files in which states came");
            assert_eq!((published.id, published.generation()), (sample().id, sample().generation));
            assert_eq!((published.marks, published.forgotten), (MARKS, vec![id(3)]));
            assert_eq!((published.against, &published.redo[..]), (Some(id(7)), &[redo(b"state")][..]));
        }
    }

    #[test]
    fn update_applies_to_the_content_that_it_was_made_for() {
        let before = sample().content;
        let mut after = before.clone();
        after.metadata.remove("k");
        after.sink_status.insert("new".into(), SinkCommitStatus::Committed);
        let bytes = updated(id(4), false, &before, &Changeable::of(&after));
        let Record::Updated(update) = decode(&bytes).unwrap() else { panic!("another kind") };
        let mut content = before.clone();
        update.changeable(&before).unwrap().apply(&mut content);
        assert_eq!((content, update.id, update.pinned), (after, id(4), false));
        assert!(update.changeable(&ManifestContent::default()).is_err());
    }

    #[test]
    fn other_records_come_back_and_each_kind_is_another_one() {
        assert_eq!(decode(&forgotten(&[id(1), id(9)])).unwrap(), Record::Forgotten(vec![id(1), id(9)]));
        assert_eq!(decode(&rolled_back(&vec![(1, 4), (6, 9)])).unwrap(), Record::RolledBack(vec![(1, 4), (6, 9)]));
        assert_eq!(decode(&lost(unknown())).unwrap(), Record::Lost(unknown()));
        assert_eq!(decode(&ids_used(9)).unwrap(), Record::IdsUsed(9));
        assert_eq!(decode(&departing(&source())).unwrap(), Record::Departing(source()));
        assert_eq!(decode(&departed(id(4))).unwrap(), Record::Departed(id(4)));
        assert!(decode(&ids_used(u64::MAX)).is_err());
        assert!(decode(&rolled_back(&vec![(4, 4)])).is_err());
        assert!(decode(&rolled_back(&vec![(6, 9), (1, 4)])).is_err());
        assert!(decode(&[77]).unwrap_err().newer.is_some(), "a kind that only a newer version knows");
    }

    #[test]
    fn hostile_record_is_refused_or_read_without_panic() {
        let before = sample().content;
        for good in all() {
            for len in 0..good.len() {
                // What is cut off may be in the differences, which are read later.
                if let Ok(Record::Checkpoint(published)) = decode(&good[..len]) {
                    assert!(published.content(sample().store, &before).is_err(), "cut at {len}");
                }
            }
            for at in 0..good.len() {
                for value in [0, 1, 2, 7, 0x80, 0xff] {
                    let mut hostile = good.clone();
                    let end = good.len().min(at + 8);
                    hostile[at..end].fill(value);
                    match decode(&hostile) {
                        Ok(Record::Checkpoint(published)) => drop(published.content(sample().store, &before)),
                        Ok(Record::Updated(update)) => drop(update.changeable(&before)),
                        _ => {}
                    }
                }
            }
        }
    }
}
