//! Rows 9r and 20g, on a whole machine that is emulated: it is reset, and its control groups are of version 2 alone.

use std::collections::{BTreeMap, BTreeSet};

use chitin_store::Reader;
use serde_json::Value;

use super::{Need, Row};
use crate::broken::{During, holds};
use crate::check::Ledger;
use crate::run::Session;
use crate::view::Task;
use crate::vm::{Machine, Said};
use crate::{Broken, Held};

pub(super) const RESET: Row = Row {
    name: "9r",
    fault: "the machine is reset: all memory gone, another boot",
    needs: &[Need::Machine],
    few: 3,
    session: resets,
};

pub(super) const GROUPS: Row = Row {
    name: "20g",
    fault: "memory, processes, pauses, trees in control groups v2",
    needs: &[Need::Machine],
    few: 1,
    session: groups,
};

/// Resets of one machine: what a life has to show grows with those before it.
const MOST_LIVES: u32 = 8;

/// When the machine is reset, in words that the guest's script knows, and after how much: from, to.
const WHEN: &[(&str, u64, u64)] = &[
    ("burst", 100, 2_000),
    ("ack", 1, 6),
    ("idle", 500, 3_000),
    ("burst", 100, 2_000),
    ("recovery", 50, 2_500),
];

fn resets(session: &mut Session<'_>) -> Held<u32> {
    let machine = Machine::new(session.program, session.planted())?;
    let mut story = Story::default();
    let trials = session.at_most.min(MOST_LIVES);
    for life in 1..=trials {
        // There is nothing to recover in a first life.
        let when = if life == 1 { WHEN.get(..3).during("a time")? } else { WHEN };
        let &(how, from, to) = session.chance.pick(when).during("a time")?;
        let after = session.chance.between(from, to);
        let told = |error: Broken| Broken::new(format!("life {life}, reset at {how} {after}: {error}"));
        let said = story.live(&machine, life, how, after).map_err(told)?;
        holds!(said.has("reset"), "life {life} ended without its reset:\n{}", said.tail);
        // What the disk has, before anybody repairs it.
        let data = machine.look().map_err(told)?;
        Reader::integrity_check(&data.join("chitin.db")).during("I3").map_err(told)?;
    }
    let last = story.live(&machine, trials + 1, "last", 0)?;
    let groups = last.one("groups")?;
    holds!(groups == "0", "I4: {groups} control groups are left");
    holds!(!last.has("over the disk is still in use"), "I4: something still has files of the disk open");
    Ok(trials)
}

/// What became known in one life after the other.
#[derive(Debug, Default)]
struct Story {
    ledger: Ledger,
    boots: BTreeSet<String>,
    /// The last life that took work in; 0: none.
    before: u32,
    /// Tasks whose end was seen, with the bytes of their results.
    results: BTreeMap<String, String>,
}

impl Story {
    fn live(&mut self, machine: &Machine, life: u32, how: &str, after: u64) -> Held<Said> {
        let [life_, before, after] = [life.to_string(), self.before.to_string(), after.to_string()];
        let given = [("life", life_.as_str()), ("before", &before), ("how", how), ("after", &after)];
        let said = machine.live("reset", &given)?;
        let boot = said.one("boot")?;
        holds!(self.boots.insert(boot.to_owned()), "two lives have the boot id {boot}");
        if how == "recovery" {
            return Ok(said);
        }
        holds!(said.has("shown"), "it did not get so far as to show what there is:\n{}", said.tail);
        let status = said.json("status")?;
        unshaken(&status)?;
        if self.before > 0 {
            self.judge(&said)?;
        }
        // Only now: what it took in itself is for the next life to show.
        for acknowledged in said.all("ack") {
            let (key, id) = acknowledged.split_once(' ').during("a key and an id")?;
            self.ledger.accepted(key.to_owned(), id.to_owned())?;
        }
        if how != "last" {
            holds!(said.has(&format!("ended result-{life}")), "it did not get far:\n{}", said.tail);
            self.before = life;
        }
        Ok(said)
    }

    /// What a life showed of those before it.
    fn judge(&mut self, said: &Said) -> Held {
        let list = said.json("tasks")?;
        holds!(list.get("next_cursor").is_none_or(Value::is_null), "there are more tasks than were shown");
        let tasks = list.get("tasks").and_then(Value::as_array).during("a list of tasks")?;
        let tasks: Vec<Task> = tasks.iter().map(Task::of).collect();
        let mut there = BTreeMap::new();
        for task in &tasks {
            if let Some(other) = there.insert(task.key.as_str(), task.id.as_str()) {
                return Err(Broken::new(format!("I1: {} is there twice: {other} and {}", task.key, task.id)));
            }
            let waits = task.key.starts_with("held-") || task.key.starts_with("far-");
            holds!(task.has_ended != waits, "a task that waits, or one that was to end: {task:?}");
            holds!(!waits || task.attempt == 0, "it was to wait: {task:?}");
        }
        for (key, id) in self.ledger.keys() {
            holds!(there.get(key) == Some(&id), "I1: {key} was acknowledged as {id} and is lost");
        }
        let mut runs = BTreeSet::new();
        for run in said.told("runs").flat_map(|runs| runs.split(',')).filter(|run| !run.is_empty()) {
            holds!(runs.insert(run), "I2: an attempt was started twice: {run}");
        }
        let mut judged = BTreeSet::new();
        for shown in said.told("task") {
            let task = Task::of(&serde_json::from_str(shown).during("a task")?);
            by_its_policy(&task, self.before, &runs)?;
            judged.insert(task.key);
        }
        for kind in ["result", "again", "once", "soon"] {
            let key = format!("{kind}-{}", self.before);
            let is_known = self.ledger.keys().any(|(known, _)| known == key);
            holds!(!is_known || judged.contains(&key), "{key} was not shown");
        }
        self.same_results(said)
    }

