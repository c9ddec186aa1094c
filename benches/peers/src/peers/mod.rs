//! Who takes part.

mod asynchronous;
mod databases;
mod files;
mod piton;
#[cfg(feature = "rocksdb")]
mod rocksdb;

use crate::{Result, peer::Kind};

/// For peers of which each checkpoint costs all states, or a file each.
const FEW: usize = 100_000;
/// For all others.
const ANY: usize = usize::MAX;

const ALL: &[Kind] = &[
    piton::PITON,
    files::FLOOR,
    files::PUBLISHED,
    files::FILE_PER_STATE,
    databases::REDB,
    databases::FJALL,
    databases::SQLITE,
    #[cfg(feature = "rocksdb")]
    rocksdb::ROCKSDB,
    asynchronous::LAMINAR,
    asynchronous::OBJECT_STORE,
];

/// Those of these names; all, if there are no names.
pub fn named(names: &[String]) -> Result<Vec<Kind>> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    let find = |name: &String| ALL.iter().copied().find(|kind| kind.name == name);
    let known = || ALL.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
    names.iter().map(|name| find(name).ok_or_else(|| format!("no peer is called {name}: {}", known()).into())).collect()
}
