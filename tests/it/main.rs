//! The tests of the public face, one folder a path; the pages under `docs/` say which rules they hold.
#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "tests look at files and damage them")]

mod support;

mod around;
mod check;
mod commit;
mod contract;
mod crash;
mod disk;
mod format;
mod house;
mod inspect;
mod member;
mod observe;
mod policy;
mod process;
mod read;
mod reclaim;
mod recover;
mod snapshot;
mod transfer;
mod write;
