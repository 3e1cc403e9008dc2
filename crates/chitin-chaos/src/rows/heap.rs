//! Row 19: a gateway whose heap is at its cap, a control group's, under more large bodies than that holds. It must refuse before
//! the kernel kills.

use std::fs;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Need, Row};
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::{now, sleep_ms, until_within};
use crate::gateway::Gateway;
use crate::http::{self, Door};
use crate::load::{Load, Plan};
use crate::run::Session;
use crate::{Broken, Held, processes};

pub(super) const CAP: Row = Row {
    name: "19",
    fault: "heap at its cap, a control group's",
    needs: &[Need::MemoryGroup],
    few: 1,
    session: at_the_cap,
};

/// What gateway and supervisor may have together.
const CAP_BYTES: u64 = 128_000_000;
/// A body, and who sends them: several times what there may be.
const BODY_BYTES: usize = 6_000_000;
const SENDERS: usize = 48;
/// How long.
const SPAN: Duration = Duration::from_secs(4);
/// What is accepted must stay off the disk's end.
const LIMITS: &str = "waiting_tasks = 1000000\nwaiting_bytes = 300000000\n";

/// Version 1's tree of memory.
const TREE: &str = "/sys/fs/cgroup/memory";

/// A control group of the session's own, which goes with it.
#[derive(Debug)]
struct Group {
    folder: PathBuf,
    /// Where this process belongs.
    home: PathBuf,
}

impl Group {
    fn new(name: &str, limit_bytes: u64) -> Held<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").during("read where this process belongs")?;
        let own = groups.lines().find_map(|line| line.split_once(":memory:")).during("a memory group")?.1;
        let within = Path::new(TREE).join(own.trim_start_matches('/'));
        // In a container the tree may begin at the group itself.
        let home = if within.is_dir() { within } else { PathBuf::from(TREE) };
        let folder = home.join(format!("chitin-chaos-{}-{name}", std::process::id()));
        fs::create_dir(&folder).during("make a control group")?;
        let group = Self { folder, home };
        group.write("memory.limit_in_bytes", &limit_bytes.to_string())?;
        Ok(group)
    }

    fn write(&self, file: &str, text: &str) -> Held {
        fs::write(self.folder.join(file), text).during(format!("write {file}"))
    }

    /// What is started meanwhile, is in it: a thread takes what it starts along.
    fn around<T>(&self, work: impl FnOnce() -> Held<T>) -> Held<T> {
        self.write("tasks", "0")?;
        let done = work();
        fs::write(self.home.join("tasks"), "0").during("leave a control group")?;
        done
    }

    /// How often the kernel killed for it.
    fn kills(&self) -> Held<u64> {
        let text =
            fs::read_to_string(self.folder.join("memory.oom_control")).during("read a control group")?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).during("a count of kills")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was in it has just ended.
        _ = until_within(Duration::from_secs(5), "a control group goes", || {
            Ok((!self.folder.exists() || fs::remove_dir(&self.folder).is_ok()).then_some(()))
        });
    }
}

/// Why no group can be made here; `None`: one can.
pub(super) fn is_missing() -> Option<String> {
    let tried = Group::new("try", CAP_BYTES).and_then(|group| group.kills());
    tried.err().map(|error| format!("no control group can bound the memory here: {error}"))
}

