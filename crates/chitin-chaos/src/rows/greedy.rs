//! Row 20: commands that take memory, processes or room for output without end, beside ten honest ones. Only they end, and
//! are named rightly; the others' results and the gateway's answers are what they were.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Need, Row, kills, tree};
use crate::Held;
use crate::broken::{During, holds};
use crate::check::{self, Ledger};
use crate::clock::{now, sleep_ms, until};
use crate::gateway::Gateway;
use crate::load::{Load, Plan};
use crate::processes;
use crate::run::Session;

pub(super) const GREEDY: Row = Row {
    name: "20",
    fault: "eats memory, forks, speaks without end beside 10 others",
    needs: &[Need::Python],
    few: 3,
    session: greedy,
};

/// Honest tasks beside it.
const OTHERS: u32 = 10;
/// What an eater may have.
const MEMORY_BYTES: u64 = 64_000_000;
/// What a fork bomb may have.
const PIDS: u64 = 50;
/// Eaters of one trial, one after the other: clients are to have sent enough meanwhile for a 99th hundredth.
const EATERS: u32 = 10;
/// How long clients send with nothing greedy beside them.
const QUIET_MS: u64 = 2_000;
/// An eater is over within this time of its limit, and p99 of submissions moves by no more than this factor (issue 4).
const ENDS_WITHIN: Duration = Duration::from_secs(1);
const MOVES_BY: u32 = 2;

/// Takes a mebibyte after the other and says when it is about to have what it may. What is not ended for want of memory
/// stands still at sixteen times as much, so that no machine is at its mercy.
const EATER: &str = "import sys, time\n\
    taken = []\n\
    while len(taken) < 1024:\n\
    \x20   taken.append(bytearray(1 << 20))\n\
    \x20   if len(taken) == 50: open(sys.argv[1], 'w').close()\n\
    time.sleep(1000)";

/// Fork bombs, and how an attempt with one ends: those that give up when they are refused, and those that do not.
const BOMBS: &[(&str, &str)] = &[
    ("exec python3 -c 'import os\nwhile True: os.fork()'", "failed"),
    ("bomb() { bomb | bomb & }; bomb; while :; do sleep 1; done", "timed_out"),
];

/// What there is to take.
#[derive(Debug, Clone, Copy)]
enum Way {
    Memory,
    Processes,
    Output,
}

const WAYS: &[Way] = &[Way::Memory, Way::Processes, Way::Output];

struct Place {
    gateway: Gateway,
    ledger: Ledger,
    /// The honest tasks' ids.
    others: Vec<String>,
}

/// When something greedy ran, and what it is to be called.
struct Span {
    what: &'static str,
    from: Instant,
    to: Instant,
}

