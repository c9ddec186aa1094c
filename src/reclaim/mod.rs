//! Who refers to which bytes, and what happens to bytes that nobody refers to any more.
//!
//! # Who owns what
//!
//! [`extents`] counts nothing: it holds, for each run of bytes in a data file, the *set* of groups that refer to it, and
//! for each group the set of those who hold it. A pending checkpoint has a group, held by it alone; publishing makes
//! another one, of what the manifest names, held by the manifest, by every open [`Checkpoint`](crate::Checkpoint), and,
//! once the manifest was removed, by that fact until it is durable. When its last holder goes, the group goes; a file that no group refers to is dead. Because these are sets, a notification may come twice, late
//! or in any order. Nothing of this is on disk: `recover` builds it from the manifests.
//!
//! [`registry`] is that knowledge behind a lock, together with which checkpoints are published. Whoever changes a
//! referrer calls it. [`forget`] takes checkpoints back.
//!
//! # Forgetting, step by step
//!
//! 1. refuse if the store is poisoned or fenced (a stalled writer must not delete);
//! 2. if the newest checkpoint goes, raise the id floor durably: its id must not come back;
//! 3. remove the manifests: a crash leaves each of them there or gone, and its data there;
//! 4. sync `manifests/`: from here they are gone for good. A crash before may bring them back, with all their data;
//! 5. refuse if the store is fenced: whoever took it over may refer to the data;
//! 6. drop the manifests from their groups; remove the dead files. A crash leaves orphans, which the next open removes.
//!
//! Automatic retention does 1 to 3 after a commit, and leaves the sync to the commit point of the next one, which costs
//! nothing more: the data stays for one commit longer. Were a removal to share the sync of the commit it follows from,
//! a power cut could keep the removal and lose the commit.
//!
//! Files are removed outside of every lock. One that cannot be removed is reported, remembered, and tried again.

mod extents;
mod file;
mod files;
pub(crate) mod forget;
pub(crate) mod gauges;
pub(crate) mod registry;
pub(crate) mod space;
pub(crate) mod sweep;
