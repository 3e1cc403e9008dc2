//! `chitin bench fairness`: what a client meets that asks for little, alone and beside another one that asks for all it
//! can get (R2.6). The one comes over the socket, the other over TCP with the token: two clients to the gateway.

use super::figures::{Goal, Latency, Pair, Report, Sample, ratio};
use super::load;
use super::own::Own;
use super::probe::{self, Probe, Sent};
use super::submit::{self, TASK};
use super::{Plan, memory};
use crate::clock;
use crate::failure::Failure;

/// Connections of the flood.
const CLIENTS: usize = 64;

/// Measures.
pub(super) fn measure(plan: &Plan) -> Result<Report, Failure> {
    let (clients, pace) = (plan.clients.unwrap_or(CLIENTS), plan.pace());
    let own = Own::start(&plan.dir, &[])?;
    own.pause()?;
    let alone = || {
        let from = clock::now() + pace.warmup;
        let sent = Probe::alone(&own, pace.warmup + pace.span, &plan.stop)?;
        Ok::<_, Failure>((probe::latency(&sent, from)?, sent))
    };
    let (before, sent_before) = alone()?;
    let from = clock::now() + pace.warmup;
    let beside = Probe::begin(&own)?;
    let scripts = submit::floods(own.target(), clients, TASK);
    let outcome = load::run(own.target().address, scripts, pace, &plan.stop)?;
    let sent = beside.end()?;
    let latency = Latency::of(&probe::latency(&sent, from)?);
    let (after, sent_after) = alone()?;
    let bytes = memory::private_bytes(own.pid())?;
    drop(own);

    let sample = |histogram: &_| {
        let latency = Latency::of(histogram);
        Sample { rate: 0.0, p50_ms: Some(latency.p50_ms) }
    };
    let quiet = Pair { before: sample(&before), after: sample(&after) };
    let quiet_ms = f64::midpoint(Latency::of(&before).p99_ms, Latency::of(&after).p99_ms);
    let mut report = Report {
        bench: "fairness",
        unit: "submissions of the flood",
        clients,
        seconds: plan.seconds,
        rate: outcome.rate,
        latency: Some(latency),
        references: vec![("quiet", quiet)],
        memory: vec![("gateway_after_bytes", bytes)],
        errors: outcome.errors,
        first_error: outcome.first_error,
        ..Report::default()
    };
    let refused = |sent: &&Sent| sent.status != 202;
    for sent in [&sent_before, &sent, &sent_after].into_iter().flatten().filter(refused) {
        report.errors += 1;
        report.first_error.get_or_insert_with(|| format!("the client beside the flood: {}", sent.status));
    }
    report.check("milliseconds, p99 of a client alone", quiet_ms, None);
    report.check("milliseconds, p99 beside the flood", latency.p99_ms, None);
    let what = "times the p99 of a client alone";
    report.ratio("quiet", ratio(latency.p99_ms, quiet_ms), what, Some(Goal::AtMost(2.0)));
    Ok(report)
}
