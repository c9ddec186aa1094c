//! All states of a checkpoint, in the order in which they lie on the medium.

use std::{iter::FusedIterator, sync::Arc};

use super::{
    Checkpoint, StateView,
    checkpoint::{Inner, Named},
};
use crate::{
    error::Result,
    handle::StateHandle,
    manifest::StateRef,
    observe::{Progress, Task},
};

/// Progress is told whenever so many bytes more are done.
const TOLD_EVERY: u64 = 4 << 20;

/// The cost of reading a state beside its bytes, as a number of bytes: it balances parts with many small states.
const EACH: u64 = 256;

/// Every state of a checkpoint, in the order in which they lie in their files: from [`Checkpoint::views`].
#[derive(Debug)]
pub struct Views<'a> {
    checkpoint: &'a Checkpoint,
    states: std::vec::IntoIter<StateRef<'a>>,
}

impl Views<'_> {
    /// Splits the remaining states into `parts` parts of about equal size in bytes, so that several threads can verify and read
    /// them at the same time. The parts follow each other in the order of the medium. A part is empty if there are too few
    /// states. `parts` of 0 counts as 1.
    ///
    /// # Examples
    ///
    /// ```
    /// # use piton::{Manifest, Options, Scope};
    /// # let store = Options::memory().open("state")?;
    /// # let pending = store.begin_next()?;
    /// # let handle = pending.write(Scope::Shared, &[7; 5000])?;
    /// # pending.commit(Manifest::builder().state("weights", handle))?;
    /// let checkpoint = store.latest()?.expect("one was committed");
    /// std::thread::scope(|scope| {
    ///     for part in checkpoint.views().split(4) {
    ///         scope.spawn(move || {
    ///             for (state, view) in part {
    ///                 println!("{}: {} bytes", state.name, view.unwrap().len());
    ///             }
    ///         });
    ///     }
    /// });
    /// # Ok::<(), piton::Error>(())
    /// ```
    #[must_use]
    pub fn split(self, parts: usize) -> Vec<Self> {
        let Self { checkpoint, states } = self;
        let (parts, weight) = (parts.max(1) as u64, |state: &StateRef<'_>| state.handle.len().saturating_add(EACH));
        let all = states.as_slice().iter().map(weight).fold(0, u64::saturating_add);
        let (mut rest, mut done) = (states, 0_u64);
        let part = |n: u64| {
            let end = u64::try_from(u128::from(all) * u128::from(n) / u128::from(parts)).unwrap_or(u64::MAX);
            let mut part = Vec::new();
            while let Some(state) = rest.as_slice().first().filter(|_| done < end || n == parts) {
                done = done.saturating_add(weight(state));
                part.extend(rest.next());
            }
            Self { checkpoint, states: part.into_iter() }
        };
        (1..=parts).map(part).collect()
    }
}

impl<'a> Iterator for Views<'a> {
    type Item = (StateRef<'a>, Result<StateView>);

    fn next(&mut self) -> Option<Self::Item> {
        self.states.next().map(|state| (state, self.checkpoint.read_named(state.handle)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.states.size_hint()
    }
}

impl ExactSizeIterator for Views<'_> {}
impl FusedIterator for Views<'_> {}

impl Checkpoint {
    /// Every state, whatever it is called, in the order in which they lie in their files: the fastest way to read all of
    /// them. Each is looked at when its turn comes, as [`read`](Self::read) does, and fails as it does; the others go on.
    /// Where several names have the same bytes each of them has its turn. [Several threads](Views::split) can share the work.
    ///
    /// # Examples
    ///
    /// ```
    /// # use piton::{Manifest, Options, Scope, StateName};
    /// # let store = Options::memory().open("state")?;
    /// # let pending = store.begin_next()?;
    /// # let handle = pending.write(Scope::Shared, &[7; 5000])?;
    /// # pending.commit(Manifest::builder().state("weights", handle))?;
    /// let checkpoint = store.latest()?.expect("one was committed");
    /// for (state, view) in checkpoint.views() {
    ///     let StateName::Named(name) = state.name else { continue };
    ///     println!("{name}: {} bytes", view?.len());
    /// }
    /// # Ok::<(), piton::Error>(())
    /// ```
    #[must_use]
    pub fn views(&self) -> Views<'_> {
        Views { checkpoint: self, states: self.in_order().into_iter() }
    }

    /// Compares every state with its checksum, and with its digest if it has one, in large steps. Once it has succeeded a
    /// view of any of them costs nothing any more.
    ///
    /// It always reads the bytes, also of states that were verified before, and whatever [`Verify`](crate::Verify) says.
    /// [`Store::validate`](crate::Store::validate) goes on where this fails, and says all that is wrong.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read), of the first state that fails.
    pub fn verify(&self) -> Result<()> {
        let states = self.in_order();
        let all_bytes = states.iter().fold(0, |sum: u64, state| sum.saturating_add(state.handle.len()));
        let observer = self.reading().volume().observer();
        let mut done = Progress::new(Task::Verify, states.len(), all_bytes);
        let (mut told, mut last) = (0, None);
        for state in &states {
            let file = state.handle.extent().map(|extent| extent.file);
            self.verify_state(state, last != file)?;
            last = file;
            done.done(state.handle.len());
            if done.bytes - told >= TOLD_EVERY && done.items < done.all_items {
                told = done.bytes;
                observer.progress(done);
            }
        }
        observer.progress(done);
        Ok(())
    }

    fn verify_state(&self, state: &StateRef<'_>, is_first: bool) -> Result<()> {
        if let Some(extent) = state.handle.extent() {
            let check = |inner: &Inner, segment: &Arc<_>, extent: &_, _| inner.check(segment, extent, is_first);
            self.look(state.handle, &extent, Named::ByManifest, check)?;
        }
        match state.digest {
            Some(_) => self.check_digest(state.handle, state.digest, &self.read_named(state.handle)?),
            None => Ok(()),
        }
    }

    /// States that travel in the manifest come first.
    fn in_order(&self) -> Vec<StateRef<'_>> {
        let mut states: Vec<_> = self.manifest().all_states().collect();
        let place = |handle: &StateHandle| handle.extent().map(|extent| (extent.file, extent.offset));
        states.sort_by_cached_key(|state| place(state.handle));
        states
    }
}
