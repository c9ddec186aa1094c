//! Who refers to which bytes, and what happens to bytes that nobody refers to any more.
//!
//! # Who owns what
//!
//! [`extents`] counts nothing: it holds, for each run of bytes in a data file, the *set* of groups ([`group`]) that refer
//! to it, and for each group the set of those who hold it. A pending checkpoint has a group, held by it alone; publishing makes
//! another one, of what the manifest names, held by the manifest, by every open [`Checkpoint`](crate::Checkpoint), and,
//! once the manifest was removed, by that fact until it is durable. When its last holder goes, the group goes. Because
//! these are sets, a notification may come twice, late or in any order. Nothing of this is on disk: `recover` builds it
//! from the manifests.
//!
//! [`file`] is one data file: its live extents, and what it takes. [`files`] are all of them, their sums ([`gauges`]),
//! those worth punching, and the dead. [`space`] says which must go so that the store stays small. [`catalog`] is which
//! checkpoints are published, and what is known of each; [`retention`] says which of them to keep. All these are pure.
//! [`registry`] is all that knowledge behind a lock: whoever changes a referrer calls it. [`forget`] takes checkpoints back. [`sweep`] makes the calls to the disk.
//!
//! # The life of a data file
//!
//! 1. *open*: the registry knows of it before the disk does. It is appended to, and stays also without live states;
//! 2. *sealed*: nothing is appended any more: it is full, one state has it for itself, a write or a sync failed, it is full
//!    of garbage, or the store is closed. What was found on disk is sealed;
//! 3. *marked*, perhaps: its live states should be written anew, so that it can go. `could_reuse` says so, `reuse`
//!    relocates; the file goes when the checkpoints do that still refer to it;
//! 4. *dead*: sealed and without live states. It is removed, and counted as an orphan until it is.
//!
//! # Forgetting, step by step
//!
//! 1. refuse if the store is poisoned or fenced (a stalled writer must not delete);
//! 2. if the newest checkpoint goes, raise the id floor durably: its id must not come back;
//! 3. remove the manifests, each after one more look whether the store is ours, and only if no other process reads the
//!    checkpoint: a crash leaves each of them there or gone, and its data there;
//! 4. sync `manifests/`: from here they are gone for good. A crash before may bring them back, with all their data;
//! 5. refuse if the store is fenced: whoever took it over may refer to the data;
//! 6. drop the manifests from their groups, and remove what was changed of them since they were published;
//! 7. tidy up: remove the dead, punch holes into others, and mark files if that was not enough. A crash leaves orphans,
//!    which the next open removes, and holes that are there or not: in either case nobody reads there.
//!
//! Automatic retention does 1 to 3 after a commit, and leaves the sync to the commit point of the next one, which costs
//! nothing more: the data stays for one commit longer. Were a removal to share the sync of the commit it follows from,
//! a power cut could keep the removal and lose the commit.
//!
//! # Tidying up
//!
//! With `Maintenance::Inline` step 7 runs at the end of every commit, abort and forgetting, and when a reader goes; with
//! `Manual` when the engine says so. Files are removed and punched outside of every lock. What cannot be removed is
//! reported, stays dead, and is tried again. Once the store is poisoned nothing is touched: that is looked at under the
//! lock that what may be touched is taken under, and whoever poisons does so before letting go of anything.
//!
//! Holes are planned under the lock, from the live extents as they are then, and punched without it: in a sealed file
//! extents only die, so that what is dead stays dead. A file with another name beside ours is not punched: somebody else
//! may read there what is dead here. While nobody knows what some checkpoint refers to, because its manifest cannot be
//! read, files that are older than this open are neither removed nor punched.

pub(crate) mod catalog;
mod extents;
mod file;
mod files;
pub(crate) mod forget;
pub(crate) mod gauges;
mod group;
pub(crate) mod registry;
pub(crate) mod retention;
pub(crate) mod space;
pub(crate) mod sweep;