fn greedy(session: &mut Session<'_>) -> Held<u32> {
    let mut place = Place { gateway: session.gateway("")?, ledger: Ledger::default(), others: Vec::new() };
    kills::fill(&place.gateway, &mut place.ledger, 0)?;
    for number in 0..OTHERS {
        place.honest(&format!("other-{number}"))?;
    }
    let plan = Plan { clients: 2, think_ms: (1, 3), runs_one_in: u64::MAX, script: check::SAY, tcp: false };
    let load = Load::start(&place.gateway, &mut session.chance, "load", &plan)?;
    // The first answers are a process's that has just begun.
    sleep_ms(300);
    let quiet = now();
    sleep_ms(QUIET_MS);
    let first = now();
    let ways = WAYS.iter().cycle().skip(usize::try_from(session.seed.saturating_sub(1) % 3).unwrap_or(0));
    let (mut spans, mut slowest) = (Vec::new(), Duration::ZERO);
    let trials = session.at_most.min(9);
    for (trial, way) in (0..trials).zip(ways) {
        let from = now();
        let what = match way {
            Way::Memory => {
                for number in 0..EATERS {
                    slowest = slowest.max(place.eat(&format!("eater-{trial}-{number}"))?);
                }
                session.saw(
                    format!("eaters of {} MB beside {OTHERS} honest tasks", MEMORY_BYTES / 1_000_000),
                    EATERS,
                );
                "eaters"
            }
            Way::Processes => {
                let (bomb, outcome) = *session.chance.pick(BOMBS).during("a bomb")?;
                place.fork(&format!("bomb-{trial}"), bomb, outcome)?;
                "a fork bomb"
            }
            Way::Output => {
                place.speak(&format!("speaker-{trial}"), session.flood_bytes)?;
                "output without end"
            }
        };
        spans.push(Span { what, from, to: now() });
        place.only_it_ended(trial)?;
    }
    let record = load.stop(&mut place.ledger)?;
    record.nobody_refused()?;
    let p99 = |from, to| record.p99(from, to).during("submissions for a figure");
    let quiet = p99(quiet, first)?;
    let is_strict = session.outage_bound <= Duration::from_secs(1);
    for Span { what, from, to } in spans {
        let beside = p99(from, to)?;
        session.saw(format!("measurement: submissions p99 {quiet:.1?} alone, {beside:.1?} beside {what}"), 1);
        let moved = beside > quiet * MOVES_BY;
        holds!(
            !(is_strict && moved && what == "eaters"),
            "p99 is {beside:?} beside {what}, and {quiet:?} alone"
        );
    }
    if slowest > Duration::ZERO {
        session.saw(
            format!("measurement: eaters known to have ended at most {slowest:.0?} after their limit"),
            1,
        );
    }
    let bound = if is_strict { ENDS_WITHIN } else { session.outage_bound };
    holds!(slowest <= bound, "an eater was there for {slowest:?} after it had reached its limit");
    place.end()?;
    Ok(trials)
}

impl Place {
    /// Hands in a task that runs once, with these fields.
    fn submit(&mut self, key: &str, script: &str, fields: &Value) -> Held<String> {
        let mut body = self.gateway.work(key, script);
        if let (Some(body), Some(fields)) = (body.as_object_mut(), fields.as_object()) {
            body.insert("retry".to_owned(), json!({"max": 0}));
            body.extend(fields.clone());
        }
        let id = self.gateway.submit(key, &body)?;
        self.ledger.accepted(key.to_owned(), id.clone())?;
        Ok(id)
    }

    /// Counts aloud until it is told to stop.
    fn honest(&mut self, key: &str) -> Held {
        let stop = self.gateway.home.join("stop");
        let script = format!(
            "i=0; while [ ! -e {} ]; do echo $i >&2; i=$((i+1)); sleep 0.05; done; {}",
            stop.display(),
            check::SAY
        );
        let id = self.submit(key, &script, &json!({}))?;
        self.gateway.until_begun(key, 1)?;
        self.others.push(id);
        Ok(())
    }

    /// A task's end as one waits for it: the gateway is not asked again and again meanwhile. What is said of the attempt.
    fn ended_as(&self, id: &str, outcome: &str) -> Held<String> {
        let answer = self.gateway.asked("GET", &format!("/v1/tasks/{id}?wait_s=60"), None, 200)?;
        drop(answer);
        let task = self.gateway.ended(id)?;
        holds!(task.outcomes() == [outcome], "it is to be {outcome}: {task:?}");
        Ok(task.attempts.into_iter().next().during("an attempt")?.error)
    }

    /// How long after it reached its limit it was known that an eater had ended.
    fn eat(&mut self, key: &str) -> Held<Duration> {
        let full = self.gateway.home.join(format!("full-{key}"));
        let script = format!("exec python3 -c \"{EATER}\" {}", full.display());
        let id = self.submit(key, &script, &json!({"memory_bytes": MEMORY_BYTES}))?;
        until("an eater has what it may", || Ok(full.exists().then_some(())))?;
        let reached = now();
        let error = self.ended_as(&id, "oom_killed")?;
        let took = reached.elapsed();
        holds!(error.contains(&format!("the limit is {MEMORY_BYTES} bytes")), "it is said to be {error:?}");
        Ok(took)
    }

