//! What a commit accepts, refuses and costs.

mod cost;
mod fence;
mod interleave;
mod rules;
