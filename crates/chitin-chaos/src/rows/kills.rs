//! Rows 1, 6, 18 and 22: the gateway dies, by a signal or by itself, and what runs does not notice.

use std::fs;

use serde_json::{Value, json};

use super::Row;
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::{now, sleep_ms, until};
use crate::gateway::Gateway;
use crate::load::{Load, Plan};
use crate::processes::{self, Process};
use crate::run::Session;
use crate::{Broken, Held};

pub(super) const LOAD: Row = Row {
    name: "1",
    fault: "kill -9 of the gateway, 32 clients, 10,000 queued",
    needs: &[],
    few: 30,
    session: under_load,
};

pub(super) const ALL_BUT_SHIMS: Row =
    Row { name: "6", fault: "kill -9 of all but the shims", needs: &[], few: 3, session: all_but_shims };

pub(super) const PANIC: Row =
    Row { name: "18", fault: "panic in a request, in the writer", needs: &[], few: 2, session: panics };

pub(super) const FLOOD: Row =
    Row { name: "22", fault: "output while the gateway is dead", needs: &[], few: 2, session: flood };

/// Kills of one session: what is checked at its end grows with them.
const KILLS_A_SESSION: u32 = 50;

/// Counts aloud until it is told to stop, and ends in its own way.
pub(super) fn counter(gateway: &Gateway, key: &str) -> Value {
    let stop = gateway.home.join("stop");
    let script =
        format!("i=0; while [ ! -e {} ]; do echo $i; i=$((i+1)); sleep 0.1; done; exit 7", stop.display());
    let mut body = gateway.work(key, &script);
    if let Some(fields) = body.as_object_mut() {
        fields.insert("retry".to_owned(), json!({"max": 0}));
    }
    body
}

/// One attempt, every number in its order, its own exit code.
pub(super) fn counted(gateway: &Gateway, id: &str) -> Held {
    let task = gateway.ended(id)?;
    let code = task.attempts.first().and_then(|attempt| attempt.exit_code);
    holds!(task.outcomes() == ["failed"] && code == Some(7), "a task that only counts: {task:?}");
    let said = gateway.stdout(id)?;
    let lines = said.iter().filter(|byte| **byte == b'\n').count();
    let whole: String = (0..lines).map(|number| format!("{number}\n")).collect();
    holds!(said == whole.as_bytes() && lines > 0, "{id}: its output has a gap: {lines} lines");
    Ok(())
}

/// So many tasks that wait.
pub(super) fn fill(gateway: &Gateway, ledger: &mut Ledger, tasks: usize) -> Held {
    // A queue begins with its first task, and that one must not start.
    let first = json!({"command": ["true"], "queue": "held", "tags": ["first"], "delay_s": 3_600});
    ledger.accepted("first".to_owned(), gateway.submit("first", &first)?)?;
    gateway.pause_queue("held")?;
    for part in 0..tasks.div_ceil(1_000) {
        let keys: Vec<String> =
            (part * 1_000..tasks.min((part + 1) * 1_000)).map(|at| format!("queued-{at}")).collect();
        let task = |key: &String| json!({"command": ["true"], "queue": "held", "tags": [key]});
        let body = json!({"tasks": keys.iter().map(task).collect::<Vec<_>>()});
        let answer = gateway.asked("POST", "/v1/tasks/bulk", Some(&body), 202)?.json();
        let ids = answer.get("ids").and_then(Value::as_array).during("ids")?;
        for (key, id) in keys.into_iter().zip(ids) {
            ledger.accepted(key, id.as_str().unwrap_or_default().to_owned())?;
        }
    }
    Ok(())
}

fn under_load(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("waiting_tasks = 1000000\n")?;
    let mut ledger = Ledger::default();
    fill(&gateway, &mut ledger, 10_000)?;
    let mut counters = Vec::new();
    for number in 0..5 {
        let key = format!("counter-{number}");
        let id = gateway.submit(&key, &counter(&gateway, &key))?;
        gateway.until_begun(&key, 1)?;
        ledger.accepted(key, id.clone())?;
        counters.push(id);
    }
    let plan = Plan { clients: 32, think_ms: (10, 30), runs_one_in: 50, script: SAY, tcp: true };
    let load = Load::start(&gateway, &mut session.chance, "load", &plan)?;
    let (mut faults, kills) = (Vec::new(), session.at_most.min(KILLS_A_SESSION));
    for _ in 0..kills {
        // Fewer than twenty in ten seconds: more is a crash loop, which a supervisor slows down (row 8).
        sleep_ms(session.chance.between(300, 1_000));
        faults.push(now());
        gateway.kill()?;
        gateway.back()?;
    }
    sleep_ms(200);
    let record = load.stop(&mut ledger)?;
    fs::write(gateway.home.join("stop"), "").during("tell the counters")?;
    for id in &counters {
        counted(&gateway, id)?;
        session.saw(
            format!("running tasks outlived {kills} kills: one attempt, every line of output, own exit code"),
            1,
        );
    }
    record.nobody_refused()?;
    session.judge_outages(record.outages(&faults))?;
    check::everything(&mut gateway, &ledger)?;
    Ok(kills)
}

