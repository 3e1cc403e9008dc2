//! `chitin bench bulk`: a thousand tasks a submission, against SQLite alone with the same rows in transactions of a
//! thousand.

use super::figures::{Goal, Latency, Pair, Report, ratio};
use super::load::{self, Script, Turn};
use super::own::Own;
use super::submit::{TASK, accepted};
use super::{Plan, memory, sqlite};
use crate::failure::Failure;

/// Tasks in one submission; as many as the gateway takes.
pub(super) const TASKS: u32 = 1_000;

/// So many of one task, as a body.
pub(super) fn body(task: &str, tasks: u32) -> Vec<u8> {
    let tasks: Vec<&str> = (0..tasks).map(|_| task).collect();
    format!("{{\"tasks\":[{}]}}", tasks.join(",")).into_bytes()
}

/// Sends the same body again and again.
struct Bulk(Vec<u8>);

impl Script for Bulk {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn answer(&mut self, status: u16, body: &[u8]) -> Turn {
        accepted(status, body)
    }
}

/// Measures.
pub(super) fn measure(plan: &Plan) -> Result<Report, Failure> {
    let clients = plan.clients.unwrap_or(2);
    let before = sqlite::rate(plan, TASKS)?;
    let own = Own::start(&plan.dir, &[])?;
    own.pause()?;
    let request = own.target().request("POST", "/v1/tasks/bulk", "", &body(TASK, TASKS));
    let scripts = (0..clients).map(|_| Bulk(request.clone())).collect();
    let outcome = load::run(own.target().address, scripts, plan.pace(), &plan.stop)?;
    let after = memory::private_bytes(own.pid())?;
    drop(own);
    let sqlite = Pair { before, after: sqlite::rate(plan, TASKS)? };
    let mut report = Report {
        bench: "bulk",
        unit: "tasks",
        clients,
        seconds: plan.seconds,
        rate: outcome.rate * f64::from(TASKS),
        latency: Some(Latency::of(&outcome.latency)),
        references: vec![("sqlite", sqlite)],
        memory: vec![("gateway_after_bytes", after)],
        errors: outcome.errors,
        first_error: outcome.first_error,
        ..Report::default()
    };
    let value = ratio(report.rate, sqlite.mean().rate);
    report.ratio("sqlite", value, "of SQLite's own rate", Some(Goal::AtLeast(0.5)));
    Ok(report)
}
