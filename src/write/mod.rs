//! From a stream of bytes to a handle.
//!
//! # Who owns what
//!
//! A [`StateWriter`] owns its buffer. A [`KeyGroupWriter`] owns a `StateWriter`, and the index of its key groups until it is
//! written behind them. A [`segment::Appender`] alone appends to a segment. When it is dropped, on whatever
//! path, the segment is sealed. It is owned by a `StateWriter` that streams, or by a lane ([`lanes`]), which lends it for one
//! append at a time; the loan is a guard, so that an error or a panic in it seals the segment and gives the lane back
//! ([`pool`]). [`segment::Segment`] is what all others have of it: small states that gather, which anybody may write who needs
//! them written; how far it is written; and, by [`durable`], how far it is durable. A [`batch::Batch`] is the write side of
//! one pending checkpoint, shared by its writers: which segments it touched, how many writers are open; [`adopt`] takes files into it
//! that were not written here. [`unsynced`] is what of that must be durable before the record, [`copies`] what the record
//! has instead, [`waiting`] the segments that were not synced for that reason. [`allocator::Allocator`] numbers and creates
//! the segments of an open store.
//!
//! # Where a state goes
//!
//! | a state | goes |
//! |---|---|
//! | of at most the inline threshold | into its handle |
//! | that fits into the write buffer and into a segment | to a lane, as a whole, when it is finished; with `Merging::Off` to a segment of its own |
//! | any longer one | to a segment of its own, streamed |
//!
//! Lanes belong to the store (`Merging::AcrossCheckpoints`) or to a pending checkpoint (`WithinCheckpoint`). No writer
//! keeps a lane for longer than one append, so no order in which an engine uses its writers can block it.
//!
//! # One state, step by step
//!
//! 1. bytes gather in the buffer. A state that ends here with at most the inline threshold never touches a file;
//! 2. a lane is leased: one with room, else one without a segment, else one whose segment is sealed for this. If all are
//!    leased another is opened, or, if there are as many as may be, the writer waits for one append;
//! 3. if there is no segment, one is created: the registry learns of it, then a temporary name, header, final name. A
//!    crash leaves a temporary name or a segment that no manifest names, which the next open removes; a failure leaves
//!    a file without live states, which the registry removes;
//! 4. padding, payload and trailer are appended. A state of more than 16 KiB is written in one call, with what gathered
//!    before. A shorter one gathers with others, up to 256 KiB. It is written when there is no room for the next one, when the
//!    segment is sealed or synced, and at the latest when the checkpoint is committed, before its record. All of a state is
//!    accepted, or it counts as not written. A failure leaves torn bytes at the end of a segment that takes no more. Each
//!    checkpoint that needs what gathered there tries to write it again, at the same offset, and fails if it cannot.
//!    A crash leaves whole or torn entries that no manifest names;
//! 5. before the lane is given back the batch takes the state over and the registry learns of the extent: from here on
//!    the segment has a live state, and cannot go;
//! 6. with `Durability::PerState` the segment is synced, and its directory once. Else this waits for the commit, or longer:
//!    while a checkpoint is small its batch keeps a copy of each state that went to a lane, for the record.
//!
//! A streamed state takes the same steps with a segment of its own, the payload in pieces between 3 and 5, and is told to
//! the operating system for writing as it goes.
//!
//! A writer that is dropped before, or fails, leaves nothing: its segment has no live state and is removed. After a
//! failure every later call of that writer returns the same failure; other states are untouched.
//!
//! # What a sync covers
//!
//! A segment is synced once for all checkpoints that wrote to it before: whoever comes later finds that it was. When a
//! sync fails, nothing in it that was not durable before ever is: every checkpoint with such a state fails, the segment
//! takes no more, and it is not synced again. If it has states that were committed in their records, the store must be
//! reopened, which writes them again.
//!
//! A segment can wait for its sync only once it was synced for the first time, with its header, and its name is durable. So
//! after a power cut there is a file to write its states to. Segments of one checkpoint alone are always new.

mod adopt;
pub(crate) mod allocator;
pub(crate) mod batch;
mod copies;
mod durable;
mod key_groups;
mod lanes;
mod pool;
mod segment;
pub(crate) mod settings;
pub(crate) mod stream;
mod sync;
pub(crate) mod unsynced;
mod waiting;

pub use key_groups::KeyGroupWriter;
pub use stream::StateWriter;
