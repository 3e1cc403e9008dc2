//! The log: JSON lines in `chitin.log`, written by a thread behind a bounded queue. A full queue loses lines, and says
//! how many: a slow disk must not slow an answer. Never payloads, tokens or environments.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const WAITING_LINES: usize = 4_096;
/// The file is set aside as `chitin.log.1` above this size, so that the log never fills a disk.
const MAX_BYTES: u64 = 16_000_000;
/// How long the last lines are waited for when the process ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

static SENDER: OnceLock<SyncSender<Line>> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);

enum Line {
    Text(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Begins to log. `CHITIN_LOG` says how much (`info` if nothing does). A second call in a process changes nothing.
pub(crate) fn start(path: &Path) -> io::Result<()> {
    if SENDER.get().is_some() {
        return Ok(());
    }
    let file = open(path)?;
    let (sender, lines) = sync_channel(WAITING_LINES);
    let path = path.to_owned();
    std::thread::Builder::new().name("chitin-log".to_owned()).spawn(move || write(file, &path, &lines))?;
    if SENDER.set(sender).is_err() {
        return Ok(());
    }
    let filter = EnvFilter::try_from_env("CHITIN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(Queue).finish();
    // Somebody else's subscriber in the same process (a test) is as good.
    _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Waits for what was logged so far, but not for a disk that hangs.
pub(crate) fn flush() {
    let (done, wait) = sync_channel(1);
    if let Some(sender) = SENDER.get()
        && sender.try_send(Line::Flush(done)).is_ok()
    {
        _ = wait.recv_timeout(LAST_WORDS);
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn write(mut file: File, path: &PathBuf, lines: &Receiver<Line>) {
    let mut bytes = file.metadata().map_or(0, |meta| meta.len());
    for line in lines {
        let text = match line {
            Line::Text(text) => text,
            Line::Flush(done) => {
                _ = done.send(());
                continue;
            }
        };
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            _ = writeln!(file, "{{\"level\":\"WARN\",\"message\":\"log lines were lost\",\"lost\":{lost}}}");
        }
        // A log that cannot be written is lost: there is nobody to tell.
        _ = file.write_all(&text);
        bytes = bytes.saturating_add(u64::try_from(text.len()).unwrap_or(0));
        if bytes > MAX_BYTES {
            let mut aside = path.clone().into_os_string();
            aside.push(".1");
            if fs::rename(path, aside).is_ok()
                && let Ok(fresh) = open(path)
            {
                file = fresh;
            }
            bytes = 0;
        }
    }
}

/// Where the subscriber writes.
struct Queue;

impl MakeWriter<'_> for Queue {
    type Writer = QueueWriter;

    fn make_writer(&self) -> QueueWriter {
        QueueWriter
    }
}

/// Takes one whole line a call, which is how the subscriber writes.
struct QueueWriter;

impl Write for QueueWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let sent = SENDER.get().is_some_and(|sender| sender.try_send(Line::Text(line.to_vec())).is_ok());
        if !sent {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
