//! `GET /v1/tasks/{id}/logs`: what an attempt wrote, as it stands or as it comes.
//!
//! Each stream is exact; between the streams the order of receipt. Logs are read from the files of the attempt while
//! it runs, and from the store or the kept files afterwards; a reader in the middle goes on at the same offsets.

mod order;
mod source;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, Uri, header};
use chitin_core::{AttemptRow, KeptLogs, TaskId};
use chitin_proto::http::Code;
use chitin_store::TaskDetail;
use tokio::sync::mpsc::Sender;

use self::order::Cursor;
use self::source::Source;
use self::wire::Form;
use super::guard::{Caller, watcher};
use super::line::Room;
use super::pieces::{CutShort, Piece, Pieces};
use super::problem::{Answered, Oops};
use super::tasks::{query, unknown_parameter};
use super::{Face, Shared, lookup};
use crate::tasks::TaskKind;

/// Pieces that may wait for a slow reader; the rest waits in the files.
const WAITING_PIECES: usize = 4;
/// Between two looks at a growing file: quick while it grows, slower the longer it does not.
const QUICKEST_LOOK: Duration = Duration::from_millis(10);
const SLOWEST_LOOK: Duration = Duration::from_millis(160);
/// The store is asked this often even if nothing woke us.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long a stream waits for room in memory: longer than a reader may take nothing.
const ROOM_WAIT: Duration = Duration::from_secs(60);
/// A framed stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    stdout: bool,
    stderr: bool,
    follow: bool,
    framed: bool,
    attempt: Option<u32>,
    from: [u64; 2],
}

