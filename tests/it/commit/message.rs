//! What goes into a manifest comes back from a message: serde, in formats for people and in binary ones.

use std::{fmt::Debug, sync::Arc};

use piton::{
    Artifact, ConnectorOffset, Digest, KeyGroupRange, Manifest, ManifestChanges, Name, OperatorState, OrdMap,
    PartitionState, Scope, SinkCommitStatus, StoreId,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::support::{bytes, memory};

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let json = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value, "{json}");
    let config = bincode::config::standard();
    let binary = bincode::serde::encode_to_vec(value, config).unwrap();
    let (read, len): (T, usize) = bincode::serde::decode_from_slice(&binary, config).unwrap();
    assert_eq!((&read, len), (value, binary.len()));
    for cut in 0..binary.len() {
        let cut = bincode::serde::decode_from_slice::<T, _>(&binary[..cut], config);
        assert!(cut.is_err(), "a part of a message is none");
    }
}

#[test]
fn operator_with_states_in_files_and_in_handles_comes_back_and_can_be_committed() {
    let store = memory();
    let pending = store.begin_next().unwrap();
    let write = |seed, len| pending.write(Scope::Shared, &bytes(seed, len)).unwrap();
    let digest = Digest::of(&bytes(1, 5000));
    let partition = PartitionState {
        snapshot: Some(Artifact { handle: write(1, 5000), digest: Some(digest) }),
        deltas: vec![write(2, 10).into(), write(3, 0).into()],
        states: [("timers".to_owned(), write(4, 70_000)), (String::new(), write(5, 20))].into(),
        key_groups: Some(KeyGroupRange::new(3, 7).unwrap()),
    };
    let operator = OperatorState {
        parallelism: 2,
        max_parallelism: 128,
        coordinator: Some(write(6, 300)),
        partitions: [(3, Arc::new(partition)), (7, Arc::default())].into_iter().collect(),
    };
    comes_back(&operator);
    let message = serde_json::to_string(&operator).unwrap();
    let received: OperatorState = serde_json::from_str(&message).unwrap();
    let checkpoint = pending.commit(Manifest::builder().operator("window", received)).unwrap();
    assert_eq!(*checkpoint.manifest().operator("window").unwrap(), operator);
    checkpoint.verify().unwrap();
}

#[test]
fn names_offsets_sinks_and_stores_come_back() {
    let store = memory();
    comes_back::<StoreId>(&store.id());
    let names = ["", "a", "a name that is too long to be held in place", "\u{1f40d}\0"].map(Name::from);
    names.iter().for_each(comes_back);
    comes_back(&names.into_iter().zip(1_u64..).collect::<OrdMap<Name, u64>>());
    let pairs = |of: &str| [(of.to_owned(), "1".to_owned()), ("z".to_owned(), of.to_owned())].into();
    comes_back(&ConnectorOffset { offsets: pairs("file"), epoch: 9, metadata: pairs("note") });
    for status in [SinkCommitStatus::Pending, SinkCommitStatus::Committed, SinkCommitStatus::Failed("why".to_owned())] {
        comes_back(&status);
    }
}

#[test]
fn map_of_a_message_is_refused_that_has_a_key_twice_and_one_that_announces_too_much_takes_no_memory() {
    assert!(serde_json::from_str::<OrdMap<Name, u64>>(r#"{"a":1,"b":2,"a":1}"#).is_err());
    let mut announced = bincode::serde::encode_to_vec(u64::MAX / 2, bincode::config::standard()).unwrap();
    announced.extend([1, b'a', 1]);
    let read = bincode::serde::decode_from_slice::<OrdMap<Name, u64>, _>(&announced, bincode::config::standard());
    assert!(read.is_err());
}

#[test]
fn changes_of_every_kind_come_back() {
    let store = memory();
    let pending = store.begin_next().unwrap();
    let handle = pending.write(Scope::Shared, &bytes(1, 5000)).unwrap();
    let changes = ManifestChanges::new().state("a", handle.clone()).remove_state("b").metadata("m", b"1");
    let changes =
        changes.partition("op", 1, PartitionState::default()).remove_partition("op", 2).delta("op", 3, handle);
    comes_back(&changes.source_offset("s", ConnectorOffset::default()).remove_metadata("n").remove_source_offset("t"));
}

#[test]
fn range_of_key_groups_comes_back_and_an_empty_one_is_refused() {
    let range = KeyGroupRange::new(16, 32).unwrap();
    comes_back(&range);
    assert_eq!(serde_json::to_string(&range).unwrap(), r#"{"start":16,"end":32}"#);
    for empty in [r#"{"start":16,"end":16}"#, r#"{"start":16,"end":3}"#] {
        let error = serde_json::from_str::<KeyGroupRange>(empty).unwrap_err();
        assert!(error.to_string().contains("the range is empty"), "{error}");
        let partition = format!(r#"{{"snapshot":null,"deltas":[],"states":{{}},"key_groups":{empty}}}"#);
        assert!(serde_json::from_str::<PartitionState>(&partition).is_err());
    }
    let binary = bincode::serde::encode_to_vec(&(5..5_u32), bincode::config::standard()).unwrap();
    assert!(bincode::serde::decode_from_slice::<KeyGroupRange, _>(&binary, bincode::config::standard()).is_err());
    let without = serde_json::from_str::<PartitionState>(r#"{"snapshot":null,"deltas":[],"states":{}}"#).unwrap();
    assert_eq!(without, PartitionState::default(), "a message of an engine that knows no key groups");
}
