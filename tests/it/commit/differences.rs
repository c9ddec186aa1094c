//! How the states of two manifests differ, by name. What is fenced off here: a change that is not told, or told of a state that is
//! the same.

use std::collections::BTreeMap;

use piton::{Artifact, Manifest, ManifestBuilder, OperatorState, PartitionState, Scope, StateHandle, StateName, Store};
use proptest::prelude::*;

use crate::support::{bytes, memory};

/// What differs, found by looking at everything.
fn brute<'a>(
    newer: &'a Manifest,
    older: &'a Manifest,
) -> BTreeMap<StateName<'a>, (Option<&'a StateHandle>, Option<&'a StateHandle>)> {
    let mut all = BTreeMap::new();
    for state in older.all_states() {
        all.entry(state.name).or_insert((None, None)).0 = Some(state.handle);
    }
    for state in newer.all_states() {
        all.entry(state.name).or_insert((None, None)).1 = Some(state.handle);
    }
    all.retain(|_, (before, after)| before != after);
    all
}

/// A manifest in which each number says which state, of a few, stands for a name.
fn manifest(store: &Store, picks: &[Option<u8>]) -> ManifestBuilder {
    let pending = store.begin_next().unwrap();
    let handles: Vec<_> = (0..3).map(|seed| pending.write(Scope::Shared, &bytes(seed, 10)).unwrap()).collect();
    let of = |n: usize| picks.get(n).copied().flatten().and_then(|pick| handles.get(usize::from(pick)).cloned());
    let mut builder = Manifest::builder();
    for n in 0..4 {
        if let Some(handle) = of(n) {
            builder = builder.state(format!("s{n}"), handle);
        }
    }
    for (n, name) in (4..).step_by(4).zip(["a", "b"]) {
        let mut operator = OperatorState { coordinator: of(n), ..OperatorState::default() };
        let mut partition = PartitionState { snapshot: of(n + 1).map(Artifact::from), ..PartitionState::default() };
        partition.deltas.extend(of(n + 2).map(Artifact::from));
        partition.states.extend(of(n + 3).map(|handle| ("x".into(), handle)));
        operator.partitions.insert(7, partition.into());
        builder = builder.operator(name, operator);
    }
    of(12).into_iter().fold(builder, ManifestBuilder::sidecar)
}

proptest! {
    #[test]
    fn differences_are_those_that_a_look_at_everything_finds(
        older in prop::collection::vec(prop::option::of(0_u8..3), 13),
        newer in prop::collection::vec(prop::option::of(0_u8..3), 13),
    ) {
        let store = memory();
        let id = piton::CheckpointId::FIRST;
        let [older, newer] = [older, newer].map(|picks| manifest(&store, &picks).build(id));
        let found = newer.differences(&older);
        let found: BTreeMap<_, _> = found.iter().map(|one| (one.name, (one.before, one.after))).collect();
        prop_assert_eq!(found.len(), newer.differences(&older).len(), "each once");
        prop_assert_eq!(found, brute(&newer, &older));
    }
}
