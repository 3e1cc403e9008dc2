//! What a task's end means as an exit code, for `run` and `wait`; and the codes of everything else. Pure: the contract's
//! table, and nothing but it.

use chitin_proto::http::{AttemptView, TaskView};

/// Bad usage or configuration (`EX_USAGE`).
pub(crate) const USAGE: u8 = 64;
/// No gateway could be reached (`EX_UNAVAILABLE`).
pub(crate) const UNREACHABLE: u8 = 69;
/// Refused for now: the same again may work later (`EX_TEMPFAIL`).
pub(crate) const REFUSED: u8 = 75;
/// A gateway that cannot go on as it is (`EX_SOFTWARE`); its supervisor starts another.
pub(crate) const CRASHED: u8 = 70;
/// Anything else that went wrong.
pub(crate) const OTHER: u8 = 1;
/// The task ran out of time, or made no progress.
pub(crate) const TIMED_OUT: u8 = 124;
/// Our own trouble: the command's code is unknown, or there is none.
pub(crate) const TROUBLE: u8 = 125;
/// Cancelled; also what detaching with Ctrl-C gives.
pub(crate) const CANCELLED: u8 = 130;
/// Out of memory: what a shell shows for SIGKILL.
pub(crate) const OUT_OF_MEMORY: u8 = 137;
/// Our output was closed: what a shell shows for SIGPIPE.
pub(crate) const PIPE_CLOSED: u8 = 141;

/// The exit code of a task that has ended; none while it is open.
pub(crate) fn of_task(task: &TaskView) -> Option<u8> {
    match task.state.as_str() {
        "succeeded" => Some(0),
        "cancelled" => Some(CANCELLED),
        "expired" => Some(TROUBLE),
        "dead" if task.reason.as_deref() == Some("poison") => Some(TROUBLE),
        "dead" => Some(last_attempt(task).map_or(TROUBLE, of_attempt)),
        _ => None,
    }
}

/// The attempt that decided how the task ended.
pub(crate) fn last_attempt(task: &TaskView) -> Option<&AttemptView> {
    task.attempts.as_deref()?.last()
}

fn of_attempt(attempt: &AttemptView) -> u8 {
    match attempt.outcome.as_deref() {
        Some("failed") => attempt.exit_code.and_then(failing).unwrap_or(TROUBLE),
        Some("timed_out" | "stalled") => TIMED_OUT,
        Some("oom_killed") => OUT_OF_MEMORY,
        Some("signalled") => attempt.signal.and_then(by_signal).unwrap_or(TROUBLE),
        Some("cancelled") => CANCELLED,
        _ => TROUBLE,
    }
}

/// A failure must never look like a success.
fn failing(code: i32) -> Option<u8> {
    u8::try_from(code).ok().filter(|code| *code != 0)
}

fn by_signal(signal: i32) -> Option<u8> {
    u8::try_from(signal).ok().filter(|signal| (1..=64).contains(signal)).map(|signal| 128 + signal)
}

#[cfg(test)]
pub(crate) mod tests {
    use chitin_proto::http::RetryView;

    use super::*;

    pub(crate) fn attempt(outcome: &str, exit_code: Option<i32>, signal: Option<i32>) -> AttemptView {
        AttemptView {
            attempt: 1,
            outcome: Some(outcome.to_owned()),
            exit_code,
            signal,
            error: None,
            started_at: None,
            ended_at: None,
            peak_memory_bytes: None,
            cpu_s: None,
        }
    }

    pub(crate) fn task(state: &str, reason: Option<&str>, attempts: Vec<AttemptView>) -> TaskView {
        TaskView {
            id: "01980000-0000-7000-8000-000000000001".to_owned(),
            short_id: None,
            state: state.to_owned(),
            reason: reason.map(str::to_owned),
            handler: None,
            command: Some(vec!["true".to_owned()]),
            queue: "default".to_owned(),
            priority: 5,
            submitted_at: "2026-01-02T03:04:05Z".to_owned(),
            run_at: None,
            started_at: None,
            ended_at: None,
            expires_at: None,
            round: 1,
            attempt: 1,
            attempts: Some(attempts),
            progress: None,
            tags: Vec::new(),
            timeout_s: None,
            memory_bytes: None,
            retry: RetryView { max: 0, backoff_s: vec![60.0], jitter: 0.0 },
            cancel_requested: false,
            result_truncated: false,
        }
    }

    #[test]
    fn the_whole_table() {
        let exhausted = Some("retries_exhausted");
        let dead = |attempt| task("dead", exhausted, vec![attempt]);
        let table = [
            (task("succeeded", None, vec![attempt("succeeded", Some(0), None)]), Some(0)),
            (dead(attempt("failed", Some(1), None)), Some(1)),
            (dead(attempt("failed", Some(3), None)), Some(3)),
            (dead(attempt("failed", Some(255), None)), Some(255)),
            (task("dead", Some("non_retryable"), vec![attempt("failed", Some(127), None)]), Some(127)),
            (task("dead", Some("non_retryable"), vec![attempt("failed", Some(126), None)]), Some(126)),
            (task("dead", Some("non_retryable"), vec![attempt("failed", Some(125), None)]), Some(125)),
            (dead(attempt("failed", None, None)), Some(125)),
            (dead(attempt("failed", Some(0), None)), Some(125)),
            (dead(attempt("failed", Some(256), None)), Some(125)),
            (dead(attempt("timed_out", None, Some(15))), Some(124)),
            (dead(attempt("stalled", None, Some(9))), Some(124)),
            (dead(attempt("oom_killed", None, Some(9))), Some(137)),
            (dead(attempt("signalled", None, Some(9))), Some(137)),
            (dead(attempt("signalled", None, Some(15))), Some(143)),
            (dead(attempt("signalled", None, Some(64))), Some(192)),
            (dead(attempt("signalled", None, Some(0))), Some(125)),
            (dead(attempt("signalled", None, None)), Some(125)),
            (dead(attempt("worker_lost", None, None)), Some(125)),
            (dead(attempt("host_lost", None, None)), Some(125)),
            (dead(attempt("cancelled", None, Some(15))), Some(130)),
            (dead(attempt("something new", Some(0), None)), Some(125)),
            (task("dead", Some("poison"), vec![attempt("oom_killed", None, Some(9))]), Some(125)),
            (task("dead", exhausted, vec![]), Some(125)),
            (task("cancelled", None, vec![]), Some(130)),
            (task("cancelled", None, vec![attempt("cancelled", None, Some(15))]), Some(130)),
            (task("expired", None, vec![]), Some(125)),
            (task("scheduled", Some("backoff"), vec![attempt("failed", Some(1), None)]), None),
            (task("queued", None, vec![]), None),
            (task("running", None, vec![]), None),
            (task("paused", None, vec![]), None),
        ];
        for (task, code) in table {
            assert_eq!(of_task(&task), code, "{} {:?} {:?}", task.state, task.reason, task.attempts);
        }
    }

    #[test]
    fn the_last_attempt_decides() {
        let attempts = vec![attempt("timed_out", None, None), attempt("failed", Some(4), None)];
        assert_eq!(of_task(&task("dead", Some("retries_exhausted"), attempts)), Some(4));
    }
}
