//! Stores that lend this one files, and what keeps them from removing those.

use std::{
    collections::{BTreeSet, HashMap},
    io::ErrorKind,
    path::Path,
    sync::Arc,
};

use super::registry::Registry;
use crate::{
    disk::{LockGuard, SharedGuard, layout, volume::Volume},
    error::{Error, Result},
    manifest::{Lender, Origins},
    records::{Follower, identity},
};

/// By lender; whoever has one keeps it.
pub(super) type Pins = HashMap<Lender, SharedGuard>;

impl Registry {
    /// Keeps lenders from removing their files, as far as they have not done so. Without the right to do that a checkpoint
    /// cannot be used, and is not damaged: the error is returned beside the pins.
    pub(super) fn pin_lenders(&self, origins: &Origins) -> Result<(Pins, Option<Error>)> {
        let lenders: BTreeSet<_> = origins.values().filter_map(|origin| Some(&*origin.lent.as_ref()?.by)).collect();
        let (mut pins, mut denied) = (Pins::new(), None);
        for lender in lenders {
            match self.pin_lender(lender) {
                Ok(pin) => pins.extend(pin.map(|pin| (lender.clone(), pin))),
                Err(error) if error.io_kind() == Some(ErrorKind::PermissionDenied) => denied = Some(error),
                Err(error) => return Err(error),
            }
        }
        Ok((pins, denied))
    }

    /// Kept for as long as anything of the lender's is referred to; until that is known the caller keeps it.
    pub(crate) fn pin_lender(&self, lender: &Lender) -> Result<Option<SharedGuard>> {
        let mut pins = self.pins.lock();
        if let Some(pin) = pins.get(lender) {
            return Ok(Some(Arc::clone(pin)));
        }
        let Some(pin) = pin_lender(&self.volume, lender)?.map(Arc::new) else { return Ok(None) };
        pins.insert(lender.clone(), Arc::clone(&pin));
        Ok(Some(pin))
    }

    /// Lets lenders go of whom nothing is referred to, and whom no caller keeps. While one is being locked this waits for
    /// the next call.
    pub(crate) fn unpin_lenders(&self) {
        let Some(mut pins) = self.pins.try_lock().filter(|pins| !pins.is_empty()) else { return };
        let needed = self.accounts.lock().needed_lenders();
        let is_idle = |lender: &Lender, pin: &mut SharedGuard| !needed.contains(lender) && Arc::strong_count(pin) == 1;
        let idle: Pins = pins.extract_if(|lender, pin| is_idle(lender, pin)).collect();
        // To let go may be a call to the disk.
        drop(pins);
        drop(idle);
    }

    /// Every lender that a checkpoint names, also if its files are gone.
    pub(crate) fn lenders(&self) -> Vec<Lender> {
        self.accounts.lock().lenders().into_iter().collect()
    }
}

/// Keeps another store from removing a checkpoint; `None` if that is gone, or cannot be had. What this process lacks says
/// nothing of it.
pub(crate) fn pin_lender(volume: &Volume, lender: &Lender) -> Result<Option<Box<dyn LockGuard>>> {
    let theirs = volume.elsewhere(lender.root().to_owned());
    let opened = unless_of_this_process(theirs.open_root().map(Some))?;
    let identity = opened.map(|()| unless_of_this_process(identity::read(&theirs).map(Some))).transpose()?.flatten();
    let Some(identity) = identity else { return Ok(None) };
    let records = Follower::new(identity.identity.store);
    let is_there = || {
        let found = records.look(&theirs, |history| history.get(lender.checkpoint()).is_some());
        Ok::<_, Error>(unless_of_this_process(found.map(Some))? == Some(true))
    };
    if !is_there()? {
        return Ok(None);
    }
    let readers = Path::new(layout::READERS);
    let lock = unless_of_this_process(theirs.lock_shared(readers, lender.checkpoint().get()))?;
    // It may have been forgotten before it was locked.
    Ok(if is_there()? { lock } else { None })
}

/// An error that says nothing of the lender is the caller's; after any other there is nothing that could be had.
fn unless_of_this_process<T>(found: Result<Option<T>>) -> Result<Option<T>> {
    found.or_else(|error| if error.is_of_this_process() { Err(error) } else { Ok(None) })
}

/// A checkpoint that is to lend files is not there.
pub(crate) fn not_lent(lender: &Lender) -> Error {
    let path = layout::checkpoint(lender.root(), lender.checkpoint());
    Error::unavailable("pin", &path, "the checkpoint is gone there, or cannot be locked")
}
