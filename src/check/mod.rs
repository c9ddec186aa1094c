//! Whether checkpoints are whole, and which one to come back to.
//!
//! # Who owns what
//!
//! [`issue`] says what can be wrong, [`content`] looks at what a manifest says, [`states`] reads the bytes that it refers
//! to, [`walk`] goes from the newest checkpoint to older ones until one is whole. Nothing is changed on disk, and a crash
//! leaves nothing. Whoever calls keeps the checkpoint from being forgotten meanwhile.
//!
//! # One validation, step by step
//!
//! 1. the content is that which the record of the checkpoint said when it was read, with what was changed of it since;
//! 2. what it says is compared with what it should: warnings, and the numbers that must not be 0;
//! 3. quickly: every file that a state is in must be there, and long enough. In full: the header of every such file, and
//!    trailer, checksum and digest of every state, file by file and in the order of the bytes.
//!
//! # What is damage
//!
//! [`Error::is_damage`](crate::Error::is_damage) decides, and nothing else does. An error that says nothing of the
//! checkpoint (too few descriptors, missing rights, ...) ends the validation or the search, and the caller gets it.
//!
//! Damage is a verdict, made from a second look: a state that is found to be damaged is read again, from a file that is
//! opened anew. The caller remembers what both looks agree on.

mod content;
mod issue;
mod states;
mod walk;

pub(crate) use content::is_incremental;
pub use issue::{Issue, RecoveryReport, Severity, Skipped, Validation, ValidationReport};
pub(crate) use states::validate;
pub(crate) use walk::{Ids, latest, recover};
