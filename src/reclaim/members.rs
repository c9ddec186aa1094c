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

    /// The files that are appended to, as far as is known, and that the member gives up with this part.
    pub(crate) fn given_up(&self, part: &Part) -> Vec<FileId> {
        self.accounts.lock().given_up(part)
    }

    /// From here on nothing of this member is accepted. False if there is no such member.
    pub(crate) fn dismiss(&self, member: u32) -> bool {
        self.accounts.lock().dismiss(member)
    }

    /// Closes a file of a member that was dismissed: it has this length. A file without states is to be removed.
    pub(crate) fn close_for(&self, file: FileId, len: u64) {
        self.accounts.lock().close_for(file, len);
    }

    /// Whether a file that was found on disk has no referrer, and no later part can refer to it. With `remove` the next sweep
    /// deletes an orphan. One lock covers both: another thread may accept a part at any moment.
    pub(crate) fn is_orphan(&self, file: FileId, len: u64, remove: bool) -> bool {
        self.accounts.lock().is_orphan(file, len, remove)
    }

    /// Whether the store, or a member that is alive or not, may append to this file.
    pub(crate) fn is_appended_to(&self, file: FileId) -> bool {
        self.accounts.lock().is_appended_to(file)
    }

    /// The files of members that hold too little.
    pub(crate) fn worn(&self) -> Worn {
        if self.is_in_child() {
            return Worn::default();
        }
        Worn { files: self.accounts.lock().worn() }
    }

    /// In a member: nothing more should be appended to these.
    pub(crate) fn shed(&self, files: &BTreeSet<FileId>) {
        let mut accounts = self.accounts.lock();
        for file in files {
            accounts.shed(*file);
        }
    }

    /// In a member: starts a part.
    pub(crate) fn begin_part(self: &Arc<Self>) -> Hold {
        Hold::new(self, self.accounts.lock().begin_part())
    }
}
