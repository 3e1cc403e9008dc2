//! The reference for requests: the gateway's own stack with nothing behind it, in a process of its own, under the same
//! load.

use std::io::Read;
use std::net::SocketAddr;

use super::child::Child;
use super::figures::Sample;
use super::load::{self, Pace};
use super::stop::Stop;
use super::submit::{self, Keys};
use super::wire::Target;
use crate::failure::Failure;
use crate::out;

/// The server, which is this program again: says where it serves, and ends when its standard input does.
pub(super) fn serve() -> Result<u8, Failure> {
    let watch = std::thread::Builder::new().spawn(|| {
        // Nothing is ever said: the end is all there is to hear.
        _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0)
    });
    watch.map_err(|error| Failure::other(format!("cannot start a thread: {error}")))?;
    chitin_gateway::bench::echo(|address| _ = out::line(&address.to_string()))
        .map_err(|error| Failure::other(format!("cannot serve: {error}")))?;
    Ok(0)
}

/// Starts one, loads it with submissions, ends it.
pub(super) fn measure(clients: usize, pace: Pace, keys: Keys, stop: &Stop) -> Result<Sample, Failure> {
    let mut child = Child::start(&["bench", "echo-server"], &[])?;
    let line = child.first_line()?;
    let address: SocketAddr =
        line.parse().map_err(|_| Failure::other(format!("the echo server says `{line}`")))?;
    // As long as a real one.
    let target = Target { address, token: "0".repeat(64) };
    let outcome = load::run(address, submit::scripts(&target, clients, keys), pace, stop)?;
    match outcome.first_error {
        None => Ok(Sample::of(&outcome)),
        Some(error) => Err(Failure::other(format!("the echo server failed: {error}"))),
    }
}
