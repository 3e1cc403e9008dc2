//! Row 26: whatever Redis does, results are right, no client sees an error, and once the breaker is open nobody waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::{Need, Row};
use crate::Held;
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::{now, until};
use crate::gateway::Gateway;
use crate::redis::{Proxy, Redis};
use crate::run::Session;

pub(super) const REDIS: Row = Row {
    name: "26",
    fault: "Redis down, frozen, slow, hanging, full, flushed, lying",
    needs: &[Need::Redis],
    few: 9,
    session: redis,
};

/// What is done to Redis, or to the way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Down,
    Frozen,
    Slow,
    Hanging,
    ReadOnly,
    OutOfMemory,
    Flushed,
    /// Other bytes of the same length under every key.
    Poisoned,
    /// Bytes of another length, as of another store's round.
    Stale,
}

const FAULTS: &[Fault] = &[
    Fault::Frozen,
    Fault::Down,
    Fault::Slow,
    Fault::Poisoned,
    Fault::Hanging,
    Fault::ReadOnly,
    Fault::OutOfMemory,
    Fault::Flushed,
    Fault::Stale,
];

/// With the breaker open a read may take so much longer than with none to ask (the row's figure).
const LONGER: Duration = Duration::from_millis(5);
/// Reads for a figure: the 99th hundredth needs some.
const READS: u32 = 400;
/// Reads of one fault.
const FEW_READS: u64 = 40;

/// A result too large to be answered in one piece from the store.
const MUCH: &str = "i=0; while [ $i -lt 20000 ]; do echo \"$0 $i\"; i=$((i+1)); done";

/// Results that there must be, by id.
type Results = BTreeMap<String, String>;

struct Place {
    gateway: Gateway,
    redis: Redis,
    proxy: Proxy,
    ledger: Ledger,
    results: Results,
}

fn redis(session: &mut Session<'_>) -> Held<u32> {
    let redis = Redis::start()?;
    let proxy = Proxy::before(&redis)?;
    let limits = format!("breaker_probe_s = 1\ncache_timeout_ms = 200\n[cache]\nredis = \"{}\"", proxy.url());
    let gateway = session.gateway(&limits)?;
    let mut place = Place { gateway, redis, proxy, ledger: Ledger::default(), results: Results::new() };
    for number in 0..8 {
        place.add(&format!("before-{number}"))?;
    }
    let much = place.gateway.submit("much", &place.gateway.work("much", MUCH))?;
    place.ended(&much)?;
    let lines: String = (0..20_000).map(|line| format!("much {line}\n")).collect();
    place.results.insert(much, lines);

    let first = usize::try_from(session.seed.saturating_sub(1)).unwrap_or(0) % FAULTS.len();
    let trials = session.at_most.min(18);
    for (trial, fault) in (0..trials).zip(FAULTS.iter().cycle().skip(first)) {
        place
            .one(session, trial, *fault)
            .map_err(|error| crate::Broken::new(format!("{fault:?}: {error}")))?;
    }
    // Its result is no line of the ledger's kind, and was looked at here.
    check::all_there_so_far(&place.gateway, &place.ledger)?;
    place.gateway.down()?;
    check::nothing_left(&place.gateway)?;
    check::whole_database(&place.gateway)?;
    Ok(trials)
}

impl Place {
    fn ended(&self, id: &str) -> Held {
        let task = self.gateway.ended(id)?;
        holds!(task.state == "succeeded", "{task:?}");
        Ok(())
    }

    /// A task that has ended, whatever becomes of its place in the cache.
    fn add(&mut self, key: &str) -> Held {
        let id = self.gateway.submit(key, &self.gateway.work(key, SAY))?;
        self.ledger.accepted(key.to_owned(), id.clone())?;
        self.ended(&id)?;
        self.results.insert(id, check::expected(key));
        Ok(())
    }

    fn cache(&self, field: &str) -> Held<Value> {
        let status = self.gateway.asked("GET", "/v1/status", None, 200)?.json();
        status.pointer(&format!("/layers/cache/{field}")).cloned().during("the cache's status")
    }

    fn breaker_is(&self, state: &str) -> Held {
        until(&format!("the breaker is {state}"), || Ok((self.cache("breaker")? == state).then_some(())))
    }

