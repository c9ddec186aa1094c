//! Taking checkpoints back, and what happens to bytes that nobody refers to any more.
//!
//! # Who owns what
//!
//! [`registry`] is all that is known ([`accounts`](crate::accounts)) behind a lock: whoever changes what is referred to
//! calls it. [`hold`] is what a pending checkpoint or a reader has of that. [`published`] answers which checkpoints there
//! are. [`lenders`] keeps other stores from removing what they lend. [`members`] answers what other processes may append to. [`forget`] takes checkpoints back. [`sweep`] makes the
//! calls to the disk.
//!
//! # Forgetting, step by step
//!
//! 1. refuse if the store is poisoned or fenced (a stalled writer must not delete);
//! 2. lock the ids, so that no other process opens one of the checkpoints. Those that another process has open stay;
//! 3. append one record that they are forgotten: durable, all or none; then look whether the store is still ours. A crash
//!    before leaves them all;
//! 4. take the checkpoints out of the line, unless a reader here holds them, and tidy up: remove the dead, punch holes into
//!    others, and mark files if that was not enough. A crash leaves orphans, which the next open removes, and holes that are
//!    there or not: in either case nobody reads there.
//!
//! Automatic retention does 2 before a commit, and the record of the commit says that they are forgotten.
//!
//! # Tidying up
//!
//! With `Maintenance::Inline` step 4 runs at the end of every commit, abort and forgetting, and when a reader goes; with
//! `Manual` when the engine says so. Files are removed and punched outside of every lock. What cannot be removed is
//! reported, stays dead, and is tried again. Once the store is poisoned nothing is touched: that is looked at under the
//! lock that what may be touched is taken under, and whoever poisons does so before letting go of anything.
//!
//! Holes are planned under the lock, from the live extents as they are then, and punched without it: in a sealed file
//! extents only die, so that what is dead stays dead. A file with another name beside ours is not punched: somebody else
//! may read there what is dead here. While nobody knows what some checkpoint refers to, because its record is lost,
//! files that are older than this open are neither removed nor punched.

pub(crate) mod forget;
mod hold;
mod lenders;
mod members;
mod published;
pub(crate) mod registry;
pub(crate) mod sweep;

pub(crate) use hold::{Adopted, Hold};
pub(crate) use lenders::{not_lent, pin_lender};
pub(crate) use published::Plan;
