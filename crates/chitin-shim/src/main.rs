//! `chitin-shim SPOOL_DIR`: started by the gateway alone; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    chitin_shim::main(std::env::args_os().nth(1))
}
