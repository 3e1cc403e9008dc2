//! Row 25: the wall clock steps, forwards and backwards, with and without a restart of the gateway.

use serde_json::{Value, json};

use super::Row;
use crate::Held;
use crate::broken::holds;
use crate::check::{self, Ledger, SAY};
use crate::clock::sleep_ms;
use crate::gateway::Gateway;
use crate::run::Session;

pub(super) const CLOCK: Row =
    Row { name: "25", fault: "clock an hour on or back", needs: &[], few: 3, session: clock };

const HOUR_MS: i64 = 3_600_000;

fn with(gateway: &Gateway, key: &str, script: &str, more: &[(&str, Value)]) -> Value {
    let mut body = gateway.work(key, script);
    if let Some(fields) = body.as_object_mut() {
        fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    }
    body
}

fn clock(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("")?;
    let mut ledger = Ledger::default();
    let mut submit = |gateway: &Gateway, key: &str, body: &Value| -> Held<String> {
        let id = gateway.submit(key, body)?;
        ledger.accepted(key.to_owned(), id.clone())?;
        Ok(id)
    };
    // What an hour on the wall must not bring: a start, an expiry, a timeout.
    let far = json!(1_800.0);
    let delayed = submit(&gateway, "delayed", &with(&gateway, "delayed", SAY, &[("delay_s", far.clone())]))?;
    let queue = ("queue", json!("held"));
    let makes_queue = with(&gateway, "first", SAY, &[queue.clone(), ("delay_s", far.clone())]);
    let first = submit(&gateway, "first", &makes_queue)?;
    gateway.pause_queue("held")?;
    let waiting =
        submit(&gateway, "waiting", &with(&gateway, "waiting", SAY, &[queue, ("ttl_s", far.clone())]))?;
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done; {SAY}", gateway.home.join("go").display());
    let running = submit(&gateway, "running", &with(&gateway, "running", &script, &[("timeout_s", far)]))?;
    gateway.until_begun("running", 1)?;
    let trials = session.at_most.min(20);
    for trial in 1..=trials {
        // And a retry must neither come at once nor be put off by an hour.
        let key = format!("retried-{trial}");
        let retry = ("retry", json!({"max": 1, "backoff_s": [1.0], "jitter": 0}));
        let script = format!("[ $CHITIN_ATTEMPT = 2 ] || exit 1; {SAY}");
        let retried = submit(&gateway, &key, &with(&gateway, &key, &script, &[retry]))?;
        gateway.until_state(&retried, "scheduled")?;
        let step = if session.chance.one_in(2) { HOUR_MS } else { -HOUR_MS };
        gateway.points.say("wall_step_ms", &step.to_string())?;
        if session.chance.one_in(2) {
            gateway.kill()?;
            gateway.back()?;
        }
        sleep_ms(session.chance.between(50, 300));
        let task = gateway.task(&retried)?;
        holds!(task.state == "scheduled", "a clock that stepped by {step} ms brought a retry: {task:?}");
        let task = gateway.ended(&retried)?;
        holds!(task.outcomes() == ["failed", "succeeded"], "after a step by {step} ms: {task:?}");
        for (id, state) in [(&delayed, "scheduled"), (&waiting, "queued"), (&running, "running")] {
            let task = gateway.task(id)?;
            holds!(task.state == state && task.attempt <= 1, "after a step by {step} ms: {task:?}");
        }
    }
    std::fs::write(gateway.home.join("go"), "").map_err(|error| crate::Broken::new(error.to_string()))?;
    holds!(gateway.ended(&running)?.outcomes() == ["succeeded"], "a task that ran through all of it");
    for id in [&delayed, &first] {
        gateway.asked("POST", &format!("/v1/tasks/{id}/cancel"), None, 200)?;
    }
    check::everything(&mut gateway, &ledger)?;
    Ok(trials)
}
