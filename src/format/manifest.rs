//! `manifests/*.manifest`: what a checkpoint consists of.
//!
//! The body has its fields in one order, a table of the files that the states are in, and maps that are sorted and hold
//! no name twice, so that equal manifests have equal bytes, and only these.

use std::sync::Arc;

use bincode::{Decode, Encode};

pub(crate) use super::frame::HEAD_LEN;
use super::{
    codec::{Reader, Writer},
    frame::{
        self, LEAST_NAME_LEN, put_map, put_names, put_option, put_text, take_map, take_names, take_option, take_sorted,
    },
    handles::{FileIndex, FileTable, LEAST_ARTIFACT_LEN, LEAST_HANDLE_LEN},
    origins,
};
use crate::{
    error::Malformed,
    id::{CheckpointId, LAST, StoreId},
    manifest::{
        CheckpointKind, ConnectorOffset, Manifest, ManifestContent, Name, OperatorState, PartitionState,
        SinkCommitStatus,
    },
    ordered::OrdMap,
};

type Parsed<T> = Result<T, Malformed>;

const MAGIC: [u8; 8] = *b"PITONMAN";
const WHAT: &str = "manifest";

/// The parts of a body that always have the same length.
#[derive(Encode, Decode)]
struct Fixed {
    store: [u8; 16],
    id: u64,
    generation: u64,
    epoch: u64,
    timestamp_ms: u64,
    kind: u8,
    /// 0 for none.
    parent: u64,
    vnode_count: u16,
}

/// Parallelism twice, no coordinator, no partition.
const LEAST_OPERATOR_LEN: usize = 4 + 4 + 1 + 8;
/// Number, no snapshot, no delta, no state.
pub(super) const LEAST_PARTITION_LEN: usize = 4 + 1 + 8 + 8;
/// No offset, the epoch, no metadata.
pub(super) const LEAST_CONNECTOR_LEN: usize = 8 + 8 + 8;

/// The bytes of a manifest; `None` if its states are in more files than can be counted in 32 bits.
pub(crate) fn encode(manifest: &Manifest) -> Option<Vec<u8>> {
    let mut writer = frame::begin();
    put_body(&mut writer, manifest)?;
    Some(frame::finish(MAGIC, writer))
}

/// Header, body, checksum.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn around(body: &[u8]) -> Vec<u8> {
    let mut writer = frame::begin();
    writer.put_raw(body);
    frame::finish(MAGIC, writer)
}

/// Checks, by its first [`HEAD_LEN`] bytes, that a manifest of this length can be whole: before all of it is read.
pub(crate) fn check_head(head: &[u8], len: u64) -> Parsed<()> {
    frame::check_head(MAGIC, head, len, WHAT)
}

/// The checksum of a manifest's body, for what belongs to this manifest alone.
pub(crate) fn body_crc(bytes: &[u8]) -> u32 {
    frame::body_crc(bytes)
}

fn put_body(writer: &mut Writer, manifest: &Manifest) -> Option<()> {
    let Manifest { store, id, generation, origins, content } = manifest;
    writer.put(Fixed {
        store: store.0,
        id: id.get(),
        generation: *generation,
        epoch: manifest.epoch(),
        timestamp_ms: content.timestamp_ms,
        kind: match content.kind {
            CheckpointKind::Checkpoint => 1,
            CheckpointKind::Savepoint => 2,
        },
        parent: content.parent.map_or(0, CheckpointId::get),
        vnode_count: manifest.vnode_count(),
    });
    let files = FileIndex::put(writer, content)?;
    origins::put(writer, &files, origins);
    put_map(writer, content.states.len(), content.states.iter(), |writer, handle| files.put_handle(writer, handle));
    put_map(writer, content.operators.len(), content.operators.iter(), |writer, operator| {
        put_operator(writer, &files, operator);
    });
    put_option(writer, content.sidecar.as_ref(), |writer, handle| files.put_handle(writer, handle));
    put_map(writer, content.source_offsets.len(), content.source_offsets.iter(), |writer, connector| {
        put_connector(writer, connector);
    });
    put_map(writer, content.table_offsets.len(), content.table_offsets.iter(), |writer, connector| {
        put_connector(writer, connector);
    });
    put_map(writer, content.sink_epochs.len(), content.sink_epochs.iter(), |writer, epoch| writer.put(*epoch));
    put_sink_status(writer, &content.sink_status);
    put_option(writer, content.watermark_ms.as_ref(), |writer, watermark| writer.put(*watermark));
    put_map(writer, content.source_watermarks_ms.len(), content.source_watermarks_ms.iter(), |writer, watermark| {
        writer.put(*watermark);
    });
    put_names(writer, &content.source_names);
    put_names(writer, &content.sink_names);
    put_option(writer, content.pipeline_hash.as_ref(), |writer, hash| writer.put(*hash));
    put_metadata(writer, &content.metadata);
    Some(())
}

