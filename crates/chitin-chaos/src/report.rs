//! What came out: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::rows::Row;

/// A session in which something did not hold.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Replays it.
    pub seed: u64,
    /// What did not hold.
    pub why: String,
}

/// What came of a row.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The row.
    pub name: &'static str,
    /// Its fault.
    pub fault: &'static str,
    /// Faults that were made.
    pub trials: u32,
    /// Those after which something did not hold.
    pub failures: Vec<Failure>,
    /// Silences that clients saw, one for each fault under load.
    pub outages: Vec<Duration>,
    /// What else was seen to hold, and how often.
    pub seen: BTreeMap<String, u32>,
    /// What was measured, a sentence each.
    pub figures: Vec<String>,
    /// Why it was not run at all.
    pub skipped: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    pub(crate) fn new(row: &Row) -> Self {
        Self {
            name: row.name,
            fault: row.fault,
            trials: 0,
            failures: Vec::new(),
            outages: Vec::new(),
            seen: BTreeMap::new(),
            figures: Vec::new(),
            skipped: None,
            took: Duration::ZERO,
        }
    }

    /// The part of the outages, in hundredths, that was no longer than this.
    fn outage(&self, hundredths: usize) -> Option<Duration> {
        let mut sorted = self.outages.clone();
        sorted.sort();
        let last = sorted.len().checked_sub(1)?;
        sorted.get((sorted.len() * hundredths / 100).min(last)).copied()
    }

    /// With no failure in n trials, the rate is below 3/n with 95 % confidence.
    fn bound(&self) -> String {
        if self.failures.is_empty() && self.trials > 0 {
            format!("< {:.2} %", 300.0 / f64::from(self.trials))
        } else {
            "-".to_owned()
        }
    }
}

fn ms(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.as_millis().to_string())
}

/// The table, and below it what else was seen, what went wrong and how to see it again.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<4} {:<52} {:>7} {:>8} {:>9} {:>24} {:>7}\n",
        "row", "fault", "trials", "failures", "bound", "outage p50/p99/worst ms", "took s"
    );
    text.extend(outcomes.iter().map(line));
    for outcome in outcomes {
        for (what, times) in &outcome.seen {
            _ = write!(text, "\nrow {}: {times} {what}\n", outcome.name);
        }
        for figure in &outcome.figures {
            _ = write!(text, "\nrow {}: {figure}\n", outcome.name);
        }
        for Failure { seed, why } in &outcome.failures {
            _ = write!(
                text,
                "\nrow {}, seed {seed}: {why}\nagain: cargo run -p chitin-chaos -- --rows {} --trials {} --seed {seed}\n",
                outcome.name,
                outcome.name,
                outcome.trials.clamp(1, 30)
            );
        }
    }
    text
}

/// A row's line of the table.
#[must_use]
pub fn line(outcome: &Outcome) -> String {
    if let Some(why) = &outcome.skipped {
        return format!("{:<4} {:<52} skipped: {why}\n", outcome.name, outcome.fault);
    }
    let outages = [50, 99, 100].map(|hundredths| ms(outcome.outage(hundredths))).join("/");
    format!(
        "{:<4} {:<52} {:>7} {:>8} {:>9} {:>24} {:>7.1}\n",
        outcome.name,
        outcome.fault,
        outcome.trials,
        outcome.failures.len(),
        outcome.bound(),
        outages,
        outcome.took.as_secs_f64()
    )
}

/// The same as JSON.
#[must_use]
pub fn json(outcomes: &[Outcome]) -> Value {
    let row = |outcome: &Outcome| {
        let ms = |hundredths| outcome.outage(hundredths).map(|time| time.as_secs_f64() * 1_000.0);
        json!({
            "row": outcome.name,
            "fault": outcome.fault,
            "trials": outcome.trials,
            "failures": outcome.failures.iter().map(|failure| json!({"seed": failure.seed, "why": failure.why})).collect::<Vec<_>>(),
            "outage_ms": {"p50": ms(50), "p99": ms(99), "worst": ms(100)},
            "seen": outcome.seen,
            "figures": outcome.figures,
            "skipped": outcome.skipped,
            "took_s": outcome.took.as_secs_f64(),
        })
    };
    Value::Array(outcomes.iter().map(row).collect())
}
