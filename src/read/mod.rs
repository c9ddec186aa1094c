//! From a published checkpoint to the bytes of a state.
//!
//! # Who owns what
//!
//! A [`Checkpoint`] owns its manifest and a hold on everything it refers to: nothing of it is removed while it, a view
//! or a reader of it is alive, also if the checkpoint is forgotten meanwhile. Views and readers own their mapping or
//! open file. Reading takes no lock that a writer holds for long, and changes nothing on disk: a crash leaves nothing.
//!
//! # One read, step by step
//!
//! 1. the checkpoint must refer to the handle;
//! 2. the file is opened; the range that the handle names must lie inside it, whatever else the file has;
//! 3. on first use: the file's header must name this store and this file, the trailer this state, and the payload must
//!    have the checksum of the handle. No byte is given out before. Damage is remembered: `latest` skips the checkpoint
//!    from then on, and `prune` does not count it;
//! 4. [`view`]: the range is mapped. [`reader`]: it is read piece by piece.

mod checkpoint;
mod reader;
mod verify;
mod view;

pub use checkpoint::Checkpoint;
pub use reader::StateReader;
pub use view::StateView;
