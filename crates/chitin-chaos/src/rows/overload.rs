//! Row 27: ten times the load it can take. In turns, what bounds it is the places to run, with the queue full, and the places
//! for requests.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Row;
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::{now, sleep_ms, until};
use crate::gateway::{Gateway, work};
use crate::http::{Door, Request};
use crate::run::Session;
use crate::{Broken, Held, processes};

pub(super) const OVERLOAD: Row =
    Row { name: "27", fault: "ten times the load it can take", needs: &[], few: 2, session: overload };

/// In what it is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// More tasks than can be run.
    Tasks,
    /// More requests at once than there are places for.
    Requests,
}

/// Tasks that may wait, and how long each takes: what can be run is bounded by the four places, and not by the processors that
/// the load takes for itself.
const WAITING: u32 = 100;
const TASKS: &str = "waiting_tasks = 100\nrunning_tasks = 4\n";
const SCRIPT: &str = "sleep 0.05; echo \"result of $0\"";
/// Places for requests, in which none is waited for longer than it takes to be told.
const REQUESTS: &str = "waiting_tasks = 1000000\nrequests = 4\nrequest_wait_ms = 5\n";
const PLACES: usize = 4;
/// Clients that are too many for either.
const TOO_MANY: usize = 48;
/// How long it is too much.
const SPAN: Duration = Duration::from_secs(3);
/// Before, for what is normal.
const FEW: usize = 100;
/// As many times what it can take, at least.
const TIMES: f64 = 10.0;
/// What must be left of the peak, where times are judged strictly.
const GOODPUT: f64 = 0.9;
/// A refusal is told within this time, 99 of 100 (the row's figure).
const TOLD: Duration = Duration::from_millis(50);
/// The gateway's memory (R1.3).
const MOST_BYTES: u64 = 500_000_000;

fn overload(session: &mut Session<'_>) -> Held<u32> {
    let way = if session.seed % 2 == 1 { Way::Tasks } else { Way::Requests };
    let limits = if way == Way::Tasks { TASKS } else { REQUESTS };
    let mut gateway = session.gateway(limits)?;
    let mut ledger = Ledger::default();
    let held = once(session, &gateway, &mut ledger, way);
    held.map_err(|error| Broken::new(format!("too many {way:?}: {error}")))?;
    check::everything(&mut gateway, &ledger)?;
    Ok(1)
}

fn once(session: &mut Session<'_>, gateway: &Gateway, ledger: &mut Ledger, way: Way) -> Held {
    let pid = gateway.process()?.pid;
    let normal = p99((0..FEW).map(|number| normal(gateway, ledger, number)).collect::<Held<_>>()?);
    let peak = match way {
        Way::Tasks => run(gateway, ledger)?,
        Way::Requests => {
            let few = Flood::begin(gateway, way, "few", PLACES)?;
            sleep_ms(1_000);
            few.end(ledger)?.accepted_per_s()
        }
    };
    let began = starts(gateway)?;
    let flood = Flood::begin(gateway, way, "many", TOO_MANY)?;
    let mut most_bytes = 0;
    while flood.began.elapsed() < SPAN {
        most_bytes = most_bytes.max(processes::own_bytes(pid));
        within_bounds(gateway)?;
        sleep_ms(20);
    }
    let ended = starts(gateway)?;
    let seen = flood.end(ledger)?;
    let gone = now();

    let goodput = match way {
        Way::Tasks => per_s(ended.0 - began.0, ended.1 - began.1),
        Way::Requests => seen.accepted_per_s(),
    };
    let told = p99(seen.refused.clone());
    session.figure(format!(
        "too many {way:?}: {peak:.0} a second at most, {:.0} asked for, {goodput:.0} done; {:.0} refused, 99 of 100 within {told:.1?}; at most {} MB of memory",
        per_s(seen.asked(), seen.span),
        per_s(seen.refused.len(), seen.span),
        most_bytes / 1_000_000,
    ));
    holds!(!seen.refused.is_empty(), "{} requests, and nobody was refused", seen.asked());
    let bound = if session.is_strict() { TOLD } else { session.outage_bound };
    holds!(told < bound, "99 of 100 refusals were told within {told:?}");
    holds!(most_bytes < MOST_BYTES, "{most_bytes} bytes of memory");
    holds!(gateway.process()?.pid == pid, "the gateway was restarted for its load");
    // How many more can be asked, and what is left for the gateway beside those who ask, the machine decides.
    if session.is_strict() && way == Way::Tasks {
        let times = per_s(seen.asked(), seen.span) / peak;
        let (is_much, is_left) = (times >= TIMES, goodput >= GOODPUT * peak);
        holds!(is_much, "only {times:.1} times what it can take was asked for");
        holds!(is_left, "{goodput:.0} of {peak:.0} a second are left");
    }
    back_to_normal(session, gateway, ledger, gone, normal)
}

