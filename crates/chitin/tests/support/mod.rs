//! What the tests of the program share: starting it, and a gateway that answers as a test says.
#![allow(dead_code, reason = "every test file uses its part")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A task's id.
pub(crate) const ID: &str = "01980000-0000-7000-8000-000000000001";

/// The program, with nothing from the environment of the test.
#[expect(clippy::disallowed_methods, reason = "the tests' one place that starts processes")]
pub(crate) fn chitin(data_dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chitin"));
    command.env_clear().env("HOME", "/nowhere").env("PATH", "/usr/bin:/bin").env("CHITIN_DATA_DIR", data_dir);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a command whose outputs are read later.
pub(crate) fn start(mut command: Command) -> Child {
    command.spawn().unwrap()
}

/// How a command ended: exit code, standard output, standard error.
pub(crate) fn finish(command: Command) -> (i32, String, String) {
    ended(start(command).wait_with_output().unwrap())
}

/// The same of one that was started.
pub(crate) fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// `POST /v1/tasks`.
    pub(crate) line: String,
    /// The idempotency key.
    pub(crate) key: Option<String>,
    /// The body as JSON, null without one.
    pub(crate) body: Value,
}

/// What is done with a request.
pub(crate) enum Reply {
    /// A status, more header lines, a body.
    Whole(u16, &'static str, Vec<u8>),
    /// A body in chunks, whole.
    Stream(Vec<u8>),
    /// A body in chunks that breaks off.
    Torn(Vec<u8>),
    /// A body in chunks that stays open until the client goes.
    Open(Vec<u8>),
    /// The connection is closed without a word.
    Reset,
}

impl Reply {
    /// An answer in JSON.
    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self::Whole(status, "", body.to_string().into_bytes())
    }

    /// An error.
    pub(crate) fn problem(status: u16, detail: &str, headers: &'static str) -> Self {
        let problem = json!({"code": "x", "title": "X", "status": status, "detail": detail});
        Self::Whole(status, headers, problem.to_string().into_bytes())
    }
}

/// A gateway for one test.
pub(crate) struct Fake {
    /// Its data directory.
    pub(crate) dir: tempfile::TempDir,
    received: Arc<Mutex<Vec<Received>>>,
    lock: Arc<Mutex<Option<File>>>,
}

impl Fake {
    /// Serves until the test ends. The reply gets the request and how many came before it.
    pub(crate) fn serve(reply: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("chitin.sock")).unwrap();
        let lock = File::create(dir.path().join("gateway.lock")).unwrap();
        lock.lock().unwrap();
        let fake = Self { dir, received: Arc::default(), lock: Arc::new(Mutex::new(Some(lock))) };
        let (received, lock, reply) = (Arc::clone(&fake.received), Arc::clone(&fake.lock), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (received, lock, reply) = (Arc::clone(&received), Arc::clone(&lock), Arc::clone(&reply));
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let Some(request) = read(&mut stream) else { return };
                    let before = {
                        let mut received = received.lock().unwrap();
                        received.push(request.clone());
                        received.len() - 1
                    };
                    answer(stream, reply(&request, before));
                    if request.line.contains("/v1/shutdown") {
                        lock.lock().unwrap().take();
                    }
                });
            }
        });
        fake
    }

    /// Everything that was asked.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The program, talking to this gateway.
    pub(crate) fn chitin(&self, args: &[&str]) -> Command {
        chitin(self.dir.path(), args)
    }

    /// A path in its data directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn read(stream: &mut UnixStream) -> Option<Received> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
    };
    let length = header("content-length:").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Some(Received {
        line: head.lines().next().unwrap().replace(" HTTP/1.1", ""),
        key: header("idempotency-key:"),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

/// A client that goes in the middle is a part of some tests: what cannot be written is not.
fn answer(mut stream: UnixStream, reply: Reply) {
    let chunked = |bytes: &[u8]| {
        let mut body = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        if !bytes.is_empty() {
            body.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
            body.extend_from_slice(bytes);
            body.extend_from_slice(b"\r\n");
        }
        body
    };
    match reply {
        Reply::Reset => {}
        Reply::Whole(status, headers, body) => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n");
            let _ = stream.write_all(&[head.into_bytes(), body].concat());
        }
        Reply::Stream(bytes) => {
            let _ = stream.write_all(&[chunked(&bytes), b"0\r\n\r\n".to_vec()].concat());
        }
        Reply::Torn(bytes) => {
            let _ = stream.write_all(&chunked(&bytes));
        }
        Reply::Open(bytes) => {
            let _ = stream.write_all(&chunked(&bytes));
            let _ = stream.read(&mut [0]);
        }
    }
}

/// One frame of a followed log.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A task that has ended, or not.
pub(crate) fn task(state: &str, reason: Option<&str>, attempt: Value) -> Value {
    let mut whole = json!({"attempt": 1, "outcome": null, "exit_code": null, "signal": null, "error": null,
        "started_at": null, "ended_at": null, "peak_memory_bytes": null, "cpu_s": null});
    for (name, value) in attempt.as_object().unwrap() {
        whole[name] = value.clone();
    }
    json!({
        "id": ID, "short_id": "01980000", "state": state, "reason": reason, "handler": null,
        "command": ["tar", "czf", "a.tgz"], "queue": "default", "priority": 5,
        "submitted_at": "2026-01-02T03:04:05Z", "run_at": null, "started_at": null, "ended_at": null,
        "expires_at": null, "round": 1, "attempt": 1, "attempts": [whole], "progress": null, "tags": [],
        "timeout_s": 5.0, "memory_bytes": null, "retry": {"max": 0, "backoff_s": [60.0], "jitter": 0.1},
        "cancel_requested": false, "result_truncated": false,
    })
}

/// The answer to a submission.
pub(crate) fn accepted() -> Reply {
    Reply::json(202, json!({"id": ID, "state": "queued"}))
}
