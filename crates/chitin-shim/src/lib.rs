//! The shim: one small process per running attempt, which outlives the gateway.
//!
//! It claims the attempt, starts the command inside its limits, keeps the output, measures the time, ends the tree and
//! tells how it ended: to a gateway if one listens, else to the disk. It is of the verbs *run* (all of it) and *settle*
//! (the report that a settlement is made of).
//!
//! | what | where |
//! |---|---|
//! | the steps from the first instruction to the loop | `attempt`, `claim`, `child` |
//! | the life cycle, pure | `machine` |
//! | the loop that carries it out | `run`, `conn`, `output`, `memory`, `report` |
//! | groups and trees | [`groups`], [`tree`], `proc` |
//! | for the gateway: starting shims, finding them again | [`start`], [`recover`] |
//! | for gateway and supervisor: what they were started with | [`inherited`] |
//!
//! Invariant: one thread, no runtime. Invariant: `unsafe` stands in `sys.rs` alone, clocks in `clock.rs`.

mod attempt;
mod child;
mod claim;
mod clock;
mod conn;
pub mod groups;
pub mod inherited;
mod limits;
mod machine;
mod memory;
mod output;
mod proc;
pub mod recover;
mod report;
mod run;
mod spool;
pub mod start;
mod sys;
pub mod tree;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// The whole program: runs the attempt whose spool folder is given, with descriptors 0, 1 and 2 as a gateway gives
/// them. To be called first in `main`: it closes every other descriptor.
pub fn main(spool_dir: Option<OsString>) -> ExitCode {
    if io::stderr().is_terminal() {
        // Only a person starts it so; a gateway's descriptor 2 is the command's input.
        let _ = writeln!(io::stderr(), "chitin-shim is started by the gateway; see `chitin run --help`");
        return ExitCode::from(64);
    }
    sys::close_inherited();
    let Some(spool_dir) = spool_dir.map(PathBuf::from) else { return ExitCode::from(64) };
    match attempt::run(&spool_dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // A folder that is gone was swept: nobody is waiting for a word.
            if let Ok(spool) = spool::Spool::open(&spool_dir) {
                let cause = std::error::Error::source(&e).map_or_else(String::new, |s| format!(": {s}"));
                spool.log(&format!("not started: {e}{cause}"));
            }
            ExitCode::FAILURE
        }
    }
}
