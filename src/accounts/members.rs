//! The members of an open store, and what the last part of each said of its files. Pure.
//!
//! A file of a member is the member's as long as a later part may have new states in it ([`Progress::may_grow`]): it is neither
//! sealed, nor punched, nor removed, however few states of it are known here. Only the parts say when that ends, or a
//! dismissal. What the disk says of such a file tells nothing: between two states that were accepted there may be one of a part
//! that is still on its way.

use std::collections::{BTreeMap, BTreeSet};

use super::{Accounts, FileRecord, Holder, files::Files};
use crate::{
    fault::PartFault,
    format::segment::{HEADER_LEN, entry_end},
    handle::Extent,
    id::{FileId, LAST_MEMBER},
    part::{Part, Progress},
};

#[derive(Debug, Default)]
pub(super) struct Members {
    /// How many were admitted.
    admitted: u32,
    dismissed: BTreeSet<u32>,
    /// Of those that prepared a part.
    accepted: BTreeMap<u32, Accepted>,
}

/// The last part of a member that was accepted.
#[derive(Debug)]
struct Accepted {
    number: u64,
    progress: Progress,
}

/// A file of a part, or one that its member has given up with it, as it was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    /// How far it is complete and durable, as the part says.
    pub(crate) end: u64,
    /// How long it is.
    pub(crate) len: u64,
}

pub(crate) type Reaches = BTreeMap<FileId, Reach>;

/// Why a part is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It comes from the wrong member, or at the wrong time.
    Fault(PartFault),
    /// It names a state that is gone.
    Gone(Extent),
    /// It names a state that cannot be where it says.
    Impossible(Extent, &'static str),
}

impl Members {
    fn check(&self, part: &Part) -> Result<(), PartFault> {
        let member = part.membership.member;
        if self.dismissed.contains(&member) {
            return Err(PartFault::Dismissed);
        }
        if member == 0 || member > self.admitted {
            return Err(PartFault::NotAdmitted);
        }
        let number = part.number;
        match self.accepted.get(&member) {
            Some(accepted) if number <= accepted.number => Err(PartFault::Late { number, last: accepted.number }),
            _ => Ok(()),
        }
    }

    fn is_dismissed(&self, file: FileId) -> bool {
        u32::try_from(file.member()).is_ok_and(|member| self.dismissed.contains(&member))
    }

    /// Whether a part that is still to come may have new states in this file.
    fn may_grow(&self, file: FileId) -> bool {
        let Some(member) = u32::try_from(file.member()).ok().filter(|member| *member > 0) else { return false };
        member <= self.admitted
            && !self.dismissed.contains(&member)
            && self.accepted.get(&member).is_none_or(|accepted| accepted.progress.may_grow(file))
    }
}

impl Accounts {
    /// Refuses a part of a member that was dismissed, or one that comes late.
    pub(crate) fn check_part(&self, part: &Part) -> Result<(), PartFault> {
        self.members.check(part)
    }

    /// The number of the next member; `None` if there were too many.
    pub(crate) fn admit(&mut self) -> Option<u32> {
        let next = self.members.admitted.checked_add(1).filter(|next| *next <= LAST_MEMBER)?;
        self.members.admitted = next;
        Some(next)
    }

    /// From here on nothing of this member is accepted. False if there is no such member.
    pub(crate) fn dismiss(&mut self, member: u32) -> bool {
        let is_known = (1..=self.members.admitted).contains(&member);
        if is_known {
            self.members.dismissed.insert(member);
            self.members.accepted.remove(&member);
            self.seal_all(|file| file.member() == u64::from(member));
        }
        is_known
    }

    /// Seals files of members of this generation.
    fn seal_all(&mut self, are_meant: impl Fn(FileId) -> bool) {
        let files = self.files.open().filter(|file| file.generation == self.generation && are_meant(*file));
        for file in files.collect::<Vec<_>>() {
            self.files.change(file, FileRecord::seal);
        }
    }

    /// The files that are appended to, as far as is known, and that the member gives up with this part.
    pub(crate) fn given_up(&self, part: &Part) -> Vec<FileId> {
        self.files.open().filter(|file| part.gives_up(*file)).collect()
    }

    /// Whether a part that is still to come may have new states in this file, which a member of this generation has made.
    pub(crate) fn may_grow(&self, file: FileId) -> bool {
        file.generation == self.generation && self.members.may_grow(file)
    }

