//! Bounds of a running gateway, met: each turns load away with an answer, and what is within goes on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers: what fails, fails the test"
)]

#[path = "../common/mod.rs"]
mod common;

mod connections;
mod in_flight;
mod memory;
