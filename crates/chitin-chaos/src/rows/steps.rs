//! Rows 2 and 10a: death between any two steps, at places that have names.

use rustix::process::Signal;
use serde_json::json;

use super::Row;
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::{PATIENCE, now, until};
use crate::gateway::Gateway;
use crate::load::{Load, Plan};
use crate::processes::{self, Process};
use crate::run::Session;
use crate::{Broken, Held};

pub(super) const VERBS: Row = Row {
    name: "2",
    fault: "kill -9 of the gateway at each step of the seven verbs",
    needs: &[],
    few: 23,
    session: each_step,
};

pub(super) const STARTS: Row = Row {
    name: "10a",
    fault: "kills between commit, shim start, claim and exec",
    needs: &[],
    few: 12,
    session: starts,
};

/// What makes a gateway come by a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// Work does.
    Work,
    /// Somebody cancels what runs.
    Cancel,
    /// A gateway is killed: its successor recovers.
    Restart,
    /// A gateway is killed before a shim could be started.
    RestartUnclaimed,
    /// A shim is killed.
    KillShim,
    /// Much is written.
    Much,
}

/// Where a gateway dies.
const STEPS: &[(&str, Lead)] = &[
    ("submit.parsed", Lead::Work),
    ("engine.steps", Lead::Work),
    ("engine.commit.before", Lead::Work),
    ("store.commit.before", Lead::Work),
    ("engine.commit.after", Lead::Work),
    ("effect.reply", Lead::Work),
    ("effect.start", Lead::Work),
    ("effect.changed", Lead::Work),
    ("effect.settled", Lead::Work),
    ("effect.publish", Lead::Work),
    ("effect.end", Lead::Cancel),
    ("effect.recover", Lead::Restart),
    ("start.before", Lead::Work),
    ("start.spawn.before", Lead::Work),
    ("start.spawn.after", Lead::Work),
    ("settle.collect.before", Lead::Work),
    ("settle.report.before", Lead::Work),
    ("settle.told.before", Lead::Work),
    ("spool.remove.before", Lead::Work),
    ("recover.before", Lead::Restart),
    ("recover.voided", Lead::RestartUnclaimed),
    ("recover.tree.ended", Lead::KillShim),
    ("checkpoint.before", Lead::Much),
];

fn each_step(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("")?;
    let mut ledger = Ledger::default();
    gateway
        .submit("first", &gateway.work("first", SAY))
        .and_then(|id| ledger.accepted("first".into(), id))?;
    let plan = Plan {
        clients: 4,
        think_ms: (0, 40),
        runs_one_in: 1,
        script: "sleep 0.0$(($$ % 10)); echo \"result of $0\"",
        tcp: false,
    };
    let load = Load::start(&gateway, &mut session.chance, "load", &plan)?;
    let trials = session.at_most.min(u32::try_from(STEPS.len()).unwrap_or(1));
    let first = session.chance.between(0, 1_000);
    for (trial, (point, lead)) in (0..trials).zip(STEPS.iter().cycle().skip(if trials < 20 {
        usize::try_from(first).unwrap_or(0) % STEPS.len()
    } else {
        0
    })) {
        let fault = one_step(session, &mut gateway, &mut ledger, trial, point, *lead)
            .map_err(|error| Broken::new(format!("at {point}: {error}")))?;
        check::accepts_again(&gateway, &mut ledger, &format!("after-{trial}"), fault, session.outage_bound)
            .map_err(|error| Broken::new(format!("at {point}: {error}")))?;
    }
    load.stop(&mut ledger)?;
    check::everything(&mut gateway, &ledger)?;
    Ok(trials)
}

