//! Bad input: each refused with its status or exit code, a message that names the field, what was wrong and what is
//! allowed, and nothing left behind.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers: what fails, fails the test"
)]

#[path = "../common/mod.rs"]
mod common;

mod bodies;
mod fields;
mod requests;
mod starts;
