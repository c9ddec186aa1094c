//! The promises of [`CheckpointStore`] and [`Checkpointer`], as tests that every implementation must pass.
//!
//! Durability, and what becomes of damage, cannot be tested from outside. Everything else can.
#![expect(clippy::unwrap_used, reason = "a kit of tests: a promise that is not kept is a panic that names it")]

use std::{collections::BTreeSet, thread};

use crate::{
    check::Issue,
    contract::{CheckpointStore, Checkpointer},
    id::CheckpointId,
    manifest::{
        Artifact, CheckpointKind, ConnectorOffset, Digest, Manifest, ManifestBuilder, OperatorState, PartitionState,
        SinkCommitStatus,
    },
};

/// Runs every test of [`STORE_TESTS`], each on an empty store of its own, with 256 virtual nodes.
pub fn check_store<S: CheckpointStore>(fresh: impl Fn() -> S) {
    for (_, test) in STORE_TESTS {
        test(&fresh());
    }
}

/// Runs every test of [`CHECKPOINTER_TESTS`], each on an empty one of its own.
pub fn check_checkpointer<C: Checkpointer>(fresh: impl Fn() -> C) {
    for (_, test) in CHECKPOINTER_TESTS {
        test(&fresh());
    }
}

type StoreTest = fn(&dyn CheckpointStore);
type CheckpointerTest = fn(&dyn Checkpointer);

/// The tests of a store: what each claims, and the function that panics if it is not so.
pub const STORE_TESTS: &[(&str, StoreTest)] = &[
    ("empty_store_has_nothing_and_says_so", empty_store_has_nothing_and_says_so),
    ("saved_checkpoint_is_found_by_every_verb", saved_checkpoint_is_found_by_every_verb),
    ("everything_in_a_manifest_comes_back", everything_in_a_manifest_comes_back),
    ("same_content_again_succeeds_and_another_is_a_conflict", same_content_again_succeeds_and_another_is_a_conflict),
    ("id_below_the_highest_is_refused", id_below_the_highest_is_refused),
    ("of_many_that_save_one_id_one_wins", of_many_that_save_one_id_one_wins),
    ("update_changes_status_and_metadata_and_nothing_else", update_changes_status_and_metadata_and_nothing_else),
    ("state_is_its_chunks_in_order_and_empty_is_not_none", state_is_its_chunks_in_order_and_empty_is_not_none),
    ("state_appears_with_its_manifest", state_appears_with_its_manifest),
    ("prune_keeps_the_newest_and_at_least_one", prune_keeps_the_newest_and_at_least_one),
    ("validation_tells_fatal_from_unusual", validation_tells_fatal_from_unusual),
    ("recovery_takes_the_newest_and_examines_no_more", recovery_takes_the_newest_and_examines_no_more),
    ("clean_up_leaves_alone_what_is_still_to_be_saved", clean_up_leaves_alone_what_is_still_to_be_saved),
];

/// The tests of a checkpointer.
pub const CHECKPOINTER_TESTS: &[(&str, CheckpointerTest)] = &[
    ("artifacts_appear_with_their_manifest", artifacts_appear_with_their_manifest),
    ("second_snapshot_replaces_and_deltas_keep_their_order", second_snapshot_replaces_and_deltas_keep_their_order),
    ("operator_may_be_any_text", operator_may_be_any_text),
    ("artifacts_from_many_threads_all_arrive", artifacts_from_many_threads_all_arrive),
    ("older_checkpoint_is_the_newest_until_another_is_saved", older_checkpoint_is_the_newest_until_another_is_saved),
    (
        "deleted_checkpoint_is_gone_and_an_unknown_one_not_found",
        deleted_checkpoint_is_gone_and_an_unknown_one_not_found,
    ),
    (
        "path_that_is_none_is_invalid_and_an_unknown_one_not_found",
        path_that_is_none_is_invalid_and_an_unknown_one_not_found,
    ),
];

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

fn plain(number: u64) -> ManifestBuilder {
    Manifest::builder().timestamp_ms(1_700_000_000_000 + number)
}

fn save(store: &dyn CheckpointStore, numbers: impl IntoIterator<Item = u64>) {
    numbers.into_iter().for_each(|number| store.save(&plain(number).build(id(number))).unwrap());
}

