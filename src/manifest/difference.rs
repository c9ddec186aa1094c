//! How the states of one manifest differ from those of another, by name.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Manifest, OperatorState, PartitionState,
    states::{StateName, of_partition},
};
use crate::{handle::StateHandle, ordered::OrdMap};

/// A state that two manifests do not name in the same way: [`Manifest::differences`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateDifference<'a> {
    /// What it is called.
    pub name: StateName<'a>,
    /// The state of this name in the earlier manifest.
    pub before: Option<&'a StateHandle>,
    /// The state of this name in the later manifest.
    pub after: Option<&'a StateHandle>,
}

static NO_PARTITIONS: OrdMap<u32, Arc<PartitionState>> = OrdMap::new();

impl Manifest {
    /// The names that stand for another state here than in an earlier manifest, for none there, or for none here. This costs what
    /// differs if one of the manifests is [based on](Self::based_on) the other, and not what both have. Those of an operator come
    /// together, in the order of the operators' names; a partition that differs is looked at as a whole.
    ///
    /// # Examples
    ///
    /// ```
    /// # use piton::{Manifest, Options, Scope, StateName};
    /// # let store = Options::memory().open("state")?;
    /// # let pending = store.begin_next()?;
    /// # let a = pending.write(Scope::Shared, b"a")?;
    /// # let first = pending.commit(Manifest::builder().state("a", a))?;
    /// let pending = store.begin_next()?;
    /// let b = pending.write(Scope::Shared, b"b")?;
    /// let second = pending.commit(Manifest::based_on(first.manifest()).state("b", b.clone()))?;
    /// let differences = second.manifest().differences(first.manifest());
    /// assert_eq!(differences.len(), 1);
    /// assert_eq!((differences[0].name, differences[0].after), (StateName::Named("b"), Some(&b)));
    /// # Ok::<(), piton::Error>(())
    /// ```
    #[must_use]
    pub fn differences<'a>(&'a self, earlier: &'a Self) -> Vec<StateDifference<'a>> {
        let mut found = Vec::new();
        let mut tell = |name, before: Option<&'a StateHandle>, after: Option<&'a StateHandle>| {
            if before != after {
                found.push(StateDifference { name, before, after });
            }
        };
        self.content.states.changes_since(&earlier.content.states, |name, change| {
            let (before, after) = change.values();
            tell(StateName::Named(name), before, after);
        });
        self.content.operators.changes_since(&earlier.content.operators, |name, change| {
            let (before, after) = change.values();
            of_operators(name, before.map(|old| &**old), after.map(|new| &**new), &mut tell);
        });
        tell(StateName::Sidecar, earlier.sidecar(), self.sidecar());
        found
    }
}

fn of_operators<'a>(
    name: &'a str,
    before: Option<&'a OperatorState>,
    after: Option<&'a OperatorState>,
    tell: &mut impl FnMut(StateName<'a>, Option<&'a StateHandle>, Option<&'a StateHandle>),
) {
    let coordinator = |operator: Option<&'a OperatorState>| operator.and_then(|operator| operator.coordinator.as_ref());
    tell(StateName::Coordinator(name), coordinator(before), coordinator(after));
    let partitions =
        |operator: Option<&'a OperatorState>| operator.map_or(&NO_PARTITIONS, |operator| &operator.partitions);
    partitions(after).changes_since(partitions(before), |number, change| {
        let (before, after) = change.values();
        let states = |partition: Option<&'a Arc<PartitionState>>| -> BTreeMap<_, _> {
            let states = partition.into_iter().flat_map(|partition| of_partition(name, *number, partition));
            states.map(|state| (state.name, state.handle)).collect()
        };
        let (mut before, after) = (states(before), states(after));
        for (name, handle) in after {
            tell(name, before.remove(&name), Some(handle));
        }
        for (name, handle) in before {
            tell(name, Some(handle), None);
        }
    });
}
