//! What a store and its members tell each other: values that travel over a channel of the engine.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    handle::{Extent, StateHandle},
    id::{CheckpointId, FileId, StoreId},
    manifest::ManifestChanges,
    options::{Durability, Options},
};

/// Changes with every change of what a store and its members tell each other.
pub(crate) const PROTOCOL: u16 = 1;

/// The right of one process to write states for a store that another process has open: [`Store::admit`](crate::Store::admit)
/// gives it, [`Options::join`] uses it, once.
///
/// It is a value, and serde-serialisable. It ends with [`Store::dismiss`](crate::Store::dismiss), and when the store is opened
/// anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub(crate) protocol: u16,
    pub(crate) store: StoreId,
    pub(crate) generation: u64,
    pub(crate) member: u32,
    pub(crate) durability: Durability,
    pub(crate) segment_size: u64,
    pub(crate) alignment: u32,
}

impl Membership {
    /// The store that admitted the member.
    #[must_use]
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// The generation of the store that admitted the member.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The number of the member, from 1. No other member of the generation has it.
    #[must_use]
    pub fn member(&self) -> u32 {
        self.member
    }

    /// Whether the member wrote this file.
    pub(crate) fn has_written(&self, file: FileId) -> bool {
        file.generation == self.generation && file.member() == u64::from(self.member)
    }

    /// The states in files of the member that changes set, by place, each once.
    pub(crate) fn own_extents(&self, changes: &ManifestChanges) -> Vec<Extent> {
        let extents = changes.handles().filter_map(StateHandle::extent).filter(|extent| self.has_written(extent.file));
        let mut extents: Vec<_> = extents.collect();
        extents.sort_unstable_by_key(|extent| (extent.file, extent.offset, extent.len, extent.crc));
        extents.dedup();
        extents
    }

    /// The options of a member: its own, but for what all who write data files of a store must agree on. A member has no
    /// log, so it must sync what it wrote; and it judges no file.
    pub(crate) fn options(&self, own: Options) -> Options {
        let Self { durability, segment_size, alignment, .. } = *self;
        let own = Options { durability, segment_size, alignment, redo_size: 0, ..own };
        Options { max_space_amplification: None, punch_holes: false, relocation: false, ..own }
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} of generation {}", self.member, self.generation)
    }
}

/// The share of one member in one checkpoint: durable states, and what becomes of the manifest by them. A
/// [pending part](crate::PendingPart) makes it, [`PendingCheckpoint::accept`](crate::PendingCheckpoint::accept) takes it.
///
/// It is a value, and serde-serialisable. As long as no checkpoint has accepted it, nothing refers to its states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub(crate) membership: Membership,
    pub(crate) checkpoint: CheckpointId,
    /// The checkpoint that the changes are relative to; without one they are all that the member has.
    pub(crate) since: Option<CheckpointId>,
    /// Counts the parts of the member, in the order of their preparation.
    pub(crate) number: u64,
    pub(crate) changes: ManifestChanges,
    /// The files with states of this part, ascending, and how far each is complete and durable.
    pub(crate) ends: Vec<(FileId, u64)>,
    pub(crate) progress: Progress,
}

/// How far a member was when it prepared a part. To all other files that it made before, it appends nothing any more, and no
/// part that it prepares later has a new state in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The sequence of the next file.
    pub(crate) next: u64,
    /// Files that are appended to, or have states of parts in the making.
    pub(crate) open: BTreeSet<FileId>,
}

impl Progress {
    /// Whether a later part may have new states in this file of the member.
    pub(crate) fn may_grow(&self, file: FileId) -> bool {
        file.sequence >= self.next || self.open.contains(&file)
    }
}

impl Part {
    /// The member that prepared the part.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The checkpoint that the part is for.
    #[must_use]
    pub fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// The checkpoint that the changes are relative to; `None` if they are all that the member has.
    #[must_use]
    pub fn since(&self) -> Option<CheckpointId> {
        self.since
    }

    /// What becomes of the manifest.
    #[must_use]
    pub fn changes(&self) -> &ManifestChanges {
        &self.changes
    }

    /// Whether it says that no later part has new states in this file of its member.
    pub(crate) fn gives_up(&self, file: FileId) -> bool {
        self.membership.has_written(file) && !self.progress.may_grow(file)
    }

    /// The states of the member in files of its own that the changes set, by place, each once.
    pub(crate) fn own_extents(&self) -> Vec<Extent> {
        self.membership.own_extents(&self.changes)
    }
}

/// Files of members that hold so little that their states should be written anew: [`Store::worn`](crate::Store::worn) tells,
/// [`Member::shed`](crate::Member::shed) appends nothing more to them.
///
/// It is a value, and serde-serialisable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worn {
    pub(crate) files: Vec<FileId>,
}

impl Worn {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}
