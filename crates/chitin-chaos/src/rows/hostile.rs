//! Row 29: requests that are made to harm: endless depth, huge heads, bombs, and games with chunks.

use std::io::{BufReader, Write};
use std::time::Duration;

use super::Row;
use crate::broken::{During, holds};
use crate::chance::Chance;
use crate::check::{self, Ledger};
use crate::clock::now;
use crate::gateway::Gateway;
use crate::http::{self, Door};
use crate::run::Session;
use crate::{Held, processes};

pub(super) const HOSTILE: Row = Row {
    name: "29",
    fault: "JSON depth 100,000, huge heads, gzip bombs, chunk games",
    needs: &[],
    few: 30,
    session: hostile,
};

/// What they may cost in memory while they are answered, all together.
const MOST_MORE_BYTES: u64 = 16_000_000;
/// What must not take longer than this to be refused.
const PATIENCE: Duration = Duration::from_secs(20);
/// Deeper than any parser should follow.
const DEPTH: usize = 100_000;

fn hostile(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("")?;
    let doors = gateway.doors()?;
    let pid = gateway.process()?.pid;
    // Whatever a first answer sets up is there.
    for door in &doors {
        once(door, "not-json", "content-length: 1\r\n", b"x")?;
    }
    let before = processes::own_bytes(pid);
    let trials = session.at_most.min(30);
    for trial in 0..trials {
        let at = usize::try_from(session.seed + u64::from(trial)).unwrap_or(0);
        let door = doors.get(at % doors.len()).during("a door")?;
        let (name, headers, body) = attack(at, &mut session.chance);
        let asked = now();
        once(door, name, &headers, &body)?;
        let took = now().duration_since(asked);
        holds!(took < PATIENCE, "{name}: answered after {took:?}");
        let more = processes::own_bytes(pid).saturating_sub(before);
        holds!(more < MOST_MORE_BYTES, "{name}: {more} bytes more");
    }
    served_as_ever(&gateway, pid)?;
    check::everything(&mut gateway, &Ledger::default())?;
    Ok(trials)
}

fn served_as_ever(gateway: &Gateway, pid: u32) -> Held {
    gateway.asked("GET", "/healthz", None, 200)?;
    let tasks = gateway.list("")?;
    holds!(tasks.is_empty(), "a hostile request became a task: {tasks:?}");
    holds!(gateway.process()?.pid == pid, "the gateway was restarted for a request");
    Ok(())
}

/// Sends it; the answer is the client's own fault, or the connection ends.
fn once(door: &Door, name: &str, headers: &str, body: &[u8]) -> Held {
    let mut stream = door.open().during("a connection")?;
    stream.patience(PATIENCE).during("a connection")?;
    let head = format!(
        "POST /v1/tasks HTTP/1.1\r\n{}content-type: application/json\r\n{headers}connection: close\r\n\r\n",
        door.headers()
    );
    // Whoever refuses early may not read to the end.
    _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    match http::read(BufReader::new(stream)) {
        Ok(answer) => {
            let status = answer.status;
            holds!((400..500).contains(&status), "{name}: {status} {}", answer.text());
        }
        // It was cut: what was sent made no request.
        Err(error) => holds!(may_be_cut(name), "{name}: {error}"),
    }
    Ok(())
}

/// After these there is nothing to be read from the connection any more, and closing it may take the answer back.
fn may_be_cut(name: &str) -> bool {
    matches!(
        name,
        "huge-head" | "many-headers" | "huge-chunk" | "bad-chunk" | "half-chunk" | "long-chunk-line"
    )
}

/// What is sent: its name, headers, body.
fn attack(number: usize, chance: &mut Chance) -> (&'static str, String, Vec<u8>) {
    let length = |body: &[u8]| format!("content-length: {}\r\n", body.len());
    let chunked = "transfer-encoding: chunked\r\n".to_owned();
    match number % 12 {
        0 => {
            let body = "[".repeat(DEPTH).into_bytes();
            ("deep-list", length(&body), body)
        }
        1 => {
            let body = [r#"{"tags":"#.repeat(DEPTH), "}".repeat(DEPTH)].concat().into_bytes();
            ("deep-object", length(&body), body)
        }
        2 => {
            let inner = ["[".repeat(DEPTH), "]".repeat(DEPTH)].concat();
            let body = format!(r#"{{"command":["true"],"input":{inner}}}"#).into_bytes();
            ("deep-input", length(&body), body)
        }
        3 => (
            "huge-head",
            format!(
                "x-a: {}\r\n",
                "a".repeat(usize::try_from(chance.between(40_000, 4_000_000)).unwrap_or(0))
            ),
            Vec::new(),
        ),
        4 => ("many-headers", "x: y\r\n".repeat(10_000), Vec::new()),
        5 => {
            // Ten kilobytes that would be ten megabytes.
            let body = vec![0x1f; 10_000];
            ("gzip-bomb", format!("content-encoding: gzip\r\n{}", length(&body)), body)
        }
        6 => ("huge-claim", "content-length: 999999999999999\r\n".to_owned(), b"{}".to_vec()),
        7 => {
            // A byte each, with long extensions.
            let chunk = format!("1;{}\r\n{{\r\n", "x".repeat(200));
            ("byte-chunks", chunked, [chunk.repeat(5_000), "0\r\n\r\n".to_owned()].concat().into_bytes())
        }
        8 => ("huge-chunk", chunked, b"FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n".to_vec()),
        9 => ("bad-chunk", chunked, b"-5\r\nhello\r\n0\r\n\r\n".to_vec()),
        10 => (
            "long-chunk-line",
            chunked,
            [b"1;".to_vec(), vec![b'x'; 1_000_000], b"\r\n{\r\n0\r\n\r\n".to_vec()].concat(),
        ),
        _ => {
            // More than is allowed, never saying how much.
            let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x1_0000], b"\r\n".to_vec()].concat();
            ("endless-chunks", chunked, chunk.repeat(160))
        }
    }
}
