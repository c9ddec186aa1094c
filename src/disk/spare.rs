//! Room that a store keeps for what a full disk must not prevent.
//!
//! On a full disk a store must still open, forget, unpin and close, for that is how space comes back. Each of these writes
//! a few bytes. So a store keeps `piton.spare`, a file with blocks and without content. A small write that finds the disk
//! full gives the file up, and is tried once more in the room that it had. The file is made again when there is room.
//!
//! It is given up by removal, not overwritten in place: that works on copy-on-write file systems as well. The directory is
//! synced in between, because some file systems give blocks back only with that. A crash leaves the store without the file,
//! and the next open makes it again.

use std::path::{Path, PathBuf};

use super::{FileKind, layout, volume::Volume};
use crate::error::{Error, Result};

/// A full XFS takes 256 KiB to make a few small files, ext4 less. A full btrfs takes some 2 MiB to rename one; there the disk
/// reserves more.
const SPARE: u64 = 1 << 20;
/// On a disk without room for all of it the store keeps less, in steps of this. The write that used the room may have kept a
/// block of it.
const STEP: u64 = SPARE / 8;

/// Keeps the room, or as much of it as the disk has. A smaller file is replaced once there is room for the whole. Does nothing
/// where blocks cannot be reserved.
pub(crate) fn keep(volume: &Volume) {
    let spare = Path::new(layout::SPARE);
    if !volume.syncs() {
        return;
    }
    let reserve = |len| volume.reserve(Path::new(""), len);
    let reserved = match volume.metadata(spare) {
        Ok(None) => reserve(SPARE).or_else(|error| reserve_after_sync(volume, error)),
        Ok(Some(found)) if found.kind == FileKind::File && found.len < SPARE => reserve(SPARE),
        Ok(Some(_)) | Err(_) => return,
    };
    // Best effort: without it a full disk is a prison, and nothing worse.
    if let Ok(name) = reserved {
        let _ = volume.rename(&name, spare).or_else(|_| volume.discard(&name));
    }
}

/// What was freed just now may be free only when the directory is synced.
fn reserve_after_sync(volume: &Volume, error: Error) -> Result<PathBuf> {
    if !error.is_no_space() {
        return Err(error);
    }
    volume.sync_dir("")?;
    let mut sizes = (1..=SPARE / STEP).rev().map(|steps| steps * STEP);
    sizes.find_map(|len| volume.reserve(Path::new(""), len).ok()).ok_or(error)
}

/// Does something small that a full disk must not prevent: what fails for want of space is tried again in the room that was
/// kept for it.
pub(crate) fn even_if_full<T>(volume: &Volume, act: impl Fn() -> Result<T>) -> Result<T> {
    act().or_else(|error| {
        if !error.is_no_space() || error.is_indeterminate() || !give_up(volume)? {
            return Err(error);
        }
        let done = act();
        // What was replaced may have given back what this took.
        keep(volume);
        done
    })
}

/// Whether there was room to give up.
fn give_up(volume: &Volume) -> Result<bool> {
    let spare = Path::new(layout::SPARE);
    if volume.metadata(spare)?.is_none() {
        return Ok(false);
    }
    volume.remove(spare)?;
    volume.sync_dir("")?;
    Ok(true)
}
