//! What may happen around a store: threads that overtake a look, directories that are exchanged, full disks, missing
//! rights, forks, and files that are no regular files. `docs/durability.md` has a line for each.

mod between;
mod edges;
mod errors;
mod exchanged;
mod forked;
mod full;
mod lost;
mod races;
mod shared_with_others;
mod special;
