//! What the file system of a store can do, found out by doing it.

use std::{path::Path, sync::Arc};

use crate::{
    disk::{link, publish::TempFile, volume::Volume},
    error::Result,
};

/// What the file system of a store can do: see [`Store::capabilities`](crate::Store::capabilities).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// A file can have several names: duplicating and exporting within it cost no bytes.
    pub hard_links: bool,
    /// Files can share bytes until one of them changes: the same where there are no hard links.
    pub reflinks: bool,
    /// Dead ranges of a file can be given back, so that states need not be rewritten for that.
    pub punch_holes: bool,
}

/// How much is tried with: some blocks of any file system.
const SIZE: usize = 1 << 16;

pub(crate) fn probe(volume: &Arc<Volume>) -> Result<Capabilities> {
    let root = Path::new("");
    let original = TempFile::create(volume, root)?;
    original.file().write_all_at(&vec![1; SIZE], 0)?;
    // Some file systems share only what is on the medium.
    original.file().sync()?;
    let Some(name) = original.name() else { return Ok(Capabilities::default()) };
    let reflinked = TempFile::create(volume, root)?;
    let reflinks = link::reflink(volume, name, &reflinked)?;
    drop(reflinked);
    // Its name is free then, and nobody else's.
    let linked = TempFile::create(volume, root)?;
    let hard_links = match linked.name() {
        Some(linked) => {
            volume.remove(linked)?;
            link::link(volume, name, volume, linked)?
        }
        None => false,
    };
    drop(linked);
    let punch_holes = volume.punch_holes(name, std::slice::from_ref(&(0..SIZE as u64 / 2)))?;
    Ok(Capabilities { hard_links, reflinks, punch_holes })
}
