//! `chitin ps`: tasks, newest first; by default those that have not ended.

use chitin_proto::http::{TaskList, TaskView};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::client::{Client, LOOK, Query, Request, api};
use crate::clock;
use crate::failure::Failure;
use crate::out;
use crate::runtime;
use crate::style::{self, Style};
use crate::table::{self, Cell};
use crate::text;
use crate::units;

/// List tasks that have not ended, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  chitin ps                           what waits and runs
  chitin ps -a --limit 20             also what has ended
  chitin ps --state dead --tag nightly
  chitin ps --json | jq -r '.tasks[].id'")]
pub(crate) struct Ps {
    /// Also tasks that have ended
    #[arg(short, long, conflicts_with = "state")]
    all: bool,
    /// Only in these states: scheduled, queued, running, paused, succeeded, cancelled, expired, dead, open, ended
    #[arg(long, value_name = "STATE,…")]
    state: Option<String>,
    /// Only of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Only with this label
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print the gateway's JSON
    #[arg(long)]
    json: bool,
}

/// Tasks asked for at once.
const PAGE: usize = 100;

/// Lists tasks.
pub(crate) fn ps(ps: &Ps, globals: &Globals) -> Result<u8, Failure> {
    let client = Client::new(&globals.data_dir()?);
    runtime::block_on(async {
        let (tasks, next) = fetch(&client, ps).await?;
        if ps.json {
            out::json(&json!({ "tasks": tasks, "next_cursor": next }))?;
            return Ok(0);
        }
        let list = json!({ "tasks": tasks, "next_cursor": next });
        let list: TaskList = api::shape(list)?;
        let now = clock::wall();
        let rows: Vec<Vec<Cell>> = list.tasks.iter().map(|task| row(task, now)).collect();
        let heading = ["ID", "STATE", "ATTEMPT", "QUEUE", "AGE", "TIME", "COMMAND"];
        out::bytes(table::render(&heading, &rows, style::width(), Style::of_stdout()).as_bytes())?;
        if list.next_cursor.is_some() {
            out::remark(&format!("there are more than these {}: --limit", list.tasks.len()));
        }
        Ok(0)
    })
}

/// Page after page, until there is no more or it is enough.
async fn fetch(client: &Client, ps: &Ps) -> Result<(Vec<Value>, Option<String>), Failure> {
    let limit = usize::try_from(ps.limit).unwrap_or(usize::MAX);
    let state = if ps.all { None } else { Some(ps.state.as_deref().unwrap_or("open")) };
    let mut tasks = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let query = Query::new("/v1/tasks")
            .and("limit", limit.saturating_sub(tasks.len()).min(PAGE).to_string())
            .and_maybe("state", state)
            .and_maybe("queue", ps.queue.as_deref())
            .and_maybe("tag", ps.tag.as_deref())
            .and_maybe("cursor", cursor.as_deref());
        let mut page = client.read(&Request::get(query.target()), &LOOK).await?;
        let found =
            page.get_mut("tasks").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
        let more = !found.is_empty();
        tasks.extend(found);
        cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() || !more || tasks.len() >= limit {
            return Ok((tasks, cursor));
        }
    }
}

fn row(task: &TaskView, now: Timestamp) -> Vec<Cell> {
    vec![
        Cell::new(task.short_id.as_deref().unwrap_or(&task.id)),
        Cell::coloured(&state(task), style::of_state(&task.state)),
        Cell::new(&task.attempt.to_string()),
        Cell::new(&task.queue),
        Cell::new(&since(Some(&task.submitted_at), now)),
        Cell::new(&time(task, now)),
        Cell::new(&task.command.as_deref().map(text::command_line).unwrap_or_default()),
    ]
}

/// The state, with why, and with what is asked of it.
pub(super) fn state(task: &TaskView) -> String {
    let open = matches!(task.state.as_str(), "running" | "queued" | "scheduled" | "paused");
    match (&task.reason, task.cancel_requested && open) {
        (_, true) => format!("{} (cancelling)", task.state),
        (Some(reason), _) => format!("{} ({reason})", task.state),
        (None, _) => task.state.clone(),
    }
}

/// How long its newest attempt has run.
fn time(task: &TaskView, now: Timestamp) -> String {
    match task.state.as_str() {
        "queued" | "scheduled" => "-".to_owned(),
        "paused" if task.reason.as_deref() == Some("held") => "-".to_owned(),
        _ => between(task.started_at.as_deref(), task.ended_at.as_deref(), now),
    }
}

/// From a time until now.
pub(super) fn since(begin: Option<&str>, now: Timestamp) -> String {
    between(begin, None, now)
}

/// From a time to another, or until now; a dash where there is none.
pub(super) fn between(begin: Option<&str>, end: Option<&str>, now: Timestamp) -> String {
    let parse = |text: &str| text.parse::<Timestamp>().ok();
    let Some(begin) = begin.and_then(parse) else { return "-".to_owned() };
    let end = end.and_then(parse).unwrap_or(now);
    units::show_duration(end.duration_since(begin).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::tests::task;

    #[test]
    fn a_row_says_state_and_times() {
        let now = "2026-01-02T04:04:05Z".parse().unwrap();
        let mut running = task("running", None, vec![]);
        running.short_id = Some("01980000".to_owned());
        running.started_at = Some("2026-01-02T04:03:05.5Z".to_owned());
        running.command = Some(vec!["sh".to_owned(), "-c".to_owned(), "echo \x1b[0m".to_owned()]);
        let table =
            table::render(&["A", "B", "C", "D", "E", "F", "G"], &[row(&running, now)], None, Style::Plain);
        let line = table.lines().nth(1).unwrap();
        assert_eq!(line, r"01980000  running  1  default  1h  59.5s  sh -c 'echo \u{1b}[0m'");
    }

    #[test]
    fn states_have_reasons() {
        let mut dying = task("running", None, vec![]);
        dying.cancel_requested = true;
        assert_eq!(state(&dying), "running (cancelling)");
        assert_eq!(state(&task("dead", Some("poison"), vec![])), "dead (poison)");
        dying.state = "cancelled".to_owned();
        assert_eq!(state(&dying), "cancelled");
    }

    #[test]
    fn a_clock_that_went_back_is_no_negative_age() {
        let now = "2026-01-02T03:00:00Z".parse().unwrap();
        assert_eq!(since(Some("2026-01-02T03:04:05Z"), now), "0s");
        assert_eq!(since(None, now), "-");
        assert_eq!(since(Some("yesterday"), now), "-");
    }
}
