//! How one checkpoint is taken.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    manifest::CheckpointKind,
};

/// What a channel with several inputs does when the barrier of a checkpoint has come through some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Alignment {
    /// It goes on with all: what is counted before the last barrier is in the checkpoint, and counted again after it.
    AtLeastOnce,
    /// It waits for the others; but at most so long, if there is a timeout: then what is under way becomes part of the
    /// checkpoint.
    Aligned {
        /// Above zero.
        timeout: Option<Duration>,
    },
    /// It waits for none: what is under way becomes part of the checkpoint.
    Unaligned,
    /// It waits although the checkpoint would rather not, because one of its channels cannot be taken unaligned. What it
    /// would rather have is kept.
    ForcedAligned {
        /// Of the alignment that it would rather have; `None` if that is unaligned from the beginning.
        timeout: Option<Duration>,
    },
}

/// How one checkpoint is to be taken: what it is for, and how channels align their inputs for it.
///
/// A savepoint is never unaligned, and what is unaligned has no timeout: there is no value of another kind.
///
/// # Examples
///
/// ```
/// use piton::{CheckpointKind, contract::{Alignment, CheckpointOptions}};
///
/// let options = CheckpointOptions::new(CheckpointKind::Checkpoint, Alignment::Unaligned)?;
/// assert!(options.needs_channel_state() && !options.needs_alignment());
/// assert!(CheckpointOptions::new(CheckpointKind::Savepoint, Alignment::Unaligned).unwrap_err().is_invalid());
/// # Ok::<(), piton::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct CheckpointOptions {
    kind: CheckpointKind,
    alignment: Alignment,
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "CheckpointOptions", deny_unknown_fields)]
struct Unchecked {
    kind: CheckpointKind,
    alignment: Alignment,
}

impl TryFrom<Unchecked> for CheckpointOptions {
    type Error = Error;

    fn try_from(Unchecked { kind, alignment }: Unchecked) -> Result<Self> {
        Self::new(kind, alignment)
    }
}

impl From<CheckpointOptions> for Unchecked {
    fn from(CheckpointOptions { kind, alignment }: CheckpointOptions) -> Self {
        Self { kind, alignment }
    }
}

impl CheckpointOptions {
    /// Options of this kind.
    ///
    /// # Errors
    ///
    /// `is_invalid` if a savepoint is to be unaligned, now or after a timeout, or if the timeout is zero.
    pub fn new(kind: CheckpointKind, alignment: Alignment) -> Result<Self> {
        let invalid = |why| Err(Error::invalid("set the options of a checkpoint", why));
        match alignment {
            Alignment::Aligned { timeout: Some(Duration::ZERO) }
            | Alignment::ForcedAligned { timeout: Some(Duration::ZERO) } => {
                invalid("an alignment timeout of zero is unaligned: say so")
            }
            Alignment::Unaligned | Alignment::Aligned { timeout: Some(_) } | Alignment::ForcedAligned { .. }
                if kind == CheckpointKind::Savepoint =>
            {
                invalid("a savepoint is never unaligned: align it without a timeout")
            }
            _ => Ok(Self { kind, alignment }),
        }
    }

    /// Those of a checkpoint that is aligned, however long that takes.
    #[must_use]
    pub const fn aligned(kind: CheckpointKind) -> Self {
        Self { kind, alignment: Alignment::Aligned { timeout: None } }
    }

    /// Derives them: not exactly-once is at-least-once; a savepoint, and everything if unaligned checkpoints are off, is
    /// aligned without a timeout; without an alignment timeout (zero) it is unaligned, else aligned until that has passed.
    #[must_use]
    pub(crate) fn derive(kind: CheckpointKind, exactly_once: bool, unaligned: bool, timeout: Duration) -> Self {
        let alignment = if !exactly_once {
            Alignment::AtLeastOnce
        } else if kind == CheckpointKind::Savepoint || !unaligned {
            Alignment::Aligned { timeout: None }
        } else if timeout.is_zero() {
            Alignment::Unaligned
        } else {
            Alignment::Aligned { timeout: Some(timeout) }
        };
        Self { kind, alignment }
    }

    /// What the checkpoint is for.
    #[must_use]
    pub const fn kind(&self) -> CheckpointKind {
        self.kind
    }

    /// How channels align their inputs.
    #[must_use]
    pub const fn alignment(&self) -> Alignment {
        self.alignment
    }

    /// Whether every record counts exactly once.
    #[must_use]
    pub fn is_exactly_once(&self) -> bool {
        self.alignment != Alignment::AtLeastOnce
    }

    /// Whether channels have to align their inputs, for now at least.
    #[must_use]
    pub fn needs_alignment(&self) -> bool {
        matches!(self.alignment, Alignment::Aligned { .. } | Alignment::ForcedAligned { .. })
    }

    /// Whether what is under way may become part of the checkpoint.
    #[must_use]
    pub fn needs_channel_state(&self) -> bool {
        self.alignment == Alignment::Unaligned || self.is_timeoutable()
    }

    /// Whether the alignment ends with a timeout.
    #[must_use]
    pub fn is_timeoutable(&self) -> bool {
        self.timeout().is_some()
    }

    /// How long channels align their inputs at most before what is under way becomes part of the checkpoint.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        match self.alignment {
            Alignment::Aligned { timeout } => timeout,
            _ => None,
        }
    }

    /// The options of a checkpoint whose timeout has passed: unaligned from now on; if it has none, the same.
    #[must_use]
    pub fn timed_out(self) -> Self {
        if self.is_timeoutable() { Self { alignment: Alignment::Unaligned, ..self } } else { self }
    }

    /// For a channel that can be taken unaligned: what was forced to align no longer is.
    #[must_use]
    pub fn with_unaligned_supported(self) -> Self {
        let alignment = match self.alignment {
            Alignment::ForcedAligned { timeout: None } => Alignment::Unaligned,
            Alignment::ForcedAligned { timeout } => Alignment::Aligned { timeout },
            other => other,
        };
        Self { alignment, ..self }
    }

    /// For a channel that cannot be taken unaligned: whatever is unaligned, now or after a timeout, has to align.
    #[must_use]
    pub fn with_unaligned_unsupported(self) -> Self {
        let alignment = match self.alignment {
            Alignment::Unaligned => Alignment::ForcedAligned { timeout: None },
            Alignment::Aligned { timeout: timeout @ Some(_) } => Alignment::ForcedAligned { timeout },
            other => other,
        };
        Self { alignment, ..self }
    }
}
