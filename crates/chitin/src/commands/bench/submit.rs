//! `chitin bench submit`: single submissions, each answered when it is on disk, against the bare stack under the same
//! load.

use super::figures::{Goal, Latency, Pair, Report, ratio};
use super::load::{self, Outcome, Script, Turn};
use super::own::Own;
use super::wire::Target;
use super::{Plan, Speed, disk, echo, memory, sqlite};
use crate::failure::Failure;

/// A submission of some 300 bytes, as a script would send it.
pub(super) const TASK: &str = r#"{"command":["/usr/local/bin/convert-report","--input","/srv/reports/incoming/2026-01-02T03-04-05.csv","--output","/srv/reports/done/2026-01-02.json"],"env":{"REPORT_LOCALE":"de_DE.UTF-8"},"queue":"default","priority":5,"timeout_s":600,"retry":{"max":3,"backoff_s":[60,300,900],"jitter":0.1}}"#;

/// How many digits a key has.
const KEY_DIGITS: usize = 32;

/// Whether submissions carry an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Each its own.
    Sent,
    /// None.
    Omitted,
}

/// Sends the same submission again and again.
#[derive(Debug)]
pub(super) struct Submission {
    bytes: Vec<u8>,
    /// Where the key's last digits stand, and the key.
    key: Option<(usize, u64)>,
    judge: fn(u16, &[u8]) -> Turn,
}

/// One a client, with keys that never meet.
pub(super) fn scripts(target: &Target, clients: usize, keys: Keys) -> Vec<Submission> {
    let script = |client: usize| {
        let first = u64::try_from(client).unwrap_or(0) << 40;
        let header = match keys {
            Keys::Sent => format!("idempotency-key: {first:0KEY_DIGITS$x}\r\n"),
            Keys::Omitted => String::new(),
        };
        let bytes = target.request("POST", "/v1/tasks", &header, TASK.as_bytes());
        let key = (keys == Keys::Sent).then(|| (bytes.len() - TASK.len() - 4 - KEY_DIGITS, first));
        Submission { bytes, key, judge: accepted }
    };
    (0..clients).map(script).collect()
}

/// One a client, that hands this task in and may be turned away.
pub(super) fn floods(target: &Target, clients: usize, task: &str) -> Vec<Submission> {
    let bytes = target.request("POST", "/v1/tasks", "", task.as_bytes());
    (0..clients).map(|_| Submission { bytes: bytes.clone(), key: None, judge: accepted_or_refused }).collect()
}

impl Script for Submission {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn answer(&mut self, status: u16, body: &[u8]) -> Turn {
        if let Some((at, key)) = &mut self.key {
            *key = key.wrapping_add(1);
            let digits = format!("{key:0KEY_DIGITS$x}");
            if let Some(place) = self.bytes.get_mut(*at..*at + KEY_DIGITS) {
                place.copy_from_slice(digits.as_bytes());
            }
        }
        (self.judge)(status, body)
    }
}

/// Only an acceptance counts: a key that was known already would be one that was never stored.
pub(super) fn accepted(status: u16, body: &[u8]) -> Turn {
    if status == 202 {
        Turn::Done
    } else {
        Turn::Failed(format!("{status} {}", String::from_utf8_lossy(body)))
    }
}

/// A refusal that says when to come back is as good an answer.
fn accepted_or_refused(status: u16, body: &[u8]) -> Turn {
    const WHEN: &[u8] = b"\"retry_after_s\":";
    let says_when = || body.windows(WHEN.len()).any(|window| window == WHEN);
    if matches!(status, 429 | 503) && says_when() { Turn::Refused } else { accepted(status, body) }
}

