//! Errors as RFC 9457 problem details, with a stable `code`.

use serde::{Deserialize, Serialize};

/// The media type of every error answer.
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// The body of an error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable, one of [`Code`]'s words.
    pub code: String,
    /// The code in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong with this request, what is allowed, what to do.
    pub detail: String,
    /// The field that was wrong, if one was: `retry.max`, `tasks[3].command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Seconds after which another try makes sense; the same as the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// Every kind of error answer; `docs/errors/` has a page for each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        /// All codes.
        pub const CODES: &[Code] = &[$(Code::$name,)*];

        impl Code {
            /// The stable word.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Self::$name => $code,)* } }
            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> u16 { match self { $(Self::$name => $status,)* } }
            /// In words.
            #[must_use]
            pub fn title(self) -> &'static str { match self { $(Self::$name => $title,)* } }
        }
    };
}

codes! {
    /// The request is wrong; nothing was done.
    InvalidRequest = "invalid-request", 400, "The request is not valid";
    /// No token, or not ours.
    Unauthorized = "unauthorized", 401, "A valid token is needed";
    /// Known, and not allowed to.
    Forbidden = "forbidden", 403, "Not allowed";
    /// No such route, task or queue.
    NotFound = "not-found", 404, "Not found";
    /// The route exists, for another method.
    MethodNotAllowed = "method-not-allowed", 405, "Method not allowed";
    /// The request did not arrive in time.
    RequestTimeout = "request-timeout", 408, "The request took too long to arrive";
    /// The task's state does not allow it.
    Conflict = "conflict", 409, "The task's state does not allow this";
    /// The task has not ended.
    NotFinished = "not-finished", 409, "The task has not ended yet";
    /// The idempotency key was used for another body.
    IdempotencyMismatch = "idempotency-mismatch", 409, "The idempotency key belongs to another request";
    /// The body is over the limit.
    TooLarge = "too-large", 413, "The body is too large";
    /// Not JSON.
    UnsupportedMediaType = "unsupported-media-type", 415, "The content type is not supported";
    /// The queue is at its bound.
    QueueFull = "queue-full", 429, "The queue is full";
    /// This client is over its share.
    RateLimited = "rate-limited", 429, "Too many requests";
    /// The headers are over the limit.
    HeadersTooLarge = "headers-too-large", 431, "The headers are too large";
    /// Our fault.
    Internal = "internal", 500, "Internal error";
    /// Too much at once.
    Overloaded = "overloaded", 503, "The gateway is overloaded";
    /// Not committed in time.
    SubmitTimeout = "submit-timeout", 503, "The task was not accepted in time";
    /// The store does not work.
    StorageUnavailable = "storage-unavailable", 503, "The storage is not available";
    /// The disk is full.
    StorageFull = "storage-full", 507, "The storage is full";
}
