//! The files that stand for members: processes that write data files of a store which another process has open.
//!
//! | the file | says |
//! |---|---|
//! | has [`ADMITTED`] in it | the store admitted a member, which has not joined yet |
//! | names a process | that process joined as the member; the file is locked for as long as it is one |
//! | is not there | the member has left, or was dismissed |
//!
//! The store makes the file, the member locks it, and either deletes it: the member when it leaves, the store when it dismisses
//! the member or finds at the next open that the member has ended. Neither syncs it: after a power cut there are no members.
//! But a member syncs that it has joined, where files outlive the machine of the member: no number is used twice.

use std::{path::Path, sync::Arc};

use super::{
    LockGuard, layout,
    lock::{is_this_host_s_and_dead, this_process},
    publish::TempFile,
    volume::Volume,
};
use crate::error::{Cause, Error, Result};

const ADMITTED: &[u8] = b"admitted\n";

/// What joining a store is called in errors.
pub(crate) const JOIN: &str = "join the store in";

/// Makes the file of a new member.
pub(crate) fn admit(volume: &Arc<Volume>, generation: u64, member: u32) -> Result<()> {
    let temp = TempFile::create(volume, Path::new(""))?;
    temp.file().write_all_at(ADMITTED, 0)?;
    temp.publish(&layout::member(generation, member)).map(drop)
}

/// Becomes that member, for as long as the returned lock is held.
///
/// # Errors
///
/// `is_fenced` if the member was dismissed, or has left. `is_locked` if another process is that member; `is_invalid` if one
/// was. Errors of the file system.
pub(crate) fn join(volume: &Volume, generation: u64, member: u32) -> Result<Box<dyn LockGuard>> {
    let name = layout::member(generation, member);
    let path = volume.path(&name);
    let refuse = |cause| Err(Error::at(JOIN, &path, cause));
    check_admitted(volume, generation, member, JOIN)?;
    let Some(guard) = volume.lock_member(&name)? else {
        let said = volume.read_if_there(&name)?.filter(|said| said != ADMITTED);
        let owner = said.map(|said| String::from_utf8_lossy(&said).trim().to_owned());
        return refuse(Cause::Locked { owner: owner.unwrap_or_else(|| "another process".to_owned()) });
    };
    match volume.read_if_there(&name)? {
        Some(found) if found == ADMITTED => {}
        Some(found) if !found.is_empty() => {
            let by = String::from_utf8_lossy(&found).trim().to_owned();
            let why = format!("{by} has joined with this membership before; each is for one process: admit another");
            return refuse(Cause::Invalid(why));
        }
        // To lock a file that was just deleted makes it anew.
        _ => {
            let _ = volume.remove(&name);
            return refuse(Cause::Dismissed);
        }
    }
    let file = match volume.open_writable(&name) {
        Err(error) if error.is_not_found() => return refuse(Cause::Dismissed),
        file => file?,
    };
    file.write_all_at(format!("{}\n", this_process()).as_bytes(), 0)?;
    file.sync()?;
    Ok(guard)
}

/// Refuses once the member was dismissed.
pub(crate) fn check_admitted(volume: &Volume, generation: u64, member: u32, operation: &str) -> Result<()> {
    let name = layout::member(generation, member);
    match volume.metadata(&name)? {
        Some(_) => Ok(()),
        None => Err(Error::at(operation, &volume.path(&name), Cause::Dismissed)),
    }
}

/// Whether a process is still that member. It may be one that was not dismissed, of an older generation.
pub(crate) fn is_alive(volume: &Volume, generation: u64, member: u32) -> Result<bool> {
    let name = layout::member(generation, member);
    if volume.metadata(&name)?.is_none() {
        return Ok(false);
    }
    let Some(_guard) = volume.lock_member(&name)? else { return Ok(true) };
    // To lock a file that was just deleted makes it anew.
    if volume.read_if_there(&name)?.is_some_and(|said| said.is_empty()) {
        volume.remove(&name)?;
    }
    Ok(false)
}

/// Whether no process is a member of this store, as far as the files of the members say. Nothing is locked.
pub(crate) fn are_all_ended(volume: &Volume) -> Result<bool> {
    for entry in volume.list("")?.iter().filter(|entry| layout::parse_member(&entry.name).is_some()) {
        let said = volume.read_if_there(Path::new(&entry.name))?.unwrap_or_default();
        if !said.is_empty() && said != ADMITTED && !is_this_host_s_and_dead(String::from_utf8_lossy(&said).trim()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Deletes the files of all members, of a store that is being removed.
pub(crate) fn delete_all(volume: &Volume) -> Result<()> {
    let entries = volume.list("")?;
    let members = entries.iter().filter(|entry| layout::parse_member(&entry.name).is_some());
    members.map(|entry| Path::new(&entry.name)).try_for_each(|name| volume.remove(name))
}

/// Deletes the file of a member, unless a process is that member. Whether it was deleted.
pub(crate) fn delete_if_ended(volume: &Volume, generation: u64, member: u32) -> Result<bool> {
    let name = layout::member(generation, member);
    let Some(_guard) = volume.lock_member(&name)? else { return Ok(false) };
    volume.remove(&name).map(|()| true)
}

/// Deletes the file of a member, whether a process is that member or not: the process finds out.
pub(crate) fn dismiss(volume: &Volume, generation: u64, member: u32) -> Result<()> {
    volume.remove(&layout::member(generation, member))
}