/// One that is not run, while nothing else is asked; how long it took.
fn normal(gateway: &Gateway, ledger: &mut Ledger, number: usize) -> Held<Duration> {
    let (key, asked) = (format!("normal-{number}"), now());
    let id = gateway.submit(&key, &waits(&key))?;
    let took = now().duration_since(asked);
    ledger.accepted(key, id.clone())?;
    // It would take the place of one that waits.
    gateway.asked("POST", &format!("/v1/tasks/{id}/cancel"), None, 200)?;
    Ok(took)
}

/// A task that waits for longer than anybody looks.
fn waits(key: &str) -> Value {
    json!({"command": ["sh", "-c", SAY, key], "tags": [key], "queue": "held", "delay_s": 3_600})
}

/// Tasks that are run a second, with enough of them waiting and nothing else to do.
fn run(gateway: &Gateway, ledger: &mut Ledger) -> Held<f64> {
    let began = starts(gateway)?;
    for number in 0..WAITING {
        let key = format!("peak-{number}");
        let id = gateway.submit(&key, &gateway.work(&key, SCRIPT))?;
        ledger.accepted(key, id)?;
    }
    let all = began.0 + usize::try_from(WAITING).unwrap_or(0);
    // From some on, so that nobody counts how they were handed in.
    let from = until("some have begun", || Ok(Some(starts(gateway)?).filter(|at| at.0 >= all - 60)))?;
    let to = until("nearly all have begun", || Ok(Some(starts(gateway)?).filter(|at| at.0 >= all - 5)))?;
    Ok(per_s(to.0 - from.0, to.1 - from.1))
}

/// How many tasks have begun until now.
fn starts(gateway: &Gateway) -> Held<(usize, Instant)> {
    match fs::read_to_string(gateway.runs()) {
        Ok(runs) => Ok((runs.lines().count(), now())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((0, now())),
        Err(error) => Err(Broken::new(format!("count what has begun: {error}"))),
    }
}

/// No more are in flight than may be, as the gateway counts them.
fn within_bounds(gateway: &Gateway) -> Held {
    let answer = gateway.ask("GET", "/v1/status", None).during("the status")?;
    // Whoever asks how things are needs a place, too.
    if answer.status == 503 {
        return Ok(());
    }
    let status = answer.json();
    let figure =
        |of: &str| status.pointer(&format!("/layers/{of}")).and_then(Value::as_u64).during(of.to_owned());
    let (requests, most) = (figure("gateway/requests")?, figure("gateway/requests_limit")?);
    holds!(requests <= most, "{requests} requests are in flight, {most} may be");
    let (waiting, most) = (figure("queue/queued")?, figure("queue/limit")?);
    holds!(waiting <= most, "{waiting} tasks wait, {most} may");
    Ok(())
}

/// Accepted within the bound, and answered as before.
fn back_to_normal(
    session: &mut Session<'_>,
    gateway: &Gateway,
    ledger: &mut Ledger,
    gone: Instant,
    usual: Duration,
) -> Held {
    let silence = check::accepts_again(gateway, ledger, "after", gone, session.outage_bound)?;
    session.outage(silence);
    let mut number = FEW;
    until("an answer comes as soon as before", || {
        number += 1;
        Ok((normal(gateway, ledger, number)? <= usual).then_some(()))
    })?;
    let took = now().duration_since(gone);
    session.figure(format!("{took:.0?} after the load an answer came as soon as before it ({usual:.1?})"));
    holds!(took < session.outage_bound, "an answer came as soon as before {took:?} after the load");
    Ok(())
}

fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}

