//! What holds a lock of a [`Disk`](super::Disk).

use std::{fmt, io, sync::Arc};

/// The answer of [`Disk::try_lock`](super::Disk::try_lock), [`Disk::lock_shared`](super::Disk::lock_shared) and
/// [`Disk::lock_exclusive`](super::Disk::lock_exclusive).
#[derive(Debug)]
pub enum Lock {
    /// The lock is ours until the guard is dropped.
    Taken(Box<dyn LockGuard>),
    /// Somebody else has it: what they wrote into the file, or what else is known of them.
    Held(String),
}

/// Holds a lock of [`Disk::try_lock`](super::Disk::try_lock), [`Disk::lock_shared`](super::Disk::lock_shared) or
/// [`Disk::lock_exclusive`](super::Disk::lock_exclusive) until it is dropped.
pub trait LockGuard: fmt::Debug + Send + Sync {
    /// Whether the file that is locked still has the name that it was locked under: else another process may lock another
    /// file of that name. By default it always has.
    ///
    /// # Errors
    ///
    /// Those of the operating system; that nothing is there any more is an answer.
    fn is_in_place(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// After [`Disk::lock_exclusive`](super::Disk::lock_exclusive), locks another number of the same file with what is open
    /// for the first: whether it could be had. `None`, the default, if each number needs a lock of its own.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    fn lock_more(&mut self, number: u64) -> io::Result<Option<bool>> {
        let _ = number;
        Ok(None)
    }

    /// Gives every number back, and keeps open what is needed to [lock others](Self::lock_more): whether it does. `false`, the
    /// default, has changed nothing: the guard is to be dropped.
    ///
    /// # Errors
    ///
    /// Those of the operating system: the guard is to be dropped.
    fn unlock_all(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

/// A lock that many things hold on to.
pub(crate) type SharedGuard = Arc<Box<dyn LockGuard>>;

/// The guard of a disk that only one process can use.
#[derive(Debug)]
pub(super) struct NoLock;

impl LockGuard for NoLock {}
