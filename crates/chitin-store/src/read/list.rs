//! Pages of tasks, newest first.
//!
//! Owns: filters and their bounds. A filter that matches nothing would scan everything; so a page ends after so many
//! rows looked at, with a cursor to go on from, and after so many bytes of commands.

use chitin_core::{Seq, TaskRow, TaskState};
use rusqlite::{Connection, Row, params};

use super::{Reader, ids};
use crate::StoreError;
use crate::codes;
use crate::error::sql;
use crate::row::{self, task_columns};
use crate::write::one;

/// Rows looked at for one page: a few ten milliseconds.
const SCANNED: usize = 20_000;

/// Which states a page is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StateFilter {
    /// Every state.
    #[default]
    All,
    /// Those that have not ended; found without looking at the others.
    Open,
    /// Those that have ended.
    Ended,
    /// These.
    These(Vec<TaskState>),
}

/// What a page is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// In these states.
    pub states: StateFilter,
    /// In the queue of this name.
    pub queue: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// Admitted before this one: the cursor of the page before.
    pub before: Option<Seq>,
    /// At most so many tasks.
    pub limit: usize,
    /// At most so many bytes of commands; the first task is handed out whatever its size.
    pub max_bytes: usize,
}

impl Default for Filter {
    /// All tasks, a hundred to a page, a megabyte of commands.
    fn default() -> Self {
        Self {
            states: StateFilter::All,
            queue: None,
            tag: None,
            before: None,
            limit: 100,
            max_bytes: 1_000_000,
        }
    }
}

/// A task in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTask {
    /// Its row.
    pub row: TaskRow,
    /// Program and arguments, a JSON array.
    pub command: String,
    /// Its queue's name.
    pub queue: String,
    /// Digits of its id, hyphens not counted, that no other task begins with; at least 8.
    pub short_prefix_len: usize,
}

/// Some of the tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The newest first.
    pub tasks: Vec<ListedTask>,
    /// Where to go on; there may be more although this page is short. `None`: that was all.
    pub next: Option<Seq>,
}

const ALL: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM task AS t WHERE t.seq < ?1 AND ?2 IS NULL ORDER BY t.seq DESC"
);
const OPEN: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM task AS t INDEXED BY task_open WHERE t.ended_at_ms IS NULL AND t.seq < ?1 AND ?2 IS NULL \
     ORDER BY t.seq DESC"
);
const TAGGED: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM task_tag AS g CROSS JOIN task AS t ON t.seq = g.seq WHERE g.tag = ?2 AND g.seq < ?1 ORDER BY g.seq DESC"
);
const QUEUE_ID: &str = "SELECT id FROM queue WHERE name = ?1";
const QUEUE_NAME: &str = "SELECT name FROM queue WHERE id = ?1";
const COMMAND: &str = "SELECT command FROM payload WHERE seq = ?1";

/// Columns of the listing that the filter looks at.
const STATE: usize = 2;
const QUEUE: usize = 5;

impl StateFilter {
    fn has(&self, state: TaskState) -> bool {
        match self {
            Self::All => true,
            Self::Open => !state.has_ended(),
            Self::Ended => state.has_ended(),
            Self::These(states) => states.contains(&state),
        }
    }

    fn only_open(&self) -> bool {
        match self {
            Self::Open => true,
            Self::These(states) => !states.iter().any(|state| state.has_ended()),
            Self::All | Self::Ended => false,
        }
    }
}

impl Reader {
    /// A page of tasks.
    ///
    /// # Errors
    /// SQLite's, or damage.
    pub fn list(&self, filter: &Filter) -> Result<Page, StoreError> {
        self.snapshot(STEP, |tx| page(tx, filter))
    }
}

const STEP: &str = "list";

fn page(conn: &Connection, filter: &Filter) -> Result<Page, StoreError> {
    let queue: Option<i64> = match &filter.queue {
        None => None,
        Some(name) => match one(conn, QUEUE_ID, STEP, [name], |row| row.get(0).map_err(sql(STEP)))? {
            None => return Ok(Page { tasks: Vec::new(), next: None }),
            found => found,
        },
    };
    let text = match (&filter.tag, filter.states.only_open()) {
        (Some(_), _) => TAGGED,
        (None, true) => OPEN,
        (None, false) => ALL,
    };
    let before = filter.before.map_or(i64::MAX, |seq| seq.0);
    let mut statement = conn.prepare_cached(text).map_err(sql(STEP))?;
    let mut rows = statement.query(params![before, filter.tag]).map_err(sql(STEP))?;

    let mut tasks = Vec::new();
    let mut last = filter.before;
    let (mut scanned, mut bytes) = (0_usize, 0_usize);
    while let Some(row) = rows.next().map_err(sql(STEP))? {
        if tasks.len() >= filter.limit || scanned >= SCANNED {
            return Ok(Page { tasks, next: last });
        }
        scanned += 1;
        if matches(row, filter, queue)? {
            let task = listed(conn, row)?;
            bytes = bytes.saturating_add(task.command.len());
            if bytes > filter.max_bytes && !tasks.is_empty() {
                return Ok(Page { tasks, next: last });
            }
            last = Some(task.row.seq);
            tasks.push(task);
        } else {
            last = Some(Seq(row.get(0).map_err(sql(STEP))?));
        }
    }
    Ok(Page { tasks, next: None })
}

fn matches(row: &Row<'_>, filter: &Filter, queue: Option<i64>) -> Result<bool, StoreError> {
    let seq: i64 = row.get(0).map_err(sql(STEP))?;
    let code: i64 = row.get(STATE).map_err(sql(STEP))?;
    let state = codes::to_state(code).ok_or(StoreError::Meaningless { column: "task.state", seq })?;
    let in_queue = match queue {
        None => true,
        Some(id) => id == row.get::<_, i64>(QUEUE).map_err(sql(STEP))?,
    };
    Ok(in_queue && filter.states.has(state))
}

fn listed(conn: &Connection, found: &Row<'_>) -> Result<ListedTask, StoreError> {
    let row = row::task(found, STEP)?;
    let seq = row.seq.0;
    let text = |text, key: i64, column| {
        one(conn, text, STEP, [key], |row| row.get::<_, String>(0).map_err(sql(STEP)))?
            .ok_or(StoreError::Meaningless { column, seq })
    };
    Ok(ListedTask {
        command: text(COMMAND, seq, "task.payload")?,
        queue: text(QUEUE_NAME, row.queue.0, "task.queue")?,
        short_prefix_len: ids::short_prefix_len(conn, row.id)?,
        row,
    })
}
