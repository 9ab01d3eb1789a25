//! The engines by themselves, in memory and on a clock that the tests move.
//!
//! Here is what takes thousands of sessions; what a peer meets on a real connection is in
//! `tests/it`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

mod conversation;
mod dialects;
mod endings;
mod submission;
