//! What `pool` and `durable` are made of. A test gives them others, that try every order of their calls.

pub(super) use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
pub(super) use std::thread::yield_now;

/// How often a thread yields while all lanes are taken, before it sleeps.
pub(super) const YIELDS: u32 = 10;
