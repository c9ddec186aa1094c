//! The power goes, or a call fails, at every single call of a workload. What is fenced off here: a committed
//! checkpoint that is lost or wrong, an uncommitted one that is seen, a leftover that nobody removes, a panic.

mod faults;
mod power;
mod sequences;
mod verbs;
mod workload;
