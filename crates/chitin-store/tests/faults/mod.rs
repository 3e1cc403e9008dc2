//! A disk that fails on purpose: a test starts itself again with `faults.c` preloaded, as a process that does one thing,
//! and makes the n-th of its calls that change files fail. With the C compiler that building SQLite needs anyway.
#![allow(dead_code, clippy::unwrap_used, reason = "a test harness: every user has its part")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What names a driver's folder to it; nothing: it was not asked for.
const PLACE: &str = "FAULTS_PLACE";

/// The library, compiled.
pub(crate) struct Faults {
    folder: tempfile::TempDir,
}

/// How one run ended.
pub(crate) struct Ran {
    /// The exit code; none: it was killed.
    pub(crate) code: Option<i32>,
    /// Whether the fault was met.
    pub(crate) hit: bool,
    /// Calls that were counted.
    pub(crate) calls: usize,
    /// The lines it said by [`say`].
    pub(crate) said: Vec<String>,
    /// Its outputs, for a failing test.
    pub(crate) heard: String,
}

impl Faults {
    pub(crate) fn compile() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chitin-store/tests/faults/faults.c");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let mut compile = command(Path::new(&compiler));
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(folder.path().join("faults.so"));
        let compiled = compile.arg(source).arg("-ldl").output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Self { folder }
    }

    /// Arms a command: the n-th call that changes something below `place` meets `what`, see `faults.c`.
    pub(crate) fn arm(&self, command: &mut Command, place: &Path, nth: u64, what: &str) {
        let _ = fs::remove_file(self.report());
        command
            .env("LD_PRELOAD", self.folder.path().join("faults.so"))
            .env("FAULTS_BELOW", place.canonicalize().unwrap())
            .env("FAULTS_NTH", nth.to_string())
            .env("FAULTS_DO", what)
            .env("FAULTS_REPORT", self.report());
    }

    /// Runs the test `driver` of this program on `place`, with one fault.
    pub(crate) fn run(&self, driver: &str, place: &Path, nth: u64, what: &str) -> Ran {
        let mut run = command(&std::env::current_exe().unwrap());
        run.args(["--exact", driver, "--nocapture", "--test-threads=1"]).env(PLACE, place);
        let _ = fs::remove_file(said_in(place));
        self.arm(&mut run, place, nth, what);
        let ended = run.stdin(Stdio::null()).output().unwrap();
        assert!(
            ended.status.signal().is_none_or(|signal| what == "kill" && signal == 9),
            "{}: {}",
            ended.status,
            String::from_utf8_lossy(&ended.stderr)
        );
        let (calls, hit) = self.reported();
        let said = fs::read_to_string(said_in(place)).unwrap_or_default();
        Ran {
            code: ended.status.code(),
            hit,
            calls,
            said: said.lines().map(str::to_owned).collect(),
            heard: String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned(),
        }
    }

    /// Calls that were counted, and whether the fault was met.
    pub(crate) fn reported(&self) -> (usize, bool) {
        let report = fs::read(self.report()).unwrap_or_default();
        (report.len(), report.contains(&b'!'))
    }

    fn report(&self) -> PathBuf {
        self.folder.path().join("report")
    }
}

/// In a driver: its folder, if it was asked for.
pub(crate) fn place() -> Option<PathBuf> {
    std::env::var_os(PLACE).map(PathBuf::from)
}

/// In a driver: tells the test something, for good.
pub(crate) fn say(place: &Path, line: &str) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().create(true).append(true).open(said_in(place)).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Beside the folder, where no fault is.
fn said_in(place: &Path) -> PathBuf {
    place.with_extension("said")
}

#[expect(clippy::disallowed_methods, reason = "the one place here that starts processes")]
fn command(program: &Path) -> Command {
    Command::new(program)
}
