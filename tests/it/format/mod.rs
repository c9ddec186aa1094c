//! The bytes of version 1, as they were written once. What is fenced off here: a change that reads new files and not
//! the old ones, or writes the same content in another form.

use std::{
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
};

use piton::{
    Artifact, Checkpoint, CheckpointId, CheckpointKind, ConnectorOffset, Digest, Issue, KeyGroup, KeyGroupRange,
    KeyGroupWriter, Manifest, ManifestBuilder, OperatorState, Options, PartitionState, PendingCheckpoint, Scope,
    SinkCommitStatus, Store, Validation, testing,
};
use proptest::prelude::*;

use crate::support::{bytes, read_states};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn copy_fixture(to: &Path) {
    for name in ["piton.store", "manifests", "shared", "exclusive"] {
        let from = fixture().join(name);
        if from.is_file() {
            std::fs::copy(&from, to.join(name)).unwrap();
            continue;
        }
        std::fs::create_dir(to.join(name)).unwrap();
        for entry in std::fs::read_dir(&from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(name).join(entry.file_name())).unwrap();
        }
    }
}

/// Which key groups the snapshot and the deltas of the partition have, and how many bytes each of them.
const KEY_GROUPS: [(u64, Range<u32>, usize); 3] = [(30, 1..4, 468), (31, 3..4, 1452), (32, 2..4, 714)];

/// The bytes of the snapshot or of a delta.
fn key_groups(seed: u64) -> Vec<u8> {
    let (_, groups, len) = KEY_GROUPS.into_iter().find(|(of, ..)| *of == seed).unwrap();
    let mut writer = KeyGroupWriter::new(Vec::new());
    for group in groups {
        writer.group(group).unwrap();
        writer.write_all(&bytes(seed + 100 * u64::from(group), len)).unwrap();
    }
    writer.into_inner().unwrap()
}

/// One of everything that a manifest can have beside named states.
fn with_everything(manifest: ManifestBuilder, pending: &PendingCheckpoint) -> ManifestBuilder {
    let artifact = |seed: u64| {
        let data = key_groups(seed);
        let handle = pending.write(Scope::Shared, &data).unwrap();
        Artifact { handle, digest: Some(Digest::of(&data)) }
    };
    let timers = pending.write(Scope::Shared, b"timers").unwrap();
    let partition = PartitionState {
        snapshot: Some(artifact(30)),
        deltas: vec![artifact(31), artifact(32)],
        states: [("timers".to_owned(), timers.clone())].into(),
        key_groups: Some(KeyGroupRange::new(1, 4).unwrap()),
    };
    let operator = OperatorState {
        parallelism: 2,
        max_parallelism: 128,
        coordinator: Some(timers),
        partitions: [(1, partition)].into(),
    };
    let map = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let offset = ConnectorOffset { offsets: map("p0", "17"), epoch: 5, metadata: map("topic", "clicks") };
    manifest
        .epoch(40 + pending.id().get())
        .kind(CheckpointKind::Savepoint)
        .parent(CheckpointId::FIRST)
        .vnode_count(64)
        .operator("../окно", operator)
        .sidecar(pending.write(Scope::Exclusive, &bytes(33, 3000)).unwrap())
        .source_offset("clicks", offset.clone())
        .table_offset("users", offset)
        .sink_epoch("out", 5)
        .sink_status("out", SinkCommitStatus::Pending)
        .sink_status("late", SinkCommitStatus::Failed("no answer".to_owned()))
        .watermark_ms(-1)
        .source_watermark_ms("clicks", 7)
        .source("clicks")
        .sink("out")
        .sink("late")
        .pipeline_hash(u64::MAX)
}