    /// Reads one result, which must be right; how long it took.
    fn read(&self, at: u64) -> Held<Duration> {
        let at = usize::try_from(at).unwrap_or(0) % self.results.len().max(1);
        let (id, expected) = self.results.iter().nth(at).during("a result")?;
        let began = now();
        let result = self.gateway.result(id)?;
        let took = now().duration_since(began);
        holds!(result == *expected, "I1: the result of {id} is {:?}…", result.get(..60).unwrap_or(&result));
        Ok(took)
    }

    /// The time within which 99 of 100 reads are answered.
    fn p99(&self) -> Held<Duration> {
        let mut took = Vec::new();
        for at in 0..READS {
            took.push(self.read(u64::from(at))?);
        }
        took.sort();
        took.get(took.len() * 99 / 100).copied().during("a read")
    }

    fn one(&mut self, session: &mut Session<'_>, trial: u32, fault: Fault) -> Held {
        self.breaker_is("closed")?;
        let normal = if fault == Fault::Frozen { Some(self.p99()?) } else { None };
        self.make(session, fault)?;
        let mut longest = Duration::ZERO;
        for _ in 0..FEW_READS {
            longest = longest.max(self.read(session.chance.next())?);
        }
        session.outage(longest);
        self.add(&format!("during-{trial}"))?;
        if let Some(normal) = normal {
            until("the breaker opens", || {
                self.read(session.chance.next())?;
                Ok((self.cache("opened")?.as_u64() > Some(0) && self.cache("breaker")? != "closed")
                    .then_some(()))
            })?;
            let open = self.p99()?;
            session.figure(format!(
                "with Redis frozen and its breaker open 99 of 100 of {READS} reads took at most {open:.2?}, and {normal:.2?} before"
            ));
            // Where outages are not judged strictly, a busy machine may be slower here, too.
            let longer = if session.is_strict() { LONGER } else { session.outage_bound };
            holds!(
                open <= normal + longer,
                "with the breaker open p99 of reads is {open:?}, and {normal:?} before"
            );
        }
        self.cure(fault)?;
        self.add(&format!("after-{trial}"))?;
        self.breaker_is("closed")?;
        for at in 0..self.results.len() {
            self.read(u64::try_from(at).unwrap_or(0))?;
        }
        // It serves again.
        let hits = self.cache("hits")?.as_u64();
        until("it is used again", || {
            self.read(session.chance.next())?;
            Ok((self.cache("hits")?.as_u64() > hits).then_some(()))
        })
    }

    fn make(&mut self, session: &mut Session<'_>, fault: Fault) -> Held {
        match fault {
            Fault::Down => self.redis.down(),
            Fault::Frozen => self.redis.signal(Signal::STOP),
            Fault::Slow => {
                self.proxy.delay(session.chance.between(10, 300));
                Ok(())
            }
            Fault::Hanging => {
                self.proxy.hang();
                Ok(())
            }
            Fault::ReadOnly => self.redis.told(&["REPLICAOF", "127.0.0.1", "1"]).map(|_| ()),
            Fault::OutOfMemory => self.redis.told(&["CONFIG", "SET", "maxmemory", "1"]).map(|_| ()),
            Fault::Flushed => self.redis.told(&["FLUSHALL"]).map(|_| ()),
            Fault::Poisoned => self.rewrite("string.reverse(was)"),
            Fault::Stale => self.rewrite("string.sub(was, 2)"),
        }
    }

    /// Puts something else under every key.
    fn rewrite(&self, lua: &str) -> Held {
        let script = format!(
            "for _, key in ipairs(redis.call('KEYS', '*')) do local was = redis.call('GET', key); redis.call('SET', key, {lua}) end return 1"
        );
        self.redis.told(&["EVAL", &script, "0"]).map(|_| ())
    }

    fn cure(&mut self, fault: Fault) -> Held {
        match fault {
            Fault::Down => self.redis.up(),
            Fault::Frozen => self.redis.signal(Signal::CONT),
            Fault::Slow | Fault::Hanging => {
                self.proxy.delay(0);
                Ok(())
            }
            Fault::ReadOnly => self.redis.told(&["REPLICAOF", "NO", "ONE"]).map(|_| ()),
            Fault::OutOfMemory => self.redis.told(&["CONFIG", "SET", "maxmemory", "0"]).map(|_| ()),
            Fault::Flushed | Fault::Poisoned | Fault::Stale => Ok(()),
        }
    }
}
