//! Row 28: a thousand connections that send their heads or bodies slowly, or do not read their answers.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use super::Row;
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::{now, sleep_ms};
use crate::gateway::Gateway;
use crate::http::{Door, Stream};
use crate::run::Session;
use crate::{Held, processes};

pub(super) const SLOW: Row = Row {
    name: "28",
    fault: "slow heads, bodies or readers, 1,000 of them",
    needs: &[],
    few: 3,
    session: slow,
};

/// Connections that are slow.
const SLOW_ONES: usize = 1_000;
/// Places for connections: few enough that the slow ones fill TCP's share of them.
const PLACES: &str = "connections = 800\n";
/// How long others are served beside them.
const BESIDE: Duration = Duration::from_secs(3);
/// Where outages are judged strictly, nobody beside them waits longer (R1.1).
const BOUND: Duration = Duration::from_secs(1);
/// What the slow may cost in memory (R1.3).
const MOST_BYTES: u64 = 500_000_000;

/// In what way.
#[derive(Debug, Clone, Copy)]
enum Way {
    Head,
    Body,
    Reader,
}

fn slow(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway(PLACES)?;
    let mut ledger = Ledger::default();
    // What readers do not read.
    let large = gateway.submit("large", &gateway.work("large", "seq 200000"))?;
    gateway.ended(&large)?;
    let trials = session.at_most.min(3);
    for trial in 0..trials {
        let way = [Way::Head, Way::Body, Way::Reader]
            .into_iter()
            .cycle()
            .nth(usize::try_from(session.seed + u64::from(trial)).unwrap_or(0) % 3)
            .during("a way")?;
        once(session, &gateway, &mut ledger, way, &large, trial)?;
    }
    gateway.asked("DELETE", &format!("/v1/tasks/{large}"), None, 204)?;
    std::fs::remove_file(gateway.runs()).during("forget what ran for it")?;
    check::all_there(&gateway, &ledger)?;
    check::no_spool_left(&gateway)?;
    gateway.down()?;
    check::nothing_left(&gateway)?;
    check::whole_database(&gateway)?;
    Ok(trials)
}

fn once(
    session: &mut Session<'_>,
    gateway: &Gateway,
    ledger: &mut Ledger,
    way: Way,
    large: &str,
    trial: u32,
) -> Held {
    let doors = gateway.doors()?;
    let tcp = doors.iter().find(|door| matches!(door, Door::Tcp(..))).during("a port")?;
    let mut slow_ones: Vec<Stream> = Vec::new();
    for _ in 0..SLOW_ONES {
        let mut stream = tcp.open().during("a slow connection")?;
        // One that is not taken in yet takes this all the same.
        _ = stream.write_all(first(way, tcp, large).as_bytes());
        slow_ones.push(stream);
    }
    let pid = gateway.process()?.pid;
    let (began, mut number, mut longest, mut most_bytes) = (now(), 0, Duration::ZERO, 0);
    while now().duration_since(began) < BESIDE {
        // Byte by byte.
        let which = usize::try_from(session.chance.between(0, u64::try_from(SLOW_ONES - 1).unwrap_or(0)));
        if let (Some(stream), Way::Head | Way::Body) = (which.ok().and_then(|at| slow_ones.get_mut(at)), way)
        {
            _ = stream.write_all(b"x");
        }
        for door in &doors {
            number += 1;
            let (key, asked) = (format!("beside-{trial}-{number}"), now());
            let body = json!({"command": ["sh", "-c", SAY, key], "tags": [key], "delay_s": 3_600});
            ledger.sent.insert(key.clone());
            let request = crate::http::Request {
                method: "POST",
                path: "/v1/tasks",
                key: Some(&key),
                body: Some(&body),
            };
            // Who is told to come again does, as the command line would; until then it waits.
            let patience = session.outage_bound.max(BOUND);
            let (answer, took) = loop {
                let answer = door.ask(&request, Duration::from_secs(30)).during(format!("beside {way:?}"))?;
                let took = now().duration_since(asked);
                if answer.status != 503 || took > patience {
                    break (answer, took);
                }
                sleep_ms(50);
            };
            holds!(answer.status == 202, "beside {way:?}: {} {}", answer.status, answer.text());
            let id = answer.json().get("id").and_then(serde_json::Value::as_str).map(str::to_owned);
            ledger.accepted(key, id.during("an id")?)?;
            // The first one to come by TCP waits until places are given up, which takes a second, and some.
            if number > doors.len() {
                longest = longest.max(took);
            }
        }
        most_bytes = most_bytes.max(processes::own_bytes(pid));
        sleep_ms(20);
    }
    session.outage(longest);
    let bound = session.outage_bound.max(BOUND);
    holds!(longest < bound, "beside {way:?} somebody waited {longest:?}");
    holds!(most_bytes < MOST_BYTES, "{way:?} cost {most_bytes} bytes");
    holds!(gateway.process()?.pid == pid, "the gateway was restarted for {way:?}");
    drop(slow_ones);
    Ok(())
}

/// What a slow one says at once.
fn first(way: Way, door: &Door, large: &str) -> String {
    let headers = door.headers();
    match way {
        Way::Head => format!("POST /v1/tasks HTTP/1.1\r\n{headers}x-"),
        Way::Body => format!(
            "POST /v1/tasks HTTP/1.1\r\n{headers}content-type: application/json\r\ncontent-length: 20000\r\n\r\n{{"
        ),
        Way::Reader => {
            // Again and again, so that no socket's buffer takes all of it.
            format!("GET /v1/tasks/{large}/result HTTP/1.1\r\n{headers}\r\n").repeat(8)
        }
    }
}
