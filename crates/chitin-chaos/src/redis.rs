//! A Redis server of a session's own, in a folder of its own, on a socket alone; and a proxy before it that can be slow, or
//! hang, as a network is.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::broken::{During, holds};
use crate::clock::{sleep_ms, until};
use crate::{Held, system};

/// Why there is none here; `None`: there is.
pub(crate) fn is_missing() -> Option<String> {
    system::find("redis-server").is_none().then(|| "there is no redis-server here".to_owned())
}

/// The server. A child of this process, which alone signals it.
#[derive(Debug)]
pub(crate) struct Redis {
    folder: TempDir,
    process: Option<Child>,
}

impl Redis {
    pub(crate) fn start() -> Held<Self> {
        let folder =
            tempfile::Builder::new().prefix("chitin-chaos-redis.").tempdir().during("make a folder")?;
        let mut redis = Self { folder, process: None };
        redis.up()?;
        Ok(redis)
    }

    /// Starts it, empty.
    pub(crate) fn up(&mut self) -> Held {
        let mut command = system::command("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
        command.arg(self.socket()).arg("--dir").arg(self.folder.path());
        command.arg("--logfile").arg(self.folder.path().join("redis.log"));
        self.process = Some(command.spawn().during("start redis-server")?);
        until("the Redis server answers", || {
            Ok(self.ask(&["PING"]).is_ok_and(|answer| answer == "+PONG").then_some(()))
        })
    }

    pub(crate) fn down(&mut self) -> Held {
        if let Some(mut process) = self.process.take() {
            process.kill().during("kill redis-server")?;
            process.wait().during("wait for redis-server")?;
        }
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Held {
        let process = self.process.as_ref().during("redis-server")?;
        kill_process(Pid::from_child(process), signal).during("signal redis-server")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Asks it: the first line of the answer.
    pub(crate) fn ask(&self, words: &[&str]) -> Held<String> {
        const PATIENCE: Duration = Duration::from_secs(20);
        let mut stream = UnixStream::connect(self.socket()).during("connect to redis-server")?;
        stream.set_read_timeout(Some(PATIENCE)).during("set a timeout")?;
        let mut request = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| request.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        stream.write_all(request.as_bytes()).during("ask redis-server")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).during("an answer of redis-server")?;
        Ok(line.trim_end().to_owned())
    }

    /// The same, which it must not refuse.
    pub(crate) fn told(&self, words: &[&str]) -> Held<String> {
        let answer = self.ask(words)?;
        holds!(!answer.starts_with('-'), "{words:?}: {answer}");
        Ok(answer)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // What is stopped can be killed all the same.
            _ = process.kill();
            _ = process.wait();
        }
    }
}

/// How often a proxy's threads look whether they are to end, or go on.
const LOOK: Duration = Duration::from_millis(20);
/// Nothing goes through.
const HANGS: u64 = u64::MAX;

/// Stands before the server. Its threads end with it.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    manner: Arc<Manner>,
}

#[derive(Debug, Default)]
struct Manner {
    /// Each request waits so long, in milliseconds.
    delay_ms: AtomicU64,
    is_over: AtomicBool,
}

impl Proxy {
    pub(crate) fn before(redis: &Redis) -> Held<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").during("listen")?;
        let address = listener.local_addr().during("listen")?;
        let manner = Arc::new(Manner::default());
        let (socket, shared) = (redis.socket(), Arc::clone(&manner));
        let accept = move || {
            for stream in listener.incoming() {
                if shared.is_over.load(Ordering::Relaxed) {
                    return;
                }
                // Where nobody is behind it, the connection is closed.
                if let (Ok(stream), Ok(behind)) = (stream, UnixStream::connect(&socket)) {
                    let manner = Arc::clone(&shared);
                    thread::spawn(move || {
                        _ = relay(&stream, &behind, &manner);
                    });
                }
            }
        };
        thread::Builder::new().name("proxy".to_owned()).spawn(accept).during("start a proxy")?;
        Ok(Self { address, manner })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn delay(&self, ms: u64) {
        self.manner.delay_ms.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn hang(&self) {
        self.delay(HANGS);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.manner.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        _ = TcpStream::connect(self.address);
    }
}

/// Carries requests there and answers back, until either side or the proxy ends.
fn relay(front: &TcpStream, behind: &UnixStream, manner: &Arc<Manner>) -> std::io::Result<()> {
    front.set_nodelay(true)?;
    front.set_read_timeout(Some(LOOK))?;
    behind.set_read_timeout(Some(LOOK))?;
    let (back_from, back_to) = (behind.try_clone()?, front.try_clone()?);
    let shared = Arc::clone(manner);
    let back = thread::spawn(move || carry(back_from, back_to, &shared, false));
    carry(front.try_clone()?, behind.try_clone()?, manner, true);
    _ = front.shutdown(Shutdown::Both);
    _ = behind.shutdown(Shutdown::Both);
    _ = back.join();
    Ok(())
}

fn carry(mut from: impl Read, mut to: impl Write, manner: &Manner, waits: bool) {
    let mut buffer = vec![0; 65_536];
    while !manner.is_over.load(Ordering::Relaxed) {
        let some = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(some) => some,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => return,
        };
        if waits {
            while manner.delay_ms.load(Ordering::Relaxed) == HANGS && !manner.is_over.load(Ordering::Relaxed)
            {
                thread::sleep(LOOK);
            }
            match manner.delay_ms.load(Ordering::Relaxed) {
                0 | HANGS => {}
                ms => sleep_ms(ms),
            }
        }
        if to.write_all(buffer.get(..some).unwrap_or_default()).is_err() {
            return;
        }
    }
}
