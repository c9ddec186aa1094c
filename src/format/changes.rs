//! How the content of a checkpoint differs from that of an older one.
//!
//! Each map is two runs: the keys that went, and the entries that came or have another value, both ascending. A change of an
//! operator names its partitions the same way; a partition that changed is there as a whole. The differences against an
//! empty content are the content itself.
//!
//! A table of files precedes the maps. It has the files of the states that came, and no others.

use std::sync::Arc;

use super::{
    codec::{Reader, Writer},
    frame::{LEAST_NAME_LEN, put_option, put_text, take_option, take_sorted},
    handles::{FileIndex, FileSet, FileTable, LEAST_HANDLE_LEN},
    origins,
    parts::{
        LEAST_CONNECTOR_LEN, LEAST_PARTITION_LEN, put_connector, put_partition, put_status, take_connector,
        take_partition, take_status,
    },
};
use crate::{
    error::Malformed,
    handle::StateHandle,
    id::StoreId,
    manifest::{ManifestContent, Name, OperatorState, Origins, StateChange},
    ordered::{Ascending, OrdMap},
};

type Parsed<T> = Result<T, Malformed>;

/// Parallelism twice, an unchanged coordinator, no partition that went, none that came.
const LEAST_OPERATOR_LEN: usize = 4 + 4 + 1 + 8 + 8;

/// What became of a state that is there once or not at all.
const NONE: u8 = 0;
const SET: u8 = 1;
const UNCHANGED: u8 = 2;

/// A key of a map, as it is written.
pub(super) trait Key: Ord + Clone {
    /// Bytes of the shortest one.
    const LEAST: usize;

    fn put(&self, writer: &mut Writer);
    fn take(reader: &mut Reader<'_>, what: &str) -> Parsed<Self>;
}

impl Key for Name {
    const LEAST: usize = LEAST_NAME_LEN;

    fn put(&self, writer: &mut Writer) {
        put_text(writer, self);
    }

    fn take(reader: &mut Reader<'_>, what: &str) -> Parsed<Self> {
        reader.take_text(what).map(Self::from)
    }
}

impl Key for u32 {
    const LEAST: usize = 4;

    fn put(&self, writer: &mut Writer) {
        writer.put(*self);
    }