    /// Each result that ever was there is there in each later life, byte for byte.
    fn same_results(&mut self, said: &Said) -> Held {
        let results: BTreeMap<&str, &str> =
            said.told("result").filter_map(|line| line.split_once(' ')).collect();
        for (key, id) in self.ledger.keys().filter(|(key, _)| key.starts_with("result-")) {
            self.results.entry(id.to_owned()).or_insert_with(|| hexadecimal(&expected(key)));
        }
        for (id, bytes) in &self.results {
            let there = results.get(id.as_str()).copied().unwrap_or_default();
            holds!(there == bytes, "I1: the result of {id} is another one or cut short: {there}");
        }
        Ok(())
    }
}

/// The end of a task that a reset met, or did not.
fn by_its_policy(task: &Task, life: u32, runs: &BTreeSet<&str>) -> Held {
    let outcomes = task.outcomes();
    let kind = task.key.split('-').next().unwrap_or_default();
    let ran = |attempt: usize| runs.contains(format!("{} {attempt}", task.key).as_str());
    let is_so = match kind {
        // It had ended when the machine was reset: nothing more happens to it.
        "result" => outcomes == ["succeeded"],
        "again" => outcomes.starts_with(&["host_lost"]) && only_lost_before_success(&outcomes),
        "once" => {
            outcomes == ["host_lost"]
                && (task.state.as_str(), task.reason.as_str()) == ("dead", "retries_exhausted")
        }
        _ => only_lost_before_success(&outcomes),
    };
    holds!(is_so, "after a reset in life {life}: {task:?}");
    // They synced what they wrote down; of others it may be lost with the rest.
    if matches!(kind, "again" | "once") {
        holds!((1..=outcomes.len()).all(ran), "an attempt left no trace: {task:?}");
    }
    holds!(!ran(outcomes.len() + 1), "it ran once more: {task:?}");
    Ok(())
}

fn only_lost_before_success(outcomes: &[&str]) -> bool {
    outcomes.split_last().is_some_and(|(last, before)| {
        *last == "succeeded" && before.iter().all(|outcome| *outcome == "host_lost")
    })
}

/// What `work.sh` says.
fn expected(key: &str) -> String {
    let numbers = (1..=500).map(|number| format!("{number}\n"));
    format!("{key}\n{}", numbers.collect::<String>())
}

fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// A slow machine is no reason to end a gateway.
fn unshaken(status: &Value) -> Held {
    let tier = status.get("isolation").and_then(Value::as_str);
    holds!(tier == Some("cgroup2"), "the tier is {tier:?}");
    let gateway = status.pointer("/layers/gateway").during("a gateway")?;
    holds!(
        gateway.get("restarts").and_then(Value::as_u64) == Some(0),
        "its gateway was started again: {gateway}"
    );
    Ok(())
}

fn groups(session: &mut Session<'_>) -> Held<u32> {
    let machine = Machine::new(session.program, session.planted())?;
    let said = machine.live("groups", &[])?;
    holds!(said.one("over")?.is_empty(), "it ended early:\n{}", said.tail);
    // At the tree's top, and in a group that has to be left first, as a service manager gives one.
    for number in 0..2 {
        let told = |name: &str| {
            let word = said.told(name).nth(number);
            word.during(format!("life {number} did not tell `{name}`:\n{}", said.tail))
        };
        unshaken(&serde_json::from_str(told("status")?).during(format!("status of life {number}"))?)?;
        let limits = told("limits")?;
        // Memory in whole pages.
        holds!(limits == "31997952 1 20 50000 100000 50", "the limits inside are {limits}");
        let memory = told("memory")?;
        holds!(memory.starts_with("137 0 ") && memory.contains("out of memory"), "out of memory: {memory}");
        let task: Value = serde_json::from_str(told("task")?).during("a task")?;
        holds!(Task::of(&task).outcomes() == ["oom_killed"], "out of memory: {task}");
        let pids = told("pids")?;
        let is_named =
            pids.contains("can't fork") && pids.contains("its limit of 5 processes and threads was met");
        holds!(!pids.starts_with("0 ") && is_named, "too many processes: {pids}");
        // One of another session, too; and what is frozen is ended, which it has to be thawed for.
        let paused = [told("pause")?, told("resume")?, told("thaw")?];
        holds!(
            paused == ["0 stands", "0 moves", "130 0"],
            "pausing, going on, and an end while paused: {paused:?}"
        );
        // The exit code, and processes that live.
        let cancel = told("cancel")?;
        holds!(cancel == "130 0", "after cancelling: {cancel}");
        let running = told("running")?;
        let place = if number == 0 { "2 0::/" } else { "3 0::/unit/chitin-own" };
        holds!(running == place, "groups while a task runs, and the gateway's own: {running}");
        let down = told("down")?;
        let left = if number == 0 { "0 0 0 0" } else { "0 0 1 0" };
        holds!(down == left, "I4: after down --kill: {down}");
    }
    Ok(1)
}
