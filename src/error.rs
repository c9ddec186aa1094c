//! The one error type: which operation, on which path, why.

use std::{
    borrow::Cow,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    fault::{PartFault, PointerFault},
    id::CheckpointId,
};

/// Too many open files in this process, in the system. The same numbers on every Unix.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
/// The medium cannot give the bytes back: a failed read, a block whose checksum is wrong, a damaged file system. What
/// Linux calls `EIO`, `EUCLEAN`, `EBADMSG` and `ENODATA`; the first has the same number on every Unix.
const MEDIUM: &[i32] = if cfg!(target_os = "linux") { &[5, 117, 74, 61] } else { &[5] };

/// What every fallible call of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation failed: what was being done, where, and why.
///
/// Match on the predicates (`is_corrupt`, `is_locked`, ...), not on the text. The cause is always the
/// [`source`](std::error::Error::source), with the operating system's error code where there is one.
/// Cheap to clone.
///
/// # Examples
///
/// ```
/// let store = piton::Options::memory().open("state")?;
/// let missing = store.checkpoint(piton::CheckpointId::new(7).unwrap()).unwrap_err();
/// assert!(missing.is_not_found());
/// assert_eq!(missing.to_string(), "open checkpoint 7: there is no such checkpoint");
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
    indeterminate: bool,
}

struct Inner {
    operation: String,
    path: Option<PathBuf>,
    cause: Cause,
}

