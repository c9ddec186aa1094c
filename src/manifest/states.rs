//! Every state that a manifest names, and what it is called there.

use std::{fmt, sync::Arc};

use super::{
    ManifestContent,
    operator::{Artifact, Digest, OperatorState, PartitionState},
};
use crate::{handle::StateHandle, ordered::OrdMap};

/// A state of a checkpoint, and where in its manifest it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateRef<'a> {
    /// What it is called.
    pub name: StateName<'a>,
    /// Where its bytes are.
    pub handle: &'a StateHandle,
    /// The digest that its bytes must have, if it is an artifact with one.
    pub digest: Option<&'a Digest>,
}

/// What a state is called in its manifest. `Display` tells people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateName<'a> {
    /// One of the [named states](super::Manifest::states).
    Named(&'a str),
    /// The sidecar.
    Sidecar,
    /// What an operator's coordinator remembers.
    Coordinator(&'a str),
    /// The snapshot of a partition of an operator.
    Snapshot(&'a str, u32),
    /// A delta of a partition of an operator, counted from 1.
    Delta(&'a str, u32, usize),
    /// A named state of a partition of an operator.
    Partition(&'a str, u32, &'a str),
}

impl fmt::Display for StateName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "state {name:?}"),
            Self::Sidecar => f.write_str("the sidecar"),
            Self::Coordinator(operator) => write!(f, "the coordinator of operator {operator:?}"),
            Self::Snapshot(operator, partition) => {
                write!(f, "the snapshot of partition {partition} of operator {operator:?}")
            }
            Self::Delta(operator, partition, n) => {
                write!(f, "delta {n} of partition {partition} of operator {operator:?}")
            }
            Self::Partition(operator, partition, name) => {
                write!(f, "state {name:?} of partition {partition} of operator {operator:?}")
            }
        }
    }
}

impl ManifestContent {
    /// Every state, in the order in which the manifest has them.
    pub(crate) fn all_states(&self) -> impl Iterator<Item = StateRef<'_>> {
        let named = self.states.iter().map(|(name, handle)| plain(StateName::Named(name), handle));
        let operators = self.operators.iter().flat_map(|(name, operator)| of_operator(name, operator));
        let sidecar = self.sidecar.iter().map(|handle| plain(StateName::Sidecar, handle));
        named.chain(operators).chain(sidecar)
    }

    /// Every handle that the manifest names.
    pub(crate) fn handles(&self) -> impl Iterator<Item = &StateHandle> {
        self.all_states().map(|state| state.handle)
    }
}

impl ManifestContent {
    /// Puts other handles in place of those that are named.
    pub(crate) fn change_handles(&mut self, mut change: impl FnMut(&mut StateHandle)) {
        self.states = changed(&self.states, &mut change);
        self.operators = changed(&self.operators, |operator| {
            let operator = Arc::make_mut(operator);
            operator.coordinator.iter_mut().for_each(&mut change);
            operator.partitions = changed(&operator.partitions, |partition| {
                let partition = Arc::make_mut(partition);
                let artifacts = partition.snapshot.iter_mut().chain(&mut partition.deltas);
                artifacts.for_each(|artifact| change(&mut artifact.handle));
                partition.states.values_mut().for_each(&mut change);
            });
        });
        self.sidecar.iter_mut().for_each(&mut change);
    }
}

/// The same map, with each value changed.
fn changed<K: Ord + Clone, V: Clone>(map: &OrdMap<K, V>, mut change: impl FnMut(&mut V)) -> OrdMap<K, V> {
    let changed = |(key, value): (&K, &V)| {
        let mut value = value.clone();
        change(&mut value);
        (key.clone(), value)
    };
    map.iter().map(changed).collect()
}

fn plain<'a>(name: StateName<'a>, handle: &'a StateHandle) -> StateRef<'a> {
    StateRef { name, handle, digest: None }
}

fn of_operator<'a>(name: &'a str, operator: &'a OperatorState) -> impl Iterator<Item = StateRef<'a>> {
    let coordinator = operator.coordinator.iter().map(move |handle| plain(StateName::Coordinator(name), handle));
    let partitions = operator.partitions.iter();
    coordinator.chain(partitions.flat_map(move |(number, partition)| of_partition(name, *number, partition)))
}

pub(super) fn of_partition<'a>(
    operator: &'a str,
    number: u32,
    partition: &'a PartitionState,
) -> impl Iterator<Item = StateRef<'a>> {
    let artifact =
        |name, artifact: &'a Artifact| StateRef { name, handle: &artifact.handle, digest: artifact.digest.as_ref() };
    let snapshot = partition.snapshot.iter().map(move |found| artifact(StateName::Snapshot(operator, number), found));
    let deltas = partition.deltas.iter().enumerate();
    let deltas = deltas.map(move |(n, found)| artifact(StateName::Delta(operator, number, n + 1), found));
    let states = partition.states.iter();
    let states = states.map(move |(name, handle)| plain(StateName::Partition(operator, number, name), handle));
    snapshot.chain(deltas).chain(states)
}