fn all_but_shims(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("")?;
    let mut ledger = Ledger::default();
    let trials = session.at_most.min(5);
    for trial in 1..=trials {
        let go = gateway.home.join(format!("go-{trial}"));
        let mut tasks = Vec::new();
        for number in 0..8_u32 {
            let key = format!("task-{trial}-{number}");
            let script = format!(
                "seq 1 {number}00; while [ ! -e {} ]; do sleep 0.02; done; seq {number}00 1000; exit {number}",
                go.display()
            );
            let mut body = gateway.work(&key, &script);
            if let Some(fields) = body.as_object_mut() {
                fields.insert("retry".to_owned(), json!({"max": 0}));
            }
            let id = gateway.submit(&key, &body)?;
            gateway.until_begun(&key, 1)?;
            ledger.sent.insert(key);
            tasks.push((id, number));
        }
        gateway.kill_all_but(|process| !process.is_program())?;
        // They end before the next gateway, while it starts, or after.
        let when = session.chance.between(0, 2);
        if when == 0 {
            fs::write(&go, "").during("let them go")?;
            until("all shims have left", || {
                Ok((!processes::of(&gateway.home).iter().any(Process::is_shim)).then_some(()))
            })?;
        } else if when == 1 {
            fs::write(&go, "").during("let them go")?;
        }
        gateway.up()?;
        fs::write(&go, "").during("let them go")?;
        for (id, number) in tasks {
            let task = gateway.ended(&id)?;
            let code = task.attempts.first().and_then(|attempt| attempt.exit_code);
            holds!(task.attempts.len() == 1 && code == Some(i64::from(number)), "exit {number}: {task:?}");
            let mut whole: String = (1..=number * 100).map(|line| format!("{line}\n")).collect();
            whole.extend((number * 100..=1_000).map(|line| format!("{line}\n")));
            holds!(gateway.stdout(&id)? == whole.as_bytes(), "{id}: its output is not whole");
        }
    }
    // These ended in their own ways, which was looked at; everything else is as always.
    gateway.down()?;
    check::nothing_left(&gateway)?;
    check::whole_database(&gateway)?;
    check::never_twice(&gateway)?;
    Ok(trials)
}

fn panics(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("")?;
    let mut ledger = Ledger::default();
    let trials = session.at_most.min(10);
    for trial in 1..=trials {
        let key = format!("task-{trial}");
        ledger.sent.insert(key.clone());
        let body = gateway.work(&key, SAY);
        if session.chance.one_in(2) {
            let before = gateway.process()?.pid;
            gateway.points.arm("submit.parsed", "panic@1")?;
            let answer = gateway.ask("POST", "/v1/tasks", Some(&body)).during("a request that panics")?;
            holds!(answer.status == 500, "a panic is answered {} {}", answer.status, answer.text());
            gateway.points.disarm("submit.parsed");
            holds!(gateway.process()?.pid == before, "a panic in a request ended the gateway");
        } else {
            let fault = now();
            gateway.points.arm("engine.steps", "panic@1")?;
            let before = gateway.process()?;
            match gateway.ask("POST", "/v1/tasks", Some(&body)) {
                Err(_) => {}
                Ok(answer) => return Err(Broken::new(format!("a writer that panicked: {}", answer.text()))),
            }
            holds!(before.dies(crate::clock::PATIENCE), "a gateway without a writer lives on");
            gateway.points.disarm("engine.steps");
            gateway.back()?;
            check::accepts_again(
                &gateway,
                &mut ledger,
                &format!("after-{trial}"),
                fault,
                session.outage_bound,
            )?;
        }
        let id = gateway.submit(&key, &body)?;
        ledger.accepted(key, id)?;
    }
    check::everything(&mut gateway, &ledger)?;
    Ok(trials)
}

fn flood(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("")?;
    let trials = session.at_most.min(5);
    for trial in 1..=trials {
        let key = format!("flood-{trial}");
        let script = "i=0; while [ $i -lt 30 ]; do seq ${i}0000 ${i}9999; i=$((i+1)); sleep 0.02; done";
        let id = gateway.submit(&key, &gateway.work(&key, script))?;
        gateway.until_begun(&key, 1)?;
        for _ in 0..session.chance.between(1, 3) {
            sleep_ms(session.chance.between(0, 200));
            gateway.kill()?;
            sleep_ms(session.chance.between(0, 200));
            gateway.back()?;
        }
        let task = gateway.ended(&id)?;
        holds!(task.outcomes() == ["succeeded"], "a task that only writes: {task:?}");
        let whole: String = (0..30)
            .flat_map(|part: u32| part * 10_000..part * 10_000 + 10_000)
            .map(|line| format!("{line}\n"))
            .collect();
        let said = gateway.stdout(&id)?;
        holds!(said == whole.as_bytes(), "its log is not whole: {} bytes of {}", said.len(), whole.len());
    }
    check::never_twice(&gateway)?;
    gateway.down()?;
    check::nothing_left(&gateway)?;
    check::whole_database(&gateway)?;
    Ok(trials)
}
