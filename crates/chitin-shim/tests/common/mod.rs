//! A gateway in miniature: gives orders to the real shim, listens to it, looks for what it left behind.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may; clippy sees no test here"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chitin_proto::shim::{
    Cause, Claim, ExitReport, FromShim, Isolation, NotStarted, Order, PROTOCOL_VERSION, ResourceLimits,
    StreamReport, ToShim, decode_frame, encode_frame, names,
};
use chitin_shim::groups::{self, Tier, TierKind};
use chitin_shim::recover::{self, Found};
use chitin_shim::start::{self, Spawned};
use tempfile::TempDir;

/// A wait that is longer than any machine takes; reached only by a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub const EPOCH: u64 = 5;
/// Of the CPU time of all attempts of an instance.
pub const WEIGHT: u64 = 50;

static TASKS: AtomicU32 = AtomicU32::new(0);

/// The instance of this test (each has a thread of its own): its groups are `chitin-test-<pid>-<n>`.
pub fn instance() -> String {
    thread_local!(static NUMBER: u32 = TASKS.fetch_add(1, Ordering::Relaxed));
    format!("test-{}-{}", std::process::id(), NUMBER.with(|n| *n))
}

/// Every tier this machine has; the missing ones are said to be skipped. Its groups go when it goes out of scope.
pub struct Tiers(pub Vec<Tier>);

pub fn tiers() -> Tiers {
    let mut all = groups::all();
    // The one that is everywhere goes first, for tests that need one.
    all.reverse();
    for missing in TierKind::ALL.into_iter().filter(|kind| !all.iter().any(|tier| tier.kind() == *kind)) {
        println!("skipped: no {} on this machine", missing.name());
    }
    all.retain(|tier| match tier.prepare(&instance(), WEIGHT) {
        Ok(()) => true,
        Err(e) => {
            println!("skipped: {}: {e}", tier.name());
            false
        }
    });
    let as_without_version_2 = all.iter().find_map(|tier| match tier {
        // As on a machine where version 2 is not mounted: SIGKILL one by one.
        Tier::Cgroup1 { memory, pids, cpu, unified: Some(_) } => {
            let (memory, pids, cpu) = (memory.clone(), pids.clone(), cpu.clone());
            Some(Tier::Cgroup1 { memory, pids, cpu, unified: None })
        }
        _ => None,
    });
    all.extend(as_without_version_2);
    Tiers(all)
}

/// The tiers with groups alone.
pub fn group_tiers() -> Tiers {
    let mut tiers = tiers();
    tiers.0.retain(|t| *t != Tier::Rlimit);
    tiers
}

impl Drop for Tiers {
    fn drop(&mut self) {
        for tier in &self.0 {
            tier.remove(&instance());
        }
    }
}

pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

/// One attempt's folder and order.
pub struct Attempt {
    pub dir: TempDir,
    pub order: Order,
    pub stdin: Option<Vec<u8>>,
}

/// An attempt of `sh -c script`.
pub fn sh(tier: &Tier, script: &str) -> Attempt {
    command(tier, &["/bin/sh", "-c", script])
}

pub fn command(tier: &Tier, command: &[&str]) -> Attempt {
    limited(tier, command, ResourceLimits::default())
}

pub fn limited(tier: &Tier, command: &[&str], limits: ResourceLimits) -> Attempt {
    let number = TASKS.fetch_add(1, Ordering::Relaxed);
    let task = format!("shimtest-{}-{number}", std::process::id());
    let dir = tempfile::tempdir().unwrap();
    let path = std::env::var("PATH").unwrap();
    let pairs = [("PATH", path.as_str()), ("CHITIN_TASK_ID", task.as_str()), ("CHITIN_ATTEMPT", "1")];
    let order = Order {
        v: PROTOCOL_VERSION,
        attempt: 1,
        token: TOKEN.to_owned(),
        epoch: EPOCH,
        boot_id: boot_id(),
        command: command.iter().map(|s| (*s).to_owned()).collect(),
        env: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
        cwd: Some(dir.path().to_owned()),
        merge: false,
        timeout_ms: None,
        grace_ms: 10_000,
        isolation: tier.isolation(&instance(), &task, 1, &limits),
        limits,
        segment_bytes: 10_000_000,
        result_max_bytes: 10_000_000,
        task,
    };
    Attempt { dir, order, stdin: None }
}

impl Attempt {
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn start(&self) -> Gateway {
        let shim = Path::new(env!("CARGO_BIN_EXE_chitin-shim"));
        let Spawned { pid, socket } =
            start::spawn(shim, self.path(), &self.order, self.stdin.as_deref()).unwrap();
        Gateway::new(pid.unwrap(), socket)
    }

    /// Starts it and follows it to its settled end.
    pub fn run(&self) -> ExitReport {
        let mut gateway = self.start();
        let report = gateway.ended();
        gateway.settle();
        self.assert_nothing_left();
        report
    }

    pub fn probe(&self) -> Found {
        recover::probe(self.path(), &self.order.token, &boot_id()).unwrap()
    }

    pub fn claim(&self) -> Claim {
        serde_json::from_slice(&self.read(&names::claim(&self.order.token))).unwrap()
    }

