//! What `turn` is made of. A test gives it others, that try every order of their calls.

pub(super) use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU8, Ordering},
};
