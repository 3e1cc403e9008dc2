//! Errors on their way out: RFC 9457 problem details with a stable code. What the client is told and what the log says
//! are separate: nothing internal leaves.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, header};
use axum::response::IntoResponse;
use chitin_core::{Conflict, Refusal, TaskState};
use chitin_proto::http::{Code, PROBLEM_CONTENT_TYPE, Problem};
use chitin_store::StoreError;

use super::refusals::{Bound, Refusals};
use crate::engine::{Trouble, chain};

/// Ends a request with an error answer. Boxed, so that what goes well stays small.
#[derive(Debug, Clone)]
pub(crate) struct Oops(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    code: Code,
    detail: String,
    field: Option<String>,
    /// What turned it away: it passes by itself, and the answer says when it is worth asking again.
    bound: Option<Bound>,
    header: Option<(HeaderName, HeaderValue)>,
}

/// What a route answers.
pub(crate) type Answered = Result<Response<Body>, Oops>;

impl Oops {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts { code, detail: detail.into(), field: None, bound: None, header: None }))
    }

    /// Turned away.
    pub(crate) fn refused(bound: Bound, detail: impl Into<String>) -> Self {
        let mut oops = Self::new(bound.code(), detail);
        oops.0.bound = Some(bound);
        oops
    }

    pub(crate) fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// The refusal of a part: its field is inside `outer`.
    pub(crate) fn inside(mut self, outer: &str) -> Self {
        let Parts { detail, field, .. } = &mut *self.0;
        *detail = format!("{outer}: {detail}");
        *field = Some(field.take().map_or_else(|| outer.to_owned(), |field| format!("{outer}.{field}")));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    pub(crate) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, detail).field(field)
    }

    pub(crate) fn no_such_task(id: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no task `{}`", id.escape_default()))
    }

    /// Our fault: said once in the log, and to the client only that it was.
    pub(crate) fn internal(what: &'static str) -> Self {
        tracing::error!(what, "a request failed");
        Self::new(Code::Internal, "this request failed inside the gateway; nothing else is affected")
    }

    pub(crate) fn store(error: &StoreError) -> Self {
        tracing::error!(error = %chain(error), "a read failed");
        Self::refused(Bound::Store, "the database could not be read; try again")
    }
}

impl From<Trouble> for Oops {
    fn from(trouble: Trouble) -> Self {
        let (bound, detail) = match trouble {
            Trouble::Overloaded => (Bound::Commands, "too many commands wait for the disk; try again"),
            Trouble::Full => (Bound::Disk, "the disk is full; nothing was stored; free some space"),
            Trouble::Unavailable => {
                (Bound::Store, "the database refuses to store anything; nothing was stored")
            }
            Trouble::Row => {
                // Our bug, which the log tells.
                let detail = "the database refused this row and takes others; nothing of it was stored";
                return Self::new(Code::Internal, detail);
            }
            Trouble::LogFull => {
                (Bound::Log, "the write-ahead log is over its cap; try again when it was worked off")
            }
            Trouble::TooLate => (
                Bound::Late,
                "the disk did not answer in time; nearly always it was dropped, else it was done; ask again",
            ),
            Trouble::Recovering => (
                Bound::Recovery,
                "the gateway takes up its tasks one by one after early ends; nothing was stored; try again",
            ),
            Trouble::Stopping => (Bound::Stopping, "the gateway is stopping; try again"),
        };
        Self::refused(bound, detail)
    }
}

impl From<Refusal> for Oops {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::QueueFull { waiting, limit } => Self::refused(
                Bound::Queue,
                format!("{waiting} tasks wait; {limit} are allowed; try again when some are done"),
            ),
            Refusal::BytesFull { waiting, limit } => Self::refused(
                Bound::QueueBytes,
                format!(
                    "waiting tasks hold {waiting} bytes; {limit} are allowed; try again when some are done"
                ),
            ),
            Refusal::OverShare { waiting, share } => Self::refused(
                Bound::Share,
                format!(
                    "{waiting} of your tasks wait; {share} are your share while others want in; try again when some are done"
                ),
            ),
            Refusal::OverQueueShare { waiting, share, queue } => Self::refused(
                Bound::Share,
                format!(
                    "{waiting} of your tasks wait in `{}`; {share} are its share while others of your queues are wanted; try again when some are done",
                    queue.as_str()
                ),
            ),
            Refusal::TooManyQueues { limit } => Self::invalid(
                "queue",
                format!("there are {limit} queues, and no more are allowed; use one of them"),
            ),
            Refusal::TooLate => Self::refused(
                Bound::Late,
                "the disk did not take the task in time, and it was dropped; try again with the same Idempotency-Key",
            ),
            Refusal::Recovering => Trouble::Recovering.into(),
            Refusal::KeyMismatch => Self::new(
                Code::IdempotencyMismatch,
                "this Idempotency-Key was used with another body; use a new key for a new task",
            ),
        }
    }
}

/// What a person asked for and the task's state does not allow.
pub(crate) fn conflict(conflict: &Conflict, id: &str, wanted: &str) -> Oops {
    match conflict {
        Conflict::NoSuchTask => Oops::no_such_task(id),
        Conflict::NoSuchQueue => {
            Oops::new(Code::NotFound, format!("there is no queue `{}`", id.escape_default()))
        }
        Conflict::State(state) => {
            Oops::new(Code::Conflict, format!("the task is {}: it cannot be {wanted}", say(*state)))
        }
        Conflict::Ending => {
            Oops::new(Code::Conflict, format!("the task's end was asked for: it cannot be {wanted}"))
        }
    }
}

/// A state in words, with its reason.
pub(crate) fn say(state: TaskState) -> String {
    state.to_string()
}

impl IntoResponse for Oops {
    /// Written down by the guard, which knows what is being turned away at the moment: see [`in_our_form`].
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self);
        response
    }
}

impl Oops {
    fn written(self, refusals: &Refusals) -> Response<Body> {
        let Parts { code, detail, field, bound, header: extra } = *self.0;
        let problem = Problem {
            code: code.as_str().to_owned(),
            title: code.title().to_owned(),
            status: code.status(),
            detail,
            field,
            retry_after_s: bound.map(|bound| refusals.turned_away(bound)),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = axum::http::StatusCode::from_u16(problem.status)
            .unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_CONTENT_TYPE));
        if let Some(after) = problem.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
        }
        if let Some((name, value)) = extra {
            headers.insert(name, value);
        }
        response
    }
}

/// An answer as it leaves: an error as a problem with what is known of when to ask again, a framework's own refusal (no
/// such route, another method) in our form.
pub(crate) fn in_our_form(mut response: Response<Body>, refusals: &Refusals) -> Response<Body> {
    if let Some(oops) = response.extensions_mut().remove::<Oops>() {
        return oops.written(refusals);
    }
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        refusals.served();
        return response;
    }
    let oops = match status.as_u16() {
        404 => Oops::new(Code::NotFound, "there is no such route"),
        405 => {
            let oops =
                Oops::new(Code::MethodNotAllowed, "the route exists for other methods; see the header Allow");
            match response.headers().get(header::ALLOW) {
                Some(allow) => oops.header(header::ALLOW, allow.clone()),
                None => oops,
            }
        }
        400..=499 => Oops::new(Code::InvalidRequest, "the request's path or query cannot be read"),
        _ => Oops::internal("an answer without a form"),
    };
    oops.written(refusals)
}
