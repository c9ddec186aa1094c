//! Several processes write one checkpoint. What is fenced off here: a state that is lost because the store judged a file of
//! a member by what it saw of it, a state of a member that was given up and is published all the same, a name that is used
//! twice, a file that stays.

mod crash;
mod engine;
mod orders;
mod rules;
mod sharing;
mod traps;

use std::path::Path;

use piton::{CheckpointId, ManifestChanges, Member, Membership, Options, Part, PendingPart, Scope, Store, disk::Disk};

use crate::support::ROOT;

/// A disk that a store and its members have in common.
pub(crate) fn options(disk: &(impl Disk + Clone)) -> Options {
    Options::new().disk(disk.clone())
}

pub(crate) fn join(disk: &(impl Disk + Clone), membership: &Membership) -> Member {
    options(disk).join(ROOT, membership).unwrap()
}

/// Admits a member, which joins.
pub(crate) fn member_of(store: &Store, disk: &(impl Disk + Clone)) -> Member {
    join(disk, &store.admit().unwrap())
}

/// A part with one state, of a length that goes to a lane.
pub(crate) fn part(pending: PendingPart, name: &str, bytes: &[u8]) -> Part {
    let handle = pending.write(Scope::Shared, bytes).unwrap();
    pending.prepare(ManifestChanges::new().state(name, handle)).unwrap()
}

pub(crate) fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

/// The names in one of the directories of a store, sorted.
pub(crate) fn names(disk: &impl Disk, dir: &str) -> Vec<String> {
    let path = Path::new(ROOT).join(dir);
    let entries = disk.list(piton::disk::At::new(&path)).unwrap();
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect();
    names.sort();
    names
}
