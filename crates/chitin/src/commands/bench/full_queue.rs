//! `chitin bench full-queue`: ten times the tasks that can be run are handed in, with the queue at its own bound. As many
//! are to be run as without it, and the others told at once.
//!
//! Tasks wait more than they compute, as tools that call something do: what can be run is bounded by the places to run,
//! and not by the processors that the load takes for itself.

use super::commands::{Mark, mark, wait};
use super::figures::{Goal, Latency, Pair, Refused, Report, Sample, ratio};
use super::load::{self, count};
use super::overload::{refusals, take_errors};
use super::own::Own;
use super::{Plan, bulk, memory, submit};
use crate::failure::Failure;

/// Twenty of them at a time are some two hundred a second.
const TASK: &str = r#"{"command":["/bin/sleep","0.1"]}"#;
/// As many times the rate.
const TIMES: f64 = 10.0;
/// Where hardly anything was run, as in a moment on a busy machine, so many a second.
const LEAST: f64 = 50.0;
/// Enough that nobody waits for a connection.
const CLIENTS: usize = 64;
/// So many tasks are queued at once.
const PIECE: u64 = 500;

/// Measures.
pub(super) fn measure(plan: &Plan) -> Result<Report, Failure> {
    let clients = plan.clients.unwrap_or(CLIENTS);
    let pace = plan.pace();
    let own = Own::start_with(&plan.dir, &[])?;
    fill(plan, &own)?;
    wait(plan, &own, pace.warmup)?;
    let before = run(plan, &own)?;
    fill(plan, &own)?;
    let watch = memory::Watch::begin(own.pid())?;
    let scripts = submit::floods(own.target(), clients, TASK);
    let from = mark(&own)?;
    let outcome =
        load::run(own.target().address, scripts, plan.paced((before * TIMES).max(LEAST)), &plan.stop)?;
    let to = mark(&own)?;
    let most_bytes = watch.most_bytes();
    let after = run(plan, &own)?;
    drop(own);

    let peak = Pair { before: Sample::rate(before), after: Sample::rate(after) };
    let refused = Refused::of(&outcome.refused, plan.seconds);
    let mut report = Report {
        bench: "full-queue",
        unit: "tasks run",
        clients,
        seconds: plan.seconds,
        rate: rate(&from, &to, outcome.done),
        latency: (!outcome.latency.is_empty()).then(|| Latency::of(&outcome.latency)),
        refused: Some(refused),
        references: vec![("peak", peak)],
        memory: vec![("gateway_most_bytes", most_bytes)],
        ..Report::default()
    };
    let sent = outcome.rate + refused.rate;
    take_errors(&mut report, [outcome]);
    report.check("times the peak's rate was sent", ratio(sent, peak.mean().rate), None);
    report.ratio(
        "peak",
        ratio(report.rate, peak.mean().rate),
        "of the peak's rate",
        Some(Goal::AtLeast(0.9)),
    );
    refusals(&mut report, refused);
    report.check("MB of memory at most", count(most_bytes) / 1e6, Some(Goal::AtMost(500.0)));
    Ok(report)
}

/// Queues tasks until hardly any more may be.
fn fill(plan: &Plan, own: &Own) -> Result<(), Failure> {
    let pieces = bulk::body(TASK, u32::try_from(PIECE).unwrap_or(0));
    loop {
        let Mark { queued, limit, .. } = mark(own)?;
        if queued + PIECE > limit {
            return Ok(());
        }
        own.call("POST", "/v1/tasks/bulk", &pieces)?;
        plan.stop.check()?;
    }
}

/// Tasks that are run a second, with nothing beside.
fn run(plan: &Plan, own: &Own) -> Result<f64, Failure> {
    let from = mark(own)?;
    let to = wait(plan, own, plan.pace().span)?;
    Ok(rate(&from, &to, 0))
}

/// Tasks that ended a second between two looks, while so many were added.
fn rate(from: &Mark, to: &Mark, added: u64) -> f64 {
    let ended = from.open.saturating_add(added).saturating_sub(to.open);
    ratio(count(ended), to.at.saturating_duration_since(from.at).as_secs_f64())
}
