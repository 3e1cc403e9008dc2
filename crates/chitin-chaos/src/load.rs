//! Clients that hand in work without pause, try again by their keys as the command line does, and remember every answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::broken::During;
use crate::chance::Chance;
use crate::check::Ledger;
use crate::clock::{PATIENCE, now, sleep_ms};
use crate::gateway::{Gateway, work};
use crate::http::{Door, NoAnswer, Request};
use crate::{Broken, Held};

/// What clients do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) clients: u32,
    /// Between an answer and the next submission, in milliseconds: from, to.
    pub(crate) think_ms: (u64, u64),
    /// One in so many tasks runs; the others wait in the queue `held`. 1: all run.
    pub(crate) runs_one_in: u64,
    pub(crate) script: &'static str,
    /// Every second client comes over TCP: only where the instance, and so its port, stays.
    pub(crate) tcp: bool,
}

/// What one client saw.
#[derive(Debug, Default)]
struct Seen {
    sent: Vec<String>,
    accepted: Vec<(String, String)>,
    answers: Vec<Instant>,
    took: Vec<(Instant, Duration)>,
    refused: Vec<String>,
    odd: Vec<String>,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
}

/// What all of them saw.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// When answers came, in order.
    pub(crate) answers: Vec<Instant>,
    /// When each submission that was accepted was sent, and how long that took.
    took: Vec<(Instant, Duration)>,
    /// Connections that nobody took.
    pub(crate) refused: Vec<String>,
}

impl Record {
    /// No connection was refused.
    pub(crate) fn nobody_refused(&self) -> Held {
        match self.refused.first() {
            Some(first) => {
                Err(Broken::new(format!("{} connections were refused: {first}", self.refused.len())))
            }
            None => Ok(()),
        }
    }

    /// The time within which 99 of 100 submissions were accepted, of those that were sent between two instants.
    pub(crate) fn p99(&self, from: Instant, to: Instant) -> Option<Duration> {
        let sent = self.took.iter().filter(|(at, _)| (from..to).contains(at));
        let mut took: Vec<Duration> = sent.map(|(_, took)| *took).collect();
        took.sort();
        took.get(took.len() * 99 / 100).copied()
    }

    /// The longest silence among the answers around each fault: from the last answer before it to the first after.
    pub(crate) fn outages(&self, faults: &[Instant]) -> Vec<Duration> {
        let gap_at = |fault: &Instant| {
            let after = self.answers.partition_point(|at| at <= fault);
            let first = self.answers.get(after)?;
            let last = self.answers.get(after.checked_sub(1)?)?;
            // An answer that was on its way is not yet the next life's.
            let next = self.answers.get(after + 1).unwrap_or(first);
            Some(first.duration_since(*last).max(next.duration_since(*first)))
        };
        faults.iter().filter_map(gap_at).collect()
    }
}

impl Load {
    /// Begins; `name` makes keys that no other load of this gateway uses.
    pub(crate) fn start(gateway: &Gateway, chance: &mut Chance, name: &str, plan: &Plan) -> Held<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        let doors = if plan.tcp { gateway.doors()? } else { vec![gateway.door()] };
        for (number, door) in (0..plan.clients).zip(doors.iter().cycle()) {
            let mut client = Client {
                door: door.clone(),
                runs: gateway.runs(),
                chance: Chance::new(chance.next(), "client"),
                name: format!("{name}-{number}"),
                plan: plan.clone(),
                stop: Arc::clone(&stop),
                seen: Seen::default(),
            };
            let thread = thread::Builder::new().name(format!("client-{number}")).spawn(move || {
                client.run();
                client.seen
            });
            clients.push(thread.during("start a client")?);
        }
        Ok(Self { stop, clients })
    }

    /// Ends the clients; what was accepted goes into the ledger. An answer that no client should ever get is a failure.
    pub(crate) fn stop(self, ledger: &mut Ledger) -> Held<Record> {
        self.stop.store(true, Ordering::Relaxed);
        let mut record = Record::default();
        let mut odd = Vec::new();
        for client in self.clients {
            let seen = client.join().map_err(|_| Broken::new("a client panicked"))?;
            ledger.sent.extend(seen.sent);
            for (key, id) in seen.accepted {
                ledger.accepted(key, id)?;
            }
            record.answers.extend(seen.answers);
            record.took.extend(seen.took);
            record.refused.extend(seen.refused);
            odd.extend(seen.odd);
        }
        record.answers.sort();
        match odd.first() {
            Some(first) => Err(Broken::new(format!("{} answers like this one: {first}", odd.len()))),
            None => Ok(record),
        }
    }
}

struct Client {
    door: Door,
    runs: PathBuf,
    chance: Chance,
    name: String,
    plan: Plan,
    stop: Arc<AtomicBool>,
    seen: Seen,
}

impl Client {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn run(&mut self) {
        let mut number = 0_u64;
        while !self.is_stopped() {
            number += 1;
            let key = format!("{}-{number}", self.name);
            let mut body = work(&self.runs, &key, self.plan.script);
            if !self.chance.one_in(self.plan.runs_one_in)
                && let Some(fields) = body.as_object_mut()
            {
                fields.insert("queue".to_owned(), json!("held"));
            }
            self.seen.sent.push(key.clone());
            self.hand_in(&key, &body);
            let (from, to) = self.plan.think_ms;
            sleep_ms(self.chance.between(from, to));
        }
    }

    /// Until it is accepted. Once the load is to end, whoever gets no answer at all gives up.
    fn hand_in(&mut self, key: &str, body: &Value) {
        let request = Request { method: "POST", path: "/v1/tasks", key: Some(key), body: Some(body) };
        let mut begin = now();
        while begin.elapsed() < PATIENCE {
            let asked = now();
            match self.door.ask(&request, Duration::from_secs(20)) {
                Ok(answer) if matches!(answer.status, 200 | 202) => {
                    self.seen.answers.push(now());
                    self.seen.took.push((asked, asked.elapsed()));
                    if let Some(id) = answer.json().get("id").and_then(Value::as_str) {
                        self.seen.accepted.push((key.to_owned(), id.to_owned()));
                    }
                    return;
                }
                // Refused for now, in good order.
                Ok(answer) if matches!(answer.status, 429 | 503 | 507) => {
                    if self.is_stopped() {
                        return;
                    }
                    // An answer it is: patience is for those who get none.
                    begin = now();
                    sleep_ms(10);
                }
                Ok(answer) => {
                    self.seen.odd.push(format!("{key}: {} {}", answer.status, answer.text()));
                    return;
                }
                Err(error) => {
                    if let NoAnswer::Refused(error) = &error {
                        self.seen.refused.push(error.to_string());
                    }
                    if self.is_stopped() {
                        return;
                    }
                    sleep_ms(2);
                }
            }
        }
        self.seen.odd.push(format!("{key}: no answer for {PATIENCE:?}"));
    }
}
