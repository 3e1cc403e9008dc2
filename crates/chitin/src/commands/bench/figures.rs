//! What a measurement found, as numbers: percentiles, ratios, targets, and the one JSON object that holds them.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::load::Outcome;

/// Percentiles of how long operations took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

impl Latency {
    /// Of nanoseconds.
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| millis(histogram.value_at_quantile(quantile));
        Self {
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: millis(histogram.max()),
        }
    }

    pub(super) fn json(self) -> Value {
        json!({
            "p50": round(self.p50_ms), "p90": round(self.p90_ms), "p99": round(self.p99_ms),
            "p999": round(self.p999_ms), "max": round(self.max_ms),
        })
    }
}

/// Operations that were turned away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Refused {
    /// A second.
    pub(super) rate: f64,
    /// How long whoever was turned away waited to hear it; none: nobody was.
    pub(super) latency: Option<Latency>,
}

impl Refused {
    /// Of so many seconds.
    pub(super) fn of(histogram: &Histogram<u64>, seconds: f64) -> Self {
        let rate = ratio(super::load::count(histogram.len()), seconds);
        Self { rate, latency: (!histogram.is_empty()).then(|| Latency::of(histogram)) }
    }

    fn json(self) -> Value {
        json!({"rate": round(self.rate), "latency_ms": self.latency.map(Latency::json)})
    }
}

/// A reference, before and after what it is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Operations a second.
    pub(super) rate: f64,
    /// Half of them took at most this; none where only the rate says something.
    pub(super) p50_ms: Option<f64>,
}

impl Sample {
    /// Only a rate.
    pub(super) fn rate(rate: f64) -> Self {
        Self { rate, p50_ms: None }
    }

    /// Of a load.
    pub(super) fn of(outcome: &Outcome) -> Self {
        Self { rate: outcome.rate, p50_ms: Some(Latency::of(&outcome.latency).p50_ms) }
    }
}

/// The same reference twice: other work on the machine shows as a difference between the two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pair {
    pub(super) before: Sample,
    pub(super) after: Sample,
}

impl Pair {
    /// What is compared with: the mean of both.
    pub(super) fn mean(self) -> Sample {
        let Self { before, after } = self;
        let p50_ms = before.p50_ms.zip(after.p50_ms).map(|(before, after)| f64::midpoint(before, after));
        Sample { rate: f64::midpoint(before.rate, after.rate), p50_ms }
    }

    pub(super) fn json(self) -> Value {
        let sample = |sample: Sample| json!({"rate": round(sample.rate), "p50_ms": sample.p50_ms.map(round)});
        let Value::Object(mut object) = sample(self.mean()) else { return Value::Null };
        object.insert("before".to_owned(), sample(self.before));
        object.insert("after".to_owned(), sample(self.after));
        Value::Object(object)
    }
}

/// What is to be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

