//! Who takes part.

mod asynchronous;
mod databases;
mod files;
mod piton;

use crate::{Result, peer::Kind};

const ALL: [Kind; 9] = [
    piton::PITON,
    files::FLOOR,
    files::PUBLISHED,
    files::FILE_PER_STATE,
    databases::REDB,
    databases::FJALL,
    databases::SQLITE,
    asynchronous::LAMINAR,
    asynchronous::OBJECT_STORE,
];

/// Those of these names; all, if there are no names.
pub fn named(names: &[String]) -> Result<Vec<Kind>> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    let find = |name: &String| ALL.into_iter().find(|kind| kind.name == name);
    let known = || ALL.map(|kind| kind.name).join(", ");
    names.iter().map(|name| find(name).ok_or_else(|| format!("no peer is called {name}: {}", known()).into())).collect()
}
