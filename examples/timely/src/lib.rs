//! Checkpoints of a timely dataflow in a piton store: the part that knows both, and no application.
//!
//! A *coordinator* process owns the store and starts the timely processes. Each timely process is one member of the store, and
//! its workers share that member. Time is divided into epochs, which the coordinator closes. Some epochs have a checkpoint.
//!
//! | module | |
//! |---|---|
//! | [`coordinator`], `life`, `child`, `checkpoints`, [`settings`] | starts the processes, closes epochs, accepts parts, publishes checkpoints |
//! | [`message`], [`trap`] | what coordinator and processes tell each other; named points at which a process kills itself |
//! | [`process`], [`cluster`] | one timely process: joins, connects, runs the workers |
//! | [`clock`] | hands closed epochs to the workers of a process, and tells them which parts are durable |
//! | [`source`] | the operator that reads an input, paces itself, and checkpoints its offsets |
//! | [`keyed`], [`snapshots`] | the operator that keeps state by key, and checkpoints the key groups that changed |
//! | [`aligner`] | collects the shares of all operators of a process, and makes one part of them |
//! | [`groups`], [`repartition`] | key groups in piton's states; the manifest of an operator that was rescaled |

pub mod aligner;
mod checkpoints;
mod child;
pub mod clock;
pub mod cluster;
pub mod coordinator;
pub mod groups;
pub mod keyed;
mod life;
pub mod message;
pub mod process;
pub mod repartition;
pub mod settings;
pub mod snapshots;
pub mod source;
pub mod trap;

/// Why something failed, for a person to read.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
