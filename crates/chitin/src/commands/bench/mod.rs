//! `chitin bench`: how fast this is here, beside what it could be: the same load on the bare stack, the same rows in
//! SQLite alone, the disk's own syncs, processes started without us.
//!
//! Every measurement has a gateway of its own, another process of this program, in a folder that goes with it. Nothing
//! about it is made faster than it is: each answer still waits for the disk.

mod bulk;
mod child;
mod commands;
mod disk;
mod echo;
mod fairness;
mod figures;
mod full_queue;
mod load;
mod memory;
mod overload;
mod own;
mod probe;
mod roundtrip;
mod show;
mod spawn;
mod sqlite;
mod stop;
mod submit;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use self::load::{Arrivals, Pace};
use self::own::Own;
use self::stop::Stop;
use self::submit::Keys;
use crate::failure::Failure;
use crate::{exit, out};

/// Measure what a gateway does here, beside what it could do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each measurement starts a gateway of its own in a temporary folder and removes it. What is measured is mostly the
disk below that folder: choose it by --dir.

Examples:
  chitin bench                             all of them
  chitin bench submit --clients 256        single submissions, 256 at a time
  chitin bench submit --clients 1000 --pace 0.5   a thousand clients at half the most that they get done
  chitin bench bulk --seconds 10 --json    for programs
  chitin bench memory --dir /srv           on the disk that will hold the data")]
pub(crate) struct Bench {
    /// What to measure; without it everything, one after the other
    what: Option<What>,
    /// Connections, each with one request under way [default: 32 for submit, 2 for bulk, 4 for roundtrip, 100 for
    /// overload, of which ten times as many come, 64 for full-queue and fairness]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: Option<u16>,
    /// For submit: so many submissions a second at even distances, however fast they are answered
    #[arg(long, value_name = "N", value_parser = rate, conflicts_with = "pace")]
    rate: Option<f64>,
    /// For submit: this part of what the same clients get done at most, which is measured first
    #[arg(long, value_name = "PART", value_parser = part)]
    pace: Option<f64>,
    /// How long each measurement counts; a second before it does not
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    seconds: f64,
    /// Below which folder; its disk is what is measured [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Send an Idempotency-Key with each submission
    #[arg(long)]
    keys: bool,
    /// Print one JSON object for each measurement
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Single submissions
    Submit,
    /// Submissions of a thousand tasks each
    Bulk,
    /// Commands run, two at a time
    Commands,
    /// From a submission to its result
    Roundtrip,
    /// Memory of a gateway and of a shim
    Memory,
    /// Submissions of ten times as many clients as are too many
    Overload,
    /// Ten times the tasks that can be run, with the queue full
    FullQueue,
    /// One client's submissions beside another's flood
    Fairness,
    /// The server that submissions are compared with
    #[value(hide = true)]
    EchoServer,
}

const ALL: [What; 8] = [
    What::Submit,
    What::Bulk,
    What::Commands,
    What::Roundtrip,
    What::Memory,
    What::Overload,
    What::FullQueue,
    What::Fairness,
];

/// At what rate submissions come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Speed {
    /// As fast as they are answered.
    Most,
    /// So many a second.
    Rate(f64),
    /// So much of the most.
    Part(f64),
}

/// What a measurement needs to know.
#[derive(Debug, Clone)]
struct Plan {
    clients: Option<usize>,
    speed: Speed,
    seconds: f64,
    dir: PathBuf,
    keys: Keys,
    stop: Stop,
}

impl Plan {
    /// A second of warm-up, less if there is less to measure.
    fn pace(&self) -> Pace {
        let span = Duration::from_secs_f64(self.seconds);
        Pace { arrivals: Arrivals::Closed, warmup: span.min(Duration::from_secs(1)), span }
    }

    /// The same with so many requests a second.
    fn paced(&self, rate: f64) -> Pace {
        Pace { arrivals: Arrivals::Open(rate), ..self.pace() }
    }

    /// For references that settle at once.
    fn short(&self) -> Duration {
        Duration::from_secs_f64(self.seconds).min(Duration::from_secs(1))
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("allowed: a number of seconds from 0.1 to 3600".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (1.0..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("allowed: a number from 1 to 1000000".to_owned()),
    }
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(part) if (0.01..=2.0).contains(&part) => Ok(part),
        _ => Err("allowed: a number from 0.01 to 2".to_owned()),
    }
}

/// Measures what was asked for.
pub(crate) fn bench(bench: &Bench) -> Result<u8, Failure> {
    if bench.what == Some(What::EchoServer) {
        return echo::serve();
    }
    let whats = bench.what.map_or_else(|| ALL.to_vec(), |what| vec![what]);
    let dir = bench.dir.clone().unwrap_or_else(std::env::temp_dir);
    out::remark(&format!("measuring below {} ({})", dir.display(), disk::file_system(&dir)));
    Own::say_bounds();
    // More clients than the usual soft limit has descriptors for.
    if let Err(error) = chitin_shim::descriptors::raise() {
        out::remark(&format!("the limit of file descriptors could not be raised: {error}"));
    }
    let clients = bench.clients.map(usize::from);
    let (seconds, json) = (bench.seconds, bench.json);
    let speed = match (bench.rate, bench.pace) {
        (Some(rate), _) => Speed::Rate(rate),
        (None, Some(part)) => Speed::Part(part),
        (None, None) => Speed::Most,
    };
    let keys = if bench.keys { Keys::Sent } else { Keys::Omitted };
    stop::guarded(move |stop| {
        let plan = Plan { clients, speed, seconds, dir, keys, stop: stop.clone() };
        let mut code = 0;
        for what in whats {
            let report = match what {
                What::Submit => submit::measure(&plan)?,
                What::Bulk => bulk::measure(&plan)?,
                What::Commands => commands::measure(&plan)?,
                What::Roundtrip => roundtrip::measure(&plan)?,
                What::Memory => memory::measure(&plan)?,
                What::Overload => overload::measure(&plan)?,
                What::FullQueue => full_queue::measure(&plan)?,
                What::Fairness => fairness::measure(&plan)?,
                What::EchoServer => continue,
            };
            if json {
                out::line(&report.json().to_string())?;
            } else {
                out::line(&show::human(&report))?;
            }
            if report.errors > 0 {
                code = exit::OTHER;
            }
        }
        Ok(code)
    })
}