fn per_s(count: usize, span: Duration) -> f64 {
    u32::try_from(count).map_or(0.0, f64::from) / span.as_secs_f64().max(f64::EPSILON)
}

/// Clients that are back at once, each with another task, whatever they were told.
struct Flood {
    began: Instant,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
}

/// What they saw.
#[derive(Debug, Default)]
struct Seen {
    span: Duration,
    accepted: Vec<(String, String)>,
    /// How long each of those that were turned away waited to hear it.
    refused: Vec<Duration>,
    odd: Vec<String>,
}

impl Seen {
    fn asked(&self) -> usize {
        self.accepted.len() + self.refused.len()
    }

    fn accepted_per_s(&self) -> f64 {
        per_s(self.accepted.len(), self.span)
    }
}

impl Flood {
    fn begin(gateway: &Gateway, way: Way, name: &str, clients: usize) -> Held<Self> {
        let (began, stop) = (now(), Arc::new(AtomicBool::new(false)));
        // Over the port alone: whoever asks how things are comes by the other door.
        let doors = gateway.doors()?;
        let door = doors.iter().find(|door| matches!(door, Door::Tcp(..))).during("a port")?;
        let client = |number: usize| {
            let (door, until, runs) = (door.clone(), Arc::clone(&stop), gateway.runs());
            let name = format!("{name}-{number}");
            thread::spawn(move || {
                let mut seen = Seen::default();
                for number in 0_u32.. {
                    if until.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("{name}-{number}");
                    let body = if way == Way::Tasks { work(&runs, &key, SCRIPT) } else { waits(&key) };
                    seen.ask(&door, key, &body);
                }
                seen
            })
        };
        Ok(Self { began, clients: (0..clients).map(client).collect(), stop })
    }

    /// Ends the clients; what was accepted goes into the ledger. What was refused must not be there.
    fn end(self, ledger: &mut Ledger) -> Held<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for client in self.clients {
            let mut seen = client.join().map_err(|_| Broken::new("a client panicked"))?;
            all.accepted.append(&mut seen.accepted);
            all.refused.append(&mut seen.refused);
            all.odd.append(&mut seen.odd);
        }
        all.span = self.began.elapsed();
        for (key, id) in &all.accepted {
            ledger.accepted(key.clone(), id.clone())?;
        }
        match all.odd.first() {
            Some(first) => Err(Broken::new(format!("{} answers like this one: {first}", all.odd.len()))),
            None => Ok(all),
        }
    }
}

impl Seen {
    /// One submission: accepted, or refused in good order.
    fn ask(&mut self, door: &Door, key: String, body: &Value) {
        let request = Request { method: "POST", path: "/v1/tasks", key: Some(&key), body: Some(body) };
        let asked = now();
        let answer = match door.ask(&request, Duration::from_secs(30)) {
            Ok(answer) => answer,
            Err(error) => return self.odd.push(format!("{key}: {error}")),
        };
        let (took, said) = (asked.elapsed(), answer.json());
        let id = said.get("id").and_then(Value::as_str);
        let says_when = said.get("retry_after_s").is_some_and(Value::is_u64);
        match (answer.status, id) {
            (202, Some(id)) => self.accepted.push((key, id.to_owned())),
            (429 | 503, None) if says_when => self.refused.push(took),
            _ => self.odd.push(format!("{key}: {} {}", answer.status, answer.text())),
        }
    }
}