    /// Whether the store, or a member that is alive or not, may append to this file.
    pub(crate) fn is_appended_to(&self, file: FileId) -> bool {
        let is_dismissed = file.generation == self.generation && self.members.is_dismissed(file);
        self.files.get(file).is_some_and(FileRecord::is_open) || is_dismissed
    }

    /// The files of members that should be rewritten and are appended to.
    pub(crate) fn worn(&self) -> Vec<FileId> {
        let marked = self.files.marked_open();
        marked.filter(|file| file.generation == self.generation && self.members.may_grow(*file)).collect()
    }

    /// Whether a file that was found on disk has no referrer, and no later part can refer to it. If it has none, `remove` buries
    /// the file.
    pub(crate) fn is_orphan(&mut self, file: FileId, len: u64, remove: bool) -> bool {
        let is_orphan = self.files.get(file).is_none() && !self.may_grow(file);
        if is_orphan && remove {
            self.files.bury(file, len);
        }
        is_orphan
    }

    /// Closes a file of a member that was dismissed: it has this length. A file without states is to be removed.
    pub(crate) fn close_for(&mut self, file: FileId, len: u64) {
        if self.files.get(file).is_none() {
            return self.files.bury(file, len);
        }
        self.files.change(file, |record| {
            record.grow(len);
            record.seal();
        });
    }

    /// Enters the states of a part, which `holder` refers to from now on, and seals the files that the member has given up.
    /// All or none. Returns how many bytes the states have that were not known before.
    pub(crate) fn accept(
        &mut self,
        holder: Holder,
        part: &Part,
        extents: &[Extent],
        files: &Reaches,
    ) -> Result<u64, Refused> {
        self.members.check(part).map_err(Refused::Fault)?;
        let new = self.check_extents(extents, files)?;
        let written = new.iter().map(|extent| extent.len).sum();
        for of_one in new.chunk_by(|one, other| one.file == other.file) {
            let Some(file) = of_one.first().map(|extent| extent.file) else { continue };
            self.create(file, false);
            self.files.add(file, of_one, files.get(&file).map_or(0, |file| file.end));
        }
        for extent in extents {
            self.link(holder, extent);
        }
        self.written += written;
        let Part { membership, number, progress, .. } = part;
        // What lies behind the last state that was accepted is waste from here on.
        for (file, Reach { len, .. }) in files.iter().filter(|(file, _)| part.gives_up(**file)) {
            self.files.change(*file, |record| record.grow(*len));
        }
        self.seal_all(|file| part.gives_up(file));
        let accepted = Accepted { number: *number, progress: progress.clone() };
        self.members.accepted.insert(membership.member, accepted);
        Ok(written)
    }

    /// Finds the states of a part that are not known yet. Each must lie in a file that its member could append to, behind its
    /// header, before the end that the part tells, and in no other state.
    fn check_extents(&self, extents: &[Extent], files: &Reaches) -> Result<Vec<Extent>, Refused> {
        let mut new: Vec<Extent> = Vec::new();
        for extent in extents {
            let refuse = |why| Err(Refused::Impossible(*extent, why));
            match self.files.record((extent.file, extent.offset)) {
                Some(there) if there.is(extent) && !there.bad => continue,
                Some(there) if there.is(extent) => return Err(Refused::Gone(*extent)),
                Some(_) => return refuse("another state is at its place"),
                None => {}
            }
            let may_be_new = self.may_grow(extent.file) && self.files.get(extent.file).is_none_or(FileRecord::is_open);
            if !may_be_new {
                return Err(Refused::Gone(*extent));
            }
            // An earlier part had a state there that came to nothing.
            let Some(file) = files.get(&extent.file).filter(|file| file.end > 0) else {
                return Err(Refused::Gone(*extent));
            };
            let end = extent.offset.checked_add(extent.len).map(|_| entry_end(extent.offset, extent.len));
            if extent.offset < HEADER_LEN || end.is_none_or(|end| end > file.end) {
                return refuse("it lies outside of what the part says is there");
            }
            let last = new.last().filter(|last| last.file == extent.file);
            if last.is_some_and(|last| entry_end(last.offset, last.len) > extent.offset)
                || !is_free(&self.files, extent)
            {
                return refuse("it overlaps another state");
            }
            new.push(*extent);
        }
        Ok(new)
    }
}

/// Whether no known state lies where this one is.
fn is_free(files: &Files, extent: &Extent) -> bool {
    files.get(extent.file).is_none_or(|file| file.has_room(extent.offset, entry_end(extent.offset, extent.len)))
}
