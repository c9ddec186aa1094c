//! The states in data files, and which checkpoints keep each of them.
//!
//! What two checkpoints in a row share is not looked at. The states of the first one, and the changes of each later one, are
//! events. Sorted by place in the files, one pass over them tells for each state which checkpoints name it.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use super::{InspectedCheckpoint, Inspection};
use crate::{
    disk::layout,
    error::Result,
    format::segment::entry_end,
    id::{CheckpointId, FileId},
    manifest::{ManifestContent, StateChange},
};

/// The states in data files of this store that checkpoints name: [`Inspection::extents`].
#[derive(Debug, Default)]
pub struct Extents {
    /// The checkpoints with known content, in the order in which they were published.
    ids: Vec<CheckpointId>,
    files: Vec<FileId>,
    /// By file and offset.
    states: Vec<State>,
    /// The runs of states that went and came back, by place among the states; the last run is in the state.
    earlier_runs: HashMap<usize, Vec<Run>>,
}

/// Neighbouring checkpoints: the first, and the one behind the last, by place among the ids.
type Run = (u32, u32);

#[derive(Clone, Copy, Debug)]
struct State {
    file: u32,
    run: Run,
    offset: u64,
    len: u64,
}

/// A checkpoint names a state of some file once more or once less than the one before. Ordered by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    offset: u64,
    len: u64,
    checkpoint: u32,
    names: i32,
}

/// What one checkpoint takes of the data files of this store: [`Extents::by_checkpoint`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointBytes {
    /// How many bytes in data files the checkpoint names, each state counted once.
    pub all: u64,
    /// How many of them no checkpoint that was published before names.
    pub new: u64,
    /// How many of them no other checkpoint names: what forgetting it would make dead.
    pub unique: u64,
}

/// A state in a data file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedState {
    /// Where its bytes begin in the file.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
    /// The oldest checkpoint that keeps it.
    pub oldest: CheckpointId,
    /// The newest checkpoint that keeps it.
    pub newest: CheckpointId,
    /// How many checkpoints keep it.
    pub checkpoints: usize,
}

impl Inspection {
    /// Finds every state in a data file of this store that a checkpoint names. Files of other stores, which were borrowed, are
    /// left out. Checkpoints that share most of their states cost what differs.
    #[must_use]
    pub fn extents(&self) -> Extents {
        let (mut extents, mut numbers) = (Extents::default(), HashMap::new());
        // By file: those of one are dropped before the states of the next one take their room.
        let mut events: Vec<Vec<Event>> = Vec::new();
        each_change(&self.checkpoints, |checkpoint, change| {
            if extents.ids.last() != Some(&checkpoint.id) {
                extents.ids.push(checkpoint.id);
            }
            let (StateChange::Added(handle) | StateChange::Removed(handle)) = change;
            let Some(extent) = handle.extent().filter(|extent| checkpoint.owns(extent.file)) else { return };
            let file = *numbers.entry(extent.file).or_insert_with(|| {
                extents.files.push(extent.file);
                events.push(Vec::new());
                number(extents.files.len() - 1)
            });
            let names = if matches!(change, StateChange::Added(_)) { 1 } else { -1 };
            let (offset, len) = (extent.offset, extent.len);
            let event = Event { offset, len, checkpoint: number(extents.ids.len() - 1), names };
            events.get_mut(file as usize).into_iter().for_each(|of_file| of_file.push(event));
        });
        for (mut of_file, file) in events.into_iter().zip(0..) {
            of_file.sort_unstable();
            for of_one in of_file.chunk_by(|one, other| (one.offset, one.len) == (other.offset, other.len)) {
                extents.add(file, of_one);
            }
        }
        extents
    }

    /// The checkpoints that name a state beyond the end of its data file, or in one that is not there, each with the first such
    /// file. Nobody looks at the bytes.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn incomplete(&self) -> Result<BTreeMap<CheckpointId, PathBuf>> {
        let (files, mut incomplete) = (self.data_files()?, BTreeMap::new());
        let is_short = |file: &FileId, end: u64| files.get(file).is_none_or(|found| found.len < end);
        if !self.ends.iter().any(|(file, end)| is_short(file, *end)) {
            return Ok(incomplete);
        }
        let extents = self.extents();
        for (place, state) in extents.states.iter().enumerate() {
            let Some(file) = extents.file(state) else { continue };
            if is_short(&file, entry_end(state.offset, state.len)) {
                for id in extents.runs(place).flat_map(|run| extents.ids_of(run)) {
                    incomplete.entry(*id).or_insert_with(|| layout::segment(file));
                }
            }
        }
        Ok(incomplete)
    }
}

fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Tells for each checkpoint with known content how it differs from the one before it.
pub(super) fn each_change<'a>(
    checkpoints: &'a [InspectedCheckpoint],
    mut tell: impl FnMut(&'a InspectedCheckpoint, StateChange<'a>),
) {
    static EMPTY: std::sync::LazyLock<ManifestContent> = std::sync::LazyLock::new(ManifestContent::default);
    let mut older: &ManifestContent = &EMPTY;
    for checkpoint in checkpoints {
        let Ok(manifest) = &checkpoint.manifest else { continue };
        manifest.content.state_changes(older, |change| tell(checkpoint, change));
        older = &manifest.content;
    }
}

/// How far the data files must reach, by file; and what the checkpoints name, in [`InspectedCheckpoint`].
pub(super) fn sum_up(checkpoints: &mut [InspectedCheckpoint]) -> HashMap<FileId, u64> {
    let mut ends: HashMap<FileId, u64> = HashMap::new();
    let mut sums: HashMap<CheckpointId, (u64, u64, u64)> = HashMap::new();
    let (mut states, mut bytes, mut last) = (0_u64, 0_u64, None);
    each_change(checkpoints, |checkpoint, change| {
        let new = if last == Some(checkpoint.id) { sums.get(&checkpoint.id).map_or(0, |sums| sums.2) } else { 0 };
        last = Some(checkpoint.id);
        let new = match change {
            StateChange::Added(handle) => {
                (states, bytes) = (states + 1, bytes.saturating_add(handle.len()));
                if let Some(extent) = handle.extent().filter(|extent| checkpoint.owns(extent.file)) {
                    let end = ends.entry(extent.file).or_default();
                    *end = entry_end(extent.offset, extent.len).max(*end);
                }
                new.saturating_add(handle.len())
            }
            StateChange::Removed(handle) => {
                (states, bytes) = (states.saturating_sub(1), bytes.saturating_sub(handle.len()));
                new
            }
        };
        sums.insert(checkpoint.id, (states, bytes, new));
    });
    let (mut states, mut bytes) = (0, 0);
    for checkpoint in checkpoints.iter_mut().filter(|checkpoint| checkpoint.manifest.is_ok()) {
        let new;
        // One that differs in nothing has what the one before has.
        (states, bytes, new) = sums.get(&checkpoint.id).copied().unwrap_or((states, bytes, 0));
        (checkpoint.states, checkpoint.bytes, checkpoint.changed_bytes) = (states, bytes, new);
    }
    ends
}

impl Extents {
    /// Adds the state of these events of a file, which are in the order of their checkpoints.
    fn add(&mut self, file: u32, events: &[Event]) {
        let Some(Event { offset, len, .. }) = events.first().copied() else { return };
        let (mut runs, mut open, mut names) = (Vec::new(), None, 0_i64);
        for of_one in events.chunk_by(|one, other| one.checkpoint == other.checkpoint) {
            names += of_one.iter().map(|event| i64::from(event.names)).sum::<i64>();
            let at = of_one.first().map_or(0, |event| event.checkpoint);
            if names > 0 {
                open.get_or_insert(at);
            } else if let Some(from) = open.take() {
                runs.push((from, at));
            }
        }
        runs.extend(open.map(|from| (from, number(self.ids.len()))));
        let Some(run) = runs.pop() else { return };
        if !runs.is_empty() {
            self.earlier_runs.insert(self.states.len(), runs);
        }
        self.states.push(State { file, run, offset, len });
    }

    fn file(&self, state: &State) -> Option<FileId> {
        self.files.get(state.file as usize).copied()
    }

