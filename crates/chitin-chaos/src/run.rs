//! Runs rows: session after session until there were as many trials as were asked for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::clock::now;
use crate::gateway::Gateway;
use crate::program::Program;
use crate::report::{Failure, Outcome};
use crate::rows::Row;
use crate::{Broken, Held, interrupt};

/// How rows are run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Trials of each row; none: each row's own small count.
    pub trials: Option<u32>,
    /// The first session's; each further one has the next.
    pub seed: u64,
    /// The longest a client may be without an answer, and the longest until a submission is acknowledged again (R6.5).
    pub outage_bound: Duration,
    /// Who stays where others wait stays so long: a reader in its transaction.
    pub hold: Duration,
    /// What a command says that says too much, bytes.
    pub flood_bytes: u64,
    /// The folders of failed sessions stay.
    pub keep: bool,
    /// A row that failed so often is not tried further.
    pub most_failures: usize,
    /// The program has this bug.
    pub planted: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            trials: None,
            seed: 1,
            outage_bound: Duration::from_secs(1),
            hold: Duration::from_secs(60),
            flood_bytes: 200_000_000,
            keep: false,
            most_failures: 3,
            planted: None,
        }
    }
}

/// What a session is made with.
#[derive(Debug)]
pub struct Session<'a> {
    pub(crate) program: &'a Program,
    pub(crate) chance: Chance,
    /// What the chance is from; where ways take turns, each is met.
    pub(crate) seed: u64,
    /// Trials that may be made in one session; at least one is.
    pub(crate) at_most: u32,
    pub(crate) outage_bound: Duration,
    pub(crate) hold: Duration,
    pub(crate) flood_bytes: u64,
    planted: Option<&'static str>,
    keep: bool,
    /// Outages that clients saw.
    outages: Vec<Duration>,
    /// What else was seen to hold, and how often.
    seen: BTreeMap<String, u32>,
    /// What was measured.
    figures: Vec<String>,
}

impl Session<'_> {
    /// A gateway that does not run yet, with these lines of `[limits]`.
    pub(crate) fn prepare(&self, limits: &str) -> Held<Gateway> {
        let mut gateway = Gateway::prepare(self.program, limits)?;
        if self.keep {
            gateway.keep();
        }
        if let Some(bug) = self.planted {
            gateway.points.plant(bug)?;
        }
        Ok(gateway)
    }

    /// The bug that the program is to have.
    pub(crate) fn planted(&self) -> Option<&'static str> {
        self.planted
    }

    /// A gateway that runs.
    pub(crate) fn gateway(&self, limits: &str) -> Held<Gateway> {
        let mut gateway = self.prepare(limits)?;
        gateway.up()?;
        Ok(gateway)
    }

    /// Clients saw this silence.
    pub(crate) fn outage(&mut self, silence: Duration) {
        self.outages.push(silence);
    }

    /// What the row's number does not tell was seen to hold, so many times.
    pub(crate) fn saw(&mut self, what: impl Into<String>, times: u32) {
        *self.seen.entry(what.into()).or_default() += times;
    }

    /// What was measured, for whoever reads the table.
    pub(crate) fn figure(&mut self, figure: impl Into<String>) {
        self.figures.push(figure.into());
    }

    /// Whether times are judged as the requirements state them; else as a busy machine allows.
    pub(crate) fn is_strict(&self) -> bool {
        self.outage_bound <= Duration::from_secs(1)
    }

    /// They saw these, and none may be longer than the bound.
    pub(crate) fn judge_outages(&mut self, silences: Vec<Duration>) -> Held {
        let longest = silences.iter().max().copied().unwrap_or_default();
        self.outages.extend(silences);
        if longest > self.outage_bound {
            return Err(Broken::new(format!("clients were without an answer for {longest:?}")));
        }
        Ok(())
    }
}

/// Runs one row to its end.
pub fn row(row: &Row, program: &Program, options: &Options) -> Outcome {
    let began = now();
    let mut outcome = Outcome::new(row);
    outcome.skipped = row.needs.iter().find_map(|need| need.is_missing());
    let wanted = options.trials.unwrap_or(row.few);
    let mut seed = options.seed;
    while outcome.skipped.is_none()
        && outcome.trials < wanted
        && outcome.failures.len() < options.most_failures
    {
        let mut session = Session {
            program,
            chance: Chance::new(seed, row.name),
            seed,
            at_most: (wanted - outcome.trials).max(1),
            outage_bound: options.outage_bound,
            hold: options.hold,
            flood_bytes: options.flood_bytes,
            planted: options.planted,
            keep: options.keep,
            outages: Vec::new(),
            seen: BTreeMap::new(),
            figures: Vec::new(),
        };
        let held = interrupt::check().and_then(|()| (row.session)(&mut session));
        match held {
            Ok(trials) => outcome.trials += trials.max(1),
            Err(error) => {
                outcome.trials += 1;
                outcome.failures.push(Failure { seed, why: error.to_string() });
            }
        }
        outcome.outages.append(&mut session.outages);
        outcome.figures.append(&mut session.figures);
        for (what, times) in session.seen {
            *outcome.seen.entry(what).or_default() += times;
        }
        seed = seed.wrapping_add(1);
    }
    outcome.took = elapsed(began);
    outcome
}

fn elapsed(began: Instant) -> Duration {
    now().duration_since(began)
}
