//! Every checkpoint that the log knows.

use crate::{
    error::{Error, Malformed},
    format::record::is_rolled_back,
    id::CheckpointId,
    manifest::Manifest,
    records::{History, Kept},
};

/// A checkpoint as the manifest log has it. Nobody looked at its data files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InspectedCheckpoint {
    /// Its id.
    pub id: CheckpointId,
    /// The generation of the store that published it.
    pub generation: u64,
    /// Whether it is [pinned](crate::Store::pin).
    pub pinned: bool,
    /// Whether the engine [rolled back](crate::Store::rollback_to) to an older one.
    pub rolled_back: bool,
    /// Whether it is durable: not if it was committed with `Durability::None`, until a store is opened that syncs.
    pub durable: bool,
    /// How many states it names. One with two names counts twice.
    pub states: u64,
    /// How many bytes these have, those in the manifest included.
    pub bytes: u64,
    /// How many bytes the states have that the checkpoint before it did not name in the same way.
    pub changed_bytes: u64,
    /// What it consists of; why that is not known, if its record is lost.
    pub manifest: Result<Manifest, Error>,
}

/// All that were published and not forgotten, in the order in which they were published.
pub(super) fn of(history: &History, blame: impl Fn(Malformed) -> Error) -> Vec<InspectedCheckpoint> {
    let one = |kept: &Kept| {
        let Kept { id, generation, marks, .. } = *kept;
        InspectedCheckpoint {
            id,
            generation,
            pinned: marks.pinned,
            rolled_back: is_rolled_back(history.rolled_back(), id),
            durable: !marks.unsynced,
            states: 0,
            bytes: 0,
            changed_bytes: 0,
            manifest: history.manifest(kept).map_err(&blame),
        }
    };
    history.kept().map(one).collect()
}
