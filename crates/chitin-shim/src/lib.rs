//! The shim: one small process per running attempt, which outlives the gateway.
//!
//! It claims the attempt, starts the command inside its limits, keeps the output, measures the time, ends the tree and
//! tells how it ended: to a gateway if one listens, else to the disk. It is of the verbs *run* (all of it) and *settle*
//! (the report that a settlement is made of).
//!
//! | what | where |
//! |---|---|
//! | the steps from the first instruction to the loop | `attempt`, `claim`, `child` |
//! | the life cycle, pure | [`machine`] |
//! | the loop that carries it out | `run`, `conn`, `output`, `memory`, `report` |
//! | groups and trees | [`groups`], [`tree`], `proc` |
//! | the process that shims are forked from | `fork_server`, `request`, `title` |
//! | waiting for another order once all is settled | `rest` |
//! | for the gateway: starting shims, finding them again | [`start`], [`recover`] |
//! | for gateway and supervisor: what they were started with | [`inherited`], [`descriptors`] |
//! | for the gateway: its own memory | [`heap`] |
//!
//! Invariant: one thread, no runtime. Invariant: `unsafe` stands in `sys.rs` alone, clocks in `clock.rs`.

mod attempt;
mod child;
mod claim;
mod clock;
mod conn;
pub mod descriptors;
mod fork_server;
pub mod groups;
pub mod heap;
pub mod inherited;
mod limits;
pub mod machine;
mod memory;
mod output;
mod proc;
pub mod recover;
mod report;
mod request;
mod rest;
mod run;
mod spool;
pub mod start;
mod sys;
mod title;
pub mod tree;
pub mod usage;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// The whole program: runs the attempt whose spool folder is given, with descriptors 0, 1 and 2 as a gateway gives
/// them; or serves forks. To be called first in `main`: it closes every other descriptor.
pub fn main(argument: Option<OsString>) -> ExitCode {
    if io::stderr().is_terminal() {
        // Only a person starts it so; a gateway's descriptor 2 is the command's input.
        let _ = writeln!(io::stderr(), "chitin-shim is started by the gateway; see `chitin run --help`");
        return ExitCode::from(64);
    }
    sys::close_inherited();
    sys::default_signals();
    let Some(argument) = argument else { return ExitCode::from(64) };
    if argument == fork_server::ARGUMENT {
        return fork_server::serve();
    }
    let lived = attempt::live(argument.into(), attempt::take_descriptors(), attempt::protect(), None);
    if lived { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
