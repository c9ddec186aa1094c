//! Checkpoints that move: duplicated within a store, exported to another directory, imported from one.
//!
//! # Who owns what
//!
//! A data file that comes into a directory of a store under a name of its own belongs to that store, whatever other names
//! the same bytes have: it goes when nobody refers to it there, by removing that name. So who owns a file is where it is,
//! and no restart can lose track of it. What a store refers to in place ([`Claim::Borrow`]) is named by the checkpoint, with
//! the directory of its owner, and is never removed or changed. Nor is it linked: its owner may still append to it.
//!
//! A file keeps the header that it was written with. Where its name says something else, the checkpoint says what the header
//! says: its *origin*. So a segment can be linked as it is, with all states in it, and still nothing is ever mistaken for
//! something else.
//!
//! A linked file must never change again: its segment is sealed and synced first, and no hole is punched into a file with
//! two names. Both names are made under the lock under which holes are punched.
//!
//! # Duplicating, step by step
//!
//! 1. the old states must be there, and may be referred to;
//! 2. their segments are sealed and synced: those that this checkpoint wrote to, and those that wait for their sync;
//! 3. the registry learns of the new file, then it is linked, if the old states are still there. Else the pending
//!    checkpoint refers to them, and they are reflinked, or copied and verified. A crash leaves a file that no checkpoint
//!    names;
//! 4. the pending checkpoint refers to the new states. Its commit syncs the directory and appends the record.
//!
//! # Exporting, step by step
//!
//! An export is a store of its own, with an id of its own, and exactly one checkpoint.
//!
//! 1. the checkpoint is pinned, and its segments are sealed, and synced if they wait for that;
//! 2. the target is locked, which is made durable. It must be empty, or hold what an interrupted export left, which is
//!    removed;
//! 3. `piton.partial`, durably, and everything above the root: from here on it is known what this directory is, and nobody
//!    opens it. A crash before leaves a directory with a lock file at most;
//! 4. its directories and `piton.readers`; the data files, linked, else reflinked, else copied and verified; sync of these
//!    directories;
//! 5. in place of a log a base and its copy, with the checkpoint and the origin of each file, synced, renamed, and their
//!    directory synced;
//! 6. a last look whether the source is still ours: who takes it over from now on sees that its files have two names.
//!    `piton.store`, synced, renamed, sync of the root: **the export is complete**. A crash before leaves what step 2 of
//!    the next attempt removes; from the rename to the sync it is complete or not at all;
//! 7. `piton.partial` goes. If it stays it means nothing beside `piton.store`.
//!
//! A failure before the rename takes everything back, in the order in which a crash leaves what the next attempt knows:
//! files, directories, sync, the mark.
//!
//! # Importing, step by step
//!
//! 1. the source is opened: for reading, and its checkpoint is pinned; to be moved, for writing, until it is gone, so that
//!    nobody else goes on with it;
//! 2. a checkpoint with the next id is begun, and each file adopted: linked, else reflinked, else copied and verified, and
//!    synced; or, borrowed, only referred to. A file of a source that somebody is writing is not linked, because it may
//!    grow. A crash leaves files that no checkpoint names;
//! 3. to be moved: both stores note what is agreed, durably ([`source`]): the source in its root, ours in its log. A crash
//!    leaves one or both. If the checkpoint was not committed, the next open of our store takes the note back; whoever
//!    opens the source takes the mark back;
//! 4. the commit, like any other;
//! 5. to be moved: the checkpoint is forgotten in the source, and when it was the last, the source itself is removed: its
//!    identity, then its log and what is empty. Then our note is taken back. A crash leaves it, and the next open goes on
//!    here, if the source still says the same.

mod duplicate;
mod export;
mod files;
mod import;
mod probe;
mod source;

pub use export::Exported;
pub(crate) use export::export;
pub use files::Transferred;
pub use import::{Claim, Imported};
pub(crate) use import::{Take, import};
pub use probe::Capabilities;
pub(crate) use probe::probe;
pub(crate) use source::{Departing, mark};
