//! Writing for a store that another process has open.
//!
//! # Who owns what
//!
//! The *coordinator* is the process that has the store open. It admits members, accepts their parts into its pending
//! checkpoints, publishes, and is the only one that deletes, punches, and moves published states. A *member* is another
//! process, on this machine or another one with the same file system. A [`Member`] owns the data files of its number:
//! no other process makes or appends to them. Its [parts](crate::Part) travel over a channel of the engine. [`member`]
//! joins and leaves, [`pending`] prepares parts.
//!
//! A member counts its states as a store does (`accounts`), but only to know which of its files are still in use. It has no
//! log, no checkpoints, and no copies for a record. It deletes only data files of which no part that it handed over has a
//! state: no other process can refer to those.
//!
//! # A checkpoint, step by step
//!
//! | | step | a crash leaves |
//! |---|---|---|
//! | 1 | the coordinator admits a member: a number that no member of this generation has had, and a file that stands for it (`disk/member.rs`) | the file; the next open deletes it |
//! | 2 | the member joins: it locks that file and says so in it. A membership is used once, so that no name of a data file is used twice | the same |
//! | 3 | the coordinator begins a checkpoint, and tells the members its id and the checkpoint that their changes are based on | nothing |
//! | 4 | the member writes states, in lanes that its parts share, as a store does for its pending checkpoints | temporary names; data files, or ends of data files, that no checkpoint names |
//! | 5 | the member *prepares*: it syncs the files that have states of the part, then their directories if they are new | the same, durable |
//! | 6 | it numbers the part, and notes which of its files later parts may still have states in: one step, so that no file gets its number in between. It lets go of the states | the same |
//! | 7 | it looks whether it was dismissed or the store was opened anew. Then it gives the part to the engine | the same |
//! | 8 | the coordinator *accepts* the part (`commit/accept.rs`): it looks at the files, enters the states, and seals the files that the member has given up | the same |
//! | 9 | the coordinator commits, with the changes of all parts: one record, one sync | the checkpoint, or not |
//!
//! Who cleans up: [`Store::dismiss`](crate::Store::dismiss) what a dismissed member left, but for temporary names;
//! [`Store::cleanup_orphans`](crate::Store::cleanup_orphans) what parts left that were not accepted; the next open all
//! of it.
//!
//! # Why nothing is lost
//!
//! - A part is durable before it is accepted, and only what was accepted can be named.
//! - The coordinator learns from parts alone when a file of a member is complete. Parts of two checkpoints may
//!   interleave in one file: a state that lies between two known ones may belong to a part that is on its way.
//! - Parts are accepted in the order of their numbers. Each says which files no later part has states in; so a part that
//!   comes late is refused, because its files may have been sealed, and punched, meanwhile.
//! - Whatever a member writes after it was dismissed, or after the store was opened anew, has a name of its own number and
//!   generation, and nothing accepts it.
//! - Changes are relative to one checkpoint. The commit refuses parts whose changes are relative to another one than the
//!   manifest: the removal of a name would be lost with the checkpoint that it was in.

mod member;
mod pending;

pub use member::Member;
pub use pending::PendingPart;
