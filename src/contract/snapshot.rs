//! Snapshots in two phases: a short one on the engine's thread, a long one anywhere.

use std::collections::BTreeMap;

use super::{CheckpointOptions, CheckpointStreamFactory};
use crate::{
    error::{Error, Result},
    handle::StateHandle,
    id::CheckpointId,
};

/// How a part of an engine takes snapshots of its state.
///
/// The first phase runs on the engine's own thread, between two records, and is to be short: it fixes what the snapshot
/// consists of (a copy, a version, a set of references). The second writes that into streams while the engine goes on.
/// One strategy may be at work for several checkpoints at once. [`SnapshotRunner`](crate::snapshot::SnapshotRunner) runs it.
///
/// # Examples
///
/// ```
/// use std::{collections::BTreeMap, sync::{Arc, Mutex}};
/// use piton::{
///     CheckpointId, Result, Scope, StateHandle,
///     contract::{CheckpointOptions, CheckpointStreamFactory, SnapshotResult, SnapshotStrategy, SnapshotSupplier},
/// };
///
/// struct Counters(Mutex<BTreeMap<String, u64>>);
///
/// impl SnapshotStrategy for Counters {
///     type Resources = Vec<u8>; // what the second phase needs: here a copy
///     type State = StateHandle;
///
///     fn sync_prepare_resources(&self, _: CheckpointId) -> Result<Vec<u8>> {
///         Ok(self.0.lock().unwrap().iter().flat_map(|(name, n)| format!("{name}={n}\n").into_bytes()).collect())
///     }
///
///     fn async_snapshot(
///         &self, _: &Vec<u8>, _: CheckpointId, _: u64, _: &dyn CheckpointStreamFactory, _: &CheckpointOptions,
///     ) -> Result<SnapshotSupplier<Vec<u8>, StateHandle>> {
///         Ok(Box::new(|copy, streams| Ok(SnapshotResult::stored(streams.write(Scope::Exclusive, copy)?))))
///     }
/// }
///
/// let counters = Counters(Mutex::new([("words".to_owned(), 7)].into()));
/// let strategy: Arc<dyn SnapshotStrategy<Resources = Vec<u8>, State = StateHandle>> = Arc::new(counters);
/// assert_eq!(strategy.sync_prepare_resources(CheckpointId::FIRST)?, b"words=7\n");
/// # Ok::<(), piton::Error>(())
/// ```
pub trait SnapshotStrategy: Send + Sync {
    /// What the first phase hands to the second.
    type Resources: SnapshotResources + 'static;
    /// What the second phase makes.
    type State: StateObject + 'static;

    /// The first phase, on the engine's thread. Whatever it takes, it gives to the resources, which are released once.
    ///
    /// # Errors
    ///
    /// Whatever makes a snapshot impossible.
    fn sync_prepare_resources(&self, id: CheckpointId) -> Result<Self::Resources>;

    /// What is to be done in the second phase, still on the engine's thread: what it returns is called later, once or
    /// never, on any thread, with the same resources and streams. `timestamp_ms` is the time of the checkpoint, in
    /// milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// Whatever makes a snapshot impossible. The resources are released then.
    fn async_snapshot(
        &self,
        resources: &Self::Resources,
        id: CheckpointId,
        timestamp_ms: u64,
        streams: &dyn CheckpointStreamFactory,
        options: &CheckpointOptions,
    ) -> Result<SnapshotSupplier<Self::Resources, Self::State>>;
}

/// The second phase of a snapshot: writes the resources into streams, and returns what it made.
pub type SnapshotSupplier<R, S> =
    Box<dyn FnOnce(&mut R, &dyn CheckpointStreamFactory) -> Result<SnapshotResult<S>> + Send>;

/// What the first phase of a snapshot has taken, and what has to be given back.
///
/// # Examples
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
/// use piton::contract::SnapshotResources;
///
/// /// Keeps a version of a table from being overwritten.
/// struct Version(Arc<AtomicUsize>);
///
/// impl SnapshotResources for Version {
///     fn release(&mut self) {
///         self.0.fetch_sub(1, Ordering::Release);
///     }
/// }
///
/// let readers = Arc::new(AtomicUsize::new(1));
/// let mut resources: Box<dyn SnapshotResources> = Box::new(Version(Arc::clone(&readers)));
/// resources.release(); // a runner does
/// assert_eq!(readers.load(Ordering::Acquire), 0);
/// ```
pub trait SnapshotResources: Send {
    /// Gives back what memory alone does not: a pinned version, a lock, a descriptor. Called exactly once, whatever
    /// happens, on the thread that is last concerned with them; it must not panic. By default there is nothing to give back.
    fn release(&mut self) {}
}

impl SnapshotResources for () {}

