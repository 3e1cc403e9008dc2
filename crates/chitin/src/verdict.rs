//! How a task ended, in words, where the exit code alone does not say it.

use chitin_proto::http::{AttemptView, TaskView};

use crate::exit;
use crate::units::{show_duration, show_size};

/// One line about an end that was no plain exit; none if there is nothing to add to the exit code.
pub(crate) fn of_task(task: &TaskView) -> Option<String> {
    match task.state.as_str() {
        "cancelled" => return Some("cancelled".to_owned()),
        "expired" => return Some("expired before it was started".to_owned()),
        "dead" => {}
        _ => return None,
    }
    let last = exit::last_attempt(task);
    let how = last.and_then(|attempt| of_attempt(task, attempt));
    match (task.reason.as_deref(), how) {
        (Some("poison"), Some(how)) => {
            Some(format!("set aside, because it took its workers down; at last: {how}"))
        }
        (Some("poison"), None) => Some("set aside, because it took its workers down".to_owned()),
        (_, None) if last.is_none() => Some("ended without an attempt".to_owned()),
        (_, how) => how,
    }
}

fn of_attempt(task: &TaskView, attempt: &AttemptView) -> Option<String> {
    let error = attempt.error.as_deref();
    let with_error = |what: &str| error.map_or_else(|| what.to_owned(), |error| format!("{what}: {error}"));
    match attempt.outcome.as_deref() {
        Some("failed") => match (error, attempt.exit_code) {
            (Some(error), _) => Some(error.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("failed without an exit code".to_owned()),
        },
        Some("timed_out") => Some(match task.timeout_s {
            Some(timeout) => format!("timed out after {}", show_duration(timeout)),
            None => "timed out".to_owned(),
        }),
        Some("stalled") => Some("stalled: it made no progress for too long".to_owned()),
        Some("oom_killed") => Some(out_of_memory(task, attempt)),
        Some("signalled") => Some(match attempt.signal {
            Some(signal) => with_error(&format!("ended by {}", signal_name(signal))),
            None => with_error("ended by a signal"),
        }),
        Some("worker_lost") => Some(with_error("lost its worker")),
        Some("host_lost") => Some(with_error("lost when the machine stopped")),
        Some("cancelled") => Some("cancelled".to_owned()),
        _ => error.map(str::to_owned),
    }
}

fn out_of_memory(task: &TaskView, attempt: &AttemptView) -> String {
    let mut line = "out of memory".to_owned();
    let limit = task.memory_bytes.map(|bytes| format!("limit {}", show_size(bytes)));
    let peak = attempt.peak_memory_bytes.map(|bytes| format!("peak {}", show_size(bytes)));
    let known: Vec<String> = limit.into_iter().chain(peak).collect();
    if !known.is_empty() {
        line.push_str(": ");
        line.push_str(&known.join(", "));
    }
    line
}

/// A signal's number, with its name if people know it.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::tests::{attempt, task};

    fn dead(attempt: AttemptView) -> TaskView {
        task("dead", Some("retries_exhausted"), vec![attempt])
    }

    #[test]
    fn a_plain_exit_needs_no_words() {
        assert_eq!(of_task(&task("succeeded", None, vec![attempt("succeeded", Some(0), None)])), None);
        assert_eq!(of_task(&dead(attempt("failed", Some(3), None))), None);
    }

    #[test]
    fn everything_else_is_said() {
        let line = |task: &TaskView| of_task(task).unwrap();
        let missing = AttemptView {
            error: Some("no such command: `nosuch`".to_owned()),
            ..attempt("failed", Some(127), None)
        };
        assert_eq!(line(&dead(missing)), "no such command: `nosuch`");

        let late = TaskView { timeout_s: Some(5.0), ..dead(attempt("timed_out", None, Some(15))) };
        assert_eq!(line(&late), "timed out after 5s");

        let full =
            AttemptView { peak_memory_bytes: Some(63_990_000), ..attempt("oom_killed", None, Some(9)) };
        let full = TaskView { memory_bytes: Some(64_000_000), ..dead(full) };
        assert_eq!(line(&full), "out of memory: limit 64MB, peak 63.9MB");
        assert_eq!(line(&dead(attempt("oom_killed", None, None))), "out of memory");

        assert_eq!(line(&dead(attempt("signalled", None, Some(11)))), "ended by signal 11 (SIGSEGV)");
        assert_eq!(line(&dead(attempt("signalled", None, Some(40)))), "ended by signal 40");
        assert_eq!(line(&task("cancelled", None, vec![])), "cancelled");
        assert_eq!(line(&task("expired", None, vec![])), "expired before it was started");
        assert_eq!(
            line(&task("dead", Some("poison"), vec![attempt("signalled", None, Some(6))])),
            "set aside, because it took its workers down; at last: ended by signal 6 (SIGABRT)"
        );
    }
}