/// The manifest that these bytes are, all of them.
pub(crate) fn decode(bytes: &[u8]) -> Parsed<Manifest> {
    let mut reader = frame::open(MAGIC, bytes, WHAT)?;
    let reader = &mut reader;
    let fixed: Fixed = reader.take("ids")?;
    let id = CheckpointId::new(fixed.id).ok_or_else(|| reader.malformed("checkpoint id 0"))?;
    if fixed.generation > LAST {
        return Err(reader.malformed(format!("no store has generation {}", fixed.generation)));
    }
    let parent = match fixed.parent {
        0 => None,
        parent => Some(CheckpointId::new(parent).ok_or_else(|| reader.malformed("no such parent"))?),
    };
    let store = StoreId(fixed.store);
    let mut files = FileTable::take(reader, store)?;
    let origins = origins::take(reader, store, &files)?;
    let content = ManifestContent {
        epoch: Some(fixed.epoch),
        timestamp_ms: fixed.timestamp_ms,
        kind: match fixed.kind {
            1 => CheckpointKind::Checkpoint,
            2 => CheckpointKind::Savepoint,
            kind => return Err(reader.malformed(format!("unknown kind of checkpoint {kind}"))),
        },
        parent,
        vnode_count: Some(fixed.vnode_count),
        states: take_map(reader, LEAST_HANDLE_LEN, "states", |reader| files.take_handle(reader))?,
        operators: take_map(reader, LEAST_OPERATOR_LEN, "operators", |reader| take_operator(reader, &mut files))?,
        sidecar: take_option(reader, "sidecar", |reader| files.take_handle(reader))?,
        source_offsets: take_map(reader, LEAST_CONNECTOR_LEN, "source offsets", take_connector)?,
        table_offsets: take_map(reader, LEAST_CONNECTOR_LEN, "table offsets", take_connector)?,
        sink_epochs: take_map(reader, 8, "sink epochs", |reader| reader.take::<u64>("sink epoch"))?,
        sink_status: take_sink_status(reader)?,
        watermark_ms: take_option(reader, "watermark", |reader| reader.take("watermark"))?,
        source_watermarks_ms: take_map(reader, 8, "source watermarks", |reader| reader.take::<i64>("watermark"))?,
        source_names: take_names(reader, "source names")?,
        sink_names: take_names(reader, "sink names")?,
        pipeline_hash: take_option(reader, "pipeline hash", |reader| reader.take("pipeline hash"))?,
        metadata: take_metadata(reader)?,
    };
    reader.end()?;
    files.end(reader)?;
    Ok(Manifest { store, id, generation: fixed.generation, origins, content })
}

fn put_operator(writer: &mut Writer, files: &FileIndex, operator: &OperatorState) {
    writer.put((operator.parallelism, operator.max_parallelism));
    put_option(writer, operator.coordinator.as_ref(), |writer, handle| files.put_handle(writer, handle));
    writer.put(operator.partitions.len() as u64);
    for (number, partition) in &operator.partitions {
        writer.put(*number);
        put_partition(writer, files, partition);
    }
}

pub(super) fn put_partition(writer: &mut Writer, files: &FileIndex, partition: &PartitionState) {
    put_option(writer, partition.snapshot.as_ref(), |writer, artifact| files.put_artifact(writer, artifact));
    writer.put(partition.deltas.len() as u64);
    partition.deltas.iter().for_each(|artifact| files.put_artifact(writer, artifact));
    put_map(writer, partition.states.len(), partition.states.iter(), |writer, handle| {
        files.put_handle(writer, handle);
    });
}

fn take_operator(reader: &mut Reader<'_>, files: &mut FileTable) -> Parsed<OperatorState> {
    let (parallelism, max_parallelism) = reader.take("parallelism")?;
    let coordinator = take_option(reader, "coordinator", |reader| files.take_handle(reader))?;
    let partitions = take_sorted(reader, LEAST_PARTITION_LEN, "partitions", |reader| {
        Ok((reader.take::<u32>("partition")?, take_partition(reader, files)?))
    })?;
    Ok(OperatorState { parallelism, max_parallelism, coordinator, partitions })
}

