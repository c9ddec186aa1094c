//! From a stream of bytes to a handle.
//!
//! # Who owns what
//!
//! A [`StateWriter`] owns its buffer and, once the state is too long to stay inside the handle, one
//! [`segment::SegmentFile`]: nobody else writes to that file. A [`batch::Batch`] is the write side of one pending
//! checkpoint, shared by its writers: which files still wait for their sync, which directories gained names, how many
//! writers are open. [`allocator::Allocator`] numbers the files of an open store.
//!
//! # One state, step by step
//!
//! 1. bytes gather in the buffer. A state that ends here with at most the inline threshold never touches a file;
//! 2. a file under a temporary name in the directory of the scope: header, then the payload as it comes. A crash leaves
//!    a temporary name, which the next open removes. The checksum is taken over what the file has accepted;
//! 3. `finish`: the trailer, then the rename to the final name. A crash leaves a whole file that no manifest names: an
//!    orphan, which the next open removes;
//! 4. the batch takes the file over, to sync it at the commit (with `Durability::PerState` it was synced before the
//!    rename, and its directory after), and the registry learns of the extent.
//!
//! A writer that is dropped before, or fails, removes its file. After a failure every later call of that writer returns
//! the same failure; other states are untouched.

pub(crate) mod allocator;
pub(crate) mod batch;
mod lanes;
mod segment;
pub(crate) mod stream;

pub use stream::StateWriter;
