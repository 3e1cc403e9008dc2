//! The load: so many connections, each with one request under way, on one thread. The same for what is measured and
//! for what it is compared with.
//!
//! Closed, a client sends when it has its answer: what is measured is how much can be done. Open, requests fall due at
//! a rate of their own, and each one's time runs from there: whoever finds every connection taken has begun to wait, so
//! that a server that stands still is not asked less for it.
//!
//! By hand on epoll: a request costs one write, one read and a share of a wait. A client that cost more would take
//! from the processors what the server is measured by.

use std::collections::VecDeque;
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
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long what fell due within the time is waited for after it.
const DRAIN: Duration = Duration::from_secs(5);

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
    /// It was turned away in good order, which was asked for; the next begins.
    Refused,
    /// It failed; the next begins.
    Failed(String),
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Arrivals {
    /// As soon as the connection's last one was answered.
    Closed,
    /// So many a second at even distances, each on the connection that has been free the longest.
    Open(f64),
}

/// When, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) arrivals: Arrivals,
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
    /// How long each that was turned away took.
    pub(super) refused: Histogram<u64>,
    /// Operations that were done, warm-up included.
    pub(super) done: u64,
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
    let begun = clock::now();
    let counting = begun + pace.warmup;
    let end = counting + pace.span;
    let mut schedule = Schedule::new(pace.arrivals, begun, end);
    let (mut latency, mut refused) = (histogram()?, histogram()?);
    let (mut done, mut errors, mut first_error) = (0_u64, 0_u64, None);
    let mut heard = begun;
    let ended = loop {
        round.send(&mut schedule);
        let patience = schedule.patience(clock::now(), &round.free);
        let turns = round.turn(patience, &schedule).map_err(trouble)?;
        let now = clock::now();
        if turns.is_some() || !round.is_busy() {
            heard = now;
        }
        for Ended { turn, begun, took } in round.ended.drain(..) {
            // What fell due within the time counts, however late it was; without a due time, what was done within it.
            let at = if schedule.is_open() { begun } else { now };
            let counts = at >= counting && at < end;
            done = done.saturating_add(u64::from(turn == Turn::Done));
            match turn {
                Turn::Done if counts => latency.saturating_record(nanos(took)),
                Turn::Refused if counts => refused.saturating_record(nanos(took)),
                Turn::Done | Turn::Refused | Turn::More => {}
                Turn::Failed(why) => {
                    errors = errors.saturating_add(1);
                    first_error.get_or_insert(why);
                }
            }
        }
        let is_over =
            now >= end && (!schedule.is_open() || now >= end + DRAIN || round.is_drained(&schedule));
        if is_over || round.connections.iter().all(Option::is_none) {
            break now;
        }
        stop.check()?;
        if now.saturating_duration_since(heard) > SILENCE {
            return Err(Failure::other(format!("{address} has not answered for 30 s")));
        }
    };
    let counted = ended.min(end).saturating_duration_since(counting).as_secs_f64().max(f64::EPSILON);
    let rate = count(latency.len()) / counted;
    Ok(Outcome { rate, latency, refused, done, errors, first_error })
}

/// When the next requests fall due.
#[derive(Debug)]
enum Schedule {
    Closed,
    Open { begun: Instant, end: Instant, distance_s: f64, sent: u64 },
}

impl Schedule {
    fn new(arrivals: Arrivals, begun: Instant, end: Instant) -> Self {
        match arrivals {
            Arrivals::Closed => Self::Closed,
            Arrivals::Open(rate) => Self::Open { begun, end, distance_s: 1.0 / rate.max(1e-3), sent: 0 },
        }
    }

    fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// When the next one falls due; `None`: none does any more.
    fn next(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Closed => Some(now),
            Self::Open { begun, end, distance_s, sent } => {
                let at = *begun + Duration::from_secs_f64(distance_s * count(*sent));
                (at < *end).then_some(at)
            }
        }
    }

    fn sent_one(&mut self) {
        if let Self::Open { sent, .. } = self {
            *sent = sent.saturating_add(1);
        }
    }

    /// How long to wait for answers before the next request.
    fn patience(&self, now: Instant, free: &VecDeque<u64>) -> Duration {
        let next = if free.is_empty() { None } else { self.next(now) };
        next.map_or(LOOK_EVERY, |next| next.saturating_duration_since(now).min(LOOK_EVERY))
    }
}

