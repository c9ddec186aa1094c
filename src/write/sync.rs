//! What `pool` and `durable` are made of. A test gives them others, that try every order of their calls.

pub(super) use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
pub(super) use std::thread::yield_now;

/// So often a thread looks for a lane before it falls asleep.
pub(super) const YIELDS: u32 = 10;
