//! `chitin up`: a supervised gateway, here or in the background. The background one is this command again, as `start`
//! calls it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use chitin_gateway::Entrance;

use super::gateway::{leave_standard_error, refusal};
use crate::cli::Globals;
use crate::failure::{Failure, chain};
use crate::out;
use crate::paths::{self, DataDir};
use crate::start::{self, Launch, Launched};
use crate::supervisor::{Ended, Recipe, Reserved, Signals, Supervisor, adopted};

/// Start a gateway that is kept alive
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
    /// Be the supervisor that --detach starts
    #[arg(long, hide = true, conflicts_with = "detach")]
    background: bool,
    /// Take over from a supervisor that died, as its gateway says on standard input
    #[arg(long, hide = true, conflicts_with_all = ["detach", "background"])]
    adopt: bool,
}

/// Starts an instance; in the foreground this lasts until it is stopped.
pub(crate) fn up(up: &Up, globals: &Globals) -> Result<u8, Failure> {
    if up.detach {
        return detach(up, globals.data_dir()?, paths::config(up.config.as_deref())?);
    }
    // What leaked from whoever started us would stay open for weeks.
    chitin_shim::inherited::close();
    let reserved = Reserved::new().map_err(|error| trouble("keep descriptors free", &error))?;
    let signals = Signals::take().map_err(|error| trouble("listen to signals", &error))?;
    if up.adopt {
        let (supervisor, entrance) = adopted::take_over(reserved, signals)
            .map_err(|error| trouble("take over from a supervisor that died", &error))?;
        // For people; who wants to know for sure asks the lock.
        let _ = entrance.sign();
        supervisor.run(|| {});
        entrance.close();
        return Ok(0);
    }
    if up.background {
        // Fails only where we lead a session already, which is what is wanted.
        let _ = rustix::process::setsid();
    }
    let data_dir = globals.data_dir()?;
    let options = chitin_gateway::Options {
        data_dir: data_dir.path().to_path_buf(),
        config: paths::config(up.config.as_deref())?,
        listen: up.listen.clone(),
        listen_optional: up.listen_optional,
        background: up.background,
    };
    let (entrance, sockets, addresses) = match Entrance::open(&options) {
        Ok(open) => open,
        Err(error) => return refusal(&error),
    };
    let ended = supervise(&entrance, options, sockets, reserved, signals, || {
        if up.background {
            leave_standard_error(&data_dir);
        }
        // Whoever started us may be gone; the gateway serves all the same.
        let _ = out::line(&ready_line(&addresses));
    });
    entrance.close();
    match ended? {
        Ended::Asked => Ok(0),
        // The gateway has said why.
        Ended::Refused { code } => Err(Failure::silent(code)),
    }
}

fn supervise(
    entrance: &Entrance,
    options: chitin_gateway::Options,
    sockets: Vec<OwnedFd>,
    reserved: Reserved,
    signals: Signals,
    ready: impl FnOnce(),
) -> Result<Ended, Failure> {
    entrance.sign().map_err(|error| Failure::other(chain(&error)))?;
    let recipe = Recipe {
        program: chitin_gateway::own_program().map_err(|error| trouble("find this program", &error))?,
        data_dir: entrance.data_dir().to_path_buf(),
        config: options.config,
        background: options.background,
    };
    let handed = reserved.fill(sockets).map_err(|error| trouble("keep the sockets", &error))?;
    let supervisor =
        Supervisor::new(recipe, handed, signals).map_err(|error| trouble("supervise", &error))?;
    Ok(supervisor.run(ready))
}

fn trouble(step: &str, error: &std::io::Error) -> Failure {
    Failure::other(format!("cannot {step}: {error}"))
}

fn detach(up: &Up, data_dir: DataDir, config: Option<PathBuf>) -> Result<u8, Failure> {
    let launch = Launch { data_dir, config, listen: up.listen.clone(), listen_optional: up.listen_optional };
    match start::launch_gateway(&launch)? {
        Launched::Ready { line } => out::line(&line)?,
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
