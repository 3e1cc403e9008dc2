//! The program `chitin`: reads the command line, runs one command, and turns its end into an exit code. Commands are in
//! `commands/`, one file each; what they share is beside it.

mod args;
mod cli;
mod client;
mod clock;
mod commands;
mod exit;
mod failure;
mod follow;
mod frames;
mod interrupts;
mod out;
mod outputs;
mod paths;
mod runtime;
mod sse;
mod start;
mod stdin;
mod style;
mod supervisor;
mod table;
mod text;
mod units;
mod verdict;

use std::process::ExitCode;

fn main() -> ExitCode {
    let result = cli::parse().and_then(commands::dispatch);
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            out::failure(&failure);
            ExitCode::from(failure.exit)
        }
    }
}
