//! From a published checkpoint to the bytes of a state.
//!
//! # Who owns what
//!
//! A [`Checkpoint`] owns its manifest and a hold on everything it refers to: nothing of it is removed while it, a view
//! or a reader of it is alive, also if the checkpoint is forgotten meanwhile. A data file is mapped as a whole, as far as
//! it is complete, and all views of its states share the mapping, where the disk maps lazily: [`segments`]. Readers, and the checkpoint for the file
//! it read last, own an open file. What keeps it all there is its [`pin`]: in the writing process the registry's knowledge,
//! in any other a lock of the manifest. Reading takes no lock that a writer holds for long, and changes nothing on disk: a
//! crash leaves nothing.
//!
//! Behind what is mapped a file may grow, and between live states holes are punched into it. No slice is ever made of
//! more of a mapping than one live state.
//!
//! # One read, step by step
//!
//! 1. the checkpoint must refer to the handle;
//! 2. the file is opened; the range that the handle names must lie inside it, whatever else the file has;
//! 3. on first use: the file's header must name this store and this file, the trailer this state, and the payload must
//!    have the checksum of the handle. No byte is given out before. Damage is remembered: `latest` skips the checkpoint
//!    from then on, and `prune` does not count it;
//! 4. [`view`]: a slice of the file's mapping; one that ends before the state does is replaced by a longer one.
//!    [`reader`]: it is read piece by piece.

mod checkpoint;
mod pin;
mod reader;
mod segments;
mod verify;
mod view;

pub use checkpoint::Checkpoint;
pub(crate) use pin::Pin;
pub use reader::StateReader;
pub(crate) use segments::{OpenSegment, ReadSettings};
pub(crate) use verify::check_digest;
pub use view::StateView;