/// Measures.
pub(super) fn measure(plan: &Plan) -> Result<Report, Failure> {
    let (stop, clients) = (&plan.stop, plan.clients.unwrap_or(32));
    let (pace, peak) = match plan.speed {
        Speed::Most => (plan.pace(), None),
        Speed::Rate(rate) => (plan.paced(rate), None),
        Speed::Part(part) => {
            let peak = peak(plan, clients)?;
            (plan.paced(peak.rate * part), Some(peak))
        }
    };
    let sync_before = disk::fdatasync(&plan.dir, plan.short(), stop)?;
    let sqlite_before = sqlite::rate(plan, 1)?;
    let echo_before = echo::measure(clients, pace, plan.keys, stop)?;
    let own = Own::start(&plan.dir, &[])?;
    own.pause()?;
    let outcome = load::run(own.target().address, scripts(own.target(), clients, plan.keys), pace, stop)?;
    let after = memory::private_bytes(own.pid())?;
    drop(own);
    let echo = Pair { before: echo_before, after: echo::measure(clients, pace, plan.keys, stop)? };
    let sync = Pair { before: sync_before, after: disk::fdatasync(&plan.dir, plan.short(), stop)? };
    let sqlite = Pair { before: sqlite_before, after: sqlite::rate(plan, 1)? };

    let latency = Latency::of(&outcome.latency);
    let mut report = Report {
        bench: "submit",
        unit: "submissions",
        clients,
        seconds: plan.seconds,
        rate: outcome.rate,
        latency: Some(latency),
        references: vec![("echo", echo), ("fdatasync", sync), ("sqlite", sqlite)],
        memory: vec![("gateway_after_bytes", after)],
        errors: outcome.errors,
        first_error: outcome.first_error,
        ..Report::default()
    };
    if let Some(peak) = peak {
        let longest = Latency::of(&peak.latency).max_ms;
        report.check("submissions/s at most, as fast as they are answered", peak.rate, None);
        report.check("milliseconds, the longest of them", longest, Some(Goal::AtMost(1_000.0)));
    }
    if plan.speed != Speed::Most {
        // At a rate of one's own there is nothing to compare rates with.
        report.check("p99, milliseconds from when each fell due", latency.p99_ms, Some(Goal::AtMost(50.0)));
        report.check("milliseconds, the longest", latency.max_ms, Some(Goal::AtMost(1_000.0)));
        return Ok(report);
    }
    let goal = match clients {
        32 => Some(Goal::AtLeast(0.4)),
        256 => Some(Goal::AtLeast(0.5)),
        _ => None,
    };
    report.ratio("echo", ratio(outcome.rate, echo.mean().rate), "of the bare echo's rate", goal);
    if clients == 256 {
        report.check("p99, milliseconds", latency.p99_ms, Some(Goal::AtMost(25.0)));
    }
    if clients == 1 {
        let reference = echo.mean().p50_ms.unwrap_or(0.0) + sync.mean().p50_ms.unwrap_or(0.0);
        let what = "p50, of the echo's and fdatasync's together";
        report.ratio("p50", ratio(latency.p50_ms, reference), what, Some(Goal::AtMost(1.5)));
    }
    Ok(report)
}

/// What the clients get done at most.
fn peak(plan: &Plan, clients: usize) -> Result<Outcome, Failure> {
    let own = Own::start(&plan.dir, &[])?;
    own.pause()?;
    load::run(own.target().address, scripts(own.target(), clients, plan.keys), plan.pace(), &plan.stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_another() {
        let target = Target { address: "127.0.0.1:1".parse().unwrap(), token: "t".to_owned() };
        let key = |script: &Submission| {
            let text = String::from_utf8(script.bytes().to_vec()).unwrap();
            text.split_once("idempotency-key: ").unwrap().1.split_once("\r\n").unwrap().0.to_owned()
        };
        let mut scripts = scripts(&target, 2, Keys::Sent);
        assert_ne!(key(&scripts[0]), key(&scripts[1]));
        let first = key(&scripts[0]);
        assert_eq!(scripts[0].answer(202, b""), Turn::Done);
        assert_ne!(key(&scripts[0]), first);
        assert_eq!(key(&scripts[0]).len(), KEY_DIGITS);
        assert_eq!(scripts[0].answer(200, b"x"), Turn::Failed("200 x".to_owned()));
    }

    #[test]
    fn a_submission_is_what_it_says() {
        let task: serde_json::Value = serde_json::from_str(TASK).unwrap();
        assert!(task.get("tags").is_none());
        assert!((280..=340).contains(&TASK.len()), "{}", TASK.len());
    }
}
