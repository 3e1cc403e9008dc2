//! What must hold after every fault.
//!
//! | | |
//! |---|---|
//! | I1 | each acknowledged task is there exactly once, its result right |
//! | I2 | at most one end and one result; an attempt is started at most once |
//! | I3 | the database passes its integrity check |
//! | I4 | no process, control group, socket or spool folder is left |
//! | I5 | a new submission is acknowledged soon after the fault's end |

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use chitin_store::Reader;

use crate::broken::{During, holds};
use crate::clock::{PATIENCE, now, until};
use crate::gateway::Gateway;
use crate::view::Task;
use crate::{Broken, Held, processes};

/// What clients were told.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Keys that were used; of those without an answer nothing is known.
    pub(crate) sent: BTreeSet<String>,
    /// Key to id.
    accepted: BTreeMap<String, String>,
}

impl Ledger {
    /// A client was told that its task is accepted. Twice is the same, under the same id.
    pub(crate) fn accepted(&mut self, key: String, id: String) -> Held {
        self.sent.insert(key.clone());
        match self.accepted.insert(key.clone(), id.clone()) {
            Some(before) if before != id => {
                Err(Broken::new(format!("I1: {key} was accepted as {before}, and then as {id}")))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.accepted.iter().map(|(key, id)| (key.as_str(), id.as_str()))
    }
}

/// I1: each accepted task is listed once and under its id, and nothing is that nobody sent.
pub(crate) fn all_there(gateway: &Gateway, ledger: &Ledger) -> Held {
    there(gateway, ledger, true)
}

/// The same while clients are at work, who may have sent more than the ledger knows.
pub(crate) fn all_there_so_far(gateway: &Gateway, ledger: &Ledger) -> Held {
    there(gateway, ledger, false)
}

fn there(gateway: &Gateway, ledger: &Ledger, is_all: bool) -> Held {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for task in gateway.list("")? {
        let is_known = !is_all || ledger.sent.contains(&task.key);
        holds!(is_known, "I1: nobody sent the task {} ({})", task.id, task.key);
        if let Some(other) = found.insert(task.key.clone(), task.id.clone()) {
            return Err(Broken::new(format!("I1: {} is there twice: {other} and {}", task.key, task.id)));
        }
    }
    for (key, id) in ledger.keys() {
        holds!(
            found.get(key).is_some_and(|there| there == id),
            "I1: {key} was acknowledged as {id} and is lost"
        );
    }
    Ok(())
}

/// I1 and I2 of tasks that ran: all have ended, each with the result it should have.
pub(crate) fn all_ended(gateway: &Gateway, ledger: &Ledger) -> Held {
    until("all that was to run has ended", || {
        Ok(gateway.list("&state=open&queue=default")?.is_empty().then_some(()))
    })
    .map_err(|error| Broken::new(format!("{error}: {:?}", gateway.list("&state=open&queue=default"))))?;
    let begun = never_twice(gateway)?;
    for task in gateway.list("&state=ended")?.into_iter().filter(|task| ledger.sent.contains(&task.key)) {
        let task = gateway.task(&task.id)?;
        one_end(gateway, &task)?;
        let last = format!("{} {}", task.key, task.attempt);
        holds!(
            task.state != "succeeded" || begun.contains(&last),
            "I2: {} succeeded and never ran: {task:?}",
            task.key
        );
    }
    Ok(())
}

/// I2: one end, of the last attempt, and the result that the command gave.
pub(crate) fn one_end(gateway: &Gateway, task: &Task) -> Held {
    let outcomes = task.outcomes();
    let successes = outcomes.iter().filter(|outcome| **outcome == "succeeded").count();
    holds!(successes <= 1, "I2: {} succeeded {successes} times: {task:?}", task.key);
    let is_whole = outcomes.len() == usize::try_from(task.attempt).unwrap_or(0);
    holds!(
        is_whole && !outcomes.contains(&""),
        "I2: {} has ended, its attempts have not: {task:?}",
        task.key
    );
    if task.state == "succeeded" {
        holds!(outcomes.last() == Some(&"succeeded"), "I2: {} has no success: {task:?}", task.key);
        let result = gateway.result(&task.id)?;
        holds!(result == expected(&task.key), "I1: the result of {} is {result:?}: {task:?}", task.key);
    }
    Ok(())
}

/// What a task of this key says at its end.
pub(crate) fn expected(key: &str) -> String {
    format!("result of {key}\n")
}

/// What makes a task say it.
pub(crate) const SAY: &str = "echo \"result of $0\"";

/// I2: no attempt was started twice. Says which were: `key attempt`.
pub(crate) fn never_twice(gateway: &Gateway) -> Held<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    for line in fs::read_to_string(gateway.runs()).unwrap_or_default().lines() {
        holds!(seen.insert(line.to_owned()), "I2: an attempt was started twice: {line}");
    }
    Ok(seen)
}

/// I3, of a gateway that does not run.
pub(crate) fn whole_database(gateway: &Gateway) -> Held {
    Reader::integrity_check(&gateway.data.join("chitin.db")).during("I3")
}

/// I4, of a gateway that was ended with all it started.
pub(crate) fn nothing_left(gateway: &Gateway) -> Held {
    until("I4: no process is left", || Ok(processes::of(&gateway.home).is_empty().then_some(())))
        .map_err(|error| Broken::new(format!("{error}: {:?}", processes::of(&gateway.home))))?;
    until("I4: no control group is left", || Ok(gateway.groups().is_empty().then_some(())))?;
    let socket = gateway.data.join("chitin.sock");
    holds!(!socket.exists(), "I4: the socket is left");
    Ok(())
}

/// I4: the spool folders of what has ended go by themselves.
pub(crate) fn no_spool_left(gateway: &Gateway) -> Held {
    let left = || -> Vec<String> {
        let folders = fs::read_dir(gateway.data.join("spool")).into_iter().flatten();
        folders.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    };
    let open: BTreeSet<String> = gateway.list("&state=running")?.into_iter().map(|task| task.id).collect();
    until("I4: spool folders of what has ended go", || {
        Ok(left().iter().all(|folder| open.contains(folder)).then_some(()))
    })
    .map_err(|error| Broken::new(format!("{error}: {:?}", left())))
}

/// I5: says how long after the fault's end a new submission was acknowledged.
pub(crate) fn accepts_again(
    gateway: &Gateway,
    ledger: &mut Ledger,
    key: &str,
    since: Instant,
    bound: Duration,
) -> Held<Duration> {
    let id = gateway.submit(key, &gateway.work(key, SAY))?;
    let took = now().duration_since(since);
    ledger.accepted(key.to_owned(), id)?;
    holds!(took <= bound.min(PATIENCE), "I5: a submission was acknowledged {took:?} after the fault's end");
    Ok(took)
}

/// Everything, at a session's end. The gateway runs and is ended.
pub(crate) fn everything(gateway: &mut Gateway, ledger: &Ledger) -> Held {
    all_there(gateway, ledger)?;
    all_ended(gateway, ledger)?;
    no_spool_left(gateway)?;
    gateway.down()?;
    nothing_left(gateway)?;
    whole_database(gateway)
}