    /// The runs of the state at this place, in order.
    fn runs(&self, place: usize) -> impl Iterator<Item = Run> {
        let earlier = self.earlier_runs.get(&place).into_iter().flatten().copied();
        earlier.chain(self.states.get(place).map(|state| state.run))
    }

    fn ids_of(&self, (from, to): Run) -> &[CheckpointId] {
        self.ids.get(from as usize..to as usize).unwrap_or_default()
    }

    /// What each checkpoint takes.
    #[must_use]
    pub fn by_checkpoint(&self) -> BTreeMap<CheckpointId, CheckpointBytes> {
        let mut bytes = vec![CheckpointBytes::default(); self.ids.len()];
        // How much more a checkpoint has than the one before it.
        let mut steps = vec![(0_u64, 0_u64); self.ids.len() + 1];
        for (place, state) in self.states.iter().enumerate() {
            let mut count = 0;
            for (n, (from, to)) in self.runs(place).enumerate() {
                count += to - from;
                steps[from as usize].0 += state.len;
                steps[to as usize].1 += state.len;
                bytes[from as usize].new += if n == 0 { state.len } else { 0 };
            }
            if count == 1 {
                bytes[state.run.0 as usize].unique += state.len;
            }
        }
        let mut all = 0;
        for (bytes, (more, less)) in bytes.iter_mut().zip(steps) {
            all = all + more - less;
            bytes.all = all;
        }
        self.ids.iter().copied().zip(bytes).collect()
    }

    /// How many bytes these checkpoints name that no other one does: what forgetting all of them would make dead.
    #[must_use]
    pub fn bytes_of_none_but(&self, ids: &[CheckpointId]) -> u64 {
        // How many others there are up to each checkpoint: none in a run if it does not change there.
        let mut others = vec![0_u32];
        for id in &self.ids {
            let before = others.last().copied().unwrap_or_default();
            others.push(before + u32::from(!ids.contains(id)));
        }
        let only = |place| self.runs(place).all(|(from, to)| others.get(from as usize) == others.get(to as usize));
        self.states.iter().enumerate().filter(|(place, _)| only(*place)).map(|(_, state)| state.len).sum()
    }

    /// How many bytes all checkpoints name together, each state counted once.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.states.iter().map(|state| state.len).sum()
    }

    /// How many states that are.
    #[must_use]
    pub fn live_states(&self) -> u64 {
        self.states.len() as u64
    }

    /// The states in each data file, by its path under the root, in the order of their places.
    #[must_use]
    pub fn by_file(&self) -> BTreeMap<PathBuf, Vec<InspectedState>> {
        let mut files: BTreeMap<PathBuf, Vec<InspectedState>> = BTreeMap::new();
        let mut states = self.states.iter().enumerate().peekable();
        while let Some((_, first)) = states.peek().copied() {
            let of_file = std::iter::from_fn(|| states.next_if(|(_, state)| state.file == first.file));
            let inspected = of_file.filter_map(|(place, state)| self.inspected(place, state)).collect();
            files.extend(self.file(first).map(|file| (layout::segment(file), inspected)));
        }
        files
    }

    /// How many bytes are alive in each data file, by its path under the root.
    #[must_use]
    pub fn bytes_by_file(&self) -> BTreeMap<PathBuf, u64> {
        let mut bytes = vec![0; self.files.len()];
        self.states.iter().for_each(|state| bytes[state.file as usize] += state.len);
        self.files.iter().map(|file| layout::segment(*file)).zip(bytes).collect()
    }

    fn inspected(&self, place: usize, state: &State) -> Option<InspectedState> {
        let (first, last) = (self.runs(place).next()?, state.run);
        Some(InspectedState {
            offset: state.offset,
            len: state.len,
            oldest: *self.ids_of(first).first()?,
            newest: *self.ids_of(last).last()?,
            checkpoints: self.runs(place).map(|run| self.ids_of(run).len()).sum(),
        })
    }
}

impl InspectedCheckpoint {
    /// Whether a file that it names is in this store, and not borrowed.
    fn owns(&self, file: FileId) -> bool {
        let manifest = self.manifest.as_ref().ok();
        manifest.and_then(|manifest| manifest.origins.get(&file)).is_none_or(|origin| origin.lent.is_none())
    }
}
