//! What `pool` and `durable` are made of. A test gives them others, that try every order of their calls.

pub(super) use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
