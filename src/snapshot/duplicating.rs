//! The same bytes in two places.

use std::io::{self, Write};

use crate::{
    contract::{CheckpointStream, CheckpointStreamFactory},
    error::{Error, Result},
    handle::StateHandle,
    id::Scope,
};

/// Writes a state twice: into the store, and once more for recovering on this machine without the store.
///
/// The first is what counts. Should the second fail, it is dropped, the failure is remembered, and the first goes on; should
/// the first fail, so does this. The handles tell whether both have the same bytes, so the second goes to a store as well, or
/// has handles with the bytes in them.
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use piton::{Options, Scope, snapshot::DuplicatingStream};
///
/// let (store, local) = (Options::memory().open("state")?, Options::memory().open("local")?);
/// let (pending, beside) = (store.begin_next()?, local.begin_next()?);
/// let mut stream = DuplicatingStream::create(&pending, &beside, Scope::Shared)?;
/// stream.write_all(&[7; 5000]).unwrap();
/// let written = stream.finish_both()?;
/// assert_eq!(written.primary.crc32(), written.secondary?.crc32());
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Debug)]
pub struct DuplicatingStream {
    primary: Box<dyn CheckpointStream>,
    secondary: Result<Box<dyn CheckpointStream>>,
}

/// The handles of a state that was written twice.
#[derive(Clone, Debug)]
pub struct DuplicatedState {
    /// The state in the store.
    pub primary: StateHandle,
    /// The second one, or why there is none.
    pub secondary: Result<StateHandle>,
}

impl DuplicatingStream {
    /// Writes into both. A second one that could not even be created has failed already; so has one that is at another
    /// position than the first.
    #[must_use]
    pub fn new(primary: Box<dyn CheckpointStream>, secondary: Result<Box<dyn CheckpointStream>>) -> Self {
        let mut stream = Self { primary, secondary };
        stream.check_positions();
        stream
    }

    /// A stream of each of two factories.
    ///
    /// # Errors
    ///
    /// Those of the first one.
    pub fn create(
        primary: &dyn CheckpointStreamFactory,
        secondary: &dyn CheckpointStreamFactory,
        scope: Scope,
    ) -> Result<Self> {
        Ok(Self::new(primary.create_stream(scope)?, secondary.create_stream(scope)))
    }

    /// What the second one failed with, if it has.
    #[must_use]
    pub fn secondary_error(&self) -> Option<&Error> {
        self.secondary.as_ref().err()
    }

    /// Ends the state, and returns both handles.
    ///
    /// # Errors
    ///
    /// Those of the first one's [`finish`](CheckpointStream::finish); the second is abandoned then.
    pub fn finish_both(self) -> Result<DuplicatedState> {
        let primary = self.primary.finish()?;
        let secondary = self.secondary.and_then(CheckpointStream::finish);
        let secondary = secondary.and_then(|secondary| same(&primary, secondary));
        Ok(DuplicatedState { primary, secondary })
    }

    /// Does it to the second as well, while there is one. What fails is dropped.
    fn follow(&mut self, act: impl FnOnce(&mut dyn CheckpointStream) -> Result<()>) {
        if let Ok(secondary) = &mut self.secondary
            && let Err(error) = act(&mut **secondary)
        {
            self.secondary = Err(error);
        }
        self.check_positions();
    }

    fn check_positions(&mut self) {
        let position = self.primary.position();
        if let Ok(secondary) = &self.secondary
            && secondary.position() != position
        {
            let why = format!("it is at byte {} and the first one at {position}", secondary.position());
            self.secondary = Err(Error::invalid("write the second copy of a state", why));
        }
    }
}

/// A copy that is another state is none.
fn same(primary: &StateHandle, secondary: StateHandle) -> Result<StateHandle> {
    if (primary.len(), primary.crc32()) == (secondary.len(), secondary.crc32()) {
        return Ok(secondary);
    }
    Err(Error::invalid("write the second copy of a state", format!("{secondary} has other bytes than {primary}")))
}

impl Write for DuplicatingStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let accepted = self.primary.write(bytes)?;
        let bytes = bytes.get(..accepted).unwrap_or(bytes);
        self.follow(|secondary| secondary.write_all(bytes).map_err(Error::from_writer));
        Ok(accepted)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.primary.flush()?;
        self.follow(|secondary| secondary.flush().map_err(Error::from_writer));
        Ok(())
    }
}

impl CheckpointStream for DuplicatingStream {
    fn position(&self) -> u64 {
        self.primary.position()
    }

    fn sync(&mut self) -> Result<()> {
        self.primary.sync()?;
        self.follow(|secondary| secondary.sync());
        Ok(())
    }

    /// Ends both, and returns the handle of the first.
    fn finish(self: Box<Self>) -> Result<StateHandle> {
        Ok((*self).finish_both()?.primary)
    }
}