    fn fork(&mut self, key: &str, bomb: &str, outcome: &str) -> Held {
        let status = self.gateway.asked("GET", "/v1/status", None, 200)?.json();
        let weak = status.pointer("/layers/workers/not_enforced").and_then(Value::as_array);
        if weak.during("what is not enforced")?.iter().any(|what| what == "pids") {
            // Nothing would hold it.
            return Ok(());
        }
        let id = self.submit(key, bomb, &json!({"pids": PIDS, "timeout_s": 2}))?;
        let error = self.ended_as(&id, outcome)?;
        let is_named = outcome != "failed" || error.contains(&format!("its limit of {PIDS} processes"));
        holds!(is_named, "it is said to be {error:?}");
        until("nothing of it is left", || {
            let all = processes::of(&self.gateway.home).into_iter();
            let left = all
                .filter(|process| !process.is_program() && !process.is_shim() && tree::names(process, &id));
            Ok((left.count() == 0).then_some(()))
        })
    }

    /// It is not held up, and all but beginning and end of what it says is left out.
    fn speak(&self, key: &str, bytes: u64) -> Held {
        let said = "echo \"result of $0\" > \"$CHITIN_RESULT_FILE\"; yes fifteen letters | head -c";
        let body = self.gateway.work(key, &format!("{said} {bytes}; echo; echo last"));
        let id = self.gateway.submit(key, &body)?;
        self.ended_as(&id, "succeeded")?;
        let kept = self.gateway.stdout(&id)?;
        holds!(kept.len() <= 30_000_100, "{} bytes of its output are kept", kept.len());
        holds!(
            kept.starts_with(b"fifteen letters\n") && kept.ends_with(b"\nlast\n"),
            "its beginning and its end"
        );
        let gap: Vec<&[u8]> =
            kept.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"[chitin: ")).collect();
        let [gap] = gap.as_slice() else {
            return Err(crate::Broken::new(format!("{} gaps in {} bytes", gap.len(), kept.len())));
        };
        let text = String::from_utf8_lossy(gap).into_owned();
        let left_out: u64 = text.split(' ').nth(1).and_then(|count| count.parse().ok()).during("a count")?;
        let whole = u64::try_from(kept.len() - gap.len() - 2).unwrap_or(0) + left_out;
        holds!(whole == bytes + 6, "it said {} bytes, and {whole} are accounted for", bytes + 6);
        // Such logs stay files for as long as their task is kept: with it, they go.
        self.gateway.asked("DELETE", &format!("/v1/tasks/{id}"), None, 204).map(|_| ())
    }

    fn only_it_ended(&self, trial: u32) -> Held {
        let mut running: Vec<String> =
            self.gateway.list("&state=running")?.into_iter().map(|task| task.id).collect();
        let mut others = self.others.clone();
        running.sort();
        others.sort();
        holds!(running == others, "after trial {trial} these run: {running:?}, and those should: {others:?}");
        Ok(())
    }

    /// The others have seen nothing: one attempt, every line, the right result.
    fn end(mut self) -> Held {
        std::fs::write(self.gateway.home.join("stop"), "").during("tell the others")?;
        for id in &self.others {
            self.ended_as(id, "succeeded")?;
            let said =
                self.gateway.asked("GET", &format!("/v1/tasks/{id}/logs?stream=stderr"), None, 200)?.body;
            let lines = said.iter().filter(|byte| **byte == b'\n').count();
            let whole: String = (0..lines).map(|number| format!("{number}\n")).collect();
            holds!(said == whole.as_bytes() && lines > 0, "{id}: its output has a gap: {lines} lines");
        }
        check::everything(&mut self.gateway, &self.ledger)
    }
}