/// What the fixture was made with. Run with `PITON_WRITE_FIXTURE=<new directory>` to write it anew, which is only right
/// while version 1 was never released.
fn write_fixture(root: &Path) {
    let open = || Options::new().write_buffer(4096).log_size(128 << 10).open(root).unwrap();
    let store = open();
    for n in 1..=2 {
        let pending = store.begin_next().unwrap();
        let mut manifest =
            Manifest::builder().timestamp_ms(1_700_000_000_000 + n).metadata("note", format!("round {n}"));
        if let Some(first) = store.latest().unwrap() {
            manifest = manifest.state("shared", first.manifest().state("shared").unwrap().clone());
        } else {
            manifest = manifest.state("shared", pending.write(Scope::Shared, &bytes(1, 2000)).unwrap());
        }
        let long = pending.write(Scope::Exclusive, &bytes(20 + n, 6000)).unwrap();
        let exclusive = pending.write(Scope::Exclusive, &bytes(10 + n, 1100)).unwrap();
        let inline = pending.write(Scope::Exclusive, b"inline").unwrap();
        let empty = pending.write(Scope::Exclusive, b"").unwrap();
        let manifest = manifest.state("exclusive", exclusive).state("inline", inline).state("", empty);
        let manifest = with_everything(manifest.state("long", long), &pending);
        pending.commit(manifest).unwrap();
    }
    let [first, second] = [1, 2].map(|n| CheckpointId::new(n).unwrap());
    store.pin(first).unwrap();
    let updated = store.checkpoint(second).unwrap().manifest().clone();
    store.update_manifest(&updated.with_sink_status("out", SinkCommitStatus::Committed)).unwrap();
    store.rollback_to(first).unwrap();
    drop(store);
    // The last of these opens sums up what the logs say, in a base and its copy.
    (1..OPENS).for_each(|_| drop(open()));
    let store = open();
    let pending = store.begin_next().unwrap();
    let first = store.checkpoint(first).unwrap();
    let late = pending.write(Scope::Shared, &bytes(40, 700)).unwrap();
    pending.commit(Manifest::based_on(first.manifest()).remove_state("long").state("late", late)).unwrap();
    // Its segment was synced before: the record has this state as well.
    let pending = store.begin_next().unwrap();
    let again = pending.write(Scope::Shared, &bytes(41, 900)).unwrap();
    let late = store.latest().unwrap().unwrap();
    pending.commit(Manifest::based_on(late.manifest()).state("again", again)).unwrap();
    let gone = store.begin_next().unwrap().commit(Manifest::builder()).unwrap().id();
    let _ = store.forget(gone).unwrap();
}

/// Each key group of the operator has what its states have of it.
fn assert_key_groups(checkpoint: &Checkpoint) {
    let read = checkpoint.key_groups("../окно", 1..4).unwrap().map(Result::unwrap);
    let read: Vec<_> = read.map(|KeyGroup { number, pieces }| (number, pieces)).collect();
    assert_eq!(read.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3]);
    for (number, pieces) in read {
        let expected = KEY_GROUPS.iter().filter(|(_, groups, _)| groups.contains(&number));
        let expected = expected.map(|(seed, _, len)| bytes(seed + 100 * u64::from(number), *len));
        assert!(pieces.iter().map(|piece| piece.to_vec()).eq(expected), "{number}");
    }
}

/// How often the store of the fixture was opened before its last checkpoint was committed.
const OPENS: u64 = 9;

