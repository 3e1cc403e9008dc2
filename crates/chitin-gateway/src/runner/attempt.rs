//! Listens to one shim: takes its word for how the attempt goes, and tells it what is wanted. Ends when its end is
//! committed, and they part, or when it is gone.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chitin_core::{AttemptKey, Beat, Input};
use chitin_failpoints::{failpoint, planted};
use chitin_proto::shim::{
    ExitReport, FromShim, MAX_FRAME_BYTES, PAUSE_SINCE, PROTOCOL_VERSION, ToShim, decode_frame, encode_frame,
};
use chitin_shim::recover::Killed;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::part::{self, Parting};
use super::{Context, Job, Wishes, collect, heartbeat, shortage};
use crate::tasks::TaskKind;

/// Between the end of a conversation with a shim that was found again and the next look at it.
const ATTACH_PAUSE: Duration = Duration::from_millis(100);

/// Between SIGTERM and SIGKILL for an attempt that ends because memory runs out for all.
const EVICTION_GRACE: Duration = Duration::from_millis(500);

/// How a conversation ended.
#[derive(Debug, PartialEq, Eq)]
enum Over {
    /// The end is committed and the shim told.
    Settled(Parting),
    /// The shim is gone, or does not speak our language.
    Gone,
    /// The shim was not the one to run this: another token is.
    Void,
    /// The gateway stops. The shim goes on.
    Stopped,
}

/// Listens to the shim that was just started.
pub(super) fn listen(context: &Arc<Context>, key: AttemptKey, socket: StdUnixStream) {
    converse(context, key, socket, false);
}

/// Listens to a shim that an earlier gateway started.
pub(super) fn attach(context: &Arc<Context>, key: AttemptKey, socket: StdUnixStream) {
    converse(context, key, socket, true);
}

fn converse(context: &Arc<Context>, key: AttemptKey, socket: StdUnixStream, attach: bool) {
    let Some(wishes) = context.hub.get(key) else { return };
    wishes.found.store(true, Ordering::SeqCst);
    wishes.is_listened_to.store(true, Ordering::SeqCst);
    let shared = Arc::clone(context);
    context.tasks.spawn(TaskKind::Attempt, async move {
        let over = tokio::select! {
            over = conversation(&shared, &wishes, socket, attach) => over,
            () = shared.tasks.stopped() => Over::Stopped,
        };
        wishes.is_listened_to.store(false, Ordering::SeqCst);
        if wishes.settled.load(Ordering::SeqCst) {
            let parting = if let Over::Settled(parting) = over { parting } else { Parting::Leaves };
            part::clear(&shared, &wishes, parting).await;
        }
        tracing::debug!(task.id = %key.id, attempt = key.attempt.0, ?over, "a shim's conversation is over");
        if matches!(over, Over::Gone | Over::Void) {
            if attach {
                // One that lives and does not want to talk to us would be asked again at once, for ever.
                tokio::time::sleep(ATTACH_PAUSE).await;
            }
            // What was given out anew meanwhile, or has been settled, is not looked for.
            shared.jobs.push(Job::Recover { attempt: key, same_boot: true });
        }
    });
}

