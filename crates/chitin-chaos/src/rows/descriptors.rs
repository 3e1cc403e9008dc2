//! Row 17: the gateway has no file descriptors left.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::Row;
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::{now, sleep_ms};
use crate::gateway::Gateway;
use crate::http::{Door, Request};
use crate::processes;
use crate::run::Session;
use crate::{Broken, Held};

pub(super) const GONE: Row =
    Row { name: "17", fault: "file descriptors gone", needs: &[], few: 2, session: gone };

/// How long they are gone.
const GONE_MS: (u64, u64) = (1_500, 3_000);
/// Connections that say nothing: more than the descriptors that are left.
const HOLDERS: usize = 30;
/// The most processor time that a gateway without descriptors may use, of that time: it has nothing to do.
const BUSY_PART: u32 = 4;
/// It must serve again in this time (FAULTS, row 17), where outages are judged strictly.
const BACK: Duration = Duration::from_secs(2);

fn gone(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("")?;
    let mut ledger = Ledger::default();
    let trials = session.at_most.min(5);
    for trial in 0..trials {
        once(session, &gateway, &mut ledger, trial)?;
    }
    check::everything(&mut gateway, &ledger)?;
    Ok(trials)
}

fn once(session: &mut Session<'_>, gateway: &Gateway, ledger: &mut Ledger, trial: u32) -> Held {
    // What runs has all it needs, and ends while nobody can be taken in.
    let running = format!("running-{trial}");
    let script = format!("sleep 1; {SAY}");
    let id = gateway.submit(&running, &gateway.work(&running, &script))?;
    gateway.until_begun(&running, 1)?;
    ledger.accepted(running.clone(), id.clone())?;

    let process = gateway.process()?;
    let doors = gateway.doors()?;
    let chance = &mut session.chance;
    let before = limit(process.pid, None)?;
    let spare = chance.between(0, 6);
    let few = processes::descriptors(process.pid) + spare;
    limit(process.pid, Some(Rlimit { current: Some(few), maximum: before.maximum }))?;
    let (began, busy) = (now(), processes::busy(process.pid)?);
    let span = Duration::from_millis(chance.between(GONE_MS.0, GONE_MS.1));
    // They take what is left, and keep it.
    let holders: Vec<_> = doors.iter().cycle().take(HOLDERS).map(Door::open).collect();
    let clients: Vec<_> = (0..chance.between(20, 60))
        .zip(doors.iter().cycle())
        .map(|(number, door)| {
            let (door, key) = (door.clone(), format!("short-{trial}-{number}"));
            let body = gateway.work(&key, SAY);
            ledger.sent.insert(key.clone());
            std::thread::spawn(move || one(&door, &key, &body))
        })
        .collect();
    while now().duration_since(began) < span {
        sleep_ms(20);
    }
    let used = processes::busy(process.pid)?.saturating_sub(busy);
    let took = now().duration_since(began);
    limit(process.pid, Some(before))?;
    let ended = now();
    drop(holders);
    holds!(used < took / BUSY_PART, "{used:?} of processor time in {took:?} without descriptors");
    let bound = if session.outage_bound > BACK { session.outage_bound } else { BACK };
    let silence = check::accepts_again(gateway, ledger, &format!("after-{trial}"), ended, bound)?;
    session.outage(silence);

    let mut turned_away = 0;
    for client in clients {
        match client.join().map_err(|_| Broken::new("a client panicked"))? {
            Ok((key, Some(id))) => ledger.accepted(key, id)?,
            Ok((_, None)) => turned_away += 1,
            Err(why) => return Err(Broken::new(format!("a client without descriptors to serve it: {why}"))),
        }
    }
    holds!(turned_away > 0, "nobody was told that there are no descriptors ({few} were left)");
    holds!(gateway.process()?.pid == process.pid, "the gateway was restarted for its descriptors");
    let ended = gateway.ended(&id)?;
    holds!(ended.attempt == 1 && ended.state == "succeeded", "what ran meanwhile: {ended:?}");
    Ok(())
}

/// One submission: accepted, or refused in good order.
fn one(door: &Door, key: &str, body: &serde_json::Value) -> Result<(String, Option<String>), String> {
    let request = Request { method: "POST", path: "/v1/tasks", key: Some(key), body: Some(body) };
    let answer = door.ask(&request, Duration::from_secs(30)).map_err(|error| error.to_string())?;
    let id = answer.json().get("id").and_then(serde_json::Value::as_str).map(str::to_owned);
    match answer.status {
        200 | 202 => Ok((key.to_owned(), id)),
        503 => Ok((key.to_owned(), None)),
        other => Err(format!("{other} {}", answer.text())),
    }
}

/// The limits of a process's descriptors as they were, and perhaps others from now on.
fn limit(pid: u32, new: Option<Rlimit>) -> Held<Rlimit> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).during("a process id")?;
    match new {
        Some(new) => prlimit(Some(id), Resource::Nofile, new).during("limit descriptors"),
        // There is no way to read another process's limits without setting them but to read what the system says.
        None => {
            let text = fs::read_to_string(format!("/proc/{pid}/limits")).during("read limits")?;
            let line = text.lines().find(|line| line.starts_with("Max open files")).during("a limit")?;
            let mut words = line.split_whitespace().skip(3).map(|word| word.parse().ok());
            Ok(Rlimit { current: words.next().flatten(), maximum: words.next().flatten() })
        }
    }
}