    /// Processes of the machine with this attempt in their environment.
    pub fn processes(&self) -> Vec<u32> {
        let wanted = format!("CHITIN_TASK_ID={}", self.order.task).into_bytes();
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|e| e.file_name().to_str()?.parse().ok())
            .filter(|pid: &u32| {
                let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environ.split(|b| *b == 0).any(|v| v == wanted)
            })
            .collect()
    }

    /// How many of them have this name.
    pub fn named(&self, comm: &str) -> usize {
        let is = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == comm)
        };
        self.processes().into_iter().filter(is).count()
    }

    pub fn groups(&self) -> Vec<PathBuf> {
        match &self.order.isolation {
            Isolation::Cgroup2 { group } => vec![group.clone()],
            Isolation::Cgroup1 { memory, pids, cpu, unified } => {
                [memory, pids, cpu, unified].into_iter().flatten().cloned().collect()
            }
            Isolation::Rlimit => Vec::new(),
        }
    }

    pub fn assert_nothing_left(&self) {
        assert_eq!(self.processes(), Vec::<u32>::new(), "processes of the attempt");
        for group in self.groups() {
            assert!(!group.exists(), "{} is left", group.display());
        }
        assert!(!self.file(names::SOCKET).exists(), "the socket is left");
    }

    /// The kept bytes of a stream, checked against the report.
    pub fn kept(&self, name: &str, stream: &StreamReport) -> Vec<u8> {
        let mut all = Vec::new();
        for segment in &stream.segments {
            let bytes = self.read(&names::segment(name, segment.start));
            assert_eq!(bytes.len() as u64, segment.len);
            assert_eq!(crc32fast::hash(&bytes), segment.crc32);
            all.extend(bytes);
        }
        all
    }

    pub fn stdout(&self, report: &ExitReport) -> String {
        String::from_utf8(self.kept("stdout", &report.stdout)).unwrap()
    }

    pub fn stderr(&self, report: &ExitReport) -> String {
        String::from_utf8(self.kept("stderr", &report.stderr)).unwrap()
    }

    /// Connects as a gateway of some epoch and attaches.
    pub fn attach(&self, shim_pid: u32, epoch: u64) -> Gateway {
        let mut socket = None;
        until("the shim listens", || {
            socket = recover::connect(self.path()).ok();
            socket.is_some()
        });
        let mut gateway = Gateway::new(shim_pid, socket.unwrap());
        gateway.send(&ToShim::Attach { v: PROTOCOL_VERSION, epoch });
        gateway
    }
}

/// A failed test leaves nothing behind either.
impl Drop for Attempt {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        if recover::probe(self.path(), &self.order.token, &boot_id()).is_ok_and(|found| found == Found::Alive)
            && let Some(by) = self.claim().shim
        {
            kill9(by.pid);
            wait_for(by.pid);
        }
        let _ = chitin_shim::tree::end(&self.order.isolation, &self.order.task, self.order.attempt);
        for place in self.groups().iter().filter_map(|group| group.parent()) {
            let _ = std::fs::remove_dir(place);
        }
    }
}

/// Writes a script.
pub fn script(path: &Path, text: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// One end of a connection to a shim.
pub struct Gateway {
    pub shim_pid: u32,
    socket: BufReader<UnixStream>,
}

impl Gateway {
    pub fn new(shim_pid: u32, socket: UnixStream) -> Self {
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { shim_pid, socket: BufReader::new(socket) }
    }

    pub fn send(&mut self, frame: &ToShim) {
        self.socket.get_mut().write_all(&encode_frame(frame).unwrap()).unwrap();
    }

    /// The next frame; `None`: the shim closed the connection.
    pub fn next(&mut self) -> Option<FromShim> {
        let mut line = Vec::new();
        match self.socket.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(decode_frame(&line).unwrap()),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(e) => panic!("no frame: {e}"),
        }
    }

    /// Waits for the start; the command's process id.
    pub fn started(&mut self) -> u32 {
        match self.next() {
            Some(FromShim::Started { pid, shim_pid, .. }) => {
                assert_eq!(shim_pid, self.shim_pid);
                pid
            }
            other => panic!("not started: {other:?}"),
        }
    }

    /// Waits for the end, past the start.
    pub fn ended(&mut self) -> ExitReport {
        loop {
            match self.next() {
                Some(FromShim::Ended(report)) => return *report,
                Some(FromShim::Started { .. }) => {}
                other => panic!("no end: {other:?}"),
            }
        }
    }

    pub fn not_started(&mut self) -> NotStarted {
        match self.next() {
            Some(FromShim::Ended(report)) => match report.cause {
                Cause::NotStarted(why) => why,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    pub fn cancel(&mut self) {
        self.send(&ToShim::Cancel);
    }

    /// Lets the shim go and waits until it is gone.
    pub fn settle(mut self) {
        self.send(&ToShim::Settled);
        assert_eq!(self.next(), None, "nothing is said after `Settled`");
        self.wait();
    }

    /// Hangs up and waits until the shim is gone.
    pub fn desert(self) {
        let pid = self.shim_pid;
        drop(self);
        wait_for(pid);
    }

    pub fn wait(&self) {
        wait_for(self.shim_pid);
    }
}

/// Reaps a shim; each test waits for its own, because they run beside each other.
pub fn wait_for(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap());
    until("the shim ends", || {
        !matches!(rustix::process::waitpid(pid, rustix::process::WaitOptions::NOHANG), Ok(None))
    });
}

pub fn kill9(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Waits for a condition.
#[allow(clippy::disallowed_methods)]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
