//! How far a file is durable. Names nothing of the crate, so that a model checker can run it as it is.
//!
//! A file is written by one thread at a time and synced by any. A sync makes durable what was accepted *before* it: what
//! comes while it runs may be missed. After a failed sync nothing more of the file ever counts as durable: the operating
//! system marks the bytes clean, and a second call would lie.

use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

#[derive(Debug)]
pub(crate) struct Durable<E> {
    /// How many bytes were accepted, one after another.
    accepted: AtomicU64,
    /// Held during a sync, which no writer waits for.
    synced: Mutex<Synced<E>>,
}

#[derive(Debug)]
struct Synced<E> {
    bytes: u64,
    failed: Option<E>,
}

impl<E: Clone> Durable<E> {
    /// Of a file that has accepted this many bytes, none of which is durable.
    pub(crate) fn new(accepted: u64) -> Self {
        let synced = Mutex::new(Synced { bytes: 0, failed: None });
        Self { accepted: AtomicU64::new(accepted), synced }
    }

    /// Whoever writes says that the file has accepted everything before this offset.
    pub(crate) fn accept(&self, end: u64) {
        self.accepted.store(end, Ordering::Release);
    }

    /// Makes everything before this offset durable, by a sync of the file unless another one covered it.
    pub(crate) fn sync_to(&self, end: u64, sync: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut synced = lock(&self.synced);
        if synced.bytes >= end {
            return Ok(());
        }
        if let Some(error) = &synced.failed {
            return Err(error.clone());
        }
        let covered = self.accepted.load(Ordering::Acquire);
        match sync() {
            Ok(()) => {
                synced.bytes = covered;
                Ok(())
            }
            Err(error) => {
                synced.failed = Some(error.clone());
                Err(error)
            }
        }
    }
}

/// A panic of the disk while it syncs leaves `synced` as it was, and nothing more durable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