/// Arms the point, leads a gateway to it, and waits for its death and the next one. When it died.
fn one_step(
    session: &mut Session<'_>,
    gateway: &mut Gateway,
    ledger: &mut Ledger,
    trial: u32,
    point: &str,
    lead: Lead,
) -> Held<std::time::Instant> {
    let long = format!("long-{trial}");
    let script = format!("if [ $CHITIN_ATTEMPT = 1 ]; then sleep 1000; fi; {SAY}");
    let mut begin = |gateway: &Gateway| -> Held<String> {
        let id = gateway.submit(&long, &gateway.work(&long, &script))?;
        ledger.accepted(long.clone(), id.clone())?;
        gateway.until_begun(&long, 1)?;
        Ok(id)
    };
    let action = match lead {
        Lead::Work => format!("kill@{}", session.chance.between(1, 5)),
        _ => "kill@1".to_owned(),
    };
    let victim = gateway.process()?;
    let wanted: u64 = action.trim_start_matches("kill@").parse().unwrap_or(1);
    match lead {
        Lead::Work => gateway.points.arm(point, &action)?,
        Lead::Cancel => {
            let id = begin(gateway)?;
            gateway.points.arm(point, &action)?;
            // The answer dies with the gateway, or comes first.
            _ = gateway.ask("POST", &format!("/v1/tasks/{id}/cancel"), None);
        }
        Lead::Restart => {
            gateway.points.arm(point, &action)?;
            gateway.kill()?;
        }
        Lead::RestartUnclaimed => {
            gateway.points.arm(point, &action)?;
            gateway.points.arm("start.spawn.before", "kill@1")?;
        }
        Lead::KillShim => {
            let id = begin(gateway)?;
            gateway.points.arm(point, &action)?;
            let mut shims = processes::of(&gateway.home).into_iter();
            let shim = shims.find(|process| process.is_shim() && process.command.contains(&id));
            shim.during("the shim of a long task")?.kill();
        }
        Lead::Much => {
            gateway.points.arm(point, &action)?;
            let mut body = gateway.work(&long, SAY);
            if let Some(fields) = body.as_object_mut() {
                fields.insert("stdin".to_owned(), json!("x".repeat(5_000_000)));
            }
            // Accepted by this gateway or by the next: the key is the same.
            ledger.sent.insert(long.clone());
            _ = gateway.door().ask(
                &crate::http::Request {
                    method: "POST",
                    path: "/v1/tasks",
                    key: Some(&long),
                    body: Some(&body),
                },
                PATIENCE,
            );
        }
    }
    holds!(victim.dies(PATIENCE), "no gateway came by");
    if lead == Lead::RestartUnclaimed {
        gateway.points.disarm("start.spawn.before");
    }
    // Where a successor is to die: it is started and dies, and then comes another.
    until("the point is met", || {
        if gateway.points.hits(point) >= wanted {
            return Ok(Some(()));
        }
        gateway.back().map(|()| None)
    })?;
    let fault = now();
    gateway.points.disarm(point);
    gateway.back()?;
    Ok(fault)
}

/// Where the gateway dies on the way to a start; the empty one: nowhere.
const GATEWAY: &[&str] = &["", "effect.start", "start.before", "start.spawn.before", "start.spawn.after"];
/// Where the shim dies, or is held up while its gateway dies; and whether that is before its claim.
const SHIM: &[(&str, bool)] = &[
    ("", true),
    ("shim.claim.before", true),
    ("shim.claim.link.before", true),
    ("shim.claim.after", false),
    ("shim.start.before", false),
    ("shim.start.after", false),
];

fn starts(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("")?;
    let mut ledger = Ledger::default();
    let trials = session.at_most.min(30);
    for trial in 1..=trials {
        let on_gateway = *session.chance.pick(GATEWAY).during("a point")?;
        let (on_shim, before_claim) = *session.chance.pick(SHIM).during("a point")?;
        let straggles = before_claim && !on_shim.is_empty() && session.chance.one_in(2);
        let key = format!("task-{trial}");
        let what = format!("{key}: gateway at `{on_gateway}`, shim at `{on_shim}`, straggles {straggles}");
        let one = Start { on_gateway, on_shim, before_claim, straggles };
        one.run(&mut gateway, &mut ledger, &key).map_err(|error| Broken::new(format!("{what}: {error}")))?;
    }
    check::everything(&mut gateway, &ledger)?;
    Ok(trials)
}

/// One start and its kills.
struct Start {
    on_gateway: &'static str,
    on_shim: &'static str,
    before_claim: bool,
    /// The shim is not killed but held up until another one has done its work.
    straggles: bool,
}

impl Start {
    fn run(&self, gateway: &mut Gateway, ledger: &mut Ledger, key: &str) -> Held {
        // Accepted first, so that what follows is the start alone.
        gateway.pause_queue("default")?;
        let id = gateway.submit(key, &gateway.work(key, SAY))?;
        ledger.accepted(key.to_owned(), id.clone())?;
        let victim = gateway.process()?;
        if !self.on_gateway.is_empty() {
            gateway.points.arm(self.on_gateway, "kill@1")?;
        }
        if !self.on_shim.is_empty() {
            gateway.points.arm(self.on_shim, if self.straggles { "stop@1" } else { "kill@1" })?;
        }
        // The answer dies with the gateway, or comes first.
        _ = gateway.ask("POST", "/v1/queues/default/resume", None);
        if !self.on_gateway.is_empty() {
            holds!(victim.dies(PATIENCE), "no gateway came by");
            gateway.points.disarm(self.on_gateway);
            gateway.back()?;
            gateway.asked("POST", "/v1/queues/default/resume", None, 200)?;
        }
        let mut straggler = None;
        if !self.on_shim.is_empty() {
            gateway.points.until_hit(self.on_shim, 1)?;
            if self.straggles {
                straggler = processes::of(&gateway.home).into_iter().find(Process::is_shim);
                // A gateway waits for a shim that it started itself; its successor does not.
                gateway.kill()?;
                gateway.back()?;
            }
        }
        let task = gateway.ended(&id)?;
        gateway.points.disarm(self.on_shim);
        let wanted: &[&str] = if self.before_claim { &["succeeded"] } else { &["worker_lost", "succeeded"] };
        holds!(task.outcomes() == wanted, "it went {:?}", task.outcomes());
        if let Some(straggler) = straggler {
            straggler.signal(Signal::CONT);
            holds!(straggler.dies(PATIENCE), "a shim that came too late does not leave");
        }
        check::never_twice(gateway).map(|_| ())
    }
}
