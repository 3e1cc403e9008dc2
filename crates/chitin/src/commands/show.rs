//! `chitin show`: one task, with all its attempts.

use chitin_proto::http::{AttemptView, TaskView};
use jiff::Timestamp;

use super::ps;
use crate::cli::Globals;
use crate::client::{Client, api, check_id};
use crate::clock;
use crate::failure::Failure;
use crate::out;
use crate::runtime;
use crate::style::{self, Style};
use crate::table::{self, Cell};
use crate::text;
use crate::units::{show_duration, show_size};

/// Show a task with its attempts
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  chitin show 0198c2f1
  chitin show --json 0198c2f1 | jq .attempts")]
pub(crate) struct Show {
    /// The task; the beginning of an id is enough
    id: String,
    /// Print the gateway's JSON
    #[arg(long)]
    json: bool,
}

/// Shows a task.
pub(crate) fn show(show: &Show, globals: &Globals) -> Result<u8, Failure> {
    let id = check_id(&show.id)?;
    let client = Client::new(&globals.data_dir()?);
    runtime::block_on(async {
        let task = client.task(&id).await?;
        if show.json {
            out::json(&task)?;
        } else {
            out::bytes(layout(&api::shape(task)?, clock::wall(), Style::of_stdout()).as_bytes())?;
        }
        Ok(0)
    })
}

fn layout(task: &TaskView, now: Timestamp, style: Style) -> String {
    let mut lines = vec![
        ("task", task.id.clone()),
        ("state", style.paint(style::of_state(&task.state), &text::escape(&ps::state(task)))),
        ("command", task.command.as_deref().map(text::command_line).unwrap_or_default()),
        ("queue", text::escape(&format!("{}, priority {}", task.queue, task.priority))),
    ];
    let times = [
        ("submitted", Some(&task.submitted_at)),
        ("may start", task.run_at.as_ref()),
        ("started", task.started_at.as_ref()),
        ("ended", task.ended_at.as_ref()),
        ("expires", task.expires_at.as_ref()),
    ];
    // The time to live of what is held stands still: nobody knows when it is over.
    let is_held = task.reason.as_deref() == Some("held");
    for (name, time) in times.into_iter().filter(|(name, _)| *name != "expires" || !is_held) {
        if let Some(time) = time {
            lines.push((name, when(time, now)));
        }
    }
    if let Some(timeout) = task.timeout_s {
        lines.push(("timeout", show_duration(timeout)));
    }
    if let Some(memory) = task.memory_bytes {
        lines.push(("memory", show_size(memory)));
    }
    lines.push(("retries", retries(task)));
    if !task.tags.is_empty() {
        lines.push(("tags", text::escape(&task.tags.join(", "))));
    }
    if task.round > 1 {
        lines.push(("round", task.round.to_string()));
    }
    if task.result_truncated {
        lines.push(("result", "longer than what is kept".to_owned()));
    }
    let mut shown: String = lines.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect();
    let attempts = task.attempts.as_deref().unwrap_or_default();
    if !attempts.is_empty() {
        let rows: Vec<Vec<Cell>> = attempts.iter().map(|attempt| row(attempt, now)).collect();
        shown.push('\n');
        let heading = ["ATTEMPT", "OUTCOME", "EXIT", "TIME", "PEAK", "CPU", "ERROR"];
        shown.push_str(&table::render(&heading, &rows, style::width(), style));
    }
    shown
}

/// A time, and how far from now.
fn when(time: &str, now: Timestamp) -> String {
    let Ok(at) = time.parse::<Timestamp>() else { return text::escape(time) };
    let seconds = now.duration_since(at).as_secs_f64();
    if seconds < 0.0 {
        return format!("{time} (in {})", show_duration(-seconds));
    }
    format!("{time} ({} ago)", show_duration(seconds))
}

fn retries(task: &TaskView) -> String {
    let waits: Vec<String> = task.retry.backoff_s.iter().map(|wait| show_duration(*wait)).collect();
    match task.retry.max {
        0 => "none".to_owned(),
        max if waits.is_empty() => format!("at most {max}"),
        max => format!("at most {max}, after {}", waits.join(", ")),
    }
}

fn row(attempt: &AttemptView, now: Timestamp) -> Vec<Cell> {
    let outcome = attempt.outcome.as_deref().unwrap_or("running");
    let exit = match (attempt.exit_code, attempt.signal) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "-".to_owned(),
    };
    vec![
        Cell::new(&attempt.attempt.to_string()),
        Cell::coloured(outcome, style::of_state(outcome)),
        Cell::new(&exit),
        Cell::new(&ps::between(attempt.started_at.as_deref(), attempt.ended_at.as_deref(), now)),
        Cell::new(&attempt.peak_memory_bytes.map_or_else(|| "-".to_owned(), show_size)),
        Cell::new(&attempt.cpu_s.map_or_else(|| "-".to_owned(), show_duration)),
        Cell::new(attempt.error.as_deref().unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::tests::{attempt, task};

    #[test]
    fn everything_known_is_shown() {
        let ended = AttemptView {
            started_at: Some("2026-01-02T03:04:06Z".to_owned()),
            ended_at: Some("2026-01-02T03:04:11Z".to_owned()),
            peak_memory_bytes: Some(1_500_000),
            cpu_s: Some(0.25),
            ..attempt("timed_out", None, Some(15))
        };
        let mut task = task("dead", Some("retries_exhausted"), vec![ended]);
        task.timeout_s = Some(5.0);
        task.tags = vec!["a".to_owned(), "b\x07".to_owned()];
        let shown = layout(&task, "2026-01-02T03:05:05Z".parse().unwrap(), Style::Plain);
        assert_eq!(
            shown,
            "task       01980000-0000-7000-8000-000000000001\n\
             state      dead (retries_exhausted)\n\
             command    true\n\
             queue      default, priority 5\n\
             submitted  2026-01-02T03:04:05Z (1m ago)\n\
             timeout    5s\n\
             retries    none\n\
             tags       a, b\\u{7}\n\
             \n\
             ATTEMPT  OUTCOME    EXIT       TIME  PEAK   CPU    ERROR\n\
             1        timed_out  signal 15  5s    1.5MB  250ms\n"
        );
    }
}
