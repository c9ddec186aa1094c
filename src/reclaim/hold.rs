//! What a pending checkpoint or a reader holds.

use std::sync::Arc;

use super::registry::Registry;
use crate::{
    accounts::{Base, Found, Holder, Kind, Reaches, Refused, space::LEAST_PUNCHED},
    error::Error,
    handle::Extent,
    id::FileId,
    manifest::FileOrigin,
    part::{Part, Progress},
};

/// A file that was not written here.
#[derive(Clone, Debug)]
pub(crate) struct Adopted {
    pub(crate) len: u64,
    pub(crate) allocated: u64,
    pub(crate) origin: FileOrigin,
}

/// Keeps checkpoints and states: the pending checkpoint's or a reader's. Dropped, it removes the files that nobody else
/// refers to.
#[derive(Debug)]
pub(crate) struct Hold {
    registry: Arc<Registry>,
    holder: Holder,
}

impl Hold {
    pub(super) fn new(registry: &Arc<Registry>, holder: Holder) -> Self {
        Self { registry: Arc::clone(registry), holder }
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Holds the newest checkpoint as well, and returns it.
    pub(crate) fn hold_newest(&self) -> Base {
        self.registry.accounts.lock().hold_newest(self.holder)
    }

    /// Adds an extent that was just written, at the end of its file.
    pub(crate) fn add(&self, extent: &Extent, file_len: u64, kind: Kind) {
        self.registry.accounts.lock().add(self.holder, extent, file_len, kind);
    }

    /// Whether [`refer`](Self::refer) would succeed.
    pub(crate) fn may_refer(&self, extent: &Extent) -> bool {
        self.registry.accounts.lock().may_refer(self.holder, extent)
    }

    /// Whether that is so of all of these extents; else returns the first of which it is not.
    pub(crate) fn may_refer_all(&self, extents: &[Extent]) -> Result<(), Extent> {
        let accounts = self.registry.accounts.lock();
        extents.iter().find(|extent| !accounts.may_refer(self.holder, extent)).map_or(Ok(()), |extent| Err(*extent))
    }

    /// Refers to extents that may be referred to; returns the first that may not.
    pub(crate) fn refer(&self, mut extents: impl Iterator<Item = Extent>) -> Result<(), Extent> {
        let mut accounts = self.registry.accounts.lock();
        extents.find(|extent| !accounts.refer(self.holder, extent)).map_or(Ok(()), Err)
    }

    /// Refers to the states of a member's part from now on, all or none: see `accounts/members.rs`. Returns how many bytes
    /// the states have that were not known before.
    pub(crate) fn accept(&self, part: &Part, extents: &[Extent], files: &Reaches) -> Result<u64, Refused> {
        self.registry.accounts.lock().accept(self.holder, part, extents, files)
    }

    /// Adds the states of a file that was not written here, which is complete, and seals it. They are in the order of their
    /// offsets, and may be said to be in another file.
    pub(crate) fn adopt(&self, file: FileId, adopted: &Adopted, extents: &[Extent]) -> Result<(), Extent> {
        let Adopted { len, allocated, origin } = adopted;
        let found = Found { len: *len, allocated: *allocated, origin: Some(origin) };
        self.registry.accounts.lock().adopt(self.holder, file, found, extents)
    }

    /// Adds more states of a file that was [adopted](Self::adopt) before.
    pub(crate) fn adopt_more(&self, file: FileId, extents: &[Extent]) -> Result<(), Extent> {
        self.registry.accounts.lock().adopt_more(self.holder, file, extents)
    }

    /// Remembers that a state was found to be damaged while it was read: for every checkpoint that refers to it.
    pub(crate) fn mark_damaged(&self, extent: &Extent, error: &Error) {
        let damaged = self.registry.accounts.lock().mark_damaged(extent, error);
        self.registry.note_damaged(&damaged, error);
    }

    /// Whether exactly this extent is held.
    pub(crate) fn refers(&self, extent: &Extent) -> bool {
        self.registry.accounts.lock().refers(self.holder, extent)
    }

    /// Lets go of the states of a part, which are durable in these files, and tells how far its member is. `number`
    /// gives the part its number and says what the sequence of the next file is; no file can get one meanwhile.
    pub(crate) fn hand_over(
        &self,
        files: impl Iterator<Item = FileId>,
        number: impl FnOnce() -> (u64, u64),
    ) -> (u64, Progress) {
        let mut accounts = self.registry.accounts.lock();
        let open = accounts.hand_over(self.holder, files);
        let (number, next) = number();
        (number, Progress { next, open })
    }

    /// Lets go before the value is dropped, and leaves tidying up to the caller. Again, or late, changes nothing.
    pub(crate) fn let_go(&self) {
        let gone = self.registry.accounts.lock().release(self.holder);
        drop(gone);
    }

    /// Lets go before the value is dropped, and tidies up. Again, or late, changes nothing.
    pub(crate) fn release(&self) {
        if self.registry.is_in_child() {
            return;
        }
        let _verb = self.registry.volume().observer().verb();
        self.let_go();
        // What cannot be removed is remembered and tried again at the next sweep.
        let _ = self.registry.tidy(LEAST_PUNCHED);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}
