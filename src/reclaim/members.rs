//! What the registry knows of members: see `accounts/members.rs`.

use std::{collections::BTreeSet, sync::Arc};

use super::{Hold, registry::Registry};
use crate::{
    fault::PartFault,
    id::FileId,
    part::{Part, Worn},
};

impl Registry {
    /// The number of the next member; `None` if there were too many.
    pub(crate) fn admit(&self) -> Option<u32> {
        self.accounts.lock().admit()
    }

    /// Refuses a part of a member that was dismissed, or one that comes late, as it is now.
    pub(crate) fn check_part(&self, part: &Part) -> Result<(), PartFault> {
        self.accounts.lock().check_part(part)
    }

    /// From here on nothing of this member is accepted. False if there is no such member.
    pub(crate) fn dismiss(&self, member: u32) -> bool {
        self.accounts.lock().dismiss(member)
    }

    /// Closes a file of a member that was dismissed: it has this length. A file without states is to be removed.
    pub(crate) fn close_for(&self, file: FileId, len: u64) {
        self.accounts.lock().close_for(file, len);
    }

    /// Whether nothing refers to this file, which was found on disk, and no part that is to come may. If it is to go it is
    /// removed by the next sweep. Both at once: a part may be accepted at any moment.
    pub(crate) fn is_orphan(&self, file: FileId, len: u64, goes: bool) -> bool {
        self.accounts.lock().is_orphan(file, len, goes)
    }

    /// Whether the store, or a member that is alive or not, may append to this file.
    pub(crate) fn is_appended_to(&self, file: FileId) -> bool {
        self.accounts.lock().is_appended_to(file)
    }

    /// The files of members that hold too little.
    pub(crate) fn worn(&self) -> Worn {
        Worn { files: self.accounts.lock().worn() }
    }

    /// In a member: nothing more should be appended to these.
    pub(crate) fn shed(&self, files: &BTreeSet<FileId>) {
        let mut accounts = self.accounts.lock();
        for file in files {
            accounts.files.change(*file, |record| record.marked = true);
        }
    }

    /// In a member: starts a part.
    pub(crate) fn begin_part(self: &Arc<Self>) -> Hold {
        Hold::new(self, self.accounts.lock().begin_part())
    }
}