/// Why an operation failed. Private, so that it may grow; the predicates are the public face.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Io(io::Error),
    #[error("{0}")]
    Corrupt(Malformed),
    #[error("written by a newer piton: format version {found}, this one reads up to {supported}")]
    NewerFormat { found: u32, supported: u32 },
    #[error("the store is locked by {owner}, or by a child that inherited the lock; close it there first")]
    Locked { owner: String },
    #[error("checkpoint {0} exists already; the first one stays")]
    Conflict(CheckpointId),
    #[error("checkpoint {0} was begun already; take begin_next()")]
    Begun(CheckpointId),
    #[error("another process reads checkpoint {0}; try again when it is done")]
    InUse(CheckpointId),
    #[error("{0}")]
    NotFound(Cow<'static, str>),
    #[error("{0}")]
    Unavailable(String),
    #[error(
        "a state is in the manifest log alone, as after a power cut: open the store for writing, which puts it in place"
    )]
    Unrecovered,
    #[error("{0}")]
    Invalid(String),
    #[error("the state has {size} bytes, the limit is {limit} bytes per state")]
    TooLarge { size: u64, limit: u64 },
    #[error("it was cancelled")]
    Cancelled,
    #[error("{0}")]
    Pointer(PointerFault),
    #[error("{0}")]
    Part(PartFault),
    #[error(
        "the membership has ended: the member left, or was dismissed; ask the coordinator for a new one and join again"
    )]
    Dismissed,
    #[error("the store refuses to write after an earlier failure, reopen it: {0}")]
    Poisoned(#[source] Error),
    #[error("{0} was exchanged: this name leads elsewhere now; put it back, or open the store anew")]
    Exchanged(&'static str),
    #[error("process {opener} opened the store, and this is process {this}: a child must open it for itself")]
    Forked { opener: u32, this: u32 },
    #[error("generation {found} of this store was opened elsewhere, this one is {ours}: reopen it")]
    Fenced { ours: u64, found: u64 },
}

/// Bytes that do not mean what they should: where, and what is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged at byte {offset}: {what}")]
pub(crate) struct Malformed {
    pub(crate) offset: u64,
    pub(crate) what: String,
    /// Set when the bytes are whole, but of a format version above ours: (found, supported).
    pub(crate) newer: Option<(u32, u32)>,
}

impl Malformed {
    pub(crate) fn new(offset: u64, what: impl Into<String>) -> Self {
        Self { offset, what: what.into(), newer: None }
    }

    pub(crate) fn newer(offset: u64, found: u32, supported: u32) -> Self {
        Self { offset, what: format!("format version {found}"), newer: Some((found, supported)) }
    }

    /// Names the file that holds the bytes.
    pub(crate) fn at(self, operation: impl Into<String>, path: &Path) -> Error {
        let cause = match self.newer {
            Some((found, supported)) => Cause::NewerFormat { found, supported },
            None => Cause::Corrupt(self),
        };
        Error::at(operation, path, cause)
    }
}

impl Error {
    pub(crate) fn new(operation: impl Into<String>, cause: Cause) -> Self {
        Self::build(operation.into(), None, cause)
    }

    /// With the path of the file or directory that the operation failed on.
    pub(crate) fn at(operation: impl Into<String>, path: &Path, cause: Cause) -> Self {
        Self::build(operation.into(), Some(path.to_owned()), cause)
    }

    /// The operating system refused: for own implementations of the [contracts](crate::contract), as are the following.
    pub fn io(operation: impl Into<String>, path: &Path, error: io::Error) -> Self {
        Self::at(operation, path, Cause::Io(error))
    }

    fn build(operation: String, path: Option<PathBuf>, cause: Cause) -> Self {
        Self { inner: Arc::new(Inner { operation, path, cause }), indeterminate: false }
    }

    /// The caller asked for something that can never work: [`is_invalid`](Self::is_invalid).
    pub fn invalid(operation: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(operation, Cause::Invalid(why.into()))
    }

    /// What a [`StateWriter`](crate::StateWriter), or any other stream of states, failed with, out of the wrapping that
    /// `io::Write` needs.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    /// use piton::{Error, Options, Result, Scope, StateHandle};
    ///
    /// fn write(mut stream: piton::StateWriter) -> Result<StateHandle> {
    ///     stream.write_all(b"state").map_err(Error::from_writer)?;
    ///     stream.finish()
    /// }
    ///
    /// let store = Options::memory().open("state")?;
    /// let pending = store.begin_next()?;
    /// assert_eq!(write(pending.writer(Scope::Shared)?)?.len(), 5);
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn from_writer(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(|error| Self::new("write a state", Cause::Io(error)))
    }

    /// There is no such thing: [`is_not_found`](Self::is_not_found).
    pub fn not_found(operation: impl Into<String>, what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(operation, Cause::NotFound(what.into()))
    }

    /// There is a checkpoint of this id: [`is_conflict`](Self::is_conflict).
    pub fn conflict(operation: impl Into<String>, id: CheckpointId) -> Self {
        Self::new(operation, Cause::Conflict(id))
    }

    /// The work was [cancelled](Self::is_cancelled).
    pub fn cancelled(operation: impl Into<String>) -> Self {
        Self::new(operation, Cause::Cancelled)
    }

    /// Bytes of a file, from this one on, are damaged: [`is_corrupt`](Self::is_corrupt).
    pub fn corrupt(operation: impl Into<String>, path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Malformed::new(offset, what).at(operation, path)
    }

    /// A file that a checkpoint borrows from another store cannot be had, for this reason.
    pub(crate) fn unavailable(operation: impl Into<String>, path: &Path, why: &str) -> Self {
        let what = format!(
            "it is borrowed from another store, and cannot be had: {why}; bring it back, or forget the checkpoint"
        );
        Self::at(operation, path, Cause::Unavailable(what))
    }

    /// Says what to do about damage.
    pub(crate) fn with_remedy(self, remedy: &str) -> Self {
        match (&self.inner.cause, &self.inner.path) {
            (Cause::Corrupt(Malformed { offset, what, .. }), Some(path)) => {
                Malformed::new(*offset, format!("{what}; {remedy}")).at(self.inner.operation.clone(), path)
            }
            _ => self,
        }
    }

    /// Marks that the operation may or may not have taken effect.
    pub(crate) fn indeterminate(mut self) -> Self {
        self.indeterminate = true;
        self
    }

    /// The file or directory that the operation failed on, if it was one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.inner.path.as_deref()
    }

    /// The byte of the file from which on it is damaged, if that is known; 0 if all of it is missing.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match &self.inner.cause {
            Cause::Corrupt(malformed) => Some(malformed.offset),
            _ => None,
        }
    }

    /// The process that has the store locked, if that is why the operation failed and it is known.
    #[must_use]
    pub fn holder_pid(&self) -> Option<u32> {
        match &self.inner.cause {
            Cause::Locked { owner } => {
                owner.strip_prefix("process ")?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
            }
            _ => None,
        }
    }

    /// The operating system's error code, if it was the operating system that refused.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match &self.inner.cause {
            Cause::Io(error) => error.raw_os_error(),
            _ => None,
        }
    }

    /// Bytes on disk are damaged, missing or not what the manifest says. An older checkpoint may be whole.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        matches!(self.inner.cause, Cause::Corrupt(_))
    }

    /// What a checkpoint [borrows](crate::Claim::Borrow) from another store cannot be had now: it is gone, damaged, or cannot
    /// be reached. Nothing of ours is damaged. The checkpoint is passed over and stays, until it is forgotten by its id.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self.inner.cause, Cause::Unavailable(_))
    }

    /// A power cut, or a crash of the operating system, has left states of a checkpoint in the manifest log alone, and nobody
    /// has opened the store for writing since: that puts them in place. Nothing is lost. A reader in another process gets
    /// this; and a writer, if the medium did not let it do that.
    #[must_use]
    pub fn is_unrecovered(&self) -> bool {
        matches!(self.inner.cause, Cause::Unrecovered)
    }

    /// The store is open for writing elsewhere; the message names the holder.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self.inner.cause, Cause::Locked { .. })
    }

    /// A checkpoint of this id exists already, and the first one stays valid; or an attempt at it was begun before.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self.inner.cause, Cause::Conflict(_) | Cause::Begun(_))
    }

    /// Another process has the checkpoint open, so it stays for now.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        matches!(self.inner.cause, Cause::InUse(_))
    }

    /// The disk or a quota is full. Nothing is poisoned: free some space (`prune` needs none) and go on.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        self.io_kind().is_some_and(|k| matches!(k, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// There is no such checkpoint or state.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.inner.cause, Cause::NotFound(_) | Cause::Pointer(PointerFault::Missing))
            || self.io_kind() == Some(io::ErrorKind::NotFound)
    }

    /// This store must not write any more: another process has opened it for writing since, or its directory was
    /// [exchanged](Self::is_exchanged), or this process is a child of the one that opened it, or a [member](crate::Member)
    /// that the coordinator dismissed.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        use Cause::{Dismissed, Exchanged, Fenced, Forked};
        matches!(self.inner.cause, Fenced { .. } | Exchanged(_) | Forked { .. } | Dismissed)
    }

    /// The path of the store, or of one of its directories, leads to another directory than the one that was opened; or its
    /// lock file was removed. Nothing was touched, and nothing is damaged. Once the directory is back under its name the
    /// store goes on.
    #[must_use]
    pub fn is_exchanged(&self) -> bool {
        matches!(self.inner.cause, Cause::Exchanged(_))
    }

    /// An earlier failure left the outcome of a write unknown, so the store refuses to write until it is reopened.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        matches!(self.inner.cause, Cause::Poisoned(_))
    }

    /// The operation may or may not have taken effect; reopening the store tells.
    #[must_use]
    pub fn is_indeterminate(&self) -> bool {
        self.indeterminate
    }

    /// The store refuses to write until it is reopened: any of `is_poisoned`, `is_fenced` and `is_indeterminate`. After
    /// every other error the next attempt may succeed, or says so itself: a directory sync that failed is an error of the file
    /// system, and what is written next is refused.
    #[must_use]
    pub fn needs_reopen(&self) -> bool {
        self.is_poisoned() || self.is_fenced() || self.is_indeterminate()
    }

    /// The caller asked for something that can never work; the message says what and why.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(
            self.inner.cause,
            Cause::Invalid(_) | Cause::TooLarge { .. } | Cause::Pointer(PointerFault::Empty | PointerFault::Malformed)
        )
    }

    /// Somebody cancelled the [snapshot](crate::snapshot) that this was done for. Nothing is wrong.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.inner.cause, Cause::Cancelled)
    }

    /// What is wrong with a pointer to a checkpoint, if that is why the operation failed.
    #[must_use]
    pub fn pointer_fault(&self) -> Option<PointerFault> {
        match &self.inner.cause {
            Cause::Pointer(fault) => Some(*fault),
            _ => None,
        }
    }

    /// Why the part of a [member](crate::Member) was refused, if that is why the operation failed.
    #[must_use]
    pub fn part_fault(&self) -> Option<PartFault> {
        match &self.inner.cause {
            Cause::Part(fault) => Some(*fault),
            _ => None,
        }
    }

    /// The files were written by a newer version of this crate.
    #[must_use]
    pub fn is_newer_format(&self) -> bool {
        matches!(self.inner.cause, Cause::NewerFormat { .. })
    }

    /// What this process lacks: descriptors, memory, rights, time to finish the call. Nothing is said of the file.
    pub(crate) fn is_of_this_process(&self) -> bool {
        use io::ErrorKind::{Interrupted, OutOfMemory, PermissionDenied};
        self.is_out_of_files() || matches!(self.io_kind(), Some(Interrupted | OutOfMemory | PermissionDenied))
    }

    /// Whether this is an answer to what a file says: it is damaged, or not there. Any other error says nothing of it.
    pub(crate) fn is_verdict(&self) -> bool {
        self.is_damage() || self.is_not_found()
    }

    /// No file could be opened because too many are: the call did nothing.
    pub(crate) fn is_out_of_files(&self) -> bool {
        self.raw_os_error().is_some_and(|code| code == EMFILE || code == ENFILE)
    }

    /// The bytes of a checkpoint cannot be had: they are [damaged](Self::is_corrupt), on a bad medium, or
    /// [borrowed](Self::is_unavailable) and gone. An older checkpoint is the way out, so a search for the newest whole
    /// checkpoint passes this one over.
    ///
    /// Every other error says nothing about the checkpoint: too few descriptors, too little memory, missing rights, an
    /// interrupted call, a newer format. No checkpoint is passed over, pruned or remembered as damaged for such an error;
    /// the caller gets it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{io, path::Path};
    /// use piton::Error;
    ///
    /// let path = Path::new("shared/00000001-001-0000000001.seg");
    /// assert!(Error::corrupt("read", path, 64, "the file ends here").is_damage());
    /// assert!(!Error::io("open", path, io::ErrorKind::PermissionDenied.into()).is_damage());
    /// ```
    #[must_use]
    pub fn is_damage(&self) -> bool {
        let medium = self.raw_os_error().is_some_and(|code| MEDIUM.contains(&code));
        self.is_corrupt() || self.is_unavailable() || medium
    }

    /// A name that was to be new exists already.
    pub(crate) fn is_taken_name(&self) -> bool {
        self.io_kind() == Some(io::ErrorKind::AlreadyExists)
    }

    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        match &self.inner.cause {
            Cause::Io(error) => Some(error.kind()),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.operation)?;
        if let Some(path) = &self.inner.path {
            write!(f, " {}", path.display())?;
        }
        write!(f, ": {}", self.inner.cause)?;
        if self.indeterminate {
            f.write_str(" (the outcome is unknown, reopen it to see)")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("operation", &self.inner.operation)
            .field("path", &self.inner.path)
            .field("cause", &self.inner.cause)
            .field("indeterminate", &self.indeterminate)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.inner.cause {
            Cause::Io(error) => Some(error),
            Cause::Poisoned(first) => Some(first),
            cause => Some(cause),
        }
    }
}

