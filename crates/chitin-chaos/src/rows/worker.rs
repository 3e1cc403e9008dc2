//! Rows 4 and 5: what runs dies, and its gateway lives.

use rustix::process::Signal;

use super::Row;
use crate::Held;
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::{now, until};
use crate::gateway::Gateway;
use crate::processes::{self, Process};
use crate::run::Session;

pub(super) const KILL_SHIM: Row =
    Row { name: "4", fault: "kill -9, or stop, of a shim", needs: &[], few: 4, session: kill_shim };

pub(super) const KILL_WORKER: Row = Row {
    name: "5",
    fault: "kill -9, segfault and abort of a command",
    needs: &[],
    few: 3,
    session: kill_worker,
};

/// The shim that runs a task; `None`: it came and went.
fn shim_of(gateway: &Gateway, id: &str) -> Held<Option<Process>> {
    until("the task has a shim", || {
        let mut all = processes::of(&gateway.home).into_iter();
        let shim = all.find(|process| process.is_shim() && process.command.contains(id));
        Ok(if shim.is_none() && !gateway.task(id)?.has_ended { None } else { Some(shim) })
    })
}

/// Its first attempt waits for ever, with a child; the second one does what is to be done.
const FIRST_HANGS: &str =
    "if [ $CHITIN_ATTEMPT = 1 ]; then sleep 1000 & sleep 1000; fi; echo \"result of $0\"";

fn kill_shim(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("heartbeat_s = 3\n")?;
    let mut ledger = Ledger::default();
    let trials = session.at_most.min(10);
    for trial in 1..=trials {
        let key = format!("task-{trial}");
        // One that is stopped is missed after a while, and then killed by its gateway.
        let signal = if session.chance.one_in(2) { Signal::KILL } else { Signal::STOP };
        // While its command runs; or at any instant, from before its claim to its report.
        let has_begun = session.chance.one_in(2);
        let script = if has_begun { FIRST_HANGS } else { SAY };
        let id = gateway.submit(&key, &gateway.work(&key, script))?;
        ledger.accepted(key.clone(), id.clone())?;
        let shim = shim_of(&gateway, &id)?;
        if has_begun {
            gateway.until_begun(&key, 1)?;
        } else {
            std::thread::sleep(std::time::Duration::from_micros(session.chance.between(0, 10_000)));
        }
        if let Some(shim) = shim {
            shim.signal(signal);
        }
        let fault = now();
        check::accepts_again(&gateway, &mut ledger, &format!("after-{trial}"), fault, session.outage_bound)?;
        let task = gateway.ended(&id)?;
        if has_begun {
            holds!(
                task.outcomes() == ["worker_lost", "succeeded"],
                "a task whose shim got {signal:?}: {task:?}"
            );
        }
    }
    check::everything(&mut gateway, &ledger)?;
    Ok(trials)
}

fn kill_worker(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("")?;
    let mut ledger = Ledger::default();
    let trials = session.at_most.min(10);
    let mut all = Vec::new();
    for trial in 1..=trials {
        let ways = [("KILL", Signal::KILL), ("SEGV", Signal::SEGV), ("ABRT", Signal::ABORT)];
        let (name, signal) = session.chance.pick(&ways).during("a signal")?;
        let key = format!("task-{trial}");
        let script = format!("if [ $CHITIN_ATTEMPT = 1 ]; then kill -{name} $$; fi; {SAY}");
        let id = gateway.submit(&key, &gateway.work(&key, &script))?;
        ledger.accepted(key, id.clone())?;
        all.push((id, i64::from(signal.as_raw())));
    }
    for (id, signal) in all {
        let task = gateway.ended(&id)?;
        let first = task.attempts.first().during("a first attempt")?;
        holds!(
            task.outcomes() == ["signalled", "succeeded"] && first.signal == Some(signal),
            "a command that signal {signal} ended: {task:?}"
        );
    }
    check::everything(&mut gateway, &ledger)?;
    Ok(trials)
}
