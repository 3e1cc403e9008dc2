//! A gateway of the measurement's own: this same program in a folder of its own, on a free port, stopped and removed
//! with its owner, also on an error.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::child::Child;
use super::wire::{self, Parsed, Target};
use crate::failure::Failure;
use crate::out;

/// Far more than any measurement queues.
const WAITING_TASKS: u64 = 10_000_000;
const WAITING_BYTES: u64 = 100_000_000_000;
/// How long a call beside the measurement may take.
const CALL: Duration = Duration::from_secs(30);
/// How long a gateway that was told to end everything may take.
const END: Duration = Duration::from_secs(10);

/// A folder that goes with its owner.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes one, for this user alone.
    pub(super) fn make(parent: &Path, name: &str) -> Result<Self, Failure> {
        let path = parent.join(format!("chitin-bench-{}-{name}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(Failure::other(format!("cannot make {}: {error}", path.display()))),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            out::remark(&format!("cannot remove {}: {error}", self.0.display()));
        }
    }
}

/// A gateway; fields go in this order.
#[derive(Debug)]
pub(super) struct Own {
    child: Child,
    pid: u32,
    target: Target,
    folder: Folder,
}

impl Own {
    /// Starts one, with its queue's bound raised and these limits besides.
    pub(super) fn start(parent: &Path, limits: &[(&str, u64)]) -> Result<Self, Failure> {
        let raised = [("waiting_tasks", WAITING_TASKS), ("waiting_bytes", WAITING_BYTES)];
        Self::start_with(parent, &[&raised, limits].concat())
    }

    /// Starts one with its own bounds, but for these limits.
    pub(super) fn start_with(parent: &Path, limits: &[(&str, u64)]) -> Result<Self, Failure> {
        let folder = Folder::make(parent, "gateway")?;
        let config = folder.path().join("chitin.toml");
        let mut text = "[limits]\n".to_owned();
        for (key, value) in limits {
            text.push_str(&format!("{key} = {value}\n"));
        }
        let unusable = |error: std::io::Error| Failure::other(format!("cannot set the gateway up: {error}"));
        fs::write(&config, text).map_err(unusable)?;
        let paths = [("--data-dir", folder.path()), ("--config", &*config)];
        let mut child = Child::start(&["up", "--listen", "127.0.0.1:0"], &paths)?;
        let line = child.first_line()?;
        let address =
            line.strip_prefix("ready http://").and_then(|rest| rest.split(' ').next()?.parse().ok());
        let address = address.ok_or_else(|| Failure::other(format!("the gateway says `{line}`")))?;
        let token = fs::read_to_string(folder.path().join("admin.token")).map_err(unusable)?;
        let target = Target { address, token: token.trim().to_owned() };
        let pid = fs::read_to_string(folder.path().join("gateway.pid")).map_err(unusable)?;
        let pid =
            pid.trim().parse().map_err(|_| Failure::other("the gateway does not say its process id"))?;
        Ok(Self { child, pid, target, folder })
    }

    /// What it says of itself in numbers people can repeat.
    pub(super) fn say_bounds() {
        out::remark(&format!(
            "the gateway measured here is one of its own, with its queue's bound raised: \
             waiting_tasks = {WAITING_TASKS}, waiting_bytes = {WAITING_BYTES}; but for full-queue"
        ));
    }

    /// Where to send requests.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Its socket: over it comes another client than over TCP.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("chitin.sock")
    }

    /// The gateway's process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its supervisor's.
    pub(super) fn supervisor_pid(&self) -> u32 {
        self.child.pid()
    }

    /// Nothing runs from the default queue while submissions are measured.
    pub(super) fn pause(&self) -> Result<(), Failure> {
        self.call("POST", "/v1/queues/default/pause", b"").map(drop)
    }

    /// What was queued runs.
    pub(super) fn resume(&self) -> Result<(), Failure> {
        self.call("POST", "/v1/queues/default/resume", b"").map(drop)
    }

    /// One request beside the measurement; anything but a 2xx is an error.
    pub(super) fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<Value, Failure> {
        let failed = |why: String| Failure::other(format!("{method} {path}: {why}"));
        let (status, body) = self.exchange(method, path, body).map_err(|error| failed(error.to_string()))?;
        if !(200..300).contains(&status) {
            return Err(failed(format!("{status} {}", String::from_utf8_lossy(&body))));
        }
        serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))
    }

    fn exchange(&self, method: &str, path: &str, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.target.address)?;
        stream.set_read_timeout(Some(CALL))?;
        stream.set_write_timeout(Some(CALL))?;
        stream.write_all(&self.target.request(method, path, "", body))?;
        let (mut answer, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            let count = stream.read(&mut chunk)?;
            answer.extend_from_slice(chunk.get(..count).unwrap_or_default());
            match wire::parse(&answer) {
                Parsed::Whole { status, body } => return Ok((status, body.to_vec())),
                Parsed::Partial if count > 0 => {}
                Parsed::Partial | Parsed::Garbled => return Err(std::io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

impl Drop for Own {
    /// What runs is ended too: nothing of a measurement outlives it.
    fn drop(&mut self) {
        if self.exchange("POST", "/v1/shutdown", br#"{"mode":"kill"}"#).is_ok() {
            _ = self.child.wait(END);
        }
    }
}
