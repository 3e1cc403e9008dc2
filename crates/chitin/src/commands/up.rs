//! `chitin up`: a gateway, here or in the background. The background one is this command again, as `start` calls it.

use std::fs::OpenOptions;
use std::path::PathBuf;

use crate::cli::Globals;
use crate::exit;
use crate::failure::Failure;
use crate::out;
use crate::paths::{self, DataDir};
use crate::start::{self, Launch, Launched};

/// Start a gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It says `ready http://ADDR unix:PATH` on standard output as soon as it serves.

Examples:
  chitin up                            here, until Ctrl-C
  chitin up --detach                   in the background, until `chitin down`
  chitin up --listen 127.0.0.1:8000    on another port
  chitin up --data-dir /srv/chitin     with another data directory: an instance of its own")]
pub(crate) struct Up {
    /// Stay in the background; returns when it is ready
    #[arg(long)]
    detach: bool,
    /// The address for HTTP [default: 127.0.0.1:7411]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The configuration [default: $CHITIN_CONFIG, else chitin.toml in the data directory]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// If the port is taken, serve the Unix socket alone
    #[arg(long, hide = true)]
    listen_optional: bool,
    /// Be the gateway that --detach starts
    #[arg(long, hide = true, conflicts_with = "detach")]
    background: bool,
}

/// Starts a gateway; in the foreground this lasts until it is stopped.
pub(crate) fn up(up: &Up, globals: &Globals) -> Result<u8, Failure> {
    let data_dir = globals.data_dir()?;
    let config = paths::config(up.config.as_deref())?;
    if up.detach {
        return detach(up, data_dir, config);
    }
    if up.background {
        // Fails only where we lead a session already, which is what is wanted.
        let _ = rustix::process::setsid();
    }
    let options = chitin_gateway::Options {
        data_dir: data_dir.path().to_path_buf(),
        config,
        listen: up.listen.clone(),
        listen_optional: up.listen_optional,
    };
    let background = up.background;
    let ready = move |ready: &chitin_gateway::Ready| {
        if background {
            leave_standard_error(&data_dir);
        }
        // Whoever started us may be gone; the gateway serves all the same.
        let _ = out::line(&ready_line(ready));
    };
    match chitin_gateway::run(options, ready) {
        Ok(()) => Ok(0),
        Err(error) => match error.kind() {
            chitin_gateway::ErrorKind::AlreadyRunning { pid } => {
                out::remark(&already_running(pid));
                Ok(0)
            }
            chitin_gateway::ErrorKind::Config => Err(Failure::new(exit::USAGE, chain(&error))),
            chitin_gateway::ErrorKind::Other => Err(Failure::other(chain(&error))),
        },
    }
}

fn detach(up: &Up, data_dir: DataDir, config: Option<PathBuf>) -> Result<u8, Failure> {
    let launch = Launch { data_dir, config, listen: up.listen.clone(), listen_optional: up.listen_optional };
    match start::launch_gateway(&launch)? {
        Launched::Ready { line, .. } => out::line(&line)?,
        Launched::AlreadyRunning { said } => out::error_bytes(said.as_bytes()),
    }
    Ok(0)
}

fn ready_line(ready: &chitin_gateway::Ready) -> String {
    let socket = ready.socket.display();
    match ready.tcp {
        Some(address) => format!("ready http://{address} unix:{socket}"),
        None => format!("ready unix:{socket}"),
    }
}

fn already_running(pid: Option<u32>) -> String {
    pid.map_or_else(|| "already running".to_owned(), |pid| format!("already running (pid {pid})"))
}

/// From here on the standard error of a background gateway, which only a bug writes to, is the log: nobody reads the
/// pipe any more. Without the log the pipe stays, and such a write is lost.
fn leave_standard_error(data_dir: &DataDir) {
    if let Ok(log) = OpenOptions::new().append(true).open(data_dir.log()) {
        let _ = rustix::stdio::dup2_stderr(log);
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_the_contracts() {
        let ready = |tcp: Option<&str>| chitin_gateway::Ready {
            tcp: tcp.map(|address| address.parse().unwrap()),
            socket: PathBuf::from("/d/chitin.sock"),
        };
        assert_eq!(
            ready_line(&ready(Some("127.0.0.1:7411"))),
            "ready http://127.0.0.1:7411 unix:/d/chitin.sock"
        );
        assert_eq!(ready_line(&ready(Some("[::1]:7411"))), "ready http://[::1]:7411 unix:/d/chitin.sock");
        assert_eq!(ready_line(&ready(None)), "ready unix:/d/chitin.sock");
    }
}
