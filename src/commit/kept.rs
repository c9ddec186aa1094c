//! States that a checkpoint keeps because the engine goes on from an earlier one: the commit itself moves them out of files
//! that should go.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use super::{relocate::Relocation, sequence::Publisher};
use crate::{
    accounts::Kind,
    error::Result,
    handle::StateHandle,
    id::FileId,
    manifest::{ManifestBuilder, ManifestContent, Name, OperatorState, PartitionState},
    ordered::OrdMap,
    write::batch::Batch,
};

/// At most this many kept states of each kind are looked at in one commit, whether they are in files that should go. What
/// is left is looked at by the next ones.
const MOST_LOOKED_AT: usize = 1 << 14;

/// Where the next commit goes on to look.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    state: Name,
    operator: Name,
    /// Of that operator: the coordinator's state comes before its partitions.
    partition: u32,
}

/// A part of an operator.
enum Part {
    Coordinator,
    Partition(u32),
}

/// Moves states out of files that should go which the engine did not name, but goes on from, as far as the budget allows.
/// Nothing is looked at while there are no such files. Nobody else writes into the pending checkpoint any more.
pub(super) fn relocate_kept(publisher: &Publisher, batch: &Arc<Batch>, manifest: &mut ManifestBuilder) -> Result<()> {
    let Some(base) = manifest.base.as_ref().filter(|_| publisher.relocation) else { return Ok(()) };
    let marked = publisher.registry.marked();
    if marked.is_empty() {
        return Ok(());
    }
    // A commit that begins before this one has ended looks from the beginning.
    let mut cursor = std::mem::take(&mut *publisher.kept_from.lock());
    let (extended, relocation) = (&manifest.extended, Relocation::new(publisher, batch, Kind::Kept));
    let mut kept = Kept { batch, base, extended, marked, relocation };
    let moved = kept.all(&mut manifest.content, &mut cursor);
    *publisher.kept_from.lock() = cursor;
    moved
}

struct Kept<'a> {
    batch: &'a Arc<Batch>,
    base: &'a ManifestContent,
    extended: &'a BTreeSet<(Name, u32)>,
    marked: HashSet<FileId>,
    relocation: Relocation<'a>,
}

impl Kept<'_> {
    fn all(&mut self, content: &mut ManifestContent, cursor: &mut Cursor) -> Result<()> {
        self.one(&mut content.sidecar, self.base.sidecar.as_ref())?;
        let moved = self.states(&content.states, &mut cursor.state)?;
        content.states.extend(moved);
        for (name, part) in self.parts(&content.operators, cursor) {
            let (old, new) = (self.base.operators.get(&*name), content.operators.get_mut(&*name));
            let (Some(old), Some(new)) = (old, new.map(Arc::make_mut)) else { continue };
            match part {
                Part::Coordinator => self.one(&mut new.coordinator, old.coordinator.as_ref())?,
                Part::Partition(number) => {
                    let (Some(old), Some(new)) = (old.partitions.get(&number), new.partitions.get_mut(&number)) else {
                        continue;
                    };
                    // The engine named the deltas that it added.
                    if new == old || self.extended.contains(&(name, number)) {
                        self.partition(Arc::make_mut(new), old.deltas.len())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_due(&self, handle: &StateHandle) -> bool {
        handle.extent().is_some_and(|extent| self.marked.contains(&extent.file))
    }

    /// Moves a state if it should be. One that cannot be read now stays where it is; one that is damaged must not be kept.
    fn relocate(&mut self, handle: &mut StateHandle) -> Result<()> {
        if !self.is_due(handle) {
            return Ok(());
        }
        self.batch.refer_sealed(handle.extent().into_iter(), "keep states for")?;
        match self.relocation.move_if_due(handle) {
            Ok(moved) => *handle = moved,
            Err(error) if error.is_corrupt() => return Err(error),
            Err(_) => {}
        }
        Ok(())
    }

    /// The same for a state that may not be there, or may have been named by the engine.
    fn one(&mut self, state: &mut Option<StateHandle>, old: Option<&StateHandle>) -> Result<()> {
        let kept = state.as_mut().filter(|state| Some(&**state) == old);
        kept.map_or(Ok(()), |state| self.relocate(state))
    }

    /// The kept states that were moved.
    fn states(&mut self, states: &OrdMap<Name, StateHandle>, from: &mut Name) -> Result<BTreeMap<Name, StateHandle>> {
        let mut moved = BTreeMap::new();
        for (name, handle) in round(states, from) {
            if self.is_due(handle) && self.base.states.get(&**name) == Some(handle) {
                let mut now = handle.clone();
                self.relocate(&mut now)?;
                if now != *handle {
                    moved.insert(name.clone(), now);
                }
            }
        }
        Ok(moved)
    }

    /// The parts of operators with states that should be moved, from where the last commit ended, once around.
    fn parts(&self, operators: &OrdMap<Name, Arc<OperatorState>>, cursor: &mut Cursor) -> Vec<(Name, Part)> {
        let (mut left, mut due) = (MOST_LOOKED_AT, Vec::new());
        let (first, mut number) = (std::mem::take(&mut cursor.operator), std::mem::take(&mut cursor.partition));
        for (name, operator) in around(operators, &first) {
            let begin = if *name == first { std::mem::take(&mut number) } else { 0 };
            if begin == 0 && operator.coordinator.as_ref().is_some_and(|state| self.is_due(state)) {
                due.push((name.clone(), Part::Coordinator));
            }
            for (number, partition) in operator.partitions.range_from(&begin) {
                // At least one, however many states it has.
                if left == 0 {
                    (cursor.operator, cursor.partition) = (name.clone(), *number);
                    return due;
                }
                left = left.saturating_sub(partition.handles().count().max(1));
                if partition.handles().any(|handle| self.is_due(handle)) {
                    due.push((name.clone(), Part::Partition(*number)));
                }
            }
        }
        due
    }

    /// The states of a partition, with so many of its deltas.
    fn partition(&mut self, partition: &mut PartitionState, deltas: usize) -> Result<()> {
        let deltas = partition.deltas.iter_mut().take(deltas);
        let artifacts = partition.snapshot.iter_mut().chain(deltas).map(|artifact| &mut artifact.handle);
        artifacts.chain(partition.states.values_mut()).try_for_each(|handle| self.relocate(handle))
    }
}

/// All entries, those from this one on first.
fn around<'a, V: Clone>(map: &'a OrdMap<Name, V>, first: &Name) -> impl Iterator<Item = (&'a Name, &'a V)> {
    map.range_from(&**first).chain(map.iter().take_while(move |(name, _)| *name < first))
}

/// As many entries as may be looked at, from where the last commit ended, once around.
fn round<'a>(states: &'a OrdMap<Name, StateHandle>, from: &mut Name) -> Vec<(&'a Name, &'a StateHandle)> {
    let first = std::mem::take(from);
    let mut entries: Vec<_> = around(states, &first).take(MOST_LOOKED_AT + 1).collect();
    if entries.len() > MOST_LOOKED_AT
        && let Some((next, _)) = entries.pop()
    {
        *from = next.clone();
    }
    entries
}
