//! What a commit accepts, refuses and costs.

mod base;
mod cost;
mod differences;
mod fence;
mod interleave;
mod message;
mod rules;
