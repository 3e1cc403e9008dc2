//! From rows to what clients are shown.

use chitin_core::{AttemptRow, TaskRow};
use chitin_proto::http::{AttemptView, RetryView, TaskView};
use chitin_store::{ListedTask, TaskDetail};

use super::time;

pub(crate) fn detail(detail: &TaskDetail) -> TaskView {
    let mut view = task(&detail.row, &detail.payload_command, &detail.queue);
    view.attempts = Some(detail.attempts.iter().map(attempt).collect());
    view.result_truncated = detail.result.as_ref().is_some_and(|result| result.truncated);
    view
}

pub(crate) fn listed(listed: &ListedTask) -> TaskView {
    let mut view = task(&listed.row, &listed.command, &listed.queue);
    view.short_id = Some(prefix(&view.id, listed.short_prefix_len));
    view
}

/// The first `digits` hexadecimal digits of an id, with the hyphens between them.
fn prefix(id: &str, digits: usize) -> String {
    let mut left = digits;
    let taken = id.chars().take_while(|c| {
        let go_on = left > 0;
        left -= usize::from(go_on && *c != '-');
        go_on
    });
    taken.collect()
}

fn task(row: &TaskRow, command: &str, queue: &str) -> TaskView {
    TaskView {
        id: row.id.to_string(),
        short_id: None,
        state: row.state.as_str().to_owned(),
        reason: row.state.reason().map(str::to_owned),
        handler: None,
        command: serde_json::from_str(command).ok(),
        queue: queue.to_owned(),
        priority: row.priority.get(),
        submitted_at: time::show(row.submitted_at_ms),
        run_at: row.due.map(|due| time::show(due.wall_ms())),
        started_at: row.started_at_ms.map(time::show),
        ended_at: row.ended_at_ms.map(time::show),
        expires_at: row.expires.map(|expires| time::show(expires.wall_ms)),
        round: row.round,
        attempt: row.attempt.0,
        attempts: None,
        progress: None,
        tags: row.tags.clone(),
        timeout_s: row.policy.timeout_ms.map(time::seconds),
        memory_bytes: row.policy.memory_bytes.map(i64::unsigned_abs),
        retry: RetryView {
            max: row.policy.retry.max,
            backoff_s: row.policy.retry.backoff_ms.iter().map(|ms| time::seconds(i64::from(*ms))).collect(),
            jitter: f64::from(row.policy.retry.jitter.permille()) / 1_000.0,
        },
        cancel_requested: row.cancel_requested,
        result_truncated: false,
    }
}

fn attempt(row: &AttemptRow) -> AttemptView {
    AttemptView {
        attempt: row.attempt.0,
        outcome: row.outcome.map(|outcome| outcome.as_str().to_owned()),
        exit_code: row.exit_code,
        signal: row.signal,
        error: row.error.clone(),
        started_at: Some(time::show(row.started_at_ms.unwrap_or(row.leased_at_ms))),
        ended_at: row.ended_at_ms.map(time::show),
        peak_memory_bytes: row.peak_memory_bytes.map(i64::unsigned_abs),
        cpu_s: row.cpu_ms.map(time::seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_counts_digits_not_hyphens() {
        let id = "0190abcd-ef01-7234-89ab-cdef01234567";
        assert_eq!(prefix(id, 8), "0190abcd");
        assert_eq!(prefix(id, 9), "0190abcd-e");
        assert_eq!(prefix(id, 32), id);
    }
}