fn empty_store_has_nothing_and_says_so(store: &dyn CheckpointStore) {
    assert_eq!((store.vnode_count(), store.next_id().unwrap()), (256, CheckpointId::FIRST));
    assert!(store.load_latest().unwrap().is_none() && store.load_by_id(id(1)).unwrap().is_none());
    assert!(store.list_ids().unwrap().is_empty() && store.list().unwrap().is_empty());
    assert!(store.load_state_data(id(1)).unwrap().is_none());
    assert!(store.prune(1).unwrap().checkpoints.is_empty());
    assert!(matches!(store.validate_checkpoint(id(1)).unwrap().issues[..], [Issue::Missing]));
    let report = store.recover_latest_validated().unwrap();
    assert!(report.chosen.is_none() && report.skipped.is_empty() && report.examined.is_empty());
    assert!(store.cleanup_orphans(false).unwrap().files.is_empty());
}

fn saved_checkpoint_is_found_by_every_verb(store: &dyn CheckpointStore) {
    store.save(&plain(1).epoch(10).build(id(1))).unwrap();
    store.save(&plain(2).epoch(20).build(id(5))).unwrap();
    assert_eq!(store.list_ids().unwrap(), [id(1), id(5)]);
    assert_eq!(store.list().unwrap(), [(id(1), 10), (id(5), 20)]);
    assert_eq!(store.next_id().unwrap(), id(6));
    let latest = store.load_latest().unwrap().unwrap();
    assert_eq!((latest.id(), latest.epoch(), latest.vnode_count()), (id(5), 20, 256));
    let first = store.load_by_id(id(1)).unwrap().unwrap();
    assert_eq!((first.id(), first.epoch(), first.timestamp_ms()), (id(1), 10, 1_700_000_000_001));
    assert!(store.load_by_id(id(3)).unwrap().is_none());
    assert!(store.validate_checkpoint(id(5)).unwrap().is_valid());
}

fn everything_in_a_manifest_comes_back(store: &dyn CheckpointStore) {
    save(store, [1]);
    let offset = ConnectorOffset {
        offsets: [("p".to_owned(), "7".to_owned())].into(),
        epoch: 3,
        metadata: [("k".to_owned(), "v".to_owned())].into(),
    };
    let partitions = [(9, PartitionState::default())].into();
    let operator = OperatorState { parallelism: 2, max_parallelism: 8, partitions, ..OperatorState::default() };
    let manifest = plain(2)
        .epoch(4)
        .kind(CheckpointKind::Savepoint)
        .parent(id(1))
        .vnode_count(12)
        .operator("o", operator.clone())
        .source_offset("s", offset.clone())
        .table_offset("t", offset.clone())
        .sink_epoch("out", 3)
        .sink_status("out", SinkCommitStatus::Failed("why".to_owned()))
        .watermark_ms(i64::MIN)
        .source_watermark_ms("s", i64::MAX)
        .source("s")
        .sink("out")
        .pipeline_hash(0)
        .metadata("m", [0, 255]);
    store.save(&manifest.build(id(2))).unwrap();
    let found = store.load_by_id(id(2)).unwrap().unwrap();
    assert_eq!((found.epoch(), found.timestamp_ms(), found.vnode_count()), (4, 1_700_000_000_002, 12));
    assert_eq!((found.kind(), found.parent()), (CheckpointKind::Savepoint, Some(id(1))));
    assert_eq!((found.operator("o"), found.operators().len()), (Some(&operator), 1));
    assert_eq!((&*found.source_offsets()["s"], &*found.table_offsets()["t"]), (&offset, &offset));
    assert_eq!((found.sink_epochs()["out"], found.watermark_ms()), (3, Some(i64::MIN)));
    assert_eq!(found.sink_status()["out"], SinkCommitStatus::Failed("why".to_owned()));
    assert_eq!((found.source_watermarks_ms()["s"], found.pipeline_hash()), (i64::MAX, Some(0)));
    assert!(found.source_names().eq(["s"]) && found.sink_names().eq(["out"]));
    assert_eq!(found.metadata("m"), Some(&[0, 255][..]));
}