pub(crate) async fn get(
    State(face): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    uri: Uri,
) -> Answered {
    let wanted = wanted(&uri)?;
    let task = lookup::resolve(&face, &id).await?;
    let detail = lookup::read(&face, move |reader| reader.task_by_id(task)).await?;
    let detail = detail.ok_or_else(|| Oops::no_such_task(&id))?;
    if let Some(attempt) = wanted.attempt
        && !detail.attempts.iter().any(|row| row.attempt.0 == attempt)
    {
        let newest = detail.row.attempt.0;
        return Err(Oops::invalid(
            "attempt",
            format!("there is no attempt {attempt}; the newest is {newest}"),
        ));
    }
    let number = wanted.attempt.unwrap_or(detail.row.attempt.0);
    if let Some(attempt) = detail.attempts.iter().find(|row| row.attempt.0 == number)
        && are_gone(&face, task, attempt).await
    {
        return Err(Oops::new(
            Code::NotFound,
            format!(
                "the logs of attempt {number} are not here: they stood in files beside the database, which a backup does not hold"
            ),
        ));
    }
    let place = watcher(&face, &caller)?;
    let (sender, receiver) = tokio::sync::mpsc::channel(WAITING_PIECES);
    let shared = Arc::clone(&face);
    face.tasks.spawn(TaskKind::Stream, async move {
        let form = Form { framed: wanted.framed };
        let over = tokio::select! {
            over = feed(&shared, task, detail, wanted, form, &sender) => over,
            () = shared.tasks.stopped() => Err(CutShort),
            () = sender.closed() => Ok(()),
        };
        if let Err(cut_short) = over {
            _ = sender.send(Err(cut_short)).await;
        }
        drop(place);
    });
    let mut response = Response::new(Body::new(Pieces::new(receiver)));
    let kind = if wanted.framed { "application/vnd.chitin.frames" } else { "application/octet-stream" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// Whether kept logs are not where they belong: the store was restored from a backup, or the task was just deleted.
async fn are_gone(face: &Face, task: TaskId, attempt: &AttemptRow) -> bool {
    if attempt.outcome.is_none() || attempt.logs != KeptLogs::Files {
        return false;
    }
    let folder = face.spool.attempt(task, attempt.attempt);
    face.tasks.blocking(move || !folder.is_dir()).await.unwrap_or(false)
}

fn wanted(uri: &Uri) -> Result<Wanted, Oops> {
    let mut wanted =
        Wanted { stdout: true, stderr: true, follow: false, framed: false, attempt: None, from: [0, 0] };
    for (name, value) in query(uri)? {
        match (name.as_str(), value.as_str()) {
            ("stream", "stdout") => wanted.stderr = false,
            ("stream", "stderr") => wanted.stdout = false,
            ("stream", _) => {
                return Err(Oops::invalid(
                    "stream",
                    "`stream`: stdout or stderr are allowed; none means both",
                ));
            }
            ("follow", _) => wanted.follow = flag("follow", &value)?,
            ("framed", _) => wanted.framed = flag("framed", &value)?,
            ("attempt", _) => wanted.attempt = Some(number("attempt", &value)?),
            ("stdout_from", _) => wanted.from[0] = number("stdout_from", &value)?,
            ("stderr_from", _) => wanted.from[1] = number("stderr_from", &value)?,
            _ => {
                return Err(unknown_parameter(
                    &name,
                    "stream, follow, framed, attempt, stdout_from, stderr_from",
                ));
            }
        }
    }
    Ok(wanted)
}

fn flag(name: &str, value: &str) -> Result<bool, Oops> {
    value.parse().map_err(|_| Oops::invalid(name, format!("`{name}`: true or false are allowed")))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Oops> {
    value.parse().map_err(|_| Oops::invalid(name, format!("`{name}`: a whole number is needed")))
}

/// Sends pieces until there are no more, or nobody reads. What cannot be read is never passed over in silence.
async fn feed(
    face: &Shared,
    task: TaskId,
    mut detail: TaskDetail,
    wanted: Wanted,
    form: Form,
    sender: &Sender<Piece>,
) -> Result<(), CutShort> {
    let watch = face.waiters.watch(task);
    let mut number = wanted.attempt.unwrap_or(detail.row.attempt.0);
    let mut cursor = Cursor::new(wanted.from);
    let mut announced = 0;
    let mut look = QUICKEST_LOOK;
    let mut asked = tokio::time::Instant::now();
    let mut spoke = asked;
    loop {
        let changed = watch.changed();
        let attempt = detail.attempts.iter().find(|row| row.attempt.0 == number).cloned();
        let mut grew = false;
        if let Some(attempt) = &attempt {
            if announced != number {
                announced = number;
                if !send(sender, form.attempt(number)).await {
                    return Ok(());
                }
            }
            let drained = drain(face, task, attempt, &detail, &mut cursor, wanted, form, sender);
            let Some(sent) = drained.await? else { return Ok(()) };
            grew = sent;
        }
        let over = attempt.as_ref().is_none_or(|attempt| attempt.outcome.is_some());
        if over && !grew {
            let next = detail.attempts.iter().map(|row| row.attempt.0).find(|other| *other > number);
            match next {
                Some(next) if wanted.follow => {
                    number = next;
                    cursor = Cursor::new([0, 0]);
                    continue;
                }
                _ if !wanted.follow || detail.row.state.has_ended() => return Ok(()),
                _ => {}
            }
        } else if !wanted.follow && !grew {
            return Ok(());
        }
        if grew {
            look = QUICKEST_LOOK;
            spoke = tokio::time::Instant::now();
            if wanted.follow || !over {
                // A running attempt's files are read again at once; its row when something changed.
                if asked.elapsed() < ASK_EVERY {
                    continue;
                }
            } else {
                continue;
            }
        }
        let woken = tokio::select! {
            () = changed => true,
            () = tokio::time::sleep(look) => false,
        };
        look = (look * 2).min(SLOWEST_LOOK);
        if woken || asked.elapsed() >= ASK_EVERY {
            asked = tokio::time::Instant::now();
            match lookup::read(face, move |reader| reader.task_by_id(task)).await {
                Ok(Some(now)) => detail = now,
                // Deleted meanwhile, or unreadable.
                Ok(None) | Err(_) => return Err(CutShort),
            }
        }
        if form.framed && spoke.elapsed() >= KEEP_ALIVE {
            spoke = tokio::time::Instant::now();
            if !send(sender, form.keep_alive()).await {
                return Ok(());
            }
        }
    }
}

/// Sends what there is of one attempt. `None`: nobody reads any more; else whether anything was sent. An error: what is
/// there could not be read.
#[expect(clippy::too_many_arguments, reason = "one call site; a struct would only rename the same things")]
async fn drain(
    face: &Shared,
    task: TaskId,
    attempt: &AttemptRow,
    detail: &TaskDetail,
    cursor: &mut Cursor,
    wanted: Wanted,
    form: Form,
    sender: &Sender<Piece>,
) -> Result<Option<bool>, CutShort> {
    let ended = attempt.outcome.is_some();
    // What is read whole is held until its reader has it.
    let _room = match (ended, attempt.logs) {
        (true, KeptLogs::Stored) => {
            Some(Room::take(face, face.limits.inline_log_bytes, ROOM_WAIT).await.map_err(|_| CutShort)?)
        }
        _ => None,
    };
    let source = match (ended, attempt.logs) {
        (true, KeptLogs::None) => return Ok(Some(false)),
        (true, KeptLogs::Stored) => {
            let (seq, number) = (attempt.seq, attempt.attempt);
            let is_winner = detail.result.as_ref().is_some_and(|result| result.attempt == number);
            let stored = lookup::read(face, move |reader| {
                let output = reader.output(seq, number)?;
                let needs_result = is_winner && output.as_ref().is_some_and(|output| output.stdout.is_none());
                let result =
                    if needs_result { reader.result(task)?.and_then(|end| end.result) } else { None };
                Ok((output, result))
            });
            let (output, result) = stored.await.map_err(|_| CutShort)?;
            Source::stored(output.unwrap_or_default(), result.map(|result| result.body))
        }
        // Of nothing it is not said that it was all.
        (true, KeptLogs::Files) if are_gone(face, task, attempt).await => return Err(CutShort),
        (false, _) | (true, KeptLogs::Files) => Source::files(face.spool.attempt(task, attempt.attempt)),
    };
    let mut any = false;
    let mut source = source;
    loop {
        let mut reading = *cursor;
        let segment_bytes = face.limits.segment_bytes;
        let read = face.tasks.blocking(move || {
            let pieces = order::advance(&mut source, &mut reading, ended, segment_bytes);
            (source, reading, pieces)
        });
        let (from, moved, pieces) = read.await.ok_or(CutShort)?;
        let pieces = pieces.map_err(|error| {
            tracing::warn!(task.id = %task, attempt = attempt.attempt.0, %error, "a log could not be read");
            CutShort
        })?;
        *cursor = moved;
        source = from;
        if pieces.is_empty() {
            return Ok(Some(any));
        }
        for piece in pieces {
            let asked_for = if piece.stream == 0 { wanted.stdout } else { wanted.stderr };
            if asked_for && !send(sender, form.piece(piece)).await {
                return Ok(None);
            }
        }
        any = true;
    }
}

async fn send(sender: &Sender<Piece>, bytes: bytes::Bytes) -> bool {
    bytes.is_empty() || sender.send(Ok(bytes)).await.is_ok()
}
