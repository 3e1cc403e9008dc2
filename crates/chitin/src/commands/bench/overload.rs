//! `chitin bench overload`: ten times as many clients as already get the most out of a gateway, each back at once
//! whatever it was told. What is left of the most, how soon the others are told, what it costs in memory, and how long
//! it takes until somebody who comes afterwards notices nothing.
//!
//! Ten times the requests a second cannot be sent here: whoever sends them shares the processors with the gateway, and
//! a refusal costs them nearly what an acceptance does. How many were sent is said.

use std::time::Duration;

use super::figures::{Goal, Latency, Pair, Refused, Report, Sample, ratio};
use super::load::{self, Outcome, count};
use super::own::Own;
use super::probe::{self, Probe};
use super::submit::{self, TASK};
use super::{Plan, echo, memory};
use crate::clock;
use crate::failure::Failure;

/// As many times the clients.
const TIMES: usize = 10;
/// Clients that get nearly the most out of a gateway.
const ENOUGH: usize = 100;
/// More connections a gateway does not take over TCP, by its own default.
const MOST: usize = 3_500;
/// How long whoever comes afterwards is watched: longer than what is to be reached.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// Measures.
pub(super) fn measure(plan: &Plan) -> Result<Report, Failure> {
    let enough = plan.clients.unwrap_or(ENOUGH);
    let many = enough * TIMES;
    if many > MOST {
        return Err(Failure::usage(format!(
            "--clients: at most {} here, of which ten times as many come",
            MOST / TIMES
        )));
    }
    let echo = |clients| echo::measure(clients, plan.pace(), plan.keys, &plan.stop);
    let echo = ratio(echo(many)?.rate, echo(enough)?.rate);
    let own = Own::start(&plan.dir, &[])?;
    own.pause()?;
    let quiet = Probe::alone(&own, plan.pace().span, &plan.stop)?;
    let quiet = probe::latency(&quiet, clock::now() - plan.pace().span)?;
    let flood = |clients| {
        let scripts = submit::floods(own.target(), clients, TASK);
        load::run(own.target().address, scripts, plan.pace(), &plan.stop)
    };
    let before = flood(enough)?;
    let watch = memory::Watch::begin(own.pid())?;
    let outcome = flood(many)?;
    let gone = clock::now();
    let most_bytes = watch.most_bytes();
    let sent = Probe::alone(&own, AFTERWARDS, &plan.stop)?;
    let normal = Duration::from_nanos(quiet.value_at_quantile(0.99));
    let recovered = probe::recovered(&sent, gone, normal);
    let after = flood(enough)?;
    drop(own);

    let peak = Pair { before: Sample::of(&before), after: Sample::of(&after) };
    let refused = Refused::of(&outcome.refused, plan.seconds);
    let mut report = Report {
        bench: "overload",
        unit: "submissions",
        clients: many,
        seconds: plan.seconds,
        rate: outcome.rate,
        latency: Some(Latency::of(&outcome.latency)),
        refused: Some(refused),
        references: vec![("peak", peak)],
        memory: vec![("gateway_most_bytes", most_bytes)],
        ..Report::default()
    };
    take_errors(&mut report, [before, outcome, after]);
    let offered = ratio(report.rate + refused.rate, peak.mean().rate);
    report.check("times the peak's rate was sent", offered, None);
    report.ratio("echo", echo, "of its rate is left to the bare echo with ten times the clients", None);
    report.ratio(
        "peak",
        ratio(report.rate, peak.mean().rate),
        "of the peak's rate",
        Some(Goal::AtLeast(0.9)),
    );
    refusals(&mut report, refused);
    report.check("MB of memory at most", count(most_bytes) / 1e6, Some(Goal::AtMost(500.0)));
    report.check("milliseconds, p99 of one client alone before", Latency::of(&quiet).p99_ms, None);
    let recovered_s = recovered.map_or(f64::INFINITY, |time| time.as_secs_f64());
    report.check(
        "seconds until one client alone is served like that again",
        recovered_s,
        Some(Goal::AtMost(1.0)),
    );
    Ok(report)
}

/// How soon those are told that are turned away, if any are.
pub(super) fn refusals(report: &mut Report, refused: Refused) {
    if let Some(latency) = refused.latency {
        report.check("milliseconds, p99 until a refusal is told", latency.p99_ms, Some(Goal::AtMost(50.0)));
    }
}

/// What is neither an acceptance nor a refusal in good order.
pub(super) fn take_errors<const N: usize>(report: &mut Report, outcomes: [Outcome; N]) {
    for outcome in outcomes {
        report.errors += outcome.errors;
        report.first_error = report.first_error.take().or(outcome.first_error);
    }
}