pub(super) fn take_partition(reader: &mut Reader<'_>, files: &mut FileTable) -> Parsed<PartitionState> {
    let snapshot = take_option(reader, "snapshot", |reader| files.take_artifact(reader))?;
    let deltas = reader.take_count(LEAST_ARTIFACT_LEN, "deltas")?;
    let mut deltas = (0..deltas).map(|_| files.take_artifact(reader)).collect::<Parsed<Vec<_>>>()?;
    deltas.shrink_to_fit();
    let states = take_map(reader, LEAST_HANDLE_LEN, "states of a partition", |reader| files.take_handle(reader))?;
    Ok(PartitionState { snapshot, deltas, states })
}

pub(super) fn put_connector(writer: &mut Writer, connector: &ConnectorOffset) {
    put_map(writer, connector.offsets.len(), connector.offsets.iter(), |writer, offset| put_text(writer, offset));
    writer.put(connector.epoch);
    put_map(writer, connector.metadata.len(), connector.metadata.iter(), |writer, text| put_text(writer, text));
}

pub(super) fn take_connector(reader: &mut Reader<'_>) -> Parsed<ConnectorOffset> {
    let offsets = take_map(reader, LEAST_NAME_LEN, "offsets", |reader| reader.take_text("offset").map(str::to_owned))?;
    let epoch = reader.take("epoch of a connector")?;
    let metadata = take_map(reader, LEAST_NAME_LEN, "metadata", |reader| reader.take_text("text").map(str::to_owned))?;
    Ok(ConnectorOffset { offsets, epoch, metadata })
}

pub(super) fn put_sink_status(writer: &mut Writer, status: &OrdMap<Name, SinkCommitStatus>) {
    put_map(writer, status.len(), status.iter(), put_status);
}

pub(super) fn put_status(writer: &mut Writer, status: &SinkCommitStatus) {
    match status {
        SinkCommitStatus::Pending => writer.put(1_u8),
        SinkCommitStatus::Committed => writer.put(2_u8),
        SinkCommitStatus::Failed(why) => {
            writer.put(3_u8);
            put_text(writer, why);
        }
    }
}

pub(super) fn take_sink_status(reader: &mut Reader<'_>) -> Parsed<OrdMap<Name, SinkCommitStatus>> {
    take_map(reader, 1, "sink commit status", take_status)
}

pub(super) fn take_status(reader: &mut Reader<'_>) -> Parsed<SinkCommitStatus> {
    match reader.take::<u8>("sink commit status")? {
        1 => Ok(SinkCommitStatus::Pending),
        2 => Ok(SinkCommitStatus::Committed),
        3 => reader.take_text("why a sink failed").map(|why| SinkCommitStatus::Failed(why.to_owned())),
        status => Err(reader.malformed(format!("unknown sink commit status {status}"))),
    }
}

pub(super) fn put_metadata(writer: &mut Writer, metadata: &OrdMap<Name, Arc<[u8]>>) {
    put_map(writer, metadata.len(), metadata.iter(), |writer, bytes| writer.put_bytes(bytes));
}