fn same_content_again_succeeds_and_another_is_a_conflict(store: &dyn CheckpointStore) {
    let first = plain(1).metadata("k", *b"v").build(id(1));
    store.save(&first).unwrap();
    store.save(&first).unwrap();
    store.save(&plain(1).metadata("k", *b"v").epoch(1).vnode_count(256).build(id(1))).unwrap();
    for other in [plain(1), plain(2).metadata("k", *b"v"), plain(1).metadata("k", *b"w")] {
        assert!(store.save(&other.build(id(1))).unwrap_err().is_conflict());
    }
    assert!(store.save_state_data(id(1), &[b"late"]).unwrap_err().is_conflict());
    assert!(store.save_with_state(&first, Some(&[b"late"])).unwrap_err().is_conflict());
    let found = store.load_by_id(id(1)).unwrap().unwrap();
    assert_eq!((found.timestamp_ms(), found.metadata("k")), (first.timestamp_ms(), Some(&b"v"[..])));
    // Also when it is not the newest any more, and when something of it was changed.
    store.update_manifest(&found.with_metadata("k", None)).unwrap();
    save(store, [2]);
    store.save(&first).unwrap();
    assert!(store.save(&plain(1).build(id(1))).unwrap_err().is_conflict());
    assert_eq!(store.list_ids().unwrap(), [id(1), id(2)]);
}

fn id_below_the_highest_is_refused(store: &dyn CheckpointStore) {
    save(store, [3, 7]);
    for number in [1, 5, 6] {
        assert!(store.save(&plain(number).build(id(number))).unwrap_err().is_invalid(), "{number}");
    }
    let _ = store.prune(1).unwrap();
    assert!(store.save(&plain(3).build(id(3))).unwrap_err().is_invalid(), "one that is gone comes not back");
    assert!(store.save(&plain(8).epoch(0).build(id(8))).unwrap_err().is_invalid());
    assert_eq!(store.list_ids().unwrap(), [id(7)]);
}

