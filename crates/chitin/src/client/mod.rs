//! The gateway as the command line sees it: HTTP/1.1 over the data directory's Unix socket, which trusts the same user.
//!
//! A connection for every call: over a Unix socket that costs tens of microseconds, and no call inherits another's
//! trouble. Every call has a deadline, and a [`Patience`] with what may be tried again.

mod answer;
pub(crate) mod api;
mod connect;
mod error;
mod path;
mod patience;

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Method;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

pub(crate) use answer::Answer;
pub(crate) use error::CallError;
pub(crate) use path::{Query, check_id, escape_segment};
pub(crate) use patience::{FOLLOW, LOOK, Patience, STOP, SUBMIT, Step, backoff};

use crate::clock;
use crate::failure::Failure;
use crate::paths::{DataDir, Lock};

/// How long the head of an answer may take, beside what the call itself asks to wait.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a connection may take: the gateway's backlog takes it at once, or has no room.
const CONNECT: Duration = Duration::from_secs(5);

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// One request, which may be sent several times.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: Method,
    target: String,
    body: Bytes,
    key: Option<String>,
    answer: Duration,
}

impl Request {
    /// Reads something.
    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self { method: Method::GET, target: target.into(), body: Bytes::new(), key: None, answer: ANSWER }
    }

    /// Asks for a change; an empty body is none.
    pub(crate) fn post(target: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, body: body.into(), ..Self::get(target) }
    }

    /// With an idempotency key.
    #[must_use]
    pub(crate) fn key(mut self, key: String) -> Self {
        self.key = Some(key);
        self
    }

    /// The gateway may take so much longer to answer.
    #[must_use]
    pub(crate) fn waits(mut self, wait: Duration) -> Self {
        self.answer += wait;
        self
    }

    /// The answer is waited for so long, and no longer.
    #[must_use]
    pub(crate) fn within(mut self, answer: Duration) -> Self {
        self.answer = answer;
        self
    }
}

/// The gateway of a data directory.
#[derive(Debug)]
pub(crate) struct Client {
    data_dir: DataDir,
    socket: PathBuf,
    /// It has answered before: if it is away now, it was there.
    heard: Cell<bool>,
}

impl Client {
    /// Connects to nothing yet.
    pub(crate) fn new(data_dir: &DataDir) -> Self {
        Self { data_dir: data_dir.clone(), socket: data_dir.socket(), heard: Cell::new(false) }
    }

    /// Whether somebody listens.
    pub(crate) async fn probe(&self) -> Result<(), CallError> {
        self.connect().await.map(drop)
    }

    /// Sends until there is an answer that is no trouble, or the patience ends.
    pub(crate) async fn call(&self, request: &Request, patience: &Patience) -> Result<Answer, Failure> {
        self.try_call(request, patience).await.map_err(Failure::from)
    }

    /// The same, with the trouble as it was.
    pub(crate) async fn try_call(&self, request: &Request, patience: &Patience) -> Result<Answer, CallError> {
        // Counted from the first failure: a long poll that breaks at its end has not failed for long.
        let mut failing_since = None;
        let mut tries = 0_u32;
        loop {
            let error = match self.once(request).await {
                Ok(answer) => {
                    self.heard.set(true);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            tries = tries.saturating_add(1);
            if matches!(error, CallError::Lost { .. } | CallError::Late { .. } | CallError::Refused { .. }) {
                self.heard.set(true);
            }
            let elapsed = failing_since.get_or_insert_with(clock::now).elapsed();
            // A lock that cannot be asked is no reason to wait.
            let lock = self.data_dir.lock().unwrap_or(Lock::Free);
            match patience.after(&error, tries, elapsed, self.heard.get(), lock) {
                Step::Again(wait) => tokio::time::sleep(wait).await,
                Step::GiveUp => return Err(error),
            }
        }
    }

    /// Sends once.
    pub(crate) async fn once(&self, request: &Request) -> Result<Answer, CallError> {
        let stream = self.connect().await?;
        let after = request.answer;
        timeout(after, send(stream, request)).await.unwrap_or(Err(CallError::Late { after }))
    }

    async fn connect(&self) -> Result<UnixStream, CallError> {
        let socket = || self.socket.clone();
        match timeout(CONNECT, connect::connect(&self.socket)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(match source.kind() {
                io::ErrorKind::WouldBlock => CallError::Busy { socket: socket() },
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    CallError::Absent { socket: socket(), source }
                }
                _ => CallError::Denied { socket: socket(), source },
            }),
            Err(_) => Err(CallError::Busy { socket: socket() }),
        }
    }
}

async fn send(stream: UnixStream, request: &Request) -> Result<Answer, CallError> {
    let (mut sender, mut connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|source| CallError::Lost { source })?;
    let mut head = hyper::Request::builder()
        .method(request.method.clone())
        .uri(request.target.as_str())
        .header(HOST, "localhost");
    if !request.body.is_empty() {
        head = head.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(key) = &request.key {
        head = head.header(&IDEMPOTENCY_KEY, key);
    }
    let request = head.body(Full::new(request.body.clone())).map_err(|error| CallError::Garbled {
        what: format!("cannot ask for {}: {error}", request.target),
    })?;

    // The connection makes progress only where it is polled: here until the answer begins, later with its body.
    let mut ended = false;
    let mut response = std::pin::pin!(sender.send_request(request));
    let response = loop {
        tokio::select! {
            biased;
            response = &mut response => break response,
            // Its error is the response's too, which is ready then.
            _ = &mut connection, if !ended => ended = true,
        }
    };
    let response = response.map_err(|source| CallError::Lost { source })?;
    Answer::new(response, connection, ended).accepted().await
}

/// 128 random bits in hexadecimal, for a submission that may have to be sent again.
pub(crate) fn idempotency_key() -> Result<String, Failure> {
    let mut random = [0_u8; 16];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Failure::other(format!("no random bytes: {error}")))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