/// A copy as bytes has nothing to give back.
impl SnapshotResources for Vec<u8> {}

impl<T: SnapshotResources> SnapshotResources for Vec<T> {
    fn release(&mut self) {
        self.iter_mut().for_each(T::release);
    }
}

impl<T: SnapshotResources + ?Sized> SnapshotResources for Box<T> {
    fn release(&mut self) {
        (**self).release();
    }
}

impl<T: SnapshotResources> SnapshotResources for Option<T> {
    fn release(&mut self) {
        self.iter_mut().for_each(T::release);
    }
}

/// What a snapshot made: one state, or several.
///
/// # Examples
///
/// ```
/// use piton::{Result, StateHandle, contract::StateObject};
///
/// struct Window { keys: StateHandle, timers: StateHandle }
///
/// impl StateObject for Window {
///     fn size(&self) -> u64 { self.keys.len() + self.timers.len() }
///     fn discard(&mut self) -> Result<()> { let (keys, timers) = (self.keys.discard(), self.timers.discard()); keys.and(timers) }
/// }
///
/// let keys = StateHandle::inline(b"keys");
/// let window: Box<dyn StateObject> = Box::new(Window { timers: keys.clone(), keys });
/// assert_eq!(window.size(), 8);
/// ```
pub trait StateObject: Send {
    /// How many bytes of state it stands for.
    fn size(&self) -> u64;

    /// Gives up what was written, because nobody will name it; not what was only kept from earlier checkpoints. It must not
    /// panic. By default there is nothing to do: a store forgets by itself what no checkpoint names.
    ///
    /// # Errors
    ///
    /// Those of the storage.
    fn discard(&mut self) -> Result<()> {
        Ok(())
    }
}

impl StateObject for StateHandle {
    fn size(&self) -> u64 {
        self.len()
    }
}

impl<T: StateObject + ?Sized> StateObject for Box<T> {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn discard(&mut self) -> Result<()> {
        (**self).discard()
    }
}

impl<T: StateObject> StateObject for Option<T> {
    fn size(&self) -> u64 {
        self.as_ref().map_or(0, T::size)
    }

    fn discard(&mut self) -> Result<()> {
        discard_all(self)
    }
}

impl<T: StateObject> StateObject for Vec<T> {
    fn size(&self) -> u64 {
        self.iter().map(T::size).sum()
    }

    fn discard(&mut self) -> Result<()> {
        discard_all(self)
    }
}

impl<K: Send, T: StateObject> StateObject for BTreeMap<K, T> {
    fn size(&self) -> u64 {
        self.values().map(T::size).sum()
    }

    fn discard(&mut self) -> Result<()> {
        discard_all(self.values_mut())
    }
}

/// Reaches all, and says what failed first.
fn discard_all<'a, T: StateObject + 'a>(states: impl IntoIterator<Item = &'a mut T>) -> Result<()> {
    states.into_iter().map(T::discard).fold(Ok(()), Result::and)
}

/// What a snapshot made for the store, and perhaps the same once more on this machine, to recover from without the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotResult<S> {
    stored: Option<S>,
    local: Option<S>,
}

impl<S: StateObject> SnapshotResult<S> {
    /// There was no state to take.
    #[must_use]
    pub const fn empty() -> Self {
        Self { stored: None, local: None }
    }

    /// What is in the store.
    #[must_use]
    pub const fn stored(state: S) -> Self {
        Self { stored: Some(state), local: None }
    }

    /// With a local copy of the same.
    ///
    /// # Errors
    ///
    /// `is_invalid` if there is nothing in the store: nobody could recover from the local copy alone.
    pub fn with_local(self, local: S) -> Result<Self> {
        if self.stored.is_none() {
            return Err(Error::invalid(
                "add a local copy to a snapshot",
                "there is nothing in the store that it copies",
            ));
        }
        Ok(Self { local: Some(local), ..self })
    }

    /// What is in the store.
    #[must_use]
    pub const fn state(&self) -> Option<&S> {
        self.stored.as_ref()
    }

    /// The local copy.
    #[must_use]
    pub const fn local(&self) -> Option<&S> {
        self.local.as_ref()
    }

    /// What is in the store, and the local copy.
    #[must_use]
    pub fn into_parts(self) -> (Option<S>, Option<S>) {
        (self.stored, self.local)
    }
}

impl<S: StateObject> StateObject for SnapshotResult<S> {
    /// That of what is in the store.
    fn size(&self) -> u64 {
        self.stored.as_ref().map_or(0, S::size)
    }

    /// Reaches the store's part and the local copy, even if one fails.
    fn discard(&mut self) -> Result<()> {
        discard_all(self.stored.iter_mut().chain(&mut self.local))
    }
}