fn of_many_that_save_one_id_one_wins(store: &dyn CheckpointStore) {
    for number in 1..=20 {
        let results: Vec<_> = thread::scope(|scope| {
            let save = |n: u64| {
                move || store.save_with_state(&plain(n).build(id(number)), Some(&[&n.to_le_bytes().repeat(400)]))
            };
            // Two and two with the same content.
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(save(n / 2))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winner = store.load_by_id(id(number)).unwrap().unwrap().timestamp_ms() - 1_700_000_000_000;
        for (n, result) in (0..4).zip(results) {
            match result {
                Ok(()) => assert_eq!(n / 2, winner, "round {number}: another content was saved"),
                Err(error) => assert!(error.is_conflict() && n / 2 != winner, "round {number}: {error}"),
            }
        }
        assert_eq!(store.load_state_data(id(number)).unwrap().unwrap(), winner.to_le_bytes().repeat(400));
        assert!(store.validate_checkpoint(id(number)).unwrap().is_valid());
    }
}

fn update_changes_status_and_metadata_and_nothing_else(store: &dyn CheckpointStore) {
    let status = |manifest: ManifestBuilder| manifest.sink_status("out", SinkCommitStatus::Pending);
    store.save(&status(plain(1)).metadata("k", *b"v").build(id(1))).unwrap();
    let stored = store.load_by_id(id(1)).unwrap().unwrap();
    let changed = stored.with_sink_status("out", SinkCommitStatus::Committed).with_metadata("k", None);
    let changed = changed.with_metadata("new", Some(vec![1, 2]));
    store.update_manifest(&changed).unwrap();
    store.update_manifest(&changed).unwrap();
    assert_eq!(store.load_by_id(id(1)).unwrap().unwrap(), changed);
    assert_eq!(store.load_latest().unwrap().unwrap().metadata("new"), Some(&[1, 2][..]));
    for other in [plain(2), plain(1).watermark_ms(1), plain(1).sink("out"), plain(1).epoch(2)] {
        assert!(store.update_manifest(&other.build(id(1))).unwrap_err().is_invalid());
    }
    assert!(store.update_manifest(&plain(2).build(id(2))).unwrap_err().is_not_found());
    assert_eq!(store.load_by_id(id(1)).unwrap().unwrap(), changed);
    assert!(store.validate_checkpoint(id(1)).unwrap().is_valid());
}

fn state_is_its_chunks_in_order_and_empty_is_not_none(store: &dyn CheckpointStore) {
    let long = vec![7; 3_000_000];
    let chunks: [&[u8]; 5] = [b"one", b"", &long, b"two", b"three"];
    store.save_with_state(&plain(1).build(id(1)), Some(&chunks)).unwrap();
    assert!(store.load_state_data(id(1)).unwrap().unwrap() == chunks.concat());
    for (number, chunks) in [(2, &[][..]), (3, &[b"".as_slice(), b""])] {
        store.save_with_state(&plain(number).build(id(number)), Some(chunks)).unwrap();
        assert_eq!(store.load_state_data(id(number)).unwrap(), Some(Vec::new()));
    }
    store.save_with_state(&plain(4).build(id(4)), None).unwrap();
    assert_eq!(store.load_state_data(id(4)).unwrap(), None);
    // Again, cut differently; and not again.
    store.save_with_state(&plain(1).build(id(1)), Some(&[&chunks.concat()])).unwrap();
    for other in [&chunks[..4], &[b"one"], &[]] {
        assert!(store.save_with_state(&plain(1).build(id(1)), Some(other)).unwrap_err().is_conflict());
    }
}

fn state_appears_with_its_manifest(store: &dyn CheckpointStore) {
    store.save_state_data(id(1), &[b"first"]).unwrap();
    assert!(store.load_state_data(id(1)).unwrap().is_none() && store.list_ids().unwrap().is_empty());
    store.save_state_data(id(1), &[b"second"]).unwrap();
    store.save(&plain(1).build(id(1))).unwrap();
    assert_eq!(store.load_state_data(id(1)).unwrap().unwrap(), b"second");
    store.save_state_data(id(1), &[b"sec", b"ond"]).unwrap();
    assert!(store.save_state_data(id(1), &[b"third"]).unwrap_err().is_conflict());
    // What was saved for an id that is passed over is gone.
    store.save_state_data(id(2), &[b"never"]).unwrap();
    save(store, [3]);
    assert!(store.save(&plain(2).build(id(2))).unwrap_err().is_invalid());
    assert!(store.load_state_data(id(2)).unwrap().is_none() && store.load_state_data(id(3)).unwrap().is_none());
}

fn prune_keeps_the_newest_and_at_least_one(store: &dyn CheckpointStore) {
    save(store, 1..=6);
    assert_eq!(store.prune(4).unwrap().checkpoints, [id(1), id(2)]);
    assert!(store.prune(4).unwrap().checkpoints.is_empty() && store.prune(usize::MAX).unwrap().checkpoints.is_empty());
    assert_eq!(store.prune(0).unwrap().checkpoints, [id(3), id(4), id(5)]);
    assert_eq!(store.list_ids().unwrap(), [id(6)]);
    assert!(store.load_by_id(id(5)).unwrap().is_none());
}

fn validation_tells_fatal_from_unusual(store: &dyn CheckpointStore) {
    type Expected = fn(&Issue) -> bool;
    let delta = || {
        let deltas = vec![Artifact { handle: "inline:#00000000".parse().unwrap(), digest: Some(Digest::of(b"")) }];
        let partition = PartitionState { deltas, ..PartitionState::default() };
        plain(1).operator("o", OperatorState { partitions: [(0, partition)].into(), ..OperatorState::default() })
    };
    let status = |manifest: ManifestBuilder| manifest.sink_status("other", SinkCommitStatus::Pending);
    let source = || plain(1).source_offset("s", ConnectorOffset::default());
    let cases: [(ManifestBuilder, Option<Expected>); 11] = [
        (plain(1), None),
        (Manifest::builder(), Some(|issue| matches!(issue, Issue::NoTimestamp))),
        (plain(1).vnode_count(0), Some(|issue| matches!(issue, Issue::VnodeCount { found: 0, expected: 256 }))),
        (plain(1).vnode_count(255), Some(|issue| matches!(issue, Issue::VnodeCount { found: 255, expected: 256 }))),
        (plain(1).sink_epoch("out", 1), None),
        (
            status(plain(1).sink_epoch("out", 1)),
            Some(|issue| matches!(issue, Issue::SinkWithoutStatus(name) if name == "out")),
        ),
        (source(), None),
        (source().source("s"), None),
        (source().source("t"), Some(|issue| matches!(issue, Issue::UnknownSource(name) if name == "s"))),
        (delta(), Some(|issue| matches!(issue, Issue::IncrementalWithoutParent))),
        (delta().parent(id(1)), None),
    ];
    for (number, (manifest, expected)) in (1..).zip(cases) {
        store.save(&manifest.build(id(number))).unwrap();
        let report = store.validate_checkpoint(id(number)).unwrap();
        assert!(report.is_valid(), "case {number}: {:?}", report.issues);
        assert_eq!(report.issues.len(), usize::from(expected.is_some()), "case {number}: {:?}", report.issues);
        assert!(expected.is_none_or(|expected| expected(&report.issues[0])), "case {number}: {:?}", report.issues);
    }
    assert!(!store.validate_checkpoint(id(99)).unwrap().is_valid());
}

fn recovery_takes_the_newest_and_examines_no_more(store: &dyn CheckpointStore) {
    save(store, 1..=3);
    let report = store.recover_latest_validated().unwrap();
    assert_eq!((report.chosen, &report.examined[..]), (Some(id(3)), &[id(3)][..]));
    assert!(report.skipped.is_empty());
}

fn clean_up_leaves_alone_what_is_still_to_be_saved(store: &dyn CheckpointStore) {
    let state = vec![5; 100_000];
    store.save_state_data(id(1), &[&state]).unwrap();
    for dry_run in [true, false] {
        let orphans = store.cleanup_orphans(dry_run).unwrap();
        assert!(orphans.files.is_empty() && orphans.bytes == 0, "{:?}", orphans.files);
    }
    store.save(&plain(1).build(id(1))).unwrap();
    let _ = store.cleanup_orphans(false).unwrap();
    assert!(store.load_state_data(id(1)).unwrap().unwrap() == state);
}

fn artifacts_appear_with_their_manifest(store: &dyn Checkpointer) {
    let digest = store.save_snapshot(id(1), "window", 3, b"abc").unwrap();
    assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(store.save_delta(id(1), "window", 3, b"").unwrap(), Digest::of(b"").to_string());
    let path = "1/operators/window/partition-3.snap";
    assert!(store.load_artifact(path).unwrap_err().is_not_found());
    assert!(store.load_manifest(id(1)).unwrap_err().is_not_found() && store.read_latest().unwrap().is_none());
    store.save_manifest(&plain(1).build(id(1))).unwrap();
    assert_eq!(store.load_artifact(path).unwrap(), b"abc");
    assert_eq!(store.load_artifact("1/operators/window/partition-3.delta").unwrap(), b"");
    let manifest = store.load_manifest(id(1)).unwrap();
    let partition = &manifest.operator("window").unwrap().partitions[&3];
    assert_eq!(partition.snapshot.as_ref().unwrap().digest, Some(Digest::of(b"abc")));
    // A caller that does not know what became of its calls repeats them.
    assert_eq!(store.save_snapshot(id(1), "window", 3, b"abc").unwrap(), digest);
    store.save_manifest(&plain(1).build(id(1))).unwrap();
    assert!(store.save_snapshot(id(1), "window", 3, b"other").unwrap_err().is_conflict());
    assert!(store.save_delta(id(1), "new", 0, b"late").unwrap_err().is_conflict());
    assert_eq!(store.load_manifest(id(1)).unwrap(), manifest);
}

fn second_snapshot_replaces_and_deltas_keep_their_order(store: &dyn Checkpointer) {
    store.save_snapshot(id(1), "o", 0, b"first").unwrap();
    (1..=40_u8).for_each(|n| drop(store.save_delta(id(1), "o", 0, &[n; 2000]).unwrap()));
    store.save_snapshot(id(1), "o", 0, b"second").unwrap();
    store.save_manifest(&plain(1).build(id(1))).unwrap();
    assert_eq!(store.load_artifact("1/operators/o/partition-0.snap").unwrap(), b"second");
    assert_eq!(store.load_artifact("1/operators/o/partition-0.delta").unwrap(), [1; 2000]);
    for n in 1..=40_u8 {
        assert_eq!(store.load_artifact(&format!("1/operators/o/partition-0.{n}.delta")).unwrap(), [n; 2000]);
    }
    assert!(store.load_artifact("1/operators/o/partition-0.41.delta").unwrap_err().is_not_found());
}

fn operator_may_be_any_text(store: &dyn Checkpointer) {
    let long = "x".repeat(10 * 1024);
    let operators = [
        "",
        "/",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a/b",
        "nul\0inside",
        "partition-0.snap",
        "a/partition-0.snap",
        " ",
        "\n",
        "окно",
        "窗口",
        "نافذة",
        "fenêtre",
        "\u{1F600}",
        long.as_str(),
    ];
    for (n, operator) in (0..).zip(operators) {
        store.save_snapshot(id(1), operator, n, operator.as_bytes()).unwrap();
    }
    store.save_manifest(&plain(1).build(id(1))).unwrap();
    assert_eq!(store.load_manifest(id(1)).unwrap().operators().len(), operators.len());
    for (n, operator) in (0..).zip(operators) {
        let path = format!("1/operators/{operator}/partition-{n}.snap");
        assert_eq!(store.load_artifact(&path).unwrap(), operator.as_bytes(), "{operator:?}");
        let other = format!("1/operators/{operator}/partition-{}.snap", n + 1);
        assert!(store.load_artifact(&other).unwrap_err().is_not_found(), "{operator:?}");
    }
}

fn artifacts_from_many_threads_all_arrive(store: &dyn Checkpointer) {
    let data = |n: u32| n.to_le_bytes().repeat(500);
    thread::scope(|scope| {
        for n in 0..50 {
            scope.spawn(move || {
                store.save_snapshot(id(1), &format!("operator-{}", n % 5), n, &data(n)).unwrap();
                store.save_delta(id(1), "shared", 0, &data(n)).unwrap();
            });
        }
    });
    store.save_manifest(&plain(1).build(id(1))).unwrap();
    let mut deltas = BTreeSet::new();
    for n in 0..50 {
        let path = format!("1/operators/operator-{}/partition-{n}.snap", n % 5);
        assert_eq!(store.load_artifact(&path).unwrap(), data(n));
        deltas.insert(store.load_artifact(&format!("1/operators/shared/partition-0.{}.delta", n + 1)).unwrap());
    }
    assert_eq!(deltas, (0..50).map(data).collect());
}

fn older_checkpoint_is_the_newest_until_another_is_saved(store: &dyn Checkpointer) {
    (1..=3).for_each(|n| store.save_manifest(&plain(n).build(id(n))).unwrap());
    assert_eq!(store.read_latest().unwrap(), Some(id(3)));
    store.update_latest(id(1)).unwrap();
    assert_eq!(store.read_latest().unwrap(), Some(id(1)));
    assert_eq!(store.list_checkpoints().unwrap(), [id(1), id(2), id(3)]);
    assert!(store.update_latest(id(9)).unwrap_err().is_not_found());
    assert!(store.save_manifest(&plain(2).build(id(2))).unwrap_err().is_conflict(), "it is there, and not to be used");
    store.save_manifest(&plain(1).build(id(1))).unwrap();
    assert_eq!(store.read_latest().unwrap(), Some(id(1)));
    store.save_manifest(&plain(4).build(id(4))).unwrap();
    assert_eq!(store.read_latest().unwrap(), Some(id(4)));
}

fn deleted_checkpoint_is_gone_and_an_unknown_one_not_found(store: &dyn Checkpointer) {
    for n in 1..=3 {
        store.save_snapshot(id(n), "o", 0, &[7; 3000]).unwrap();
        store.save_manifest(&plain(n).build(id(n))).unwrap();
    }
    store.delete_checkpoint(id(2)).unwrap();
    assert!(store.delete_checkpoint(id(2)).unwrap_err().is_not_found());
    assert!(store.delete_checkpoint(id(9)).unwrap_err().is_not_found());
    assert_eq!(store.list_checkpoints().unwrap(), [id(1), id(3)]);
    assert!(store.load_artifact("2/operators/o/partition-0.snap").unwrap_err().is_not_found());
    assert_eq!(store.load_artifact("3/operators/o/partition-0.snap").unwrap(), [7; 3000]);
    // The newest, and one that is still to be saved.
    store.delete_checkpoint(id(3)).unwrap();
    assert!(store.save_manifest(&plain(3).build(id(3))).unwrap_err().is_invalid(), "ids come not back");
    store.save_snapshot(id(4), "o", 0, &[8; 3000]).unwrap();
    store.delete_checkpoint(id(4)).unwrap();
    assert!(store.delete_checkpoint(id(4)).unwrap_err().is_not_found());
    assert_eq!(store.list_checkpoints().unwrap(), [id(1)]);
}

fn path_that_is_none_is_invalid_and_an_unknown_one_not_found(store: &dyn Checkpointer) {
    store.save_snapshot(id(1), "o", 0, b"data").unwrap();
    store.save_manifest(&plain(1).build(id(1))).unwrap();
    for path in [
        "",
        "1",
        "x/operators/o/partition-0.snap",
        "1/o/partition-0.snap",
        "1/operators/o/partition-0.tmp",
        "../piton.store",
    ] {
        assert!(store.load_artifact(path).unwrap_err().is_invalid(), "{path}");
    }
    for path in ["2/operators/o/partition-0.snap", "1/operators/p/partition-0.snap", "1/operators/o/partition-0.delta"]
    {
        assert!(store.load_artifact(path).unwrap_err().is_not_found(), "{path}");
    }
}
