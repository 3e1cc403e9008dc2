//! `chitin events`: what happened, as far as it is kept, or as it happens; over restarts of the gateway without an event
//! lost or shown twice.

use std::time::{Duration, Instant};

use chitin_proto::http::EventView;
use serde_json::Value;

use crate::cli::Globals;
use crate::client::{CallError, Client, FOLLOW, LOOK, Patience, Query, Request, backoff, check_id};
use crate::clock;
use crate::failure::Failure;
use crate::out;
use crate::runtime;
use crate::sse::Decoder;
use crate::style::{Colour, Progress, Style};
use crate::text;

/// Show what happened
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without an id: what happened to all tasks and to the gateway itself. Events are
kept for 7 days, 100,000 at most.

Examples:
  chitin events                   the newest of what is kept
  chitin events -f                and what happens from now on
  chitin events 0198c2f1          of one task
  chitin events -f --json | jq    for programs: a JSON object a line")]
pub(crate) struct Events {
    /// Go on as things happen: for ever, or until the task has ended
    #[arg(short, long)]
    follow: bool,
    /// Begin with so many of the newest [default: 100; with -f: 10]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=1000), conflicts_with = "id")]
    last: Option<u16>,
    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
    /// Of this task alone; the beginning of an id is enough
    id: Option<String>,
}

/// Shows what happened.
pub(crate) fn events(events: &Events, globals: &Globals) -> Result<u8, Failure> {
    let client = Client::new(&globals.data_dir()?);
    let from = match &events.id {
        Some(id) => From { path: format!("/v1/tasks/{}/events", check_id(id)?), last: None, after: None },
        None => {
            let last = events.last.unwrap_or(if events.follow { 10 } else { 100 });
            From { path: "/v1/events".to_owned(), last: Some(last), after: None }
        }
    };
    let show = Show { json: events.json, style: Style::of_stdout() };
    runtime::block_on(async {
        follow(&client, from, events.follow, &show).await?;
        Ok(0)
    })
}

/// Where to go on from.
#[derive(Debug)]
struct From {
    path: String,
    last: Option<u16>,
    after: Option<String>,
}

impl From {
    fn request(&self, follow: bool) -> Request {
        let last = self.last.filter(|_| self.after.is_none()).map(|last| last.to_string());
        let query = Query::new(self.path.clone())
            .and("follow", if follow { "true" } else { "false" })
            .and_maybe("last", last)
            .and_maybe("after", self.after.clone());
        Request::get(query.target())
    }
}

/// How long the gateway may be away is counted from when it was heard last.
async fn follow(client: &Client, mut from: From, goes_on: bool, show: &Show) -> Result<(), Failure> {
    let patience: &Patience = if goes_on { &FOLLOW } else { &LOOK };
    let mut progress = Progress::new();
    let mut heard_at = clock::now();
    let mut losses = 0_u32;
    loop {
        let before = heard_at;
        let error =
            match stream(client, &mut from, goes_on, patience, show, &mut progress, &mut heard_at).await {
                Ok(()) => return Ok(()),
                Err(Broken::Ours(failure)) => return Err(failure),
                Err(Broken::Call(error)) => error,
            };
        losses = if heard_at == before { losses.saturating_add(1) } else { 1 };
        let again = matches!(error, CallError::Lost { .. } | CallError::Late { .. });
        if !again || heard_at.elapsed() > patience.reach() {
            return Err(error.into());
        }
        progress.show("the gateway is away; it is waited for");
        tokio::time::sleep(backoff(losses)).await;
    }
}

/// Why a stream ended before its end.
enum Broken {
    /// May be taken up again.
    Call(CallError),
    /// May not.
    Ours(Failure),
}

/// The head of a followed stream may wait for the first event, and that for a keep-alive.
const HEAD_WAIT: Duration = Duration::from_secs(20);

