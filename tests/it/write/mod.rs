//! Rules A1 to A9 of writing: what fails here loses or leaks a single state.

mod descriptors;
mod inline;
mod interleave;
mod lanes;
mod writer;