impl From<Error> for io::Error {
    /// Keeps the kind and wraps the whole error, so that it can be downcast again.
    fn from(error: Error) -> Self {
        let kind = match &error.inner.cause {
            // Callers repeat what was interrupted, and this failure is final.
            Cause::Io(cause) if cause.kind() == io::ErrorKind::Interrupted => io::ErrorKind::Other,
            Cause::Io(cause) => cause.kind(),
            Cause::Corrupt(_) | Cause::NewerFormat { .. } => io::ErrorKind::InvalidData,
            Cause::NotFound(_) | Cause::Pointer(PointerFault::Missing) => io::ErrorKind::NotFound,
            Cause::Invalid(_) | Cause::Pointer(_) | Cause::Part(_) => io::ErrorKind::InvalidInput,
            Cause::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            Cause::Conflict(_) | Cause::Begun(_) => io::ErrorKind::AlreadyExists,
            Cause::Locked { .. } => io::ErrorKind::WouldBlock,
            Cause::InUse(_) => io::ErrorKind::ResourceBusy,
            // Not `Interrupted`, which callers repeat.
            Cause::Poisoned(_)
            | Cause::Fenced { .. }
            | Cause::Exchanged(_)
            | Cause::Forked { .. }
            | Cause::Dismissed
            | Cause::Unavailable(_)
            | Cause::Unrecovered
            | Cause::Cancelled => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
