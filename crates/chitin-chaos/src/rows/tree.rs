//! Row 21: commands that do not want to end.

use super::Row;
use crate::Held;
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::until;
use crate::processes::{self, Process};
use crate::run::Session;

pub(super) const STUBBORN: Row = Row {
    name: "21",
    fault: "SIGTERM ignored, double fork, grandchild holds the pipe",
    needs: &[],
    few: 3,
    session: stubborn,
};

/// How a command clings to life; whether it ends by itself and only leaves somebody behind.
const WAYS: &[(&str, bool)] = &[
    ("trap '' TERM INT HUP; while :; do sleep 1; done", false),
    ("setsid sh -c 'setsid sh -c \"trap \\\"\\\" TERM; sleep 1000\" & sleep 1000' & sleep 1000", false),
    ("(trap '' TERM; sleep 1000) & sleep 1000", false),
    ("(setsid sleep 1000 &) ; echo \"result of $0\"", true),
    ("(trap '' TERM; exec sleep 1000) & echo \"result of $0\"", true),
];

fn stubborn(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("grace_ms = 300\n")?;
    let mut ledger = Ledger::default();
    let trials = session.at_most.min(20);
    for trial in 1..=trials {
        let (way, ends) = *session.chance.pick(WAYS).during("a way")?;
        let key = format!("task-{trial}");
        let id = gateway.submit(&key, &gateway.work(&key, way))?;
        ledger.accepted(key.clone(), id.clone())?;
        gateway.until_begun(&key, 1)?;
        let wanted = if ends {
            "succeeded"
        } else {
            gateway.asked("POST", &format!("/v1/tasks/{id}/cancel"), None, 200)?;
            "cancelled"
        };
        let task = gateway.ended(&id)?;
        holds!(task.state == wanted, "{way}: {task:?}");
        until("all of it has ended", || {
            let work = processes::of(&gateway.home).into_iter();
            Ok((work.filter(|process| !process.is_program() && names(process, &id)).count() == 0)
                .then_some(()))
        })
        .during(way)?;
    }
    let id = gateway.submit("last", &gateway.work("last", SAY))?;
    ledger.accepted("last".to_owned(), id)?;
    check::everything(&mut gateway, &ledger)?;
    Ok(trials)
}

/// Whether a process belongs to the task.
pub(super) fn names(process: &Process, id: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
    process.command.contains(id) || String::from_utf8_lossy(&environment).contains(id)
}