#[test]
fn store_of_version_1_is_read() {
    if let Some(root) = std::env::var_os("PITON_WRITE_FIXTURE") {
        write_fixture(root.as_ref());
    }
    let dir = tempfile::tempdir().unwrap();
    copy_fixture(dir.path());
    let store = Store::open(dir.path()).unwrap();
    assert!(store.open_report().damaged.is_empty() && store.open_report().foreign.is_empty());
    assert_eq!(store.generation(), OPENS + 1 + 1);
    assert_eq!(store.checkpoint_ids(), [1, 2, 3, 4].map(|n| CheckpointId::new(n).unwrap()));
    assert_eq!(store.open_report().redone, 1);
    let latest = store.latest().unwrap().unwrap();
    assert_eq!(*latest.get("again").unwrap(), bytes(41, 900));
    drop(latest);
    let late = store.checkpoint(CheckpointId::new(3).unwrap()).unwrap();
    assert_eq!(*late.get("late").unwrap(), bytes(40, 700));
    assert_eq!((late.manifest().states().count(), late.manifest().generation()), (5, OPENS + 1));
    for n in 1..=2 {
        let checkpoint = store.checkpoint(CheckpointId::new(n).unwrap()).unwrap();
        let manifest = checkpoint.manifest();
        assert_eq!((manifest.timestamp_ms(), manifest.generation()), (1_700_000_000_000 + n, 1));
        assert_eq!(manifest.metadata("note"), Some(format!("round {n}").as_bytes()));
        let states = read_states(&checkpoint).unwrap();
        let expected = [
            (String::new(), Vec::new()),
            ("exclusive".to_owned(), bytes(10 + n, 1100)),
            ("inline".to_owned(), b"inline".to_vec()),
            ("long".to_owned(), bytes(20 + n, 6000)),
            ("shared".to_owned(), bytes(1, 2000)),
        ];
        assert_eq!(states, expected);
        let operator = manifest.operator("../окно").unwrap();
        let partition = &operator.partitions[&1];
        assert_eq!((operator.parallelism, operator.max_parallelism, partition.states.len()), (2, 128, 1));
        for (artifact, seed) in partition.snapshot.iter().chain(&partition.deltas).zip(30..) {
            assert_eq!(checkpoint.read_artifact(artifact).unwrap(), key_groups(seed));
        }
        assert_key_groups(&checkpoint);
        assert_eq!(*checkpoint.read(manifest.sidecar().unwrap()).unwrap(), bytes(33, 3000));
        assert_eq!((manifest.epoch(), manifest.kind()), (40 + n, CheckpointKind::Savepoint));
        assert_eq!((manifest.parent(), manifest.vnode_count()), (Some(CheckpointId::FIRST), 64));
        assert_eq!(
            (&manifest.source_offsets()["clicks"], manifest.source_offsets().len()),
            (&manifest.table_offsets()["users"], 1)
        );
        assert_eq!(manifest.source_offsets()["clicks"].offsets["p0"], "17");
        assert_eq!(manifest.source_offsets()["clicks"].metadata["topic"], "clicks");
        let out = if n == 1 { SinkCommitStatus::Pending } else { SinkCommitStatus::Committed };
        assert_eq!((manifest.sink_epochs()["out"], &manifest.sink_status()["out"]), (5, &out));
        assert_eq!(manifest.sink_status()["late"], SinkCommitStatus::Failed("no answer".to_owned()));
        assert_eq!((manifest.watermark_ms(), manifest.source_watermarks_ms()["clicks"]), (Some(-1), 7));
        assert_eq!((manifest.source_names().count(), manifest.sink_names().count()), (1, 2));
        assert_eq!(manifest.pipeline_hash(), Some(u64::MAX));
        let issues = store.validate(checkpoint.id(), Validation::Full).unwrap().issues;
        assert!(matches!(issues[..], [Issue::VnodeCount { found: 64, expected: 256 }]), "{issues:?}");
    }
    assert_eq!(store.pinned(), [CheckpointId::FIRST]);
    drop(late);
    let _ = store.forget_above(CheckpointId::new(2).unwrap()).unwrap();
    assert_eq!(store.latest().unwrap().unwrap().id(), CheckpointId::FIRST, "rolled back");
    assert_eq!(store.next_id().unwrap().get(), 6);
}

#[test]
fn manifests_of_version_1_have_the_same_bytes_when_written_again() {
    let store = Options::new().open_read_only(fixture()).unwrap();
    let expected = [(1, 1142, 3_439_640_880), (2, 1142, 350_494_405), (3, 1142, 2_930_906_331)];
    let found = expected.map(|(n, ..)| {
        let checkpoint = store.checkpoint(CheckpointId::new(n).unwrap()).unwrap();
        let bytes = testing::manifest_bytes(checkpoint.manifest()).unwrap();
        assert_eq!(testing::parse_anything(&bytes).unwrap().as_ref(), Some(&bytes));
        (n, bytes.len(), crc32fast::hash(&bytes))
    });
    assert_eq!(found, expected, "other bytes are another version");
}

#[test]
fn names_and_lengths_of_a_store_written_now_are_those_of_version_1() {
    let dir = tempfile::tempdir().unwrap();
    write_fixture(dir.path());
    let names = |root: &Path| {
        let mut names: Vec<_> = walkdir::WalkDir::new(root)
            .min_depth(1)
            .into_iter()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().is_file())
            // Of no format: one names a process, one is locked, one has room and no content.
            .filter(|entry| {
                !["piton.lock", "piton.readers", "piton.spare"].iter().any(|name| entry.file_name() == *name)
            })
            .map(|entry| (entry.path().strip_prefix(root).unwrap().to_owned(), entry.metadata().unwrap().len()))
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(dir.path()), names(&fixture()));
}

proptest! {
    #[test]
    fn whatever_the_bytes_are_parsing_returns_and_a_manifest_has_one_form(mut bytes in prop::collection::vec(any::<u8>(), 0..200), magic in 0..5_usize) {
        let magics: [&[u8]; 5] =
            [b"", b"\x01", b"PITONSTO\x01\0\0\0", b"PITONSEG\x01\0\0\0", b"PITONLOG\x01\0\0\0"];
        bytes.splice(0..0, magics[magic].iter().copied());
        if let Ok(again) = testing::parse_anything(&bytes) {
            prop_assert_eq!(again, Some(bytes));
        }
    }
}
