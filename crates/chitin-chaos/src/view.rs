//! A task as the gateway shows it, as far as the suite judges it.

use serde_json::Value;

/// A task.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) attempt: u64,
    pub(crate) has_ended: bool,
    /// What the suite knows it by: its one tag.
    pub(crate) key: String,
    /// Oldest first; empty in lists.
    pub(crate) attempts: Vec<Attempt>,
}

/// One attempt.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// Empty while it runs.
    pub(crate) outcome: String,
    pub(crate) exit_code: Option<i64>,
    pub(crate) signal: Option<i64>,
    /// What is said of its end; empty: nothing.
    pub(crate) error: String,
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Task {
    pub(crate) fn of(value: &Value) -> Self {
        let tags = value.get("tags").and_then(Value::as_array);
        let attempts = value.get("attempts").and_then(Value::as_array);
        let attempt = |value: &Value| Attempt {
            outcome: text(value, "outcome"),
            exit_code: value.get("exit_code").and_then(Value::as_i64),
            signal: value.get("signal").and_then(Value::as_i64),
            error: text(value, "error"),
        };
        Self {
            id: text(value, "id"),
            state: text(value, "state"),
            reason: text(value, "reason"),
            attempt: value.get("attempt").and_then(Value::as_u64).unwrap_or(0),
            has_ended: value.get("ended_at").is_some_and(|at| !at.is_null()),
            key: tags.and_then(|tags| tags.first()?.as_str()).unwrap_or_default().to_owned(),
            attempts: attempts.map(|all| all.iter().map(attempt).collect()).unwrap_or_default(),
        }
    }

    /// The outcomes of its attempts, in order.
    pub(crate) fn outcomes(&self) -> Vec<&str> {
        self.attempts.iter().map(|attempt| attempt.outcome.as_str()).collect()
    }
}
