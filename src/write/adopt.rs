//! Files that were not written here, as those of a pending checkpoint.

use std::{io::ErrorKind, path::Path};

use super::batch::Batch;
use crate::{
    disk::{Metadata, layout},
    error::{Error, Malformed, Result},
    handle::Extent,
    id::{FileId, Scope},
    manifest::{FileOrigin, Lent},
    options::Durability,
    reclaim::{Adopted, not_lent},
};

impl Batch {
    /// Takes over a file that was not written here, under a name of its own: `make` puts the file there, complete and
    /// durable but for its name, and says what it is. The states in it are referred to by this checkpoint then.
    pub(crate) fn adopt<T>(
        &self,
        scope: Scope,
        lane: u16,
        extents: &[Extent],
        make: impl FnOnce(&Path) -> Result<(T, FileOrigin)>,
    ) -> Result<(FileId, T)> {
        let Self { settings, .. } = self;
        let mut attempt = settings.allocator.attempt(scope, lane);
        let name = layout::segment(attempt.id);
        let (answer, origin) = attempt.name(make)?;
        let found = settings.volume.metadata(&name)?;
        let found =
            found.ok_or_else(|| Error::io("look at", &settings.volume.path(&name), ErrorKind::NotFound.into()))?;
        let adopted = Adopted { len: found.len, allocated: found.allocated, origin };
        self.refer_to_adopted(attempt.id, &adopted, extents)?;
        let id = attempt.id;
        attempt.succeed();
        if settings.durability == Durability::PerState {
            settings.volume.sync_dir(layout::scope_dir(scope))?;
        }
        Ok((id, answer))
    }

    /// Refers to a file that stays where it is, and is not ours.
    pub(crate) fn borrow(
        &self,
        from: FileId,
        found: Metadata,
        origin: FileOrigin,
        extents: &[Extent],
    ) -> Result<FileId> {
        let attempt = self.settings.allocator.attempt(from.scope, from.lane);
        let registry = self.hold.registry();
        let pinned = |lent: &Lent| registry.pin_lender(&lent.by)?.ok_or_else(|| not_lent(&lent.by));
        // Held until it is known that the lender is needed.
        let _pin = origin.lent.as_ref().map(pinned).transpose()?;
        let adopted = Adopted { len: found.len, allocated: found.allocated, origin };
        self.refer_to_adopted(attempt.id, &adopted, extents)?;
        let id = attempt.id;
        attempt.succeed();
        Ok(id)
    }

    /// Refers to more states of a file that was adopted before.
    pub(crate) fn adopt_more(&self, id: FileId, extents: &[Extent]) -> Result<()> {
        let _state = self.state.lock();
        self.check_open()?;
        self.hold.adopt_more(id, extents).map_err(|extent| self.contradicted(&extent))
    }

    fn refer_to_adopted(&self, id: FileId, adopted: &Adopted, extents: &[Extent]) -> Result<()> {
        let mut state = self.state.lock();
        self.check_open()?;
        if adopted.origin.lent.is_none() {
            state.dirs.insert(id.scope);
        }
        self.hold.adopt(id, adopted, extents).map_err(|extent| self.contradicted(&extent))
    }

    fn contradicted(&self, extent: &Extent) -> Error {
        let path = self.settings.volume.path(layout::segment(extent.file));
        Malformed::new(extent.offset, "two different states are said to be here").at("take over", &path)
    }
}
