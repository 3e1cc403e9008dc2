//! Errors on their way out: RFC 9457 problem details with a stable code. What the client is told and what the log says
//! are separate: nothing internal leaves.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, header};
use axum::response::IntoResponse;
use chitin_core::{Conflict, Refusal, TaskState};
use chitin_proto::http::{Code, PROBLEM_CONTENT_TYPE, Problem};
use chitin_store::StoreError;

use crate::engine::{Trouble, chain};

/// Ends a request with an error answer. Boxed, so that what goes well stays small.
#[derive(Debug)]
pub(crate) struct Oops(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: Code,
    detail: String,
    field: Option<String>,
    retry_after_s: Option<u64>,
    header: Option<(HeaderName, HeaderValue)>,
}

/// What a route answers.
pub(crate) type Answered = Result<Response<Body>, Oops>;

impl Oops {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        // What passes by itself says when it is worth asking again.
        let retry_after_s = match code {
            Code::QueueFull | Code::RateLimited | Code::Overloaded | Code::SubmitTimeout => Some(1),
            Code::StorageUnavailable => Some(1),
            Code::StorageFull => Some(10),
            _ => None,
        };
        Self(Box::new(Parts { code, detail: detail.into(), field: None, retry_after_s, header: None }))
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
        Self::new(Code::StorageUnavailable, "the database could not be read; try again")
    }
}

impl From<Trouble> for Oops {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Overloaded => {
                Self::new(Code::Overloaded, "too many commands wait for the disk; try again")
            }
            Trouble::Full => {
                Self::new(Code::StorageFull, "the disk is full; nothing was stored; free some space")
            }
            Trouble::Unavailable => Self::new(
                Code::StorageUnavailable,
                "the database refuses to store anything; nothing was stored",
            ),
            // Our bug, which the log tells.
            Trouble::Row => Self::new(
                Code::Internal,
                "the database refused this row and takes others; nothing of it was stored",
            ),
            Trouble::LogFull => Self::new(
                Code::Overloaded,
                "the write-ahead log is over its cap; try again when it was worked off",
            ),
            Trouble::TooLate => Self::new(
                Code::SubmitTimeout,
                "the disk did not answer in time; nearly always it was dropped, else it was done; ask again",
            ),
            Trouble::Recovering => Self::new(
                Code::Overloaded,
                "the gateway takes up its tasks one by one after early ends; nothing was stored; try again",
            ),
            Trouble::Stopping => Self::new(Code::Overloaded, "the gateway is stopping; try again"),
        }
    }
}

impl From<Refusal> for Oops {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::QueueFull { waiting, limit } => Self::new(
                Code::QueueFull,
                format!("{waiting} tasks wait; {limit} are allowed; try again when some are done"),
            ),
            Refusal::BytesFull { waiting, limit } => Self::new(
                Code::QueueFull,
                format!(
                    "waiting tasks hold {waiting} bytes; {limit} are allowed; try again when some are done"
                ),
            ),
            Refusal::TooManyQueues { limit } => Self::invalid(
                "queue",
                format!("there are {limit} queues, and no more are allowed; use one of them"),
            ),
            Refusal::TooLate => Self::new(
                Code::SubmitTimeout,
                "the disk did not take the task in time, and it was dropped; try again with the same Idempotency-Key",
            ),
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
    }
}

/// A state in words, with its reason.
pub(crate) fn say(state: TaskState) -> String {
    state.to_string()
}

impl IntoResponse for Oops {
    fn into_response(self) -> Response<Body> {
        let Parts { code, detail, field, retry_after_s, header: extra } = *self.0;
        let problem = Problem {
            code: code.as_str().to_owned(),
            title: code.title().to_owned(),
            status: code.status(),
            detail,
            field,
            retry_after_s,
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

/// A framework's own refusal (no such route, another method) in our form.
pub(crate) fn in_our_form(response: Response<Body>) -> Response<Body> {
    let status = response.status();
    let ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_CONTENT_TYPE);
    if ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    match status.as_u16() {
        404 => Oops::new(Code::NotFound, "there is no such route").into_response(),
        405 => {
            let oops =
                Oops::new(Code::MethodNotAllowed, "the route exists for other methods; see the header Allow");
            match response.headers().get(header::ALLOW) {
                Some(allow) => oops.header(header::ALLOW, allow.clone()).into_response(),
                None => oops.into_response(),
            }
        }
        400..=499 => {
            Oops::new(Code::InvalidRequest, "the request's path or query cannot be read").into_response()
        }
        _ => Oops::internal("an answer without a form").into_response(),
    }
}
