//! The load: so many connections, each with one request under way, on one thread. The same for what is measured and
//! for what it is compared with.
//!
//! By hand on epoll: a request costs one write, one read and a share of a wait. A client that cost more would take
//! from the processors what the server is measured by.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;

use super::stop::Stop;
use super::wire::{self, Parsed};
use crate::clock;
use crate::failure::Failure;

/// A server that says nothing for so long has failed; above the longest poll a script asks for.
const SILENCE: Duration = Duration::from_secs(30);
/// The end of the time, and a stop, are noticed within this.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What one connection asks for, again and again.
pub(super) trait Script {
    /// The request to be sent now.
    fn bytes(&self) -> &[u8];
    /// Takes the answer, and makes the next request ready.
    fn answer(&mut self, status: u16, body: &[u8]) -> Turn;
}

/// What an answer meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// The operation is done; the next begins.
    Done,
    /// The operation goes on with another request.
    More,
    /// It failed; the next begins.
    Failed(String),
}

/// For how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Not counted.
    pub(super) warmup: Duration,
    /// Counted.
    pub(super) span: Duration,
}

/// What was counted.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Operations a second.
    pub(super) rate: f64,
    /// How long each took, in nanoseconds.
    pub(super) latency: Histogram<u64>,
    /// Operations that failed, warm-up included.
    pub(super) errors: u64,
    /// The first of them.
    pub(super) first_error: Option<String>,
}

struct Connection<S> {
    stream: TcpStream,
    script: S,
    sent: usize,
    answer: Vec<u8>,
    begun: Instant,
    /// The request did not fit into the socket at once.
    clogged: bool,
}

/// Drives one script a connection until the time is over.
pub(super) fn run<S: Script>(
    address: SocketAddr,
    scripts: Vec<S>,
    pace: Pace,
    stop: &Stop,
) -> Result<Outcome, Failure> {
    let trouble = |error: io::Error| Failure::other(format!("cannot load {address}: {error}"));
    let mut round = Round::new(address, scripts).map_err(trouble)?;
    let counting = clock::now() + pace.warmup;
    let end = counting + pace.span;
    let mut latency = histogram()?;
    let (mut errors, mut first_error) = (0_u64, None);
    let mut heard = clock::now();
    round.begin().map_err(trouble)?;
    let ended = loop {
        let turns = round.turn().map_err(trouble)?;
        let now = clock::now();
        if turns.is_some() {
            heard = now;
        }
        for (turn, took) in round.ended.drain(..) {
            match turn {
                Turn::Done if now >= counting && now < end => latency.saturating_record(nanos(took)),
                Turn::Done | Turn::More => {}
                Turn::Failed(why) => {
                    errors = errors.saturating_add(1);
                    first_error.get_or_insert(why);
                }
            }
        }
        if now >= end || round.connections.iter().all(Option::is_none) {
            break now;
        }
        stop.check()?;
        if now.saturating_duration_since(heard) > SILENCE {
            return Err(Failure::other(format!("{address} has not answered for 30 s")));
        }
    };
    let counted = ended.min(end).saturating_duration_since(counting).as_secs_f64().max(f64::EPSILON);
    let rate = count(latency.len()) / counted;
    Ok(Outcome { rate, latency, errors, first_error })
}

/// The connections, and what waits for them.
struct Round<S> {
    epoll: OwnedFd,
    connections: Vec<Option<Connection<S>>>,
    events: Vec<Event>,
    scratch: Vec<u8>,
    ended: Vec<(Turn, Duration)>,
}

impl<S: Script> Round<S> {
    fn new(address: SocketAddr, scripts: Vec<S>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut connections = Vec::with_capacity(scripts.len());
        for (at, script) in (0_u64..).zip(scripts) {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(at), EventFlags::IN)?;
            let begun = clock::now();
            let connection =
                Connection { stream, script, sent: 0, answer: Vec::new(), begun, clogged: false };
            connections.push(Some(connection));
        }
        let events = Vec::with_capacity(connections.len().max(1));
        Ok(Self { epoll, connections, events, scratch: vec![0; 64 * 1024], ended: Vec::new() })
    }

    fn begin(&mut self) -> io::Result<()> {
        for (at, connection) in (0_u64..).zip(self.connections.iter_mut().flatten()) {
            connection.begun = clock::now();
            connection.write(&self.epoll, at)?;
        }
        Ok(())
    }

    /// Waits, and serves whoever is ready; none: nobody was.
    fn turn(&mut self) -> io::Result<Option<()>> {
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&LOOK_EVERY)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let at = event.data.u64();
            let Some(slot) = usize::try_from(at).ok().and_then(|at| self.connections.get_mut(at)) else {
                continue;
            };
            let Some(connection) = slot else { continue };
            if let Err(error) = connection.serve(&self.epoll, at, &mut self.scratch, &mut self.ended) {
                // Closing takes it out of the wait.
                self.ended.push((Turn::Failed(format!("a connection broke: {error}")), Duration::ZERO));
                *slot = None;
            }
        }
        Ok(Some(()))
    }
}

impl<S: Script> Connection<S> {
    fn serve(
        &mut self,
        epoll: &OwnedFd,
        at: u64,
        scratch: &mut [u8],
        ended: &mut Vec<(Turn, Duration)>,
    ) -> io::Result<()> {
        if self.clogged {
            self.write(epoll, at)?;
        }
        let count = match self.stream.read(scratch) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let fresh = scratch.get(..count).unwrap_or_default();
        // Nearly always one read has all of it: then nothing is copied.
        let joined = !self.answer.is_empty();
        if joined {
            self.answer.extend_from_slice(fresh);
        }
        let turn = match wire::parse(if joined { &self.answer } else { fresh }) {
            Parsed::Partial => {
                if !joined {
                    self.answer.extend_from_slice(fresh);
                }
                return Ok(());
            }
            Parsed::Garbled => return Err(io::Error::other("not an answer this client understands")),
            Parsed::Whole { status, body } => self.script.answer(status, body),
        };
        self.answer.clear();
        self.sent = 0;
        if turn != Turn::More {
            let now = clock::now();
            ended.push((turn, now.saturating_duration_since(self.begun)));
            self.begun = now;
        }
        self.write(epoll, at)
    }

    /// Sends what the socket takes, and has itself woken if that is not all.
    fn write(&mut self, epoll: &OwnedFd, at: u64) -> io::Result<()> {
        let bytes = self.script.bytes();
        while let Some(rest) = bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let clogged = self.sent < bytes.len();
        if clogged != self.clogged {
            let flags = if clogged { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(epoll, &self.stream, EventData::new_u64(at), flags)?;
            self.clogged = clogged;
        }
        Ok(())
    }
}

/// Nanoseconds, three digits exact, up to two minutes; what takes longer counts as that.
pub(super) fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, 120_000_000_000, 3)
        .map_err(|error| Failure::other(format!("no histogram: {error}")))
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A count as a number to divide by; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of a measurement are far below 2^53")]
pub(super) fn count(count: u64) -> f64 {
    count as f64
}
