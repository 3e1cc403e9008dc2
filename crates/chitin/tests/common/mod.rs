//! What the end-to-end tests share: a gateway of their own in a folder of their own, ended with everything it started
//! also when a test fails; the program against it; and waiting for what must become so.
//!
//! The gateway needs `chitin-shim` beside `chitin`: `cargo test --workspace` builds both, before `cargo test -p chitin`
//! alone run `cargo build --workspace`.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test harness: every file uses its part, and what fails, fails the test"
)]

pub(crate) mod http;
pub(crate) mod redis;
pub(crate) mod traces;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tempfile::TempDir;

use http::{Answer, Request};

/// What must happen, happens in this time even on a busy machine; else it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A slow disk under test is no reason to refuse.
const CONFIG: &str = "[limits]\nsubmit_timeout_ms = 60000\n";

/// On any free port.
const UP: [&str; 3] = ["up", "--listen", "127.0.0.1:0"];

#[expect(clippy::disallowed_methods, reason = "the tests' one clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Looks until there is something to see; a test that waits too long has failed.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begin.elapsed() < PATIENCE, "this did not come: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A command in the test's place: nothing of its environment but where programs are.
#[expect(clippy::disallowed_methods, reason = "the tests' one place that starts processes")]
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("LANG", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a command ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Its exit code; -1: a signal.
    pub(crate) code: i32,
    /// Its standard output.
    pub(crate) bytes: Vec<u8>,
    /// Its standard error.
    pub(crate) err: String,
}

impl Ended {
    /// Standard output as text.
    pub(crate) fn out(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("text")
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, if it ended so.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Runs a command to its end, which must come.
pub(crate) fn finish(mut command: Command, stdin: Option<&[u8]>) -> Ended {
    if stdin.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{error}: {command:?}"));
    let input = child.stdin.take().zip(stdin.map(<[u8]>::to_vec));
    let writer = thread::spawn(move || {
        if let Some((mut pipe, bytes)) = input {
            // A command may end before it has read everything.
            let _ = pipe.write_all(&bytes);
        }
    });
    let ended = ended(child);
    writer.join().unwrap();
    ended
}

/// The end of a command that was started.
pub(crate) fn ended(mut child: Child) -> Ended {
    fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                pipe.read_to_end(&mut bytes).unwrap();
            }
            bytes
        })
    }
    let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
    let status = wait(&mut child);
    let err = String::from_utf8_lossy(&err.join().unwrap()).into_owned();
    Ended { code: status.code().unwrap_or(-1), bytes: out.join().unwrap(), err }
}

