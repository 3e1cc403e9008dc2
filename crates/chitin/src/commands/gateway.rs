//! `chitin gateway`: the gateway itself, in this process. `chitin up` starts it; a service manager may, too.

use std::fs::OpenOptions;
use std::path::PathBuf;

use nix::sys::signal::SigSet;

use crate::cli::Globals;
use crate::exit;
use crate::failure::{Failure, chain};
use crate::out;
use crate::paths::{self, DataDir};

/// Be a gateway; `chitin up` starts and supervises one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For service managers, which supervise it themselves: it takes listening sockets
from LISTEN_FDS, reports to NOTIFY_SOCKET and keeps WATCHDOG_USEC. Without
sockets it opens its own.

Examples:
  chitin gateway --data-dir /var/lib/chitin")]
pub(crate) struct Gateway {
    /// The address for HTTP, if no socket is handed over [default: 127.0.0.1:7411]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The configuration [default: $CHITIN_CONFIG, else chitin.toml in the data directory]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Leave standard error to the log once it serves
    #[arg(long, hide = true)]
    background: bool,
}

/// Serves until it is asked to stop.
pub(crate) fn gateway(gateway: &Gateway, globals: &Globals) -> Result<u8, Failure> {
    let inherited = chitin_gateway::Inherited::take();
    // A supervisor takes its signals from a descriptor, and so blocks them.
    let _ = SigSet::all().thread_unblock();
    let data_dir = globals.data_dir()?;
    let options = chitin_gateway::Options {
        data_dir: data_dir.path().to_path_buf(),
        config: paths::config(gateway.config.as_deref())?,
        listen: gateway.listen.clone(),
        listen_optional: false,
        background: gateway.background,
    };
    let background = gateway.background;
    let ready = move |_: &chitin_gateway::Ready| {
        if background {
            leave_standard_error(&data_dir);
        }
    };
    chitin_gateway::run(options, inherited, ready).map(|()| 0).or_else(|error| refusal(&error))
}

/// A gateway, or an instance, that does not start: its exit code, and why.
pub(crate) fn refusal(error: &chitin_gateway::GatewayError) -> Result<u8, Failure> {
    match error.kind() {
        chitin_gateway::ErrorKind::AlreadyRunning { pid } => {
            out::remark(&already_running(pid));
            Ok(0)
        }
        chitin_gateway::ErrorKind::InUse => Err(Failure::new(exit::REFUSED, chain(error))),
        chitin_gateway::ErrorKind::Config => Err(Failure::new(exit::USAGE, chain(error))),
        chitin_gateway::ErrorKind::Crash => Err(Failure::new(exit::CRASHED, chain(error))),
        chitin_gateway::ErrorKind::Other => Err(Failure::other(chain(error))),
    }
}

fn already_running(pid: Option<u32>) -> String {
    pid.map_or_else(|| "already running".to_owned(), |pid| format!("already running (pid {pid})"))
}

/// From here on the standard error of a process in the background, which only a bug writes to, is the log: nobody reads
/// the pipe any more. Without the log the pipe stays, and such a write is lost.
pub(crate) fn leave_standard_error(data_dir: &DataDir) {
    if let Ok(log) = OpenOptions::new().append(true).open(data_dir.log()) {
        let _ = rustix::stdio::dup2_stderr(log);
    }
}
