//! `chitin bench roundtrip`: from a submission to its result, each client one after the other: submit, wait for the
//! end, fetch the bytes.

use serde_json::Value;

use super::figures::{Latency, Pair, Report, ratio};
use super::load::{self, Script, Turn};
use super::own::Own;
use super::wire::Target;
use super::{Plan, disk, memory, spawn};
use crate::failure::Failure;

const TASK: &str = r#"{"command":["/bin/echo","round","trip"]}"#;
const RESULT: &[u8] = b"round trip\n";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Submit,
    Wait,
    Fetch,
}

/// One client.
struct Trip {
    target: Target,
    step: Step,
    bytes: Vec<u8>,
    id: String,
}

impl Trip {
    fn new(target: &Target) -> Self {
        let mut trip =
            Self { target: target.clone(), step: Step::Submit, bytes: Vec::new(), id: String::new() };
        trip.next(Step::Submit);
        trip
    }

    fn next(&mut self, step: Step) {
        let id = &self.id;
        self.bytes = match step {
            Step::Submit => self.target.request("POST", "/v1/tasks", "", TASK.as_bytes()),
            Step::Wait => self.target.request("GET", &format!("/v1/tasks/{id}?wait_s=20"), "", b""),
            Step::Fetch => self.target.request("GET", &format!("/v1/tasks/{id}/result"), "", b""),
        };
        self.step = step;
    }
}

impl Script for Trip {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn answer(&mut self, status: u16, body: &[u8]) -> Turn {
        let text = |key: &str| {
            let value: Value = serde_json::from_slice(body).unwrap_or_default();
            value.get(key).and_then(Value::as_str).map(str::to_owned)
        };
        let went = match (&self.step, status) {
            (Step::Submit, 202) => text("id").map(|id| {
                self.id = id;
                Some(Step::Wait)
            }),
            (Step::Wait, 200) => (text("state").as_deref() == Some("succeeded")).then_some(Some(Step::Fetch)),
            (Step::Fetch, 200) => (body == RESULT).then_some(None),
            _ => None,
        };
        match went {
            Some(Some(step)) => {
                self.next(step);
                Turn::More
            }
            Some(None) => {
                self.next(Step::Submit);
                Turn::Done
            }
            None => {
                let why = format!("{:?}: {status} {}", self.step, String::from_utf8_lossy(body));
                self.next(Step::Submit);
                Turn::Failed(why)
            }
        }
    }
}

/// Measures.
pub(super) fn measure(plan: &Plan) -> Result<Report, Failure> {
    let (stop, clients) = (&plan.stop, plan.clients.unwrap_or(4));
    let (spawn_before, sync_before) = (spawn::rate(plan)?, disk::fdatasync(&plan.dir, plan.short(), stop)?);
    let own = Own::start(&plan.dir, &[])?;
    let scripts = (0..clients).map(|_| Trip::new(own.target())).collect();
    let outcome = load::run(own.target().address, scripts, plan.pace(), stop)?;
    let after = memory::private_bytes(own.pid())?;
    drop(own);
    let spawn = Pair { before: spawn_before, after: spawn::rate(plan)? };
    let sync = Pair { before: sync_before, after: disk::fdatasync(&plan.dir, plan.short(), stop)? };
    let mut report = Report {
        bench: "roundtrip",
        unit: "round trips",
        clients,
        seconds: plan.seconds,
        rate: outcome.rate,
        latency: Some(Latency::of(&outcome.latency)),
        references: vec![("spawn", spawn), ("fdatasync", sync)],
        memory: vec![("gateway_after_bytes", after)],
        errors: outcome.errors,
        first_error: outcome.first_error,
        ..Report::default()
    };
    let value = ratio(report.rate, spawn.mean().rate);
    report.ratio("spawn", value, "of posix_spawn's rate on two threads", None);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trip_has_three_steps_and_begins_again() {
        let target = Target { address: "127.0.0.1:1".parse().unwrap(), token: "t".to_owned() };
        let mut trip = Trip::new(&target);
        assert_eq!(trip.answer(202, br#"{"id":"x","state":"queued"}"#), Turn::More);
        assert!(trip.bytes().starts_with(b"GET /v1/tasks/x?wait_s=20 HTTP/1.1\r\n"));
        assert_eq!(trip.answer(200, br#"{"state":"succeeded"}"#), Turn::More);
        assert!(trip.bytes().starts_with(b"GET /v1/tasks/x/result HTTP/1.1\r\n"));
        assert_eq!(trip.answer(200, RESULT), Turn::Done);
        assert!(trip.bytes().starts_with(b"POST /v1/tasks HTTP/1.1\r\n"));
    }

    #[test]
    fn what_went_wrong_is_said_and_the_next_trip_begins() {
        let target = Target { address: "127.0.0.1:1".parse().unwrap(), token: "t".to_owned() };
        let mut trip = Trip::new(&target);
        assert_eq!(trip.answer(202, br#"{"id":"x"}"#), Turn::More);
        assert_eq!(
            trip.answer(200, br#"{"state":"dead"}"#),
            Turn::Failed(r#"Wait: 200 {"state":"dead"}"#.to_owned())
        );
        assert!(trip.bytes().starts_with(b"POST "));
    }
}
