//! The contract, end to end: the program and its gateway as people and clients meet them, a file for each topic.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers: what fails, fails the test"
)]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod commands;
mod ends;
mod events;
mod hung;
mod life;
mod limits;
mod logs;
mod many;
mod pausing;
mod sees;
mod tasks;
