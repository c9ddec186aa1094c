//! Why a commit failed, and what is left of the pending checkpoint.

use std::{error, fmt, io, ops::Deref};

use super::PendingCheckpoint;
use crate::error::Error;

/// A commit failed. It is the [`Error`], by [`Deref`] and by `?`; and it has the pending checkpoint, if nothing was tried.
///
/// # Examples
///
/// ```
/// use piton::{Manifest, Options, Scope};
///
/// let store = Options::memory().open("state")?;
/// let pending = store.begin_next()?;
/// let forgotten = pending.writer(Scope::Shared)?;
/// let refused = pending.commit(Manifest::builder()).unwrap_err();
/// assert!(refused.is_invalid()); // a writer is still open
///
/// drop(forgotten);
/// let pending = refused.into_pending().expect("nothing was tried");
/// pending.commit(Manifest::builder())?;
/// # Ok::<(), piton::Error>(())
/// ```
pub struct CommitError {
    pub(super) error: Error,
    pub(super) pending: Option<Box<PendingCheckpoint>>,
}

impl CommitError {
    /// The pending checkpoint, as it was, if the commit was refused before anything was tried. After any later failure it
    /// has ended.
    #[must_use]
    pub fn into_pending(self) -> Option<PendingCheckpoint> {
        self.pending.map(|pending| *pending)
    }

    /// Why. What is left of the pending checkpoint is aborted.
    #[must_use]
    pub fn into_error(self) -> Error {
        self.error
    }
}

impl Deref for CommitError {
    type Target = Error;

    fn deref(&self) -> &Error {
        &self.error
    }
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        Self { error, pending: None }
    }
}

impl From<CommitError> for Error {
    fn from(failed: CommitError) -> Self {
        failed.error
    }
}

impl From<CommitError> for io::Error {
    fn from(failed: CommitError) -> Self {
        failed.error.into()
    }
}

impl fmt::Debug for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitError")
            .field("error", &self.error)
            .field("pending", &self.pending.as_ref().map(|pending| pending.id()))
            .finish()
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl error::Error for CommitError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.error.source()
    }
}
