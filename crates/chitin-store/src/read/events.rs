//! Events in their one order: what happened, and between it the submissions, which have no row of their own.
//!
//! Owns: that order. An event's row says which admission it came after; so a place in the order is a pair, the last
//! admission and the last row that were told, and each event moves one of the two on. Rows of deleted tasks and swept events
//! leave gaps, which nobody waits for.

use chitin_core::{AttemptNo, EventName, Outcome, TaskId};
use rusqlite::{Connection, Row, params};

use super::Reader;
use crate::StoreError;
use crate::codes;
use crate::error::sql;
use crate::write::{all, limit, one};

/// A place in the order of events: everything up to it has been told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventPlace {
    /// The last admission.
    pub seq: i64,
    /// The last row.
    pub no: i64,
}

impl EventPlace {
    /// How far that is along the order: every event is further than the one before.
    #[must_use]
    pub fn distance(self) -> i64 {
        self.seq.saturating_add(self.no)
    }
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventBounds {
    /// The earliest row there is; one past the end if there is none.
    pub first_no: i64,
    /// The place behind everything.
    pub end: EventPlace,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The place behind it.
    pub place: EventPlace,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What: one of [`EventName`]'s words, or that of a later version.
    pub name: String,
    /// To which task.
    pub task: Option<TaskId>,
    /// To which of its attempts.
    pub attempt: Option<AttemptNo>,
    /// More about it: a JSON object.
    pub detail: Option<String>,
    /// How the attempt ended, if that is what is told and its row is still there.
    pub end: Option<EndTold>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndTold {
    /// In one word.
    pub outcome: Outcome,
    /// The command's exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    pub signal: Option<i32>,
    /// What went wrong, for people.
    pub error: Option<String>,
}

const BOUNDS: &str = "SELECT ifnull((SELECT min(no) FROM event), 1), ifnull((SELECT max(no) FROM event), 0), \
     max(ifnull((SELECT max(seq) FROM task), 0), (SELECT value FROM counter WHERE name = 'seq_floor'))";

macro_rules! event_columns {
    () => {
        "SELECT e.no, e.after_seq, e.at_ms, e.name, e.task, e.attempt, e.detail, \
         a.outcome, a.exit_code, a.signal, a.error \
         FROM event AS e LEFT JOIN task AS t ON t.id = e.task \
         LEFT JOIN attempt AS a ON a.seq = t.seq AND a.attempt = e.attempt "
    };
}

const EVENTS: &str = concat!(event_columns!(), "WHERE e.no > ?1 ORDER BY e.no LIMIT ?2");
const OF_TASK: &str = concat!(event_columns!(), "WHERE e.task = ?3 AND e.no > ?1 ORDER BY e.no LIMIT ?2");
const SUBMITTED: &str = "SELECT seq, id, submitted_at_ms FROM task WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const SUBMITTED_ONE: &str = "SELECT seq, id, submitted_at_ms FROM task WHERE id = ?1";

impl Reader {
    /// What is kept now.
    ///
    /// # Errors
    /// SQLite's, or damage.
    pub fn event_bounds(&self) -> Result<EventBounds, StoreError> {
        const STEP: &str = "event_bounds";
        self.snapshot(STEP, |tx| {
            let found = one(tx, BOUNDS, STEP, [], |row| {
                let read = || Ok((row.get(0)?, row.get(1)?, row.get(2)?));
                read().map_err(sql(STEP))
            })?;
            let (first_no, no, seq) = found.unwrap_or((1, 0, 0));
            Ok(EventBounds { first_no, end: EventPlace { seq, no } })
        })
    }

    /// What happened behind `after`, in order, at most `most` events.
    ///
    /// # Errors
    /// SQLite's, or damage.
    pub fn events(&self, after: EventPlace, most: usize) -> Result<Vec<StoredEvent>, StoreError> {
        const STEP: &str = "events";
        self.snapshot(STEP, |tx| {
            let rows = all(tx, EVENTS, STEP, params![after.no, limit(most)], |row| event(row, STEP))?;
            let submitted = all(tx, SUBMITTED, STEP, params![after.seq, limit(most)], submitted)?;
            Ok(merge(after, rows, submitted, most))
        })
    }

    /// What happened to one task behind `after`; `None`: there is no such task, and nothing is known of it.
    ///
    /// # Errors
    /// SQLite's, or damage.
    pub fn task_events(
        &self,
        id: TaskId,
        after: EventPlace,
        most: usize,
    ) -> Result<Option<Vec<StoredEvent>>, StoreError> {
        const STEP: &str = "task_events";
        self.snapshot(STEP, |tx| {
            let own = |text| one(tx, text, STEP, [id.0], submitted);
            let task = own(SUBMITTED_ONE)?;
            let rows: Vec<_> =
                all(tx, OF_TASK, STEP, params![after.no, limit(most), id.0], |row| event(row, STEP))?;
            if task.is_none() && rows.is_empty() && !has_events(tx, id)? {
                return Ok(None);
            }
            let new = task.filter(|task| task.seq > after.seq).into_iter().collect();
            Ok(Some(merge(after, rows, new, most)))
        })
    }
}

fn has_events(conn: &Connection, id: TaskId) -> Result<bool, StoreError> {
    const ANY: &str = "SELECT 1 FROM event WHERE task = ?1 LIMIT 1";
    Ok(one(conn, ANY, "task_events", [id.0], |_| Ok(()))?.is_some())
}

/// An event's row, and the admission it came after.
struct Happened {
    after: i64,
    event: StoredEvent,
}

struct Submitted {
    seq: i64,
    id: TaskId,
    at_ms: i64,
}

fn submitted(row: &Row<'_>) -> Result<Submitted, StoreError> {
    let read = || Ok(Submitted { seq: row.get(0)?, id: TaskId(row.get(1)?), at_ms: row.get(2)? });
    read().map_err(sql("events"))
}

fn event(row: &Row<'_>, step: &'static str) -> Result<Happened, StoreError> {
    let no: i64 = row.get(0).map_err(sql(step))?;
    let name: String = row.get(3).map_err(sql(step))?;
    let tells_an_end =
        EventName::ALL.iter().any(|(known, _)| known.ends_an_attempt() && known.as_str() == name);
    let outcome: Option<i64> = row.get(7).map_err(sql(step))?;
    let read = || {
        Ok(Happened {
            after: row.get(1)?,
            event: StoredEvent {
                place: EventPlace { seq: 0, no },
                at_ms: row.get(2)?,
                name,
                task: row.get::<_, Option<_>>(4)?.map(TaskId),
                attempt: row.get::<_, Option<_>>(5)?.map(AttemptNo),
                detail: row.get(6)?,
                end: match outcome.filter(|_| tells_an_end).and_then(codes::to_outcome) {
                    Some(outcome) => Some(EndTold {
                        outcome,
                        exit_code: row.get(8)?,
                        signal: row.get(9)?,
                        error: row.get(10)?,
                    }),
                    None => None,
                },
            },
        })
    };
    read().map_err(sql(step))
}

/// The one order: before an event come the submissions that it came after.
fn merge(
    mut place: EventPlace,
    happened: Vec<Happened>,
    submitted: Vec<Submitted>,
    most: usize,
) -> Vec<StoredEvent> {
    // Behind a full page of submissions there may be more, which come before the next event.
    let known_up_to =
        if submitted.len() < most { i64::MAX } else { submitted.last().map_or(i64::MAX, |last| last.seq) };
    let mut submitted = submitted.into_iter().peekable();
    let mut happened = happened.into_iter().peekable();
    let mut merged = Vec::new();
    while merged.len() < most {
        let before = happened.peek().map_or(i64::MAX, |next| next.after);
        if let Some(task) = submitted.next_if(|task| task.seq <= before) {
            place.seq = task.seq;
            merged.push(StoredEvent {
                place,
                at_ms: task.at_ms,
                name: EventName::TaskSubmitted.as_str().to_owned(),
                task: Some(task.id),
                attempt: None,
                detail: None,
                end: None,
            });
        } else if let Some(next) = happened.next_if(|next| next.after <= known_up_to) {
            place.no = next.event.place.no;
            merged.push(StoredEvent { place, ..next.event });
        } else {
            break;
        }
    }
    merged
}
