//! One more client, at an even pace of its own: what somebody else meets beside a flood, or after it. It comes over the
//! socket, so for the gateway it is another client than those who come over TCP with the token.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::load::{histogram, nanos};
use super::own::Own;
use super::stop::Stop;
use super::submit::TASK;
use super::wire::{self, Parsed};
use crate::clock;
use crate::failure::Failure;

/// Between two requests: two hundred a second, which is a load to nobody.
const EVERY: Duration = Duration::from_millis(5);
/// Nobody waits longer for an answer than this, or there is none.
const SILENCE: Duration = Duration::from_secs(30);
/// Whether all is as always shows in so many in a row.
const IN_A_ROW: usize = 20;

/// What became of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// When it fell due.
    pub(super) at: Instant,
    /// From then to its answer.
    pub(super) took: Duration,
    /// The answer's status.
    pub(super) status: u16,
}

/// The client, at work.
#[derive(Debug)]
pub(super) struct Probe {
    over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<Sent>>>,
}

impl Probe {
    /// Begins.
    pub(super) fn begin(own: &Own) -> Result<Self, Failure> {
        let over = Arc::new(AtomicBool::new(false));
        let (until, socket) = (Arc::clone(&over), own.socket());
        let request = own.target().request("POST", "/v1/tasks", "", TASK.as_bytes());
        let thread = thread::Builder::new().name("probe".to_owned());
        let thread = thread.spawn(move || work(socket, &request, &until));
        let thread = thread.map_err(|error| Failure::other(format!("cannot start a thread: {error}")))?;
        Ok(Self { over, thread })
    }

    /// Ends; what became of its requests.
    pub(super) fn end(self) -> Result<Vec<Sent>, Failure> {
        self.over.store(true, Ordering::Relaxed);
        let sent = self.thread.join().map_err(|_| Failure::other("a client of the measurement broke off"))?;
        sent.map_err(|error| Failure::other(format!("a client beside the load: {error}")))
    }

    /// With nothing beside it.
    pub(super) fn alone(own: &Own, span: Duration, stop: &Stop) -> Result<Vec<Sent>, Failure> {
        let probe = Self::begin(own)?;
        let begun = clock::now();
        while begun.elapsed() < span && !stop.asked() {
            thread::sleep(EVERY);
        }
        let sent = probe.end()?;
        stop.check().map(|()| sent)
    }
}

fn work(socket: PathBuf, request: &[u8], over: &AtomicBool) -> io::Result<Vec<Sent>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let (mut all, mut chunk, mut at) = (Vec::new(), vec![0; 8 * 1024], clock::now());
    while !over.load(Ordering::Relaxed) {
        thread::sleep(at.saturating_duration_since(clock::now()));
        stream.write_all(request)?;
        let mut answer = Vec::new();
        let status = loop {
            let count = stream.read(&mut chunk)?;
            answer.extend_from_slice(chunk.get(..count).unwrap_or_default());
            match wire::parse(&answer) {
                Parsed::Whole { status, .. } => break status,
                Parsed::Partial if count > 0 => {}
                Parsed::Partial | Parsed::Garbled => return Err(io::ErrorKind::InvalidData.into()),
            }
        };
        all.push(Sent { at, took: clock::now().saturating_duration_since(at), status });
        at += EVERY;
    }
    Ok(all)
}

/// How long those took that fell due from here on.
pub(super) fn latency(sent: &[Sent], from: Instant) -> Result<Histogram<u64>, Failure> {
    let mut latency = histogram()?;
    let counted = sent.iter().filter(|sent| sent.at >= from);
    counted.for_each(|sent| latency.saturating_record(nanos(sent.took)));
    Ok(latency)
}

/// How long after this moment all was as always: so many in a row were accepted, nine in ten of them within the time
/// that is normal for ninety-nine in a hundred.
pub(super) fn recovered(sent: &[Sent], since: Instant, normal: Duration) -> Option<Duration> {
    let is_normal = |row: &&[Sent]| {
        let late = row.iter().filter(|sent| sent.took > normal).count();
        late <= IN_A_ROW / 10 && row.iter().all(|sent| sent.status == 202)
    };
    let row = sent.windows(IN_A_ROW).find(is_normal)?;
    row.first().map(|first| (first.at + first.took).saturating_duration_since(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(begun: Instant, took_ms: &[u64], status: u16) -> Vec<Sent> {
        let sent = |(at, took_ms): (u32, &u64)| Sent {
            at: begun + EVERY * at,
            took: Duration::from_millis(*took_ms),
            status,
        };
        (0..).zip(took_ms).map(sent).collect()
    }

    #[test]
    fn it_is_as_always_when_nearly_all_in_a_row_are() {
        let begun = clock::now();
        let normal = Duration::from_millis(2);
        let quiet = [1; IN_A_ROW];
        let late = [vec![90, 80, 70, 60], quiet.to_vec()].concat();
        assert_eq!(recovered(&sent(begun, &quiet, 202), begun, normal), Some(Duration::from_millis(1)));
        let after = recovered(&sent(begun, &late, 202), begun, normal);
        assert_eq!(after, Some(Duration::from_millis(70 + 10)), "two in twenty may be late");
        assert_eq!(recovered(&sent(begun, &quiet, 503), begun, normal), None, "turned away is not as always");
        assert_eq!(recovered(&sent(begun, &[5; 40], 202), begun, normal), None);
    }
}
