//! The tests of the public face, one folder a path; the pages under `docs/` say which rules they hold.

mod support;

mod crash;
mod disk;
mod read;
mod write;
