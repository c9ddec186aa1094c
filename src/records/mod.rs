//! What the store writes about itself: which store it is, and the manifest log.
//!
//! # Who owns what
//!
//! `manifests/<generation>-<sequence>.log` are the logs. Each belongs to the process that made it, of that generation: no
//! other one appends to it, and no name is ever made twice. A log is *blank* until it has its first record; then it is
//! *begun*. The first record says where the log before it ended. An opener writes one log of an older generation: the
//! last record that it found, again, with the same bytes.
//!
//! # Which records count
//!
//! Those that the last begun log leads to, back to the first. A generation has one writer, which begins its logs in the
//! order of their names. So the last one of the highest generation is the truth, and what a writer that was stalled appends
//! behind the end that its successor names counts for nothing. The last log ends where no whole record follows.
//!
//! Where neither half has a whole head, and a later record exists in this log or in the next one, a record was damaged. If
//! none exists the log ends there: its writer did not finish that record. A begun log that is lost leaves a gap in the names, because a later name was durable before.
//!
//! # Publishing, step by step
//!
//! See [`log`]: one write to each half, one sync, a look at the owner. No name is created, renamed or removed for it. Blank
//! logs are made between two records, by any thread.
//!
//! A record may have states that its checkpoint adds: those whose segments were not synced. [`Journal::tend`] has these
//! segments synced before a base takes the place of the record.
//!
//! # Taking over, step by step
//!
//! 1. [`find`], [`chain`], [`replay`]: what is there, what counts, what it says. Nothing was changed up to here;
//! 2. the generation is raised, durably, so that the writer before finds out. What it appended meanwhile is read as well;
//! 3. [`adopt`]: the last record is written again and synced. A writer appends nothing behind a record of which the sync
//!    failed, so no other record can be in the page cache alone;
//! 4. [`Log::begin`](log::Log::begin): the first log of the generation gets its name, with a record that says where the one
//!    before ended. From here on nothing counts that the writer before appends. A crash before leaves its log as the last one;
//! 5. blank logs are made with the next record. No log is deleted before 4.
//!
//! # Reading beside a writer
//!
//! See [`follow`]: what was read is kept, and a look reads on from there.
//!
//! | file | is |
//! |---|---|
//! | `image` | the bytes of one log, and the records in it |
//! | `chain` | which logs count, and where each ends; which base they go on from |
//! | `history` | what the records say: the checkpoints |
//! | `replay` | going over the records |
//! | `redone` | states that the records have because their segments were not synced |
//! | `find` | reading the files |
//! | `survey` | all of these taken together: what the files say |
//! | `raw` | the records as bytes, for tools |
//! | `adopt` | making sure of the last record |
//! | `base` | all that is known at one place of the log, in two files |
//! | `blank` | making a log, and writing a record to it |
//! | `blanks` | the blank logs that wait for the writer |
//! | `log` | the writer: appending, going on to the next log, what becomes of a record that failed |
//! | `journal` | the log and the history of an open store, and its identity |
//! | `follow` | those of a store that another process writes |
//! | `identity` | `piton.store` |

mod adopt;
mod base;
mod blank;
mod blanks;
mod chain;
mod find;
mod follow;
mod history;
pub(crate) mod identity;
mod image;
mod journal;
mod log;
mod raw;
mod redone;
mod replay;
mod survey;

pub(crate) use base::write_export;
pub(crate) use follow::Follower;
pub(crate) use history::{History, Kept};
pub(crate) use identity::IdentityFile;
pub(crate) use journal::{Journal, unreadable};
pub(crate) use raw::{InLogFile, RawRecord};
pub(crate) use redone::{InLog, live};
pub(crate) use survey::Survey;