async fn stream(
    client: &Client,
    from: &mut From,
    goes_on: bool,
    patience: &Patience,
    show: &Show,
    progress: &mut Progress,
    heard_at: &mut Instant,
) -> Result<(), Broken> {
    let request = from.request(goes_on).waits(HEAD_WAIT);
    let mut answer = client.try_call(&request, patience).await.map_err(Broken::Call)?;
    let mut decoder = Decoder::default();
    while let Some(chunk) = answer.chunk().await.map_err(Broken::Call)? {
        *heard_at = clock::now();
        progress.clear();
        let mut bytes = chunk.as_ref();
        let garbled = |what: String| Broken::Call(CallError::Garbled { what });
        while let Some(told) = decoder.next(&mut bytes).map_err(|error| garbled(error.to_string()))? {
            if !told.data.is_empty() {
                let data = serde_json::from_str(&told.data).map_err(|error| garbled(error.to_string()))?;
                show.show(data).map_err(Broken::Ours)?;
            }
            if told.id.is_some() {
                from.after = told.id;
            }
        }
    }
    Ok(())
}

/// How events are shown.
#[derive(Debug)]
struct Show {
    json: bool,
    style: Style,
}

impl Show {
    fn show(&self, event: Value) -> Result<(), Failure> {
        if self.json {
            let json = serde_json::to_string(&event)
                .map_err(|error| Failure::other(format!("cannot write JSON: {error}")))?;
            return out::line(&text::escape_json(&json));
        }
        let event: EventView = crate::client::api::shape(event)?;
        out::line(&self.line(&event))
    }

    /// `2030-03-17T17:46:40.123Z  task.retrying  0198… attempt 2  failed, exit code 1`
    fn line(&self, event: &EventView) -> String {
        let mut words = Vec::new();
        if let Some(task) = &event.task {
            words.push(task.clone());
        }
        if let Some(attempt) = event.attempt {
            words.push(format!("attempt {attempt}"));
        }
        if let Some(outcome) = event.outcome.as_deref().filter(|outcome| *outcome != "succeeded") {
            words.push(outcome.to_owned());
        }
        match (event.exit_code, event.signal) {
            (_, Some(signal)) => words.push(format!("signal {signal}")),
            (Some(code), None) if code != 0 => words.push(format!("exit code {code}")),
            _ => {}
        }
        if let Some(Value::Object(detail)) = &event.detail {
            words.extend(detail.iter().filter_map(|(name, value)| {
                let value = match value {
                    Value::Null => return None,
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                Some(format!("{} {value}", name.replace('_', " ")))
            }));
        }
        if let Some(error) = &event.error {
            words.push(error.clone());
        }
        let name = self.style.paint(colour(&event.name), &format!("{:<22}", event.name));
        // What others wrote, an error or a reason, cannot drive the terminal.
        let words: Vec<String> = words.iter().map(|word| text::escape(word)).collect();
        format!("{}  {name}  {}", event.at, words.join(", ")).trim_end().to_owned()
    }
}

fn colour(name: &str) -> Option<Colour> {
    match name {
        "task.succeeded" | "shed.ended" | "dispatch.resumed" | "breaker.closed" | "store.recovered"
        | "disk.recovered" | "cpu.recovered" => Some(Colour::Green),
        "task.dead" | "task.expired" | "task.evicted" | "shed.began" | "breaker.opened" | "store.refused"
        | "disk.low" | "gateway.safe_mode" | "events.missed" => Some(Colour::Red),
        "task.retrying" | "task.put_back" | "dispatch.paused" | "cpu.high" => Some(Colour::Yellow),
        "task.started" => Some(Colour::Blue),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let show = Show { json: false, style: Style::Plain };
        let line = |event| show.line(&serde_json::from_value(event).unwrap());
        let event = json!({"id": "s-1-2", "name": "task.retrying", "at": "T", "task": "0198", "attempt": 2,
            "outcome": "failed", "exit_code": 7, "error": "no\u{1b}[2J"});
        assert_eq!(
            line(event),
            "T  task.retrying           0198, attempt 2, failed, exit code 7, no\\u{1b}[2J"
        );
        assert_eq!(line(json!({"name": "shed.ended", "at": "T"})), "T  shed.ended");
        let detail = json!({"name": "swept", "at": "T", "detail": {"tasks": 3, "none": null}});
        assert_eq!(line(detail), "T  swept                   tasks 3");
    }

    #[test]
    fn one_goes_on_behind_the_last_that_was_shown() {
        let mut from = From { path: "/v1/events".into(), last: Some(10), after: None };
        assert!(format!("{:?}", from.request(true)).contains("/v1/events?follow=true&last=10"));
        from.after = Some("s-1-2".into());
        assert!(format!("{:?}", from.request(true)).contains("/v1/events?follow=true&after=s-1-2"));
    }
}