pub(super) fn take_metadata(reader: &mut Reader<'_>) -> Parsed<OrdMap<Name, Arc<[u8]>>> {
    take_map(reader, LEAST_NAME_LEN, "metadata", |reader| reader.take_bytes("metadata"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::assert_all_damage_is_noticed, *};
    use crate::{
        format::VERSION,
        handle::{Extent, StateHandle},
        id::{FileId, Scope},
        manifest::{Artifact, Digest, FileOrigin, Lender, Lent, Origins},
    };

    fn extent(sequence: u64) -> StateHandle {
        let file = FileId { scope: Scope::Shared, generation: 1, lane: 0, sequence };
        StateHandle::file(StoreId([3; 16]), Extent { file, offset: 64, len: 9, crc: 5 })
    }

    /// Everything that a manifest can have.
    pub(in crate::format) fn sample() -> Manifest {
        let artifact = |handle| Artifact { handle, digest: Some(Digest::of(b"x")) };
        let partition = PartitionState {
            snapshot: Some(artifact(extent(4))),
            deltas: vec![artifact(extent(6)), extent(5).into()],
            states: [("timers".to_owned(), StateHandle::inline(b"t"))].into(),
        };
        let operator = OperatorState {
            parallelism: 2,
            max_parallelism: 128,
            coordinator: Some(StateHandle::inline(b"c")),
            partitions: [(0, PartitionState::default()), (7, partition)].into(),
        };
        let offset = ConnectorOffset {
            offsets: [("p0".to_owned(), "17".to_owned())].into(),
            epoch: 3,
            metadata: [("k".to_owned(), "v".to_owned())].into(),
        };
        let content = Manifest::builder()
            .epoch(9)
            .timestamp_ms(1234)
            .kind(CheckpointKind::Savepoint)
            .parent(CheckpointId::FIRST)
            .vnode_count(64)
            .state("a", StateHandle::inline(b"tiny"))
            .state("b", extent(4))
            .state("", StateHandle::inline(b""))
            .operator("../x", operator)
            .operator("", OperatorState::default())
            .sidecar(extent(9))
            .source_offset("s", offset.clone())
            .table_offset("t", offset)
            .sink_epoch("out", 3)
            .sink_status("out", SinkCommitStatus::Committed)
            .sink_status("bad", SinkCommitStatus::Failed("no".to_owned()))
            .sink_status("new", SinkCommitStatus::Pending)
            .watermark_ms(-5)
            .source_watermark_ms("s", 8)
            .source("s")
            .sink("out")
            .pipeline_hash(77)
            .metadata("k", b"v")
            .content;
        let file = |sequence| extent(sequence).extent().unwrap().file;
        let lender = Arc::new(Lender { root: "/other/store".into(), checkpoint: CheckpointId::FIRST });
        let lent = Some(Lent { by: lender, file: file(8) });
        let origins = [
            (file(4), FileOrigin { store: StoreId([4; 16]), file: file(9), lent: None }),
            (file(6), FileOrigin { store: StoreId([3; 16]), file: file(4), lent: None }),
            (file(9), FileOrigin { store: StoreId([5; 16]), file: file(7), lent }),
        ];
        let origins = origins.into_iter().collect();
        Manifest { store: StoreId([3; 16]), id: CheckpointId::FIRST.next().unwrap(), generation: 1, origins, content }
    }

    #[test]
    fn comes_back_and_equal_manifests_have_equal_bytes() {
        let bytes = encode(&sample()).unwrap();
        assert_eq!((bytes.len(), crc32fast::hash(&bytes)), (1109, 803_752_876), "other bytes are another version");
        assert_eq!(decode(&bytes).unwrap(), sample());
        assert_eq!(encode(&decode(&bytes).unwrap()).unwrap(), bytes);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode(&sample()).unwrap();
        assert_all_damage_is_noticed(&bytes, decode);
    }

    #[test]
    fn hostile_body_with_right_checksums_has_one_form_or_is_refused_without_allocating_for_it() {
        let bytes = encode(&sample()).unwrap();
        let body = &bytes[HEAD_LEN..bytes.len() - 4];
        // Every eight bytes of the body in turn become the largest number: lengths, counts, offsets; and every byte
        // another one.
        let large = (0..body.len() - 8).map(|at| (at, 8, 0xff));
        let other = (0..body.len()).flat_map(|at| [0, 1, 2, 3, 4, 0x80].map(|value| (at, 1, value)));
        for (at, len, value) in large.chain(other) {
            let mut body = body.to_vec();
            body[at..at + len].fill(value);
            let hostile = around(&body);
            if let Ok(manifest) = decode(&hostile) {
                assert_eq!(encode(&manifest).unwrap(), hostile, "byte {at}: another form of one manifest");
            }
        }
        for len in 0..body.len() {
            assert!(decode(&around(&body[..len])).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn file_in_the_table_that_no_state_is_in_is_refused() {
        let content = Manifest::builder().state("a", extent(1)).state("b", extent(2)).content;
        let bytes = encode(&Manifest { content, origins: Origins::new(), ..sample() }).unwrap();
        let mut body = bytes[HEAD_LEN..bytes.len() - 4].to_vec();
        assert!(decode(&around(&body)).is_ok());
        // Behind the second name and kind: the index, which the first state has, too.
        let at = body.windows(3).position(|window| window == [b'b', 1, 1]).unwrap() + 2;
        body[at] = 0;
        assert!(decode(&around(&body)).unwrap_err().what.contains("no state is in"));
    }

    #[test]
    fn newer_version_is_told_apart_from_damage() {
        let mut bytes = encode(&sample()).unwrap();
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..HEAD_LEN - 4]);
        bytes[HEAD_LEN - 4..HEAD_LEN].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(&bytes).unwrap_err().newer, Some((2, VERSION)));
    }
}
