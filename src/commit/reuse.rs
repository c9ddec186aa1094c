//! Keeping states of earlier checkpoints: those that an engine names, and those that it goes on from.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{
    relocate::{Source, relocate_if_due},
    sequence::Publisher,
};
use crate::{
    error::Result,
    handle::StateHandle,
    id::FileId,
    manifest::{ManifestBuilder, Name, OperatorState, PartitionState},
    ordered::OrdMap,
    write::batch::Batch,
};

/// At most this many kept states of each kind are looked at in one commit, whether they are in files that should go. What
/// is left is looked at by the next ones.
const MOST_LOOKED_AT: usize = 1 << 14;

pub(super) fn reuse(publisher: &Publisher, batch: &Arc<Batch>, handles: &[StateHandle]) -> Result<Vec<StateHandle>> {
    let (store, operation) = (publisher.identity.store(), format!("reuse states for checkpoint {}", batch.id()));
    handles.iter().try_for_each(|handle| handle.check_store(store, &operation))?;
    batch.refer(handles.iter().filter_map(StateHandle::extent), "reuse states for")?;
    if !publisher.relocation {
        return Ok(handles.to_vec());
    }
    let mut source = None;
    handles.iter().map(|handle| relocate_if_due(publisher, batch, handle, &mut source)).collect()
}

/// Where the search for kept states in files that should go continues.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    state: Name,
    partition: (Name, u32),
}

/// Moves states out of files that should go which the engine did not name, but goes on from, as far as the budget allows.
/// Nothing is looked at while there are no such files.
pub(super) fn relocate_kept(publisher: &Publisher, batch: &Arc<Batch>, manifest: &mut ManifestBuilder) -> Result<()> {
    let Some(base) = manifest.base.as_ref().filter(|_| publisher.relocation) else { return Ok(()) };
    let marked = publisher.registry.marked();
    if marked.is_empty() {
        return Ok(());
    }
    let mut clock = publisher.clock.lock();
    let mut kept = Kept { publisher, batch, marked, source: None };
    let content = &mut manifest.content;
    let moved = kept.states(&content.states, &base.states, &mut clock.state)?;
    content.states.extend(moved);
    for (operator, number) in kept.partitions_at(&content.operators, &mut clock.partition) {
        let old = base.operators.get(&*operator).and_then(|operator| operator.partitions.get(&number));
        let Some(operator) = content.operators.get_mut(&*operator).map(Arc::make_mut) else { continue };
        if let Some(partition) = operator.partitions.get_mut(&number).filter(|partition| Some(&**partition) == old) {
            kept.partition(Arc::make_mut(partition))?;
        }
    }
    Ok(())
}

struct Kept<'a> {
    publisher: &'a Publisher,
    batch: &'a Arc<Batch>,
    marked: HashSet<FileId>,
    source: Source,
}

impl Kept<'_> {
    fn is_due(&self, handle: &StateHandle) -> bool {
        handle.extent().is_some_and(|extent| self.marked.contains(&extent.file))
    }

    /// A state that cannot be read now stays where it is; one that is damaged must not be kept.
    fn relocate(&mut self, handle: &StateHandle) -> Result<Option<StateHandle>> {
        self.batch.refer(handle.extent().into_iter(), "keep states for")?;
        match relocate_if_due(self.publisher, self.batch, handle, &mut self.source) {
            Ok(moved) => Ok(Some(moved).filter(|moved| moved != handle)),
            Err(error) if error.is_corrupt() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The kept states that were moved.
    fn states(
        &mut self,
        states: &OrdMap<Name, StateHandle>,
        base: &OrdMap<Name, StateHandle>,
        from: &mut Name,
    ) -> Result<BTreeMap<Name, StateHandle>> {
        let mut moved = BTreeMap::new();
        for (name, handle) in round(states, from) {
            if self.is_due(handle) && base.get(&**name) == Some(handle) {
                moved.extend(self.relocate(handle)?.map(|moved| (name.clone(), moved)));
            }
        }
        Ok(moved)
    }

    /// The partitions with states that should be moved.
    fn partitions_at(&self, operators: &OrdMap<Name, Arc<OperatorState>>, from: &mut (Name, u32)) -> Vec<(Name, u32)> {
        let (mut left, mut due) = (MOST_LOOKED_AT, Vec::new());
        let (first, mut number) = std::mem::take(from);
        let rest = operators.range_from(&*first).chain(operators.iter().take_while(|(name, _)| **name < first));
        for (name, operator) in rest {
            let begin = if *name == first { std::mem::take(&mut number) } else { 0 };
            for (number, partition) in operator.partitions.range_from(&begin) {
                let Some(less) = left.checked_sub(partition.handles().count().max(1)) else {
                    *from = (name.clone(), *number);
                    return due;
                };
                left = less;
                if partition.handles().any(|handle| self.is_due(handle)) {
                    due.push((name.clone(), *number));
                }
            }
        }
        due
    }

    fn partition(&mut self, partition: &mut PartitionState) -> Result<()> {
        let artifacts = partition.snapshot.iter_mut().chain(&mut partition.deltas).map(|artifact| &mut artifact.handle);
        for handle in artifacts.chain(partition.states.values_mut()) {
            if self.is_due(handle)
                && let Some(moved) = self.relocate(handle)?
            {
                *handle = moved;
            }
        }
        Ok(())
    }
}

/// As many entries as may be looked at, from where the last round ended, around the map.
fn round<'a>(states: &'a OrdMap<Name, StateHandle>, from: &mut Name) -> Vec<(&'a Name, &'a StateHandle)> {
    let first = std::mem::take(from);
    let rest = states.range_from(&*first).chain(states.iter().take_while(|(name, _)| **name < first));
    let mut entries: Vec<_> = rest.take(MOST_LOOKED_AT + 1).collect();
    if entries.len() > MOST_LOOKED_AT
        && let Some((next, _)) = entries.pop()
    {
        *from = next.clone();
    }
    entries
}
