//! The decision in words: what [`decide`](sipauth_common::decide::decide) asked, what it was answered, and what to do about the verdict.
//!
//! The decision is made by `decide` itself over a [`Recorder`], so what is told here cannot be another decision than the kernel program's.

mod asked;
mod remedy;
mod words;

pub use self::{
    asked::{Asked, Recorder},
    remedy::remedy,
    words::{Story, duration},
};

#[cfg(test)]
mod tests;
