//! The manifest of an operator that was rescaled: the same states under new ranges of key groups. No byte is written anew.

use std::{ops::Range, sync::Arc};

use piton::{Artifact, Manifest, ManifestBuilder, OperatorState, PartitionState, Result};

use crate::groups::{self, KEY_GROUPS};

/// A builder that goes on from a checkpoint, with one partition of the operator for each worker.
///
/// # Errors
///
/// A worker has no key group.
pub fn based_on(earlier: &Manifest, operator: &str, workers: usize) -> Result<ManifestBuilder> {
    let builder = Manifest::based_on(earlier);
    let Some(old) = earlier.operator(operator) else { return Ok(builder) };
    let ranges = (0..workers).map(|worker| groups::range_of(worker, workers));
    if ranges.clone().map(|range| range.start).eq(old.partitions.iter().map(|(number, _)| *number)) {
        return Ok(builder);
    }
    let partitions = ranges.map(|range| Ok((range.start, cut(old, &range)?))).collect::<Result<_>>()?;
    let parallelism = u32::try_from(workers).unwrap_or(KEY_GROUPS);
    Ok(builder
        .operator(operator, OperatorState { parallelism, max_parallelism: KEY_GROUPS, partitions, ..old.clone() }))
}

/// The partition that holds a range: all states of the old partitions that hold some of it.
///
/// The states of several old partitions are all named as deltas, because a partition has one snapshot. A state that several of
/// them name is named once. An older state may stand behind a newer one then: the epoch in each piece says which is newer.
fn cut(old: &OperatorState, range: &Range<u32>) -> Result<Arc<PartitionState>> {
    let range = groups::in_manifest(range)?;
    let holds =
        |partition: &PartitionState| partition.key_groups.is_some_and(|held| held.intersection(range).is_some());
    let holders: Vec<_> = old.partitions.iter().map(|(_, partition)| partition).filter(|held| holds(held)).collect();
    if let [only] = holders[..] {
        return Ok(Arc::new(PartitionState { key_groups: Some(range), ..PartitionState::clone(only) }));
    }
    let mut deltas: Vec<Artifact> = Vec::new();
    for artifact in holders.iter().flat_map(|holder| holder.snapshot.iter().chain(&holder.deltas)) {
        if !deltas.contains(artifact) {
            deltas.push(artifact.clone());
        }
    }
    Ok(Arc::new(PartitionState { deltas, key_groups: Some(range), ..PartitionState::default() }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use piton::{Checkpoint, Options, Scope, Store};

    use super::*;

    const OPERATOR: &str = "op";

    fn pieces(range: Range<u32>, text: &str) -> groups::Pieces {
        range.map(|group| (group, text.as_bytes().to_vec())).collect()
    }

    /// Commits a checkpoint for so many workers, in which one of the ranges has a new snapshot.
    fn snapshot(store: &Store, workers: usize, range: Range<u32>, epoch: u64, text: &str) -> Checkpoint {
        let newest = store.latest().unwrap();
        let builder =
            newest.map_or_else(Manifest::builder, |newest| based_on(newest.manifest(), OPERATOR, workers).unwrap());
        let pending = store.begin_next().unwrap();
        let writer = pending.writer(Scope::Shared).unwrap();
        let snapshot = groups::write(writer, epoch, &pieces(range.clone(), text)).unwrap();
        let key_groups = Some(groups::in_manifest(&range).unwrap());
        let partition = PartitionState { snapshot: Some(snapshot.into()), key_groups, ..PartitionState::default() };
        pending.commit(builder.partition(OPERATOR, range.start, partition)).unwrap()
    }

    #[test]
    fn older_state_behind_a_newer_one_in_a_merged_partition_does_not_win() {
        let store = Options::memory().open("store").unwrap();
        snapshot(&store, 1, 0..128, 1, "old");
        // The first of two workers has a snapshot of its own; the second one names the old state still.
        snapshot(&store, 2, 0..64, 2, "new");
        let newest = store.latest().unwrap().unwrap();
        let merged = store.begin_next().unwrap().commit(based_on(newest.manifest(), OPERATOR, 1).unwrap()).unwrap();
        assert_eq!(merged.manifest().operator(OPERATOR).unwrap().partitions[&0].deltas.len(), 2);
        let mut restored = BTreeMap::new();
        groups::read(&merged, OPERATOR, 0..128, |group, bytes| drop(restored.insert(group, bytes.to_vec()))).unwrap();
        assert_eq!(restored.into_iter().collect::<Vec<_>>(), [pieces(0..64, "new"), pieces(64..128, "old")].concat());
    }

    #[test]
    fn rescaling_names_the_same_states_and_writes_none() {
        let store = Options::memory().open("store").unwrap();
        let one = snapshot(&store, 1, 0..128, 1, "all");
        let before = store.usage().written_bytes;
        let six = store.begin_next().unwrap().commit(based_on(one.manifest(), OPERATOR, 6).unwrap()).unwrap();
        assert_eq!(store.usage().written_bytes, before);
        assert_eq!(six.manifest().operator(OPERATOR).unwrap().partitions.len(), 6);
        let read = groups::read(&six, OPERATOR, groups::range_of(5, 6), |_, _| ()).unwrap();
        assert_eq!(read, 22 * (8 + 3));
    }
}
