//! From an event to what a follower reads: one server-sent event, with the place behind it as its id.

use bytes::Bytes;
use chitin_core::{AttemptNo, EventName, TaskId};
use chitin_proto::http::EventView;
use chitin_store::{EventPlace, StoredEvent};
use serde_json::{Value, json};

use crate::http::time;

/// The detail's field that says when something was seen that was stored later; shown as the event's own time.
pub(crate) const SEEN_AT: &str = "seen_at_ms";

/// What tells one event from another where there is no id: who told it, and when.
pub(crate) type Mark = (String, i64);

/// An event that is ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Rendered {
    pub(crate) frame: Bytes,
    /// Of what the gateway told itself.
    pub(crate) mark: Option<Mark>,
}

/// A place in the text of ids: of which store, the last admission, the last row.
pub(crate) fn id(store: &str, place: EventPlace) -> String {
    format!("{store}-{}-{}", place.seq, place.no)
}

/// The place that an id names; `None`: it is none of this store's.
pub(crate) fn parse_id(store: &str, text: &str) -> Option<EventPlace> {
    let (seq, no) = text.strip_prefix(store)?.strip_prefix('-')?.split_once('-')?;
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
    Some(EventPlace { seq: number(seq)?, no: number(no)? })
}

/// Whether it has the form of an id, of whatever store.
pub(crate) fn is_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(store, _)| parse_id(store, text).is_some())
}

/// An id alone: whoever reads it goes on from there, and is told nothing.
pub(crate) fn id_only(store: &str, place: EventPlace) -> Bytes {
    format!("id: {}\n\n", id(store, place)).into()
}

pub(crate) fn stored(store: &str, event: &StoredEvent) -> Rendered {
    let detail = event.detail.as_deref().and_then(|detail| serde_json::from_str(detail).ok());
    let (end, of) = (event.end.as_ref(), (event.task, event.attempt));
    let mut view = view(&event.name, of, detail.unwrap_or(Value::Null), event.at_ms);
    let mark = view.1.map(|at_ms| (event.name.clone(), at_ms));
    if let Some(end) = end {
        view.0.outcome = Some(end.outcome.as_str().to_owned());
        (view.0.exit_code, view.0.signal) = (end.exit_code, end.signal);
        view.0.error.clone_from(&end.error);
    }
    view.0.id = Some(id(store, event.place));
    Rendered { frame: frame(&view.0), mark }
}

/// What the store has not taken yet: it has no id.
pub(crate) fn unstored(name: EventName, task: Option<(TaskId, AttemptNo)>, detail: &Value) -> Rendered {
    let (view, seen) = view(name.as_str(), task.unzip(), detail.clone(), 0);
    Rendered { frame: frame(&view), mark: seen.map(|at_ms| (name.as_str().to_owned(), at_ms)) }
}

/// Events that one comes too late for, or that were another store's.
pub(crate) fn missed(detail: Value, at_ms: i64) -> Bytes {
    frame(&view("events.missed", (None, None), detail, at_ms).0)
}

fn view(
    name: &str,
    (task, attempt): (Option<TaskId>, Option<AttemptNo>),
    mut detail: Value,
    at_ms: i64,
) -> (EventView, Option<i64>) {
    let seen = detail.as_object_mut().and_then(|detail| detail.remove(SEEN_AT)?.as_i64());
    let empty = detail.is_null() || detail == json!({});
    let view = EventView {
        id: None,
        name: name.to_owned(),
        at: time::show(seen.unwrap_or(at_ms)),
        task: task.map(|id| id.to_string()),
        attempt: attempt.map(|attempt| attempt.0),
        outcome: None,
        exit_code: None,
        signal: None,
        error: None,
        detail: (!empty).then_some(detail),
    };
    (view, seen)
}

fn frame(view: &EventView) -> Bytes {
    // JSON has no line breaks of its own, so it is one line of data.
    let data = serde_json::to_string(view).unwrap_or_default();
    let id = view.id.as_ref().map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("{id}data: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_and_no_other_stores_does() {
        let place = EventPlace { seq: 12, no: 3 };
        assert_eq!(parse_id("ab01", &id("ab01", place)), Some(place));
        for other in ["ab02-12-3", "ab01", "ab01-12", "ab01-12-3-4", "ab01--1-3", "ab01-x-3", ""] {
            assert_eq!(parse_id("ab01", other), None, "{other}");
        }
        assert!(is_id("ab02-12-3") && !is_id("ab02-12") && !is_id("seven"));
    }

    #[test]
    fn what_was_seen_before_it_was_stored_has_the_time_it_was_seen() {
        let detail = json!({"reason": "full\ndisk", "seen_at_ms": 1_900_000_000_123_i64});
        let first = unstored(EventName::StoreRefused, None, &detail);
        let event = StoredEvent {
            place: EventPlace { seq: 1, no: 2 },
            at_ms: 1_900_000_099_000,
            name: "store.refused".into(),
            task: None,
            attempt: None,
            detail: Some(detail.to_string()),
            end: None,
        };
        let second = stored("ab", &event);
        assert!(first.mark.is_some() && first.mark == second.mark);
        let text = String::from_utf8(second.frame.to_vec()).unwrap();
        let data = "data: {\"id\":\"ab-1-2\",\"name\":\"store.refused\",\"at\":\"2030-03-17T17:46:40.123Z\",\
                    \"detail\":{\"reason\":\"full\\ndisk\"}}\n\n";
        assert_eq!(text, format!("id: ab-1-2\n{data}"));
        assert_eq!(first.frame, data.replace("\"id\":\"ab-1-2\",", "").as_bytes());
    }
}