async fn conversation(
    context: &Arc<Context>,
    wishes: &Arc<Wishes>,
    socket: StdUnixStream,
    attach: bool,
) -> Over {
    let Ok(socket) = socket.set_nonblocking(true).and_then(|()| UnixStream::from_std(socket)) else {
        return Over::Gone;
    };
    let (read, mut write) = socket.into_split();
    let mut read = BufReader::with_capacity(1_024, read);
    let who_speaks = ToShim::Attach { v: PROTOCOL_VERSION, epoch: context.epoch };
    if attach && !send(&mut write, &who_speaks).await {
        return Over::Gone;
    }
    let mut line = Vec::new();
    let mut end_sent = false;
    let mut strike_at = None;
    // One that was found again may have heard another wish from an earlier gateway.
    let mut pausing = Pausing { heard: (!attach).then_some(false), version: None };
    loop {
        if wishes.settled.load(Ordering::SeqCst) {
            failpoint!("settle.told.before");
            return Over::Settled(part::tell(context, wishes, (read, write), line, !attach).await);
        }
        if !end_sent && wishes.end.load(Ordering::SeqCst) {
            if !send(&mut write, &ToShim::Cancel).await {
                return Over::Gone;
            }
            end_sent = true;
        }
        if end_sent && strike_at.is_none() && wishes.at_once.load(Ordering::SeqCst) {
            strike_at = Some(tokio::time::Instant::now() + EVICTION_GRACE);
        }
        if !end_sent && !pausing.tell(wishes, &mut write).await {
            return Over::Gone;
        }
        match wishes.beat() {
            Beat::Wait => {}
            Beat::Ask => {
                if !send(&mut write, &who_speaks).await {
                    return Over::Gone;
                }
            }
            // Killed, it closes its end.
            Beat::GiveUp => {
                if heartbeat::give_up_aside(context, wishes).await == Killed::Nobody {
                    return Over::Gone;
                }
            }
        }
        tokio::select! {
            // What was said is heard before it is missed: this gateway may have stood still.
            biased;
            frame = next_frame(&mut read, &mut line) => match frame.inspect(|_| wishes.heard()) {
                Some(FromShim::Started { v, shim_pid, pid, .. }) => {
                    pausing.version = Some(v);
                    if wishes.shim_pid.swap(shim_pid, Ordering::SeqCst) != shim_pid {
                        tracing::debug!(task.id = %wishes.key.id, attempt = wishes.key.attempt.0, shim_pid, pid, "an attempt runs");
                    }
                }
                Some(FromShim::Void { .. }) => return Over::Void,
                // Nobody asked it to.
                Some(FromShim::Resting { .. }) => return Over::Gone,
                Some(FromShim::Ended(report)) => {
                    if !settle(context, wishes, *report).await {
                        return Over::Stopped;
                    }
                }
                None => {
                    let settled = wishes.settled.load(Ordering::SeqCst);
                    return if settled { Over::Settled(Parting::Leaves) } else { Over::Gone };
                }
            },
            () = wishes.changed.notified() => {}
            () = until(strike_at) => {
                strike(context, wishes.key).await;
                // Again, if it forked in the meantime.
                strike_at = Some(tokio::time::Instant::now() + EVICTION_GRACE);
            }
            () = tokio::time::sleep(wishes.until_beat()) => {}
        }
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Ends the tree of an attempt whose shim was told to end it, and gives it time that nobody has.
async fn strike(context: &Context, key: AttemptKey) {
    let isolation = context.isolation(key);
    let end = move || chitin_shim::tree::strike(&isolation, &key.id.to_string(), key.attempt.0);
    _ = context.tasks.blocking(end).await;
}

/// What a shim knows of the wish that its tree stand still.
struct Pausing {
    /// What it was told last; `None`: nobody here knows.
    heard: Option<bool>,
    /// What it speaks; unknown before its first word.
    version: Option<u16>,
}

impl Pausing {
    /// Tells it, if it does not know. False: it is gone.
    async fn tell(&mut self, wishes: &Wishes, write: &mut OwnedWriteHalf) -> bool {
        let paused = wishes.paused.load(Ordering::SeqCst);
        let Some(version) = self.version.filter(|_| self.heard != Some(paused)) else { return true };
        self.heard = Some(paused);
        if version >= PAUSE_SINCE {
            failpoint!("pause.told.before");
            return send(write, if paused { &ToShim::Pause } else { &ToShim::Resume }).await;
        }
        if paused {
            let key = wishes.key;
            tracing::warn!(task.id = %key.id, attempt = key.attempt.0, version, "its shim is of an earlier version and cannot be paused; it runs on");
        }
        true
    }
}

/// Reads what the attempt left, and has it committed. False: the gateway stops.
pub(super) async fn settle(context: &Arc<Context>, wishes: &Wishes, report: ExitReport) -> bool {
    let key = wishes.key;
    if report.token != key.token.to_string() {
        tracing::warn!(task.id = %key.id, attempt = key.attempt.0, "a report under a foreign token was ignored");
        return true;
    }
    failpoint!("settle.collect.before");
    let folder = context.spool.attempt(key.id, key.attempt);
    let says_nothing =
        report.stdout.total_bytes == 0 && report.stderr.total_bytes == 0 && report.result.is_none();
    let report = Arc::new(report);
    let mut short = false;
    let (end, produced, bytes) = loop {
        let collected = if says_nothing {
            Some(collect::collect(&report, &folder, &context.limits))
        } else {
            let (report, folder, limits) = (Arc::clone(&report), folder.clone(), context.limits.clone());
            context.tasks.blocking(move || collect::collect(&report, &folder, &limits)).await
        };
        match collected {
            None => return false,
            Some(Ok(collected)) => break collected,
            Some(Err(error)) => {
                if !short {
                    tracing::warn!(task.id = %key.id, attempt = key.attempt.0, %error, "what an attempt left cannot be read yet");
                    short = true;
                }
                tokio::time::sleep(shortage::PAUSE).await;
            }
        }
    };
    tracing::debug!(task.id = %key.id, attempt = key.attempt.0, outcome = end.outcome.as_str(), "an attempt ended");
    if planted!("spool-before-settlement") {
        _ = std::fs::remove_dir_all(&folder);
    }
    failpoint!("settle.report.before");
    context.engine.insist(bytes, Input::ShimReport { attempt: key, end, produced }).await
}

pub(super) async fn send(write: &mut OwnedWriteHalf, frame: &ToShim) -> bool {
    match encode_frame(frame) {
        Ok(line) => write.write_all(&line).await.is_ok(),
        Err(_) => false,
    }
}

/// The next frame; `None` when there will be none. Cancel-safe: what was read stays in `line`.
pub(super) async fn next_frame(read: &mut BufReader<OwnedReadHalf>, line: &mut Vec<u8>) -> Option<FromShim> {
    let room = u64::try_from(MAX_FRAME_BYTES.saturating_sub(line.len())).unwrap_or(0);
    let mut bounded = read.take(room);
    match bounded.read_until(b'\n', line).await {
        Ok(_) if line.last() == Some(&b'\n') => {
            let frame = decode_frame(line);
            line.clear();
            frame.inspect_err(|error| tracing::warn!(%error, "a shim said what is no frame")).ok()
        }
        _ => None,
    }
}