impl Goal {
    /// Whether this reaches it.
    pub(super) fn is_reached(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

/// A figure that is compared with a goal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Check {
    /// What it is, for people.
    pub(super) what: String,
    /// What it is.
    pub(super) value: f64,
    /// What it should be; none: only shown.
    pub(super) goal: Option<Goal>,
}

impl Check {
    fn json(&self) -> Value {
        let goal = match self.goal {
            None => Value::Null,
            Some(Goal::AtLeast(least)) => json!({"at_least": least}),
            Some(Goal::AtMost(most)) => json!({"at_most": most}),
        };
        json!({"what": self.what, "value": round(self.value), "goal": goal,
            "reached": self.goal.map(|goal| goal.is_reached(self.value))})
    }
}

/// One measurement, whole.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) bench: &'static str,
    /// What a second of it holds: `submissions`, `tasks`.
    pub(super) unit: &'static str,
    pub(super) clients: usize,
    pub(super) seconds: f64,
    pub(super) rate: f64,
    pub(super) latency: Option<Latency>,
    /// Only where refusals are no failures.
    pub(super) refused: Option<Refused>,
    pub(super) references: Vec<(&'static str, Pair)>,
    pub(super) ratios: Vec<(&'static str, f64)>,
    pub(super) checks: Vec<Check>,
    /// Private bytes, by whose.
    pub(super) memory: Vec<(&'static str, u64)>,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
}

impl Report {
    /// Adds a ratio, and what it should be.
    pub(super) fn ratio(&mut self, key: &'static str, value: f64, what: &str, goal: Option<Goal>) {
        self.ratios.push((key, value));
        self.check(what, value, goal);
    }

    /// Adds a figure that is no ratio.
    pub(super) fn check(&mut self, what: &str, value: f64, goal: Option<Goal>) {
        self.checks.push(Check { what: what.to_owned(), value, goal });
    }

    /// The object that `--json` prints.
    pub(super) fn json(&self) -> Value {
        let map = |pairs: Vec<(&'static str, Value)>| -> Value {
            Value::Object(
                pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>(),
            )
        };
        json!({
            "bench": self.bench,
            "clients": self.clients,
            "seconds": self.seconds,
            "rate": round(self.rate),
            "latency_ms": self.latency.map(Latency::json),
            "refused": self.refused.map(Refused::json),
            "references": map(self.references.iter().map(|(key, pair)| (*key, pair.json())).collect()),
            "ratios": map(self.ratios.iter().map(|(key, ratio)| (*key, json!(round(*ratio)))).collect()),
            "targets": self.checks.iter().map(Check::json).collect::<Vec<_>>(),
            "memory": map(self.memory.iter().map(|(key, bytes)| (*key, json!(bytes))).collect()),
            "errors": self.errors,
            "first_error": self.first_error,
        })
    }
}

/// A ratio; against nothing it is nothing.
pub(super) fn ratio(value: f64, reference: f64) -> f64 {
    if reference > 0.0 { value / reference } else { 0.0 }
}

fn millis(nanos: u64) -> f64 {
    super::load::count(nanos) / 1e6
}

/// Four digits behind the point: more is noise.
fn round(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::load::histogram;

    #[test]
    fn percentiles_are_of_all_that_was_counted() {
        let mut latency = histogram().unwrap();
        for micros in 1..=1_000_u64 {
            latency.saturating_record(micros * 1_000);
        }
        let latency = Latency::of(&latency);
        let near = |value: f64, wanted: f64| (value - wanted).abs() < wanted / 500.0;
        assert!(near(latency.p50_ms, 0.5) && near(latency.p90_ms, 0.9), "{latency:?}");
        assert!(near(latency.p99_ms, 0.99) && near(latency.p999_ms, 0.999), "{latency:?}");
        assert!(near(latency.max_ms, 1.0), "{latency:?}");
    }

    #[test]
    fn a_reference_is_the_mean_of_both_sides() {
        let pair = Pair {
            before: Sample { rate: 100.0, p50_ms: Some(1.0) },
            after: Sample { rate: 300.0, p50_ms: Some(2.0) },
        };
        assert_eq!(pair.mean(), Sample { rate: 200.0, p50_ms: Some(1.5) });
        assert_eq!(ratio(50.0, pair.mean().rate), 0.25);
        assert_eq!(ratio(50.0, 0.0), 0.0);
    }

    #[test]
    fn a_goal_is_reached_at_its_bound() {
        assert!(Goal::AtLeast(0.4).is_reached(0.4) && !Goal::AtLeast(0.4).is_reached(0.399));
        assert!(Goal::AtMost(25.0).is_reached(25.0) && !Goal::AtMost(25.0).is_reached(25.1));
    }

    #[test]
    fn the_object_has_every_part() {
        let both = Sample::rate(10.0);
        let mut report = Report {
            bench: "bulk",
            unit: "tasks",
            clients: 2,
            seconds: 5.0,
            rate: 6.00004,
            references: vec![("sqlite", Pair { before: both, after: both })],
            memory: vec![("gateway_after_bytes", 7)],
            ..Report::default()
        };
        report.ratio("sqlite", 0.6, "of SQLite's own rate", Some(Goal::AtLeast(0.5)));
        let reference = json!({"rate": 10.0, "p50_ms": null});
        let mut sides = reference.clone();
        sides["before"] = reference.clone();
        sides["after"] = reference;
        let goal = json!({"at_least": 0.5});
        assert_eq!(
            report.json(),
            json!({
                "bench": "bulk", "clients": 2, "seconds": 5.0, "rate": 6.0, "latency_ms": null,
                "refused": null,
                "references": {"sqlite": sides}, "ratios": {"sqlite": 0.6},
                "targets": [{"what": "of SQLite's own rate", "value": 0.6, "goal": goal, "reached": true}],
                "memory": {"gateway_after_bytes": 7}, "errors": 0, "first_error": null,
            })
        );
    }
}
