//! Rows 9 and 10: the power goes. What was not synced is gone, nothing runs any more, and the next boot is another one.

use rustix::process::Signal;

use crate::broken::{During, holds};
use crate::chance::Chance;
use crate::check::{self, Ledger, SAY};
use crate::clock::{now, sleep_ms, until};
use crate::disk::Disk;
use crate::gateway::Gateway;
use crate::load::{Load, Plan};
use crate::processes::{self, Process};
use crate::run::Session;
use crate::{Broken, Held};

use super::{Need, Row};

pub(super) const CUT: Row = Row {
    name: "9",
    fault: "power cut: idle, in a burst, at a commit or checkpoint",
    needs: &[Need::LoopDisk],
    few: 8,
    session: cuts,
};

pub(super) const CUT_RUN: Row = Row {
    name: "10",
    fault: "power cut at the claim, at the exit record",
    needs: &[Need::LoopDisk],
    few: 8,
    session: cuts_of_runs,
};

/// A session's largest tasks, in the log and in the database, and room: a full disk is another fault.
const DISK_MEGABYTES: u64 = 320;

/// A machine: a gateway and the disk it lives on.
struct Machine {
    // Dropped in this order: the folder of the gateway goes last.
    disk: Disk,
    gateway: Gateway,
}

impl Machine {
    fn new(session: &mut Session<'_>) -> Held<Self> {
        let mut gateway = session.prepare("waiting_tasks = 1000000\n")?;
        let disk = Disk::new(&gateway.home, DISK_MEGABYTES)?;
        gateway.data = disk.mount.join("data");
        gateway.points.say("boot_id", &boot_id(&mut session.chance))?;
        gateway.up()?;
        Ok(Self { disk, gateway })
    }

    /// The cut itself, whatever runs. A machine without power computes nothing: everything stands still an instant before,
    /// or a sync under way while the file system shuts down could return a success that nobody would have lived to hear.
    fn cut(&mut self) -> Held {
        let running = processes::of(&self.gateway.home);
        running.iter().for_each(|process| process.signal(Signal::STOP));
        self.disk.cut()
    }

    /// All that a machine does after a cut until the gateway answers.
    fn boot(&mut self, chance: &mut Chance) -> Held {
        self.gateway.reset_machine(&boot_id(chance))?;
        self.disk.power_on()?;
        self.gateway.up()
    }

    fn end(mut self, ledger: &Ledger) -> Held {
        let checked = check::everything(&mut self.gateway, ledger);
        self.gateway.kill_all_but(|_| false)?;
        checked
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Before the disk is unmounted, which is before the folder goes.
        _ = self.gateway.kill_all_but(|_| false);
    }
}

fn boot_id(chance: &mut Chance) -> String {
    format!(
        "{:08x}-0000-4000-8000-{:012x}",
        chance.between(0, 0xffff_ffff),
        chance.between(0, 0xffff_ffff_ffff)
    )
}

/// When the power goes.
#[derive(Debug, Clone, Copy)]
enum When {
    Idle,
    Burst,
    At(&'static str),
}

const WHEN: &[When] = &[
    When::Idle,
    When::Burst,
    When::Burst,
    When::Burst,
    When::At("engine.commit.before"),
    When::At("engine.commit.after"),
    When::At("effect.reply"),
    When::At("checkpoint.before"),
];

fn cuts(session: &mut Session<'_>) -> Held<u32> {
    let mut machine = Machine::new(session)?;
    let mut ledger = Ledger::default();
    let first = machine.gateway.submit("first", &machine.gateway.work("first", SAY))?;
    ledger.accepted("first".to_owned(), first)?;
    let trials = session.at_most.min(20);
    let plan = Plan { clients: 8, think_ms: (0, 8), runs_one_in: 6, script: SAY, tcp: false };
    for trial in 1..=trials {
        let when = *session.chance.pick(WHEN).during("a time")?;
        let load = Load::start(&machine.gateway, &mut session.chance, &format!("load-{trial}"), &plan)?;
        if trial == 1 {
            // Its first task makes the queue; whatever ran from it until now ran.
            until("there is a queue `held`", || Ok(machine.gateway.pause_queue("held").ok()))?;
        }
        sleep_ms(session.chance.between(5, 150));
        match when {
            When::Burst => machine.cut()?,
            When::Idle => {
                // Everything was answered, and the disk has had no time to do more than it promised.
                let record = load.stop(&mut ledger)?;
                drop(record);
                sleep_ms(session.chance.between(0, 50));
                machine.cut()?;
                recover(session, &mut machine, &mut ledger, trial)
                    .map_err(|error| Broken::new(format!("cut {when:?}: {error}")))?;
                continue;
            }
            When::At(point) => {
                if point == "checkpoint.before" {
                    machine.gateway.points.arm(point, "stop@1")?;
                    much(&machine.gateway, &mut ledger, trial);
                } else {
                    machine.gateway.points.arm(point, &format!("stop@{}", session.chance.between(1, 9)))?;
                }
                // The gateway stands still there; what it said before stands.
                let process = machine.gateway.process()?;
                until("the gateway stands still", || Ok(is_stopped(process.pid).then_some(())))?;
                machine.cut()?;
                machine.gateway.points.disarm(point);
            }
        }
        // Clients wait for the next boot, as they would.
        recover(session, &mut machine, &mut ledger, trial)
            .map_err(|error| Broken::new(format!("cut {when:?}: {error}")))?;
        load.stop(&mut ledger)?;
        check::all_there(&machine.gateway, &ledger)
            .map_err(|error| Broken::new(format!("cut {when:?}: {error}")))?;
    }
    machine.end(&ledger)?;
    Ok(trials)
}

/// A gateway that has stopped itself.
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
}