    fn take(reader: &mut Reader<'_>, what: &str) -> Parsed<Self> {
        reader.take(what)
    }
}

/// Writes the differences; `None` if the states that came are in more files than can be counted in 32 bits. `origins` are
/// those of the newer content.
pub(super) fn put(
    writer: &mut Writer,
    older: &ManifestContent,
    newer: &ManifestContent,
    origins: &Origins,
) -> Option<()> {
    let mut files = FileSet::default();
    newer.state_changes(older, |change| {
        if let StateChange::Added(handle) = change {
            files.add(handle);
        }
    });
    let files = &FileIndex::put_set(writer, files)?;
    origins::put(writer, files, origins);
    put_map(writer, &older.states, &newer.states, |writer, _, handle| files.put_handle(writer, handle));
    put_map(writer, &older.operators, &newer.operators, |writer, older, operator| {
        put_operator(writer, files, older.map(|older| &**older), operator);
    });
    put_single(writer, files, older.sidecar.as_ref(), newer.sidecar.as_ref());
    put_map(writer, &older.source_offsets, &newer.source_offsets, |writer, _, offset| put_connector(writer, offset));
    put_map(writer, &older.table_offsets, &newer.table_offsets, |writer, _, offset| put_connector(writer, offset));
    put_map(writer, &older.sink_epochs, &newer.sink_epochs, |writer, _, epoch| writer.put(*epoch));
    put_map(writer, &older.sink_status, &newer.sink_status, |writer, _, status| put_status(writer, status));
    put_option(writer, newer.watermark_ms.as_ref(), |writer, watermark| writer.put(*watermark));
    put_map(writer, &older.source_watermarks_ms, &newer.source_watermarks_ms, |writer, _, watermark| {
        writer.put(*watermark);
    });
    put_map(writer, &older.source_names, &newer.source_names, |_, _, ()| ());
    put_map(writer, &older.sink_names, &newer.sink_names, |_, _, ()| ());
    put_option(writer, newer.pipeline_hash.as_ref(), |writer, hash| writer.put(*hash));
    put_map(writer, &older.metadata, &newer.metadata, |writer, _, bytes| writer.put_bytes(bytes));
    Some(())
}

/// Reads the differences and applies them to the older content. Epoch, time, kind, parent and number of virtual nodes
/// are not among them and stay as they are. Returns the origins of the files in the table as well.
pub(super) fn take(
    reader: &mut Reader<'_>,
    store: StoreId,
    older: &ManifestContent,
) -> Parsed<(ManifestContent, Origins)> {
    let mut files = FileTable::take(reader, store)?;
    let origins = origins::take(reader, store, &files)?;
    let states = take_map(reader, &older.states, LEAST_HANDLE_LEN, "states", |reader, _| files.take_handle(reader))?;
    let operators = take_map(reader, &older.operators, LEAST_OPERATOR_LEN, "operators", |reader, older| {
        take_operator(reader, &mut files, older.map(|older| &**older)).map(Arc::new)
    })?;
    let sidecar = take_single(reader, &mut files, older.sidecar.as_ref(), "sidecar")?;
    let connector = |reader: &mut Reader<'_>, _: Option<&_>| take_connector(reader).map(Arc::new);
    let content = ManifestContent {
        states,
        operators,
        sidecar,
        source_offsets: take_map(reader, &older.source_offsets, LEAST_CONNECTOR_LEN, "source offsets", connector)?,
        table_offsets: take_map(reader, &older.table_offsets, LEAST_CONNECTOR_LEN, "table offsets", connector)?,
        sink_epochs: take_map(reader, &older.sink_epochs, 8, "sink epochs", |reader, _| reader.take("sink epoch"))?,
        sink_status: take_map(reader, &older.sink_status, 1, "sink commit status", |reader, _| take_status(reader))?,
        watermark_ms: take_option(reader, "watermark", |reader| reader.take("watermark"))?,
        source_watermarks_ms: take_map(reader, &older.source_watermarks_ms, 8, "source watermarks", |reader, _| {
            reader.take("watermark")
        })?,
        source_names: take_map(reader, &older.source_names, 0, "source names", |_, _| Ok(()))?,
        sink_names: take_map(reader, &older.sink_names, 0, "sink names", |_, _| Ok(()))?,
        pipeline_hash: take_option(reader, "pipeline hash", |reader| reader.take("pipeline hash"))?,
        metadata: take_map(reader, &older.metadata, LEAST_NAME_LEN, "metadata", |reader, _| {
            reader.take_bytes("metadata").map(Arc::from)
        })?,
        ..older.clone()
    };
    files.end(reader)?;
    Ok((content, origins))
}

fn put_operator(writer: &mut Writer, files: &FileIndex, older: Option<&OperatorState>, operator: &OperatorState) {
    let none = OperatorState::default();
    let older = older.unwrap_or(&none);
    writer.put((operator.parallelism, operator.max_parallelism));
    put_single(writer, files, older.coordinator.as_ref(), operator.coordinator.as_ref());
    put_map(writer, &older.partitions, &operator.partitions, |writer, _, partition| {
        put_partition(writer, files, partition);
    });
}

fn take_operator(
    reader: &mut Reader<'_>,
    files: &mut FileTable,
    older: Option<&OperatorState>,
) -> Parsed<OperatorState> {
    let none = OperatorState::default();
    let older = older.unwrap_or(&none);
    let (parallelism, max_parallelism) = reader.take("parallelism")?;
    let coordinator = take_single(reader, files, older.coordinator.as_ref(), "coordinator")?;
    let partitions = take_map(reader, &older.partitions, LEAST_PARTITION_LEN, "partitions", |reader, _| {
        take_partition(reader, files).map(Arc::new)
    })?;
    Ok(OperatorState { parallelism, max_parallelism, coordinator, partitions })
}

fn put_single(writer: &mut Writer, files: &FileIndex, older: Option<&StateHandle>, newer: Option<&StateHandle>) {
    match newer {
        _ if older == newer => writer.put(UNCHANGED),
        None => writer.put(NONE),
        Some(handle) => {
            writer.put(SET);
            files.put_handle(writer, handle);
        }
    }
}

fn take_single(
    reader: &mut Reader<'_>,
    files: &mut FileTable,
    older: Option<&StateHandle>,
    what: &str,
) -> Parsed<Option<StateHandle>> {
    match reader.take::<u8>(what)? {
        NONE if older.is_some() => Ok(None),
        SET => files.take_handle(reader).map(Some),
        UNCHANGED => Ok(older.cloned()),
        other => Err(reader.malformed(format!("{what}: {other} is no kind of change"))),
    }
}

/// `put` gets the older value as well, if there is one.
pub(super) fn put_map<K: Key, V: PartialEq>(
    writer: &mut Writer,
    older: &OrdMap<K, V>,
    newer: &OrdMap<K, V>,
    mut put: impl FnMut(&mut Writer, Option<&V>, &V),
) {
    let (mut went, mut came) = (Vec::new(), Vec::new());
    newer.changes_since(older, |key, change| match change.values() {
        (old, Some(new)) => came.push((key, old, new)),
        (_, None) => went.push(key),
    });
    writer.put(went.len() as u64);
    for key in went {
        key.put(writer);
    }
    writer.put(came.len() as u64);
    for (key, old, new) in came {
        key.put(writer);
        put(writer, old, new);
    }
}

/// `take` gets the older value as well, if there is one. `least` is the length of the shortest value.
pub(super) fn take_map<'a, K: Key, V: Clone>(
    reader: &mut Reader<'a>,
    older: &OrdMap<K, V>,
    least: usize,
    what: &str,
    mut take: impl FnMut(&mut Reader<'a>, Option<&V>) -> Parsed<V>,
) -> Parsed<OrdMap<K, V>> {
    let mut newer = older.clone();
    let went: Vec<(K, ())> = take_sorted(reader, K::LEAST, what, |reader| Ok((K::take(reader, what)?, ())))?;
    for (key, ()) in went {
        newer.remove(&key).ok_or_else(|| reader.malformed(format!("{what}: one went that was not there")))?;
    }
    let least = K::LEAST.saturating_add(least);
    let entry = |reader: &mut Reader<'a>| {
        let key = K::take(reader, what)?;
        let value = take(reader, older.get(&key))?;
        Ok((key, value))
    };
    if newer.is_empty() {
        return take_sorted(reader, least, what, entry).map(Ascending::finish);
    }
    newer.extend(take_sorted::<_, _, Vec<_>>(reader, least, what, entry)?);
    Ok(newer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::parts::tests::sample;

    fn bytes(older: &ManifestContent, newer: &ManifestContent) -> Vec<u8> {
        let mut writer = Writer::default();
        put(&mut writer, older, newer, &sample().origins).unwrap();
        writer.finish()
    }

    fn applied(bytes: &[u8], older: &ManifestContent) -> Parsed<ManifestContent> {
        let mut reader = Reader::new(bytes);
        let (content, _) = take(&mut reader, sample().store, older)?;
        reader.end()?;
        Ok(content)
    }

    /// A content in which everything differs from the sample: one that lost things, one with other values.
    fn others() -> [ManifestContent; 3] {
        let full = sample().content;
        let mut fewer = full.clone();
        fewer.states.remove("a");
        fewer.metadata.remove("k");
        fewer.sidecar = None;
        fewer.sink_status.remove("bad");
        let mut operator = (*full.operators["../x"]).clone();
        operator.partitions.remove(&7);
        operator.coordinator = None;
        fewer.operators.insert("../x".into(), Arc::new(operator.clone()));
        fewer.operators.remove("");
        let mut other = fewer.clone();
        other.states.insert("b".into(), StateHandle::inline(b"other"));
        other.states.insert("c".into(), full.states["b"].clone());
        other.metadata.insert("k".into(), Arc::from(&b"other"[..]));
        operator.parallelism = 9;
        other.operators.insert("new".into(), Arc::new(operator));
        other.watermark_ms = None;
        [ManifestContent { epoch: full.epoch, ..ManifestContent::default() }, fewer, other]
    }

    fn fixed(content: ManifestContent, of: &ManifestContent) -> ManifestContent {
        let ManifestContent { epoch, timestamp_ms, kind, parent, vnode_count, .. } = *of;
        ManifestContent { epoch, timestamp_ms, kind, parent, vnode_count, ..content }
    }

    #[test]
    fn differences_between_any_two_contents_lead_from_one_to_the_other() {
        let mut all = others().to_vec();
        all.push(sample().content);
        for older in &all {
            for newer in &all {
                let applied = applied(&bytes(older, newer), older).unwrap();
                assert_eq!(fixed(applied, newer), *newer);
            }
        }
    }

    #[test]
    fn shortest_entries_of_every_map_come_back_however_many_there_are() {
        let short = |n: usize| Name::from(format!("{n}"));
        let partitions = (0..300).map(|n| (n, Arc::default())).collect();
        let operator = OperatorState { partitions, ..OperatorState::default() };
        let many = |n| (0..n).map(short);
        let content = ManifestContent {
            states: many(300).map(|name| (name, StateHandle::inline(b""))).collect(),
            operators: [(Name::from("o"), Arc::new(operator))]
                .into_iter()
                .chain(many(300).map(|name| (name, Arc::default())))
                .collect(),
            source_offsets: many(300).map(|name| (name, Arc::default())).collect(),
            sink_epochs: many(300).map(|name| (name, 1_u64)).collect(),
            sink_status: many(300).map(|name| (name, crate::manifest::SinkCommitStatus::Pending)).collect(),
            source_names: many(300).map(|name| (name, ())).collect(),
            metadata: many(300).map(|name| (name, Arc::<[u8]>::from([]))).collect(),
            ..ManifestContent::default()
        };
        let only = |keep: fn(&ManifestContent) -> ManifestContent| {
            let content = keep(&content);
            assert_eq!(
                applied(&bytes(&ManifestContent::default(), &content), &ManifestContent::default()),
                Ok(content)
            );
        };
        only(|all| ManifestContent { states: all.states.clone(), ..ManifestContent::default() });
        only(|all| ManifestContent { operators: all.operators.clone(), ..ManifestContent::default() });
        only(|all| ManifestContent { source_offsets: all.source_offsets.clone(), ..ManifestContent::default() });
        only(|all| ManifestContent { sink_epochs: all.sink_epochs.clone(), ..ManifestContent::default() });
        only(|all| ManifestContent { sink_status: all.sink_status.clone(), ..ManifestContent::default() });
        only(|all| ManifestContent { source_names: all.source_names.clone(), ..ManifestContent::default() });
        only(|all| ManifestContent { metadata: all.metadata.clone(), ..ManifestContent::default() });
    }

    #[test]
    fn unchanged_states_and_operators_take_no_bytes() {
        let many = (0..1000).map(|n| (Name::from(format!("state-{n}")), StateHandle::inline(b"x")));
        let full = ManifestContent { states: many.collect(), ..sample().content };
        assert_eq!(bytes(&full, &full).len(), bytes(&sample().content, &sample().content).len());
        assert!(bytes(&full, &full).len() < 300);
    }

    #[test]
    fn every_cut_and_no_hostile_byte_is_fatal_and_unknown_removals_are_refused() {
        let (older, newer) = (others()[2].clone(), sample().content);
        let good = bytes(&older, &newer);
        for len in 0..good.len() {
            assert!(applied(&good[..len], &older).is_err(), "cut at {len}");
        }
        for at in 0..good.len() {
            for value in [0, 1, 2, 3, 0x80, 0xff] {
                let mut hostile = good.clone();
                let end = good.len().min(at + 8);
                hostile[at..end].fill(value);
                // It may be another content, but the reader neither panics nor allocates for it.
                let _ = applied(&hostile, &older);
            }
        }
        let error = applied(&bytes(&newer, &others()[1]), &others()[1]).unwrap_err();
        assert!(error.what.contains("not there"), "{error}");
    }
}
