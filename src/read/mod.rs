//! From a published checkpoint to the bytes of a state.
//!
//! # Who owns what
//!
//! A [`Checkpoint`] owns its manifest, and shares its [`pin`] with every view and reader: a hold on everything that it
//! refers to. Nothing of it is removed while one of them is alive, also if the checkpoint is forgotten meanwhile. In the
//! writing process the registry knows of it, in any other a lock of its id keeps it. Reading changes nothing on
//! disk: a crash leaves nothing.
//!
//! A checkpoint keeps a [`segment`] for every data file that it was read from. Where the disk maps lazily, that is a mapping
//! of all that the file has, and no descriptor; views share it. Views of other disks, and those of files beyond the number
//! that may stay mapped, have a mapping of their own. Readers have an open file, and the checkpoint keeps the one that was
//! read last.
//!
//! Which files are kept, and which states were verified, is in an [`once_map`]: who looks takes no lock and writes
//! nothing but the count of the segment's owners.
//!
//! Behind what is mapped a file may grow, and between live states holes are punched into it. No slice is ever made of
//! more of a mapping than one live state and its trailer.
//!
//! # One read, step by step
//!
//! 1. what was verified is given out: a slice of the mapping;
//! 2. else the checkpoint must refer to the handle: the manifest names it, or the pin says so;
//! 3. the file is opened, its header must name this store and this file, and it must reach beyond the state. It is mapped,
//!    and closed;
//! 4. the bytes of the state are [read ahead](crate::disk::Mapping) of the first look: where the medium is bad, or the file
//!    was cut, that is an error, and the state is read from the file instead, which says what is wrong. While states come
//!    in the order in which they lie there, more and more is read at a time, and what comes next is asked for. Each thread
//!    that does so has its own place in the file;
//! 5. the payload must have the checksum of the handle, and the trailer must be that of the state. No byte is given out
//!    before. From then on the state is verified.
//!
//! # Key groups
//!
//! [`KeyGroups`] reads parts of states. First comes the index of each state that the asked partitions name, with the trailer
//! of the state; then each group when its turn comes, in place of steps 4 and 5: its own bytes are read ahead, and must have
//! the checksum that the index says. Nothing else of the state is read, so the state does not count as verified by that.
//!
//! # Damage
//!
//! What is found to be damaged is looked at once more, through a file that is opened and mapped anew. What both looks agree
//! on is remembered: `latest` skips the checkpoint from then on, and `prune` does not count it.

mod checkpoint;
mod files;
mod in_order;
mod key_groups;
mod once_map;
mod pin;
mod reader;
mod scan;
mod segment;
mod verify;
mod view;

pub use checkpoint::Checkpoint;
pub(crate) use files::{OpenSegment, ReadSettings};
pub(crate) use in_order::InOrder;
pub use key_groups::{KeyGroup, KeyGroups};
pub(crate) use pin::Pin;
pub use reader::StateReader;
pub use scan::Views;
pub(crate) use verify::check_digest;
pub use view::StateView;
