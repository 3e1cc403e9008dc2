//! Rows 3, 7 and 8: whoever keeps the gateway alive dies, and the gateway stands still, or cannot live.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::{Row, kills};
use crate::Held;
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::{PATIENCE, now, sleep_ms, until};
use crate::gateway::Gateway;
use crate::load::{Load, Plan};
use crate::run::Session;

pub(super) const KILL_SUPERVISOR: Row = Row {
    name: "3",
    fault: "kill -9 of the supervisor; of both",
    needs: &[],
    few: 4,
    session: kill_supervisor,
};

pub(super) const HANG: Row = Row {
    name: "7",
    fault: "gateway stopped for 10 s; its executor blocked",
    needs: &[],
    few: 2,
    session: hang,
};

pub(super) const CRASH_LOOP: Row = Row {
    name: "8",
    fault: "crash loop; a task that kills recovery",
    needs: &[],
    few: 2,
    session: crash_loop,
};

/// A gateway gives no sign of life for so long until it is replaced.
const WATCHDOG: Duration = Duration::from_secs(3);

const CLIENTS: Plan = Plan { clients: 8, think_ms: (2, 20), runs_one_in: 10, script: SAY, tcp: true };

fn kill_supervisor(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("waiting_tasks = 1000000\n")?;
    let mut ledger = Ledger::default();
    kills::fill(&gateway, &mut ledger, 0)?;
    gateway.only_one()?;
    let id = gateway.submit("counter", &kills::counter(&gateway, "counter"))?;
    ledger.accepted("counter".to_owned(), id.clone())?;
    gateway.until_begun("counter", 1)?;
    let both = session.chance.one_in(2);
    let plan = Plan { tcp: !both, ..CLIENTS };
    let load = Load::start(&gateway, &mut session.chance, "load", &plan)?;
    let trials = session.at_most.min(10);
    let mut faults = Vec::new();
    for _ in 0..trials {
        sleep_ms(session.chance.between(50, 400));
        let (supervisor, process) = (gateway.supervisor()?, gateway.process()?);
        faults.push(now());
        supervisor.kill();
        if both {
            process.kill();
            holds!(supervisor.dies(PATIENCE) && process.dies(PATIENCE), "two that were killed do not die");
            // Whoever was faster: nobody is left, or one has started the other again.
            until("somebody serves", || Ok(gateway.back().ok()))?;
        } else {
            holds!(supervisor.dies(PATIENCE), "a supervisor does not die");
            let next = gateway.supervisor()?;
            holds!(next.pid != supervisor.pid, "a dead supervisor is still named");
            holds!(gateway.process()?.pid == process.pid, "the gateway did not serve on");
            if session.chance.one_in(2) {
                // And the new one does what the old one did.
                gateway.kill()?;
                gateway.back()?;
            }
        }
    }
    sleep_ms(100);
    let record = load.stop(&mut ledger)?;
    if !both {
        record.nobody_refused()?;
    }
    session.judge_outages(record.outages(&faults))?;
    fs::write(gateway.home.join("stop"), "").during("tell the counter")?;
    kills::counted(&gateway, &id)?;
    check::everything(&mut gateway, &ledger)?;
    Ok(trials)
}

fn hang(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("waiting_tasks = 1000000\n")?;
    let mut ledger = Ledger::default();
    kills::fill(&gateway, &mut ledger, 0)?;
    let load = Load::start(&gateway, &mut session.chance, "load", &CLIENTS)?;
    let trials = session.at_most.min(2);
    let (mut faults, first) = (Vec::new(), session.chance.between(0, 1));
    for trial in 0..trials {
        sleep_ms(session.chance.between(50, 300));
        let victim = gateway.process()?;
        faults.push(now());
        if (u64::from(trial) + first).is_multiple_of(2) {
            victim.signal(Signal::STOP);
        } else {
            // Each request holds up a thread: those that should say that they live, too.
            gateway.points.arm("submit.parsed", "sleep:10000@*")?;
        }
        holds!(victim.dies(PATIENCE), "a gateway that gives no sign of life is left as it is");
        gateway.points.disarm("submit.parsed");
        gateway.back()?;
    }
    sleep_ms(100);
    let record = load.stop(&mut ledger)?;
    record.nobody_refused()?;
    let bound = WATCHDOG * 2 + session.outage_bound;
    for silence in record.outages(&faults) {
        holds!(silence < bound, "clients were without an answer for {silence:?}");
        session.outage(silence);
    }
    check::everything(&mut gateway, &ledger)?;
    Ok(trials)
}

fn crash_loop(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("waiting_tasks = 1000000\n")?;
    let mut ledger = Ledger::default();
    kills::fill(&gateway, &mut ledger, 20)?;
    // They hand in what waits: whatever runs when a recovery kills would be set aside, too.
    let plan = Plan { clients: 4, runs_one_in: u64::from(u32::MAX), ..CLIENTS };
    let load = Load::start(&gateway, &mut session.chance, "load", &plan)?;
    sleep_ms(session.chance.between(50, 200));
    if session.seed.is_multiple_of(2) {
        no_life(session, &mut gateway)?;
    } else {
        deadly_task(&mut gateway, &mut ledger, "deadly")?;
    }
    load.stop(&mut ledger)?.nobody_refused()?;
    check::accepts_again(&gateway, &mut ledger, "after", now(), session.outage_bound)?;
    check::everything(&mut gateway, &ledger)?;
    Ok(1)
}

/// No gateway gets as far as to serve: it is tried again and again, and the one that can live is found.
fn no_life(session: &mut Session<'_>, gateway: &mut Gateway) -> Held {
    gateway.points.arm("engine.commit.before", "kill@*")?;
    gateway.kill()?;
    gateway.points.until_hit("engine.commit.before", session.chance.between(3, 5))?;
    gateway.points.disarm("engine.commit.before");
    gateway.back()
}

/// A task that no gateway survives looking at is set aside, and all others go on.
fn deadly_task(gateway: &mut Gateway, ledger: &mut Ledger, key: &str) -> Held {
    let script = format!("if [ $CHITIN_ATTEMPT = 1 ]; then sleep 1000; fi; {SAY}");
    let id = gateway.submit(key, &gateway.work(key, &script))?;
    ledger.accepted(key.to_owned(), id.clone())?;
    gateway.until_begun(key, 1)?;
    gateway.points.arm("recover.before", "kill@*")?;
    gateway.kill()?;
    let task = until("the task is set aside", || {
        let asked = gateway.ask("GET", &format!("/v1/tasks/{id}"), None);
        let task = asked
            .ok()
            .filter(|answer| answer.status == 200)
            .map(|answer| crate::view::Task::of(&answer.json()));
        Ok(task.filter(|task| task.has_ended))
    })?;
    gateway.points.disarm("recover.before");
    gateway.back()?;
    holds!(task.state == "dead" && task.reason == "poison", "a task that kills gateways: {task:?}");
    let (code, out, err) = gateway.cli(&["status"])?;
    holds!(code == 0 && out.contains("signal 9"), "status does not say how gateways ended: {out}{err}");
    Ok(())
}
