//! Row 16: a reader from outside that stays in its transaction, so that the write-ahead log cannot be worked off.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin};
use std::time::Duration;

use serde_json::json;

use super::{Need, Row};
use crate::Held;
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::{PATIENCE, now, sleep_ms, until};
use crate::gateway::Gateway;
use crate::http::Request;
use crate::load::{Load, Plan};
use crate::run::Session;
use crate::system;

pub(super) const READER: Row = Row {
    name: "16",
    fault: "a reader that holds a transaction",
    needs: &[Need::Python],
    few: 1,
    session: long_reader,
};

/// Takes a database, reads, says so, and holds on until it is told to go.
const HOLD: &str = "\
import sqlite3, sys
db = sqlite3.connect(sys.stdin.readline().rstrip('\\n'), isolation_level=None)
db.execute('BEGIN')
db.execute('SELECT count(*) FROM task').fetchone()
print('reads', flush=True)
sys.stdin.readline()
";

/// The smallest cap there is.
const CAP_BYTES: u64 = 4_000_000;
/// What was under way when the cap was met still goes in, and so does what has begun.
const OVER_BYTES: u64 = 2 * CAP_BYTES;

struct Holding {
    child: Child,
    stdin: ChildStdin,
}

impl Holding {
    fn begin(database: &Path) -> Held<Self> {
        let mut command = system::command("python3");
        command.arg("-c").arg(HOLD).stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().during("start python3")?;
        let stdin = child.stdin.take().during("its standard input")?;
        let mut holding = Self { child, stdin };
        // Told and not passed: a process that names the folder is taken for one of the gateway's.
        writeln!(holding.stdin, "{}", database.display()).during("write to python3")?;
        let mut said = String::new();
        let stdout = holding.child.stdout.take().during("its standard output")?;
        BufReader::new(stdout).read_line(&mut said).during("read from python3")?;
        holds!(said == "reads\n", "a reader does not come to read: {said}");
        Ok(holding)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn log_bytes(gateway: &Gateway) -> u64 {
    fs::metadata(gateway.data.join("chitin.db-wal")).map_or(0, |meta| meta.len())
}

fn long_reader(session: &mut Session<'_>) -> Held<u32> {
    let limits =
        format!("waiting_tasks = 1000000\nwal_cap_bytes = {CAP_BYTES}\nwal_restart_bytes = 1000000\n");
    let mut gateway = session.gateway(&limits)?;
    let mut ledger = Ledger::default();
    let begun = gateway.home.join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done; {SAY}", begun.display());
    let runs = gateway.submit("runs", &gateway.work("runs", &script))?;
    ledger.accepted("runs".to_owned(), runs.clone())?;
    gateway.until_begun("runs", 1)?;
    let plan = Plan { clients: 8, think_ms: (2, 20), runs_one_in: 20, script: SAY, tcp: true };
    let load = Load::start(&gateway, &mut session.chance, "load", &plan)?;
    let before = gateway.process()?.pid;
    let holding = Holding::begin(&gateway.data.join("chitin.db"))?;
    hold(session, &gateway, &mut ledger)?;
    // What has begun ends, and is told.
    fs::write(&begun, "").during("let it go")?;
    let task = gateway.ended(&runs)?;
    holds!(task.state == "succeeded", "what ran meanwhile: {task:?}");
    drop(holding);
    let gone = now();
    check::accepts_again(&gateway, &mut ledger, "after", gone, session.outage_bound)?;
    load.stop(&mut ledger)?.nobody_refused()?;
    until("the log is worked off and begun anew", || Ok((log_bytes(&gateway) <= CAP_BYTES).then_some(())))?;
    holds!(gateway.process()?.pid == before, "the gateway was restarted for a reader");
    check::everything(&mut gateway, &ledger)?;
    Ok(1)
}

/// Hands in large tasks all the while, and sees to it that the cap is met.
fn hold(session: &Session<'_>, gateway: &Gateway, ledger: &mut Ledger) -> Held {
    let (began, mut refused) = (now(), 0_u32);
    for number in 0_u32.. {
        let held = now().duration_since(began);
        if held > session.hold && refused > 0 {
            break;
        }
        holds!(held < session.hold + PATIENCE, "a log of {} bytes and nobody refused", log_bytes(gateway));
        let key = format!("large-{number}");
        let body = json!({"command": ["true"], "queue": "held", "delay_s": 3_600, "tags": [key], "stdin": "x".repeat(100_000)});
        ledger.sent.insert(key.clone());
        let request = Request { method: "POST", path: "/v1/tasks", key: Some(&key), body: Some(&body) };
        let answer = gateway.door().ask(&request, Duration::from_secs(20)).during("a submission")?;
        match answer.status {
            202 => {
                let id = answer.json().get("id").and_then(|id| id.as_str().map(str::to_owned));
                ledger.accepted(key, id.unwrap_or_default())?;
            }
            503 => {
                refused += 1;
                sleep_ms(20);
            }
            _ => holds!(false, "a submission while a reader stays: {} {}", answer.status, answer.text()),
        }
        let bytes = log_bytes(gateway);
        holds!(bytes < OVER_BYTES, "the log has {bytes} bytes, its cap is {CAP_BYTES}");
        gateway.asked("GET", "/healthz", None, 200)?;
    }
    Ok(())
}
