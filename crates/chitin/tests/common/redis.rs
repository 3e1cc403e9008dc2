//! A real Redis server of a test's own, in a folder of its own, on a socket and a free port; ended with the test. Where none
//! is installed the tests that need one say so and pass: `.ci/run` installs one.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{program, until, wait};

/// The password it asks for.
pub(crate) const PASSWORD: &str = "s3cret/and more";
/// The same in a URL.
pub(crate) const ENCODED: &str = "s3cret%2Fand%20more";

pub(crate) struct Redis {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Redis {
    /// One that runs; `None`, said on standard error, where none is installed.
    #[expect(clippy::print_stderr, reason = "a test that looks at nothing says so")]
    pub(crate) fn start() -> Option<Self> {
        let mut version = program("redis-server");
        if !version.arg("--version").status().is_ok_and(|status| status.success()) {
            eprintln!("skipped: there is no redis-server here");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        // Nobody else takes it meanwhile, or the server says so and the test fails.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut redis = Self { folder, port, process: None };
        redis.up();
        Some(redis)
    }

    pub(crate) fn up(&mut self) {
        let mut command = program("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.arg("--unixsocket").arg(self.socket()).arg("--dir").arg(self.folder.path());
        command.args(["--save", "", "--appendonly", "no", "--requirepass", PASSWORD]);
        command.stdout(fs::File::create(self.folder.path().join("redis.log")).unwrap());
        self.process = Some(command.spawn().unwrap());
        until("the Redis server answers", || UnixStream::connect(self.socket()).ok().map(drop));
    }

    pub(crate) fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            wait(&mut process);
        }
        let _ = fs::remove_file(self.socket());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.process.as_ref().unwrap()), signal).unwrap();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    pub(crate) fn tcp_url(&self, database: u32) -> String {
        format!("redis://:{ENCODED}@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) fn unix_url(&self) -> String {
        format!("unix://default:{ENCODED}@{}", self.socket().display())
    }

    /// Asks it in one of its databases: the answer's first line or value, as text.
    pub(crate) fn ask(&self, database: u32, words: &[&str]) -> String {
        let stream = UnixStream::connect(self.socket()).unwrap();
        let (mut write, mut read) = (stream.try_clone().unwrap(), BufReader::new(stream));
        let mut answer = String::new();
        for words in [&["AUTH", PASSWORD], &["SELECT", &database.to_string()][..], words] {
            let mut request = format!("*{}\r\n", words.len());
            for word in words {
                request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
            }
            write.write_all(request.as_bytes()).unwrap();
            answer.clear();
            read.read_line(&mut answer).unwrap();
        }
        match answer.strip_prefix('$').map(|len| len.trim_end().parse::<usize>()) {
            Some(Ok(len)) => {
                let mut value = vec![0; len];
                read.read_exact(&mut value).unwrap();
                String::from_utf8(value).unwrap()
            }
            _ => answer.trim_end().to_owned(),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