/// Writes more than what a checkpoint is worth.
fn much(gateway: &Gateway, ledger: &mut Ledger, trial: u32) {
    let key = format!("much-{trial}");
    let mut body = gateway.work(&key, SAY);
    if let Some(fields) = body.as_object_mut() {
        fields.insert("stdin".to_owned(), serde_json::json!("x".repeat(5_000_000)));
        fields.insert("queue".to_owned(), serde_json::json!("held"));
    }
    ledger.sent.insert(key.clone());
    let request =
        crate::http::Request { method: "POST", path: "/v1/tasks", key: Some(&key), body: Some(&body) };
    if let Ok(answer) = gateway.door().ask(&request, crate::clock::PATIENCE)
        && let Some(id) = answer.json().get("id").and_then(serde_json::Value::as_str)
    {
        _ = ledger.accepted(key.clone(), id.to_owned());
    }
}

fn recover(session: &mut Session<'_>, machine: &mut Machine, ledger: &mut Ledger, trial: u32) -> Held {
    machine.boot(&mut session.chance)?;
    let up = now();
    check::all_there_so_far(&machine.gateway, ledger)?;
    check::accepts_again(&machine.gateway, ledger, &format!("after-{trial}"), up, crate::clock::PATIENCE)
        .map(|_| ())
}

/// Where a shim stands when the power goes; whether its gateway is gone by then.
const SHIM: &[(&str, bool)] = &[
    ("shim.claim.before", false),
    ("shim.claim.after", false),
    ("shim.start.before", false),
    ("shim.start.after", false),
    ("shim.record.before", true),
    ("shim.record.write.before", true),
    ("shim.record.sync.before", true),
    ("shim.record.rename.before", true),
    ("shim.record.rename.after", true),
    ("", true),
];

fn cuts_of_runs(session: &mut Session<'_>) -> Held<u32> {
    let mut machine = Machine::new(session)?;
    let mut ledger = Ledger::default();
    let trials = session.at_most.min(20);
    for trial in 1..=trials {
        // The last one, a record that was finished, is what a shim's promise hangs on.
        let (point, alone) = if session.chance.one_in(3) {
            ("", true)
        } else {
            *session.chance.pick(SHIM).during("a point")?
        };
        one_run(session, &mut machine, &mut ledger, trial, point, alone)
            .map_err(|error| Broken::new(format!("shim at `{point}`: {error}")))?;
    }
    machine.end(&ledger)?;
    Ok(trials)
}

fn one_run(
    session: &mut Session<'_>,
    machine: &mut Machine,
    ledger: &mut Ledger,
    trial: u32,
    point: &str,
    alone: bool,
) -> Held {
    let key = format!("task-{trial}");
    let go = machine.gateway.home.join(format!("go-{trial}"));
    let wait = format!("while [ ! -e {} ]; do sleep 0.01; done; {SAY}", go.display());
    let id = if alone {
        let id = machine.gateway.submit(&key, &machine.gateway.work(&key, &wait))?;
        machine.gateway.until_begun(&key, 1)?;
        machine.gateway.kill_all_but(|process| !process.is_program())?;
        if !point.is_empty() {
            machine.gateway.points.arm(point, "stop@1")?;
        }
        std::fs::write(&go, "").during("let it go")?;
        id
    } else {
        std::fs::write(&go, "").during("let it go")?;
        machine.gateway.points.arm(point, "stop@1")?;
        machine.gateway.submit(&key, &machine.gateway.work(&key, &wait))?
    };
    ledger.accepted(key.clone(), id.clone())?;
    if point.is_empty() {
        until("the shim has left", || {
            Ok((!processes::of(&machine.gateway.home).iter().any(Process::is_shim)).then_some(()))
        })?;
    } else {
        machine.gateway.points.until_hit(point, 1)?;
    }
    machine.cut()?;
    machine.gateway.points.disarm(point);
    machine.boot(&mut session.chance)?;
    let task = machine.gateway.ended(&id)?;
    holds!(task.state == "succeeded", "it ended otherwise: {task:?}");
    check::one_end(&machine.gateway, &task)?;
    if point.is_empty() {
        holds!(task.outcomes() == ["succeeded"], "a shim left, and its record did not survive: {task:?}");
    }
    Ok(())
}