/// An operation that is over.
struct Ended {
    turn: Turn,
    /// When it began, or fell due.
    begun: Instant,
    took: Duration,
}

/// The connections, and what waits for them.
struct Round<S> {
    epoll: OwnedFd,
    connections: Vec<Option<Connection<S>>>,
    /// Those without a request under way, the one that has been so for the longest first.
    free: VecDeque<u64>,
    events: Vec<Event>,
    scratch: Vec<u8>,
    ended: Vec<Ended>,
}

impl<S: Script> Round<S> {
    fn new(address: SocketAddr, scripts: Vec<S>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let (mut connections, mut free) = (Vec::with_capacity(scripts.len()), VecDeque::new());
        for (at, script) in (0_u64..).zip(scripts) {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(at), EventFlags::IN)?;
            let begun = clock::now();
            let connection =
                Connection { stream, script, sent: 0, answer: Vec::new(), begun, clogged: false };
            connections.push(Some(connection));
            free.push_back(at);
        }
        let events = Vec::with_capacity(connections.len().max(1));
        Ok(Self { epoll, connections, free, events, scratch: vec![0; 64 * 1024], ended: Vec::new() })
    }

    fn is_busy(&self) -> bool {
        self.free.len() < self.connections.iter().flatten().count()
    }

    /// Everything that falls due was sent and answered.
    fn is_drained(&self, schedule: &Schedule) -> bool {
        !self.is_busy() && schedule.next(clock::now()).is_none()
    }

    /// Sends what is due, as far as there are connections for it.
    fn send(&mut self, schedule: &mut Schedule) {
        while let Some(at) = self.free.front().copied() {
            let now = clock::now();
            let Some(due) = schedule.next(now).filter(|due| *due <= now) else { break };
            self.free.pop_front();
            schedule.sent_one();
            self.serve(at, |connection, epoll, _| {
                connection.begun = due;
                connection.write(epoll, at).map(|()| None)
            });
        }
    }

    /// Waits, and hears whoever is ready; none: nobody was.
    fn turn(&mut self, patience: Duration, schedule: &Schedule) -> io::Result<Option<()>> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let patience = Timespec::try_from(patience).ok();
        let woken = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), patience.as_ref());
        for event in &events {
            let at = event.data.u64();
            let Some(ended) =
                self.serve(at, |connection, epoll, scratch| connection.hear(epoll, at, scratch))
            else {
                continue;
            };
            if schedule.is_open() {
                self.free.push_back(at);
            } else {
                let next = ended.begun + ended.took;
                self.serve(at, |connection, epoll, _| {
                    connection.begun = next;
                    connection.write(epoll, at).map(|()| None)
                });
            }
            self.ended.push(ended);
        }
        self.events = events;
        match woken {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(None),
            Ok(_) => Ok(Some(())),
            Err(error) => Err(error.into()),
        }
    }

    /// Does something with a connection; one that breaks is given up.
    fn serve(
        &mut self,
        at: u64,
        what: impl FnOnce(&mut Connection<S>, &OwnedFd, &mut [u8]) -> io::Result<Option<Ended>>,
    ) -> Option<Ended> {
        let slot = usize::try_from(at).ok().and_then(|at| self.connections.get_mut(at))?;
        let connection = slot.as_mut()?;
        match what(connection, &self.epoll, &mut self.scratch) {
            Ok(ended) => ended,
            Err(error) => {
                let turn = Turn::Failed(format!("a connection broke: {error}"));
                self.ended.push(Ended { turn, begun: connection.begun, took: Duration::ZERO });
                // Closing takes it out of the wait.
                *slot = None;
                None
            }
        }
    }
}

impl<S: Script> Connection<S> {
    /// Reads what is there; what has ended with it.
    fn hear(&mut self, epoll: &OwnedFd, at: u64, scratch: &mut [u8]) -> io::Result<Option<Ended>> {
        if self.clogged {
            self.write(epoll, at)?;
        }
        let count = match self.stream.read(scratch) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
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
                return Ok(None);
            }
            Parsed::Garbled => return Err(io::Error::other("not an answer this client understands")),
            Parsed::Whole { status, body } => self.script.answer(status, body),
        };
        self.answer.clear();
        self.sent = 0;
        if turn == Turn::More {
            return self.write(epoll, at).map(|()| None);
        }
        let took = clock::now().saturating_duration_since(self.begun);
        Ok(Some(Ended { turn, begun: self.begun, took }))
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