fn at_the_cap(session: &mut Session<'_>) -> Held<u32> {
    let group = Group::new(&format!("row-{}", session.seed), CAP_BYTES)?;
    let mut gateway = session.prepare(LIMITS)?;
    group.around(|| gateway.up())?;
    let mut ledger = Ledger::default();
    let pid = gateway.process()?.pid;
    let status = gateway.asked("GET", "/v1/status", None, 200)?.json();
    let bound = status.pointer("/layers/gateway/memory_bytes_limit").and_then(Value::as_u64);
    holds!(bound.is_some_and(|bound| bound <= CAP_BYTES), "the gateway does not see its cap: {bound:?}");

    let plan = Plan { clients: 8, think_ms: (0, 20), runs_one_in: 10, script: SAY, tcp: true };
    let load = Load::start(&gateway, &mut session.chance, "small", &plan)?;
    let senders = Senders::begin(&gateway)?;
    let (began, mut most_bytes) = (now(), 0);
    while began.elapsed() < SPAN {
        most_bytes = most_bytes.max(processes::own_bytes(pid));
        // Health is answered all the while.
        gateway.asked("GET", "/healthz", None, 200)?;
        holds!(group.kills()? == 0, "the kernel killed for memory, at {most_bytes} bytes");
        sleep_ms(20);
    }
    let seen = senders.end(&mut ledger)?;
    let ended = now();
    let silence = check::accepts_again(&gateway, &mut ledger, "after", ended, session.outage_bound)?;
    session.outage(silence);
    load.stop(&mut ledger)?.nobody_refused()?;
    holds!(group.kills()? == 0, "the kernel killed for memory, at {most_bytes} bytes");
    holds!(gateway.process()?.pid == pid, "the gateway was restarted for its memory");
    holds!(seen.refused > 0, "{} bodies were sent, and none was refused", seen.sent);
    session.figure(format!(
        "{} bodies of {BODY_BYTES} bytes to a gateway with {CAP_BYTES}: {} accepted, {} refused; at most {most_bytes} of its own",
        seen.sent,
        seen.accepted.len(),
        seen.refused,
    ));
    check::everything(&mut gateway, &ledger)?;
    drop(gateway);
    drop(group);
    Ok(1)
}

/// Clients that send large bodies, one after the other.
struct Senders {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    sent: u32,
    accepted: Vec<(String, String)>,
    refused: u32,
    /// Keys of those that have no answer.
    unknown: Vec<String>,
    odd: Vec<String>,
}

impl Senders {
    fn begin(gateway: &Gateway) -> Held<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let doors = gateway.doors()?;
        let large: Arc<str> = "x".repeat(BODY_BYTES).into();
        let clients = (0..SENDERS).zip(doors.iter().cycle()).map(|(sender, door)| {
            let (door, until, large) = (door.clone(), Arc::clone(&stop), Arc::clone(&large));
            thread::spawn(move || {
                let mut seen = Seen::default();
                for number in 0_u32.. {
                    if until.load(Ordering::Relaxed) {
                        break;
                    }
                    seen.send(&door, format!("large-{sender}-{number}"), &large);
                    // Not to hear refusals alone.
                    sleep_ms(10);
                }
                seen
            })
        });
        Ok(Self { clients: clients.collect(), stop })
    }

    fn end(self, ledger: &mut Ledger) -> Held<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in self.clients {
            let mut seen = client.join().map_err(|_| Broken::new("a client panicked"))?;
            all.sent += seen.sent;
            all.refused += seen.refused;
            all.accepted.append(&mut seen.accepted);
            all.unknown.append(&mut seen.unknown);
            all.odd.append(&mut seen.odd);
        }
        for (key, id) in &all.accepted {
            ledger.accepted(key.clone(), id.clone())?;
        }
        ledger.sent.extend(all.unknown.iter().cloned());
        match all.odd.first() {
            Some(first) => Err(Broken::new(format!("{} answers like this one: {first}", all.odd.len()))),
            None => Ok(all),
        }
    }
}

impl Seen {
    /// One body: accepted, or refused in good order. Whoever is refused before all was sent may find the connection closed.
    fn send(&mut self, door: &Door, key: String, large: &str) {
        self.sent += 1;
        let body = json!({
            "command": ["true"], "tags": [key], "stdin": large, "queue": "held", "delay_s": 3_600,
        })
        .to_string();
        let head = format!(
            "POST /v1/tasks HTTP/1.1\r\n{}connection: close\r\nidempotency-key: {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            door.headers(),
            body.len()
        );
        let answer = door.open().and_then(|mut stream| {
            stream.patience(Duration::from_secs(30))?;
            _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            http::read(BufReader::new(stream))
        });
        let Ok(answer) = answer else { return self.unknown.push(key) };
        let said = answer.json();
        let id = said.get("id").and_then(Value::as_str);
        let says_when = said.get("retry_after_s").is_some_and(Value::is_u64);
        match (answer.status, id) {
            (202, Some(id)) => self.accepted.push((key, id.to_owned())),
            (429 | 503, None) if says_when => self.refused += 1,
            _ => self.odd.push(format!("{key}: {} {}", answer.status, answer.text())),
        }
    }
}
