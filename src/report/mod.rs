//! What calls answer.

mod usage;

pub use usage::Usage;
