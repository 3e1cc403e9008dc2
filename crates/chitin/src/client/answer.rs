//! An answer whose head has come: its body in pieces as they arrive, or whole up to a bound. Owns the connection, which
//! is polled together with the body and needs no task of its own.

use std::time::Duration;

use bytes::Bytes;
use chitin_proto::http::Problem;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1::Connection;
use hyper::header::{HeaderMap, RETRY_AFTER};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::CallError;

/// Says that a result was longer than what is kept of it.
const RESULT_TRUNCATED: &str = "chitin-result-truncated";
/// How long a body may be silent: three of the keep-alives of a followed log.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest JSON that is read: a page of tasks whose commands are as long as they may be.
const MAX_JSON_BYTES: usize = 256_000_000;
/// The longest error that is read.
const MAX_PROBLEM_BYTES: usize = 1_000_000;

/// The head of an answer is here; its body arrives.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Incoming,
    connection: Connection<TokioIo<UnixStream>, Full<Bytes>>,
    ended: bool,
}

impl Answer {
    pub(super) fn new(
        response: Response<Incoming>,
        connection: Connection<TokioIo<UnixStream>, Full<Bytes>>,
        ended: bool,
    ) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status.as_u16(), headers: head.headers, body, connection, ended }
    }

    /// The answer, unless it says no.
    pub(super) async fn accepted(mut self) -> Result<Self, CallError> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let header = self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = self.bytes(MAX_PROBLEM_BYTES).await?;
        let mut problem = serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
            code: String::new(),
            title: String::new(),
            status: self.status,
            detail: format!("the gateway answered {} without saying why", self.status),
            field: None,
            retry_after_s: None,
        });
        // What decides is the answer itself, not what its body says of it.
        problem.status = self.status;
        problem.retry_after_s = header.or(problem.retry_after_s);
        let retry_after = problem.retry_after_s.map(Duration::from_secs);
        Err(CallError::Refused { problem: Box::new(problem), retry_after })
    }

    /// The body is the beginning of a result that was longer.
    pub(crate) fn is_cut(&self) -> bool {
        self.headers.contains_key(RESULT_TRUNCATED)
    }

    /// The next bytes of the body; none at its end. May be dropped and called again.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        let next = async {
            loop {
                tokio::select! {
                    biased;
                    frame = self.body.frame() => match frame {
                        None => return Ok(None),
                        Some(Err(source)) => return Err(CallError::Lost { source }),
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(data) if !data.is_empty() => return Ok(Some(data)),
                            _ => {}
                        },
                    },
                    // Its error is the body's too, which is ready then.
                    _ = &mut self.connection, if !self.ended => self.ended = true,
                }
            }
        };
        timeout(SILENCE, next).await.unwrap_or(Err(CallError::Late { after: SILENCE }))
    }

    /// The whole body.
    pub(crate) async fn bytes(&mut self, max: usize) -> Result<Vec<u8>, CallError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > max {
                return Err(CallError::Garbled { what: format!("it is longer than {max} bytes") });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// The whole body as JSON.
    pub(crate) async fn json(&mut self) -> Result<Value, CallError> {
        let body = self.bytes(MAX_JSON_BYTES).await?;
        serde_json::from_slice(&body).map_err(|error| CallError::Garbled { what: error.to_string() })
    }
}
