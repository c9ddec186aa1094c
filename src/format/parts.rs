//! What the content of a checkpoint is made of: partitions, connectors, the status of sinks.

use super::{
    codec::{Reader, Writer},
    frame::{LEAST_NAME_LEN, put_map, put_option, put_text, take_map, take_option},
    handles::{FileIndex, FileTable, LEAST_ARTIFACT_LEN, LEAST_HANDLE_LEN},
};
use crate::{
    error::Malformed,
    manifest::{ConnectorOffset, KeyGroupRange, PartitionState, SinkCommitStatus},
};

type Parsed<T> = Result<T, Malformed>;

/// No snapshot, no delta, no state, no key groups.
pub(super) const LEAST_PARTITION_LEN: usize = 1 + 8 + 8 + 1;
/// No offset, the epoch, no metadata.
pub(super) const LEAST_CONNECTOR_LEN: usize = 8 + 8 + 8;

pub(super) fn put_partition(writer: &mut Writer, files: &FileIndex, partition: &PartitionState) {
    put_option(writer, partition.snapshot.as_ref(), |writer, artifact| files.put_artifact(writer, artifact));
    writer.put(partition.deltas.len() as u64);
    partition.deltas.iter().for_each(|artifact| files.put_artifact(writer, artifact));
    put_map(writer, partition.states.len(), partition.states.iter(), |writer, handle| {
        files.put_handle(writer, handle);
    });
    put_option(writer, partition.key_groups.as_ref(), |writer, range| writer.put((range.start(), range.end())));
}

pub(super) fn take_partition(reader: &mut Reader<'_>, files: &mut FileTable) -> Parsed<PartitionState> {
    let snapshot = take_option(reader, "snapshot", |reader| files.take_artifact(reader))?;
    let deltas = reader.take_count(LEAST_ARTIFACT_LEN, "deltas")?;
    let mut deltas = (0..deltas).map(|_| files.take_artifact(reader)).collect::<Parsed<Vec<_>>>()?;
    deltas.shrink_to_fit();
    let states = take_map(reader, LEAST_HANDLE_LEN, "states of a partition", |reader| files.take_handle(reader))?;
    let key_groups = take_option(reader, "key groups", take_range)?;
    Ok(PartitionState { snapshot, deltas, states, key_groups })
}

fn take_range(reader: &mut Reader<'_>) -> Parsed<KeyGroupRange> {
    let (start, end) = reader.take("range of key groups")?;
    KeyGroupRange::of(start, end)
        .ok_or_else(|| reader.malformed(format!("the range of key groups {start}..{end} is empty")))
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

pub(super) fn take_status(reader: &mut Reader<'_>) -> Parsed<SinkCommitStatus> {
    match reader.take::<u8>("sink commit status")? {
        1 => Ok(SinkCommitStatus::Pending),
        2 => Ok(SinkCommitStatus::Committed),
        3 => reader.take_text("why a sink failed").map(|why| SinkCommitStatus::Failed(why.to_owned())),
        status => Err(reader.malformed(format!("unknown sink commit status {status}"))),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::{super::handles::FileSet, *};
    use crate::{
        handle::{Extent, StateHandle},
        id::{CheckpointId, FileId, Scope, StoreId},
        manifest::{Artifact, CheckpointKind, Digest, FileOrigin, Lender, Lent, Manifest, OperatorState},
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
            key_groups: KeyGroupRange::of(7, 9),
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
    fn partition_with_an_empty_range_of_key_groups_is_refused() {
        let partition = PartitionState { key_groups: KeyGroupRange::of(7, 9), ..PartitionState::default() };
        let files = FileIndex::put_set(&mut Writer::default(), FileSet::default()).unwrap();
        let mut writer = Writer::default();
        put_partition(&mut writer, &files, &partition);
        let bytes = writer.finish();
        assert_eq!(bytes.len(), LEAST_PARTITION_LEN + 8);
        let take = |bytes: &[u8]| {
            let mut no_files = FileTable::take(&mut Reader::new(&[0; 8]), StoreId([3; 16]))?;
            take_partition(&mut Reader::new(bytes), &mut no_files)
        };
        assert_eq!(take(&bytes).unwrap(), partition);
        for end in [0, 6, 7_u32] {
            let mut damaged = bytes.clone();
            damaged[LEAST_PARTITION_LEN + 4..].copy_from_slice(&end.to_le_bytes());
            assert!(take(&damaged).unwrap_err().what.contains(&format!("7..{end} is empty")));
        }
    }
}
