//! `chitin bench commands`: `/bin/true` as a task, two at a time, against the same started with nothing around it. At
//! the end every task that was begun must have succeeded, each at its first attempt.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::figures::{Goal, Pair, Report, ratio};
use super::load::count;
use super::own::Own;
use super::{Plan, bulk, memory, spawn};
use crate::clock;
use crate::failure::Failure;

const TASK: &str = r#"{"command":["/bin/true"]}"#;
/// How often the gateway is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long what runs may take to end.
const END: Duration = Duration::from_secs(60);

/// Measures.
pub(super) fn measure(plan: &Plan) -> Result<Report, Failure> {
    let before = spawn::rate(plan)?;
    let pace = plan.pace();
    let own = Own::start(&plan.dir, &[("running_tasks", 2)])?;
    own.pause()?;
    // More than can be run in the time.
    let whole = (pace.warmup + pace.span).as_secs_f64();
    let mut tasks: u64 = 0;
    while count(tasks) < before.rate * whole {
        own.call("POST", "/v1/tasks/bulk", &bulk::body(TASK, bulk::TASKS))?;
        tasks += u64::from(bulk::TASKS);
        plan.stop.check()?;
    }
    own.resume()?;
    let from = wait(plan, &own, pace.warmup)?;
    let to = wait(plan, &own, pace.span)?;
    own.pause()?;
    let left = settled(plan, &own)?;
    let (errors, first_error) = verify(&own, tasks - left.min(tasks))?;
    let after = memory::private_bytes(own.pid())?;
    drop(own);
    let spawn = Pair { before, after: spawn::rate(plan)? };
    let seconds = to.at.saturating_duration_since(from.at).as_secs_f64();
    let mut report = Report {
        bench: "commands",
        unit: "commands",
        clients: 1,
        seconds: plan.seconds,
        rate: ratio(count(from.open.saturating_sub(to.open)), seconds),
        references: vec![("spawn", spawn)],
        memory: vec![("gateway_after_bytes", after)],
        errors,
        first_error,
        ..Report::default()
    };
    let value = ratio(report.rate, spawn.mean().rate);
    report.ratio("spawn", value, "of posix_spawn's rate on two threads", Some(Goal::AtLeast(0.25)));
    Ok(report)
}

/// How far the gateway is.
pub(super) struct Mark {
    pub(super) at: Instant,
    pub(super) queued: u64,
    pub(super) limit: u64,
    running: u64,
    pub(super) open: u64,
}

pub(super) fn mark(own: &Own) -> Result<Mark, Failure> {
    let status = own.call("GET", "/v1/status", b"")?;
    let figure = |key: &str| {
        let value = status.pointer(&format!("/layers/queue/{key}")).and_then(Value::as_u64);
        value.ok_or_else(|| Failure::other(format!("the gateway's status has no `{key}`")))
    };
    let (queued, limit, running) = (figure("queued")?, figure("limit")?, figure("running")?);
    Ok(Mark { at: clock::now(), queued, limit, running, open: queued.saturating_add(running) })
}

/// Lets the gateway work for so long, or until nothing is left.
pub(super) fn wait(plan: &Plan, own: &Own, span: Duration) -> Result<Mark, Failure> {
    let begun = clock::now();
    loop {
        let left = span.saturating_sub(begun.elapsed());
        thread::sleep(left.min(LOOK_EVERY));
        plan.stop.check()?;
        let mark = mark(own)?;
        if mark.open == 0 || begun.elapsed() >= span {
            return Ok(mark);
        }
    }
}

/// Waits until nothing runs; how many were never begun.
fn settled(plan: &Plan, own: &Own) -> Result<u64, Failure> {
    let begun = clock::now();
    loop {
        let mark = mark(own)?;
        if mark.running == 0 {
            return Ok(mark.queued);
        }
        if begun.elapsed() > END {
            return Err(Failure::other(format!("{} tasks do not end", mark.running)));
        }
        plan.stop.check()?;
        thread::sleep(LOOK_EVERY);
    }
}

/// Counts what did not succeed at once.
fn verify(own: &Own, begun: u64) -> Result<(u64, Option<String>), Failure> {
    let (mut good, mut again) = (0_u64, 0_u64);
    let mut cursor = String::new();
    loop {
        let page = own.call("GET", &format!("/v1/tasks?state=succeeded&limit=1000{cursor}"), b"")?;
        for task in page.get("tasks").and_then(Value::as_array).into_iter().flatten() {
            let first = task.get("attempt").and_then(Value::as_u64) == Some(1);
            *(if first { &mut good } else { &mut again }) += 1;
        }
        match page.get("next_cursor").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let errors = begun.abs_diff(good);
    let why = format!("of {begun} tasks begun {good} succeeded at once, {again} later");
    Ok((errors, (errors > 0).then_some(why)))
}