fn wait(child: &mut Child) -> ExitStatus {
    let begin = now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begin.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("process {} did not end", child.id());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// A gateway of a test's own.
pub(crate) struct Gateway {
    /// The folder that is removed at the end; the test may use it.
    pub(crate) home: TempDir,
    /// The data directory in it.
    pub(crate) data: PathBuf,
    /// Where it listens.
    pub(crate) address: Option<SocketAddr>,
    process: Option<Child>,
}

impl Gateway {
    /// One with the defaults.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// One with these limits, lines of `[limits]`.
    pub(crate) fn start_with(limits: &str) -> Self {
        Self::start_configured("", limits)
    }

    /// One with these keys outside any table, and these limits.
    pub(crate) fn start_configured(keys: &str, limits: &str) -> Self {
        let mut gateway = Self::prepare();
        fs::create_dir(&gateway.data).unwrap();
        fs::write(gateway.data.join("chitin.toml"), format!("{keys}\n{CONFIG}{limits}\n")).unwrap();
        gateway.up();
        gateway
    }

    /// A place for a gateway that does not run yet.
    pub(crate) fn prepare() -> Self {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().canonicalize().unwrap().join("data");
        Self { home, data, address: None, process: None }
    }

    /// Starts it, or starts it again.
    pub(crate) fn up(&mut self) {
        self.up_by(self.command(&UP));
    }

    /// The same under limits of the system's, as a shell sets them.
    pub(crate) fn up_under(&mut self, limits: &str) {
        let chitin = self.command(&UP);
        let mut command = program("sh");
        command.arg("-c").arg(format!("{limits}; exec \"$0\" \"$@\""));
        command.arg(chitin.get_program()).args(chitin.get_args());
        command.envs(chitin.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(self.home.path());
        self.up_by(command);
    }

    fn up_by(&mut self, mut command: Command) {
        command.stderr(fs::File::create(self.path("up.stderr")).unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.process = Some(child);
        let place = line.trim_end().strip_prefix("ready http://").and_then(|rest| rest.split_once(" unix:"));
        let Some((address, socket)) = place else {
            panic!("no gateway: {line}{}", fs::read_to_string(self.path("up.stderr")).unwrap());
        };
        assert_eq!(socket, self.data.join("chitin.sock").to_str().unwrap());
        self.address = Some(address.parse().unwrap());
    }

    /// Kills gateway and supervisor, at whatever they are doing; what runs goes on.
    pub(crate) fn crash(&mut self) {
        let mut child = self.process.take().expect("a gateway that runs");
        // Stopped, it starts no other meanwhile.
        kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
        self.kill_gateway();
        child.kill().unwrap();
        wait(&mut child);
    }

    /// Kills the gateway alone; its supervisor starts another.
    pub(crate) fn kill_gateway(&self) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
    }

    /// Waits until another gateway than `before` serves, and kills that one.
    pub(crate) fn kill_gateway_again(&self, before: u32) {
        until("another gateway serves", || {
            let pid = self.get("/v1/status").with(200).json()["pid"].as_u64()?;
            (pid != u64::from(before)).then_some(())
        });
        self.kill_gateway();
    }

    /// The supervisor that was started here is gone, and another took its place.
    pub(crate) fn forget_process(&mut self) {
        let mut child = self.process.take().expect("a gateway that ran");
        wait(&mut child);
    }

    /// Asks the supervisor to end, by a signal.
    pub(crate) fn terminate(&mut self) {
        let mut child = self.process.take().expect("a gateway that runs");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = wait(&mut child);
        assert!(status.success(), "{status}");
    }

    /// Stops it: `down` with these options.
    pub(crate) fn down(&mut self, options: &[&str]) -> Ended {
        let ended = self.cli(&[&["down"], options].concat());
        if let Some(mut child) = self.process.take() {
            let status = wait(&mut child);
            assert!(status.success(), "{status}: {}", fs::read_to_string(self.path("up.stderr")).unwrap());
        }
        ended
    }

    /// The gateway's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.read_pid("gateway.pid")
    }

    /// Its supervisor's.
    pub(crate) fn supervisor_pid(&self) -> u32 {
        self.read_pid("supervisor.pid")
    }

    fn read_pid(&self, name: &str) -> u32 {
        fs::read_to_string(self.data.join(name)).unwrap().trim().parse().unwrap()
    }

    /// A path in the test's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The program with these arguments, for this gateway.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = program(env!("CARGO_BIN_EXE_chitin"));
        command.args(args).env("CHITIN_DATA_DIR", &self.data).env("HOME", self.home.path());
        command.current_dir(self.home.path());
        command
    }

    /// Runs the program with these arguments.
    pub(crate) fn cli(&self, args: &[&str]) -> Ended {
        finish(self.command(args), None)
    }

    /// Hands in a command without retries; its id.
    pub(crate) fn submit(&self, command: &[&str]) -> String {
        self.submit_with(&[], command)
    }

    /// The same with options.
    pub(crate) fn submit_with(&self, options: &[&str], command: &[&str]) -> String {
        let ended = self.cli(&[&["submit", "--retries", "0"], options, &["--"], command].concat()).with(0);
        ended.out().trim_end().to_owned()
    }

    /// A task as it is.
    pub(crate) fn task(&self, id: &str) -> Value {
        self.get(&format!("/v1/tasks/{id}")).with(200).json()
    }

    /// A task as it ended, which it must.
    pub(crate) fn ended(&self, id: &str) -> Value {
        let task = self.get(&format!("/v1/tasks/{id}?wait_s=60")).with(200).json();
        assert!(!task["ended_at"].is_null(), "it has not ended: {task}");
        task
    }

    /// Waits until a task is in a state.
    pub(crate) fn until_state(&self, id: &str, state: &str) -> Value {
        until(&format!("{id} is {state}"), || {
            let task = self.task(id);
            (task["state"] == state).then_some(task)
        })
    }

    /// Waiting and running tasks.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let status = self.get("/v1/status").with(200).json();
        let queue = &status["layers"]["queue"];
        (queue["queued"].as_u64().unwrap(), queue["running"].as_u64().unwrap())
    }

    /// GET over TCP, with the token.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.tcp(&Request::get(path))
    }

    /// POST of JSON over TCP, with the token.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.tcp(&Request::post(path, body))
    }

    /// POST over TCP, with the token, to a gateway that may end meanwhile: the status, if there was an answer.
    pub(crate) fn try_post(&self, path: &str) -> Option<u16> {
        let token = fs::read_to_string(self.data.join("admin.token")).unwrap();
        let mut stream = std::net::TcpStream::connect(self.address.unwrap()).ok()?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            self.address.unwrap(),
            token.trim()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
    }

    /// Over TCP, with the token.
    pub(crate) fn tcp(&self, request: &Request) -> Answer {
        let token = fs::read_to_string(self.data.join("admin.token")).unwrap();
        let host = self.address.unwrap().to_string();
        let bearer = format!("Bearer {}", token.trim());
        self.tcp_bare(&request.clone().or_header("host", &host).or_header("authorization", &bearer))
    }

    /// Over TCP, with nothing but what is said.
    pub(crate) fn tcp_bare(&self, request: &Request) -> Answer {
        http::exchange(std::net::TcpStream::connect(self.address.unwrap()).unwrap(), request)
    }

    /// Over the Unix socket, without a token.
    pub(crate) fn unix(&self, request: &Request) -> Answer {
        let stream = UnixStream::connect(self.data.join("chitin.sock")).unwrap();
        http::exchange(stream, &request.clone().or_header("host", "localhost"))
    }
}

impl Drop for Gateway {
    /// Nothing may be left, however the test ended: not a process, not a control group.
    fn drop(&mut self) {
        let stopped = self.command(&["down", "--kill"]).status().is_ok_and(|status| status.success());
        let begin = now();
        let mut left = traces::processes(&self.data);
        while !left.is_empty() && begin.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(5));
            left = traces::processes(&self.data);
        }
        for process in &left {
            traces::kill(process);
        }
        if let Some(child) = &mut self.process {
            let _ = child.wait();
        }
        let groups = traces::groups(&self.data);
        if thread::panicking() {
            traces::remove(&groups);
            return;
        }
        assert!(stopped, "the gateway did not stop: {}", log(&self.data));
        assert!(left.is_empty(), "processes were left: {left:?}\n{}", log(&self.data));
        assert!(groups.is_empty(), "groups were left: {groups:?}\n{}", log(&self.data));
    }
}

/// The gateway's log.
pub(crate) fn log(data: &Path) -> String {
    fs::read_to_string(data.join("chitin.log")).unwrap_or_default()
}
