//! The engine: the writer thread. Everything that changes goes through here, one batch at a time.
//!
//! A batch: begin, a step of the core for each waiting command, a tick, commit, and only then the outputs. Whatever
//! waits shares one commit, so durable and fast are the same thing: the more there is to do, the less each costs.
//!
//! Invariant: no reply and no effect leaves before its commit.
//! Invariant: a refused batch is run again one command at a time, so that nobody pays for another's row.
//! Invariant: after a commit nobody knows the end of, this process answers nothing more and ends.

mod batch;
mod checkpoint;
mod gather;
mod insist;
mod post;
mod read_only;

use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chitin_core::{
    Answer, AttemptKey, CommandId, Core, Dispatch, Figures, Input, Limits, Output, Pace, StoredResult,
};
use chitin_store::{Ballast, StoreError, Writer};
use tokio::sync::oneshot;

use crate::chance::OsDice;
use crate::clock::{self, Clock};
use crate::effects::World;
use crate::http::Share;
use crate::tasks::Tasks;

use gather::{Gathered, Rhythm};
use insist::{Insistence, Next};
use post::{Inbox, Outbox, post};

pub use batch::chain;
pub(crate) use checkpoint::Checkpoints;
pub(crate) use post::Answers;

/// The engine looks up at least this often, so that a stepped wall clock is noticed.
const LONGEST_SLEEP_MS: i64 = 1_000;
/// Between two tries while the store refuses everything (R1.4).
const PROBE_EVERY: Duration = Duration::from_millis(250);

/// Why a command was not carried out. Nothing of it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Too many commands wait for the writer.
    Overloaded,
    /// The disk is full.
    Full,
    /// The store refuses everything for another reason.
    Unavailable,
    /// The store refuses this row and takes others: it breaks a constraint, which is our bug.
    Row,
    /// The write-ahead log is over its cap.
    LogFull,
    /// Whoever asked waits no longer; it was dropped, or, if a commit was under way with it, may be stored.
    TooLate,
    /// Tasks are taken up one by one; until that is done, nothing new is.
    Recovering,
    /// The gateway stops.
    Stopping,
}

pub(crate) type Reply = Result<Answer, Trouble>;

/// An answer, with the command it answers: what was made on an async thread is freed there, where it costs least.
struct Returned {
    reply: Reply,
    _spent: Box<Command>,
}

/// An answer to come.
pub(crate) struct Pending(oneshot::Receiver<Returned>);

impl Pending {
    /// Whether there is an answer, or never will be.
    pub(crate) fn is_answered(&mut self) -> bool {
        !matches!(self.0.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }
}

impl Future for Pending {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let returned = Pin::new(&mut self.0).poll(context);
        returned.map(|returned| returned.map_or(Err(Trouble::Stopping), |returned| returned.reply))
    }
}

impl std::fmt::Debug for Command {
    /// What it carries is nobody's to read in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command").field("to", &self.to).finish_non_exhaustive()
    }
}

impl Command {
    /// A command that brings so many bytes to a commit, and the answer to it.
    fn new(to: CommandId, input: Input, bytes: u64) -> (Box<Self>, Pending) {
        let (reply, answer) = oneshot::channel();
        let (reply, deadline_boottime_ms, budget) = (Some(reply), None, None);
        (Box::new(Self { input, reply, to, bytes, deadline_boottime_ms, budget }), Pending(answer))
    }

    pub(crate) fn id(&self) -> CommandId {
        self.to
    }

    /// The result that it reported for this attempt, once.
    pub(crate) fn take_result(&mut self, of: AttemptKey) -> Option<StoredResult> {
        match &mut self.input {
            Input::ShimReport { attempt, produced, .. } if *attempt == of => produced.result.take(),
            _ => None,
        }
    }

    /// Answers it. Whoever asked may be gone; the commit stands.
    pub(crate) fn answer(mut self: Box<Self>, reply: Reply) {
        if let Some(sender) = self.reply.take() {
            _ = sender.send(Returned { reply, _spent: self });
        }
    }
}

/// A command on its way to the writer.
pub(crate) struct Command {
    input: Input,
    /// Taken when it is answered.
    reply: Option<oneshot::Sender<Returned>>,
    to: CommandId,
    bytes: u64,
    /// Once this has passed on the clock that never steps, it is not carried out any more. Submissions have a deadline of
    /// their own, which the core looks at.
    deadline_boottime_ms: Option<i64>,
    /// What it takes of the bytes in flight, until it is carried out or refused: whoever asked may be gone by then.
    budget: Option<Share>,
}

impl Drop for Command {
    /// A writer that panics ends the process. Whether this was carried out nobody knows by then, so nobody is told that it was not:
    /// whoever asked loses the connection.
    fn drop(&mut self) {
        if thread::panicking() {
            std::mem::forget(self.reply.take());
        }
    }
}

/// What others may know of the engine without asking it.
#[derive(Debug, Default)]
pub(crate) struct EngineStatus {
    figures: Mutex<Figures>,
    refusing: Mutex<Option<String>>,
    damaged: Mutex<Option<String>>,
    log_bytes: AtomicU64,
    commits: AtomicU64,
    commands: AtomicU64,
    drained: AtomicU64,
    log_over: AtomicBool,
    recovering: AtomicBool,
    /// Memory runs short: nothing is started.
    pressed: AtomicBool,
}

impl EngineStatus {
    pub(crate) fn figures(&self) -> Figures {
        self.figures.lock().map(|figures| figures.clone()).unwrap_or_default()
    }

    /// The store's last refusal, while it lasts.
    pub(crate) fn refusing(&self) -> Option<String> {
        self.refusing.lock().ok().and_then(|refusing| refusing.clone())
    }

    /// What a read found damaged in this life. A person has to restore a backup; until then no new work is taken into a
    /// store that may not keep it.
    pub(crate) fn damaged(&self) -> Option<String> {
        self.damaged.lock().ok().and_then(|damaged| damaged.clone())
    }

    /// A read found damage: said once, and remembered.
    pub(crate) fn set_damaged(&self, error: &StoreError) {
        let what = chain(error);
        if let Ok(mut damaged) = self.damaged.lock()
            && damaged.is_none()
        {
            tracing::error!(
                error = what,
                "the database is damaged: no new work is taken; restore a backup with `chitin restore`"
            );
            *damaged = Some(what);
        }
    }

    /// The size of the write-ahead log, and whether it is over its cap: submissions are refused meanwhile.
    pub(crate) fn log(&self) -> (u64, bool) {
        (self.log_bytes.load(Ordering::Relaxed), self.log_over.load(Ordering::Relaxed))
    }

    /// Commits since this life began, and the commands they carried: what a commit costs is shared by that many.
    pub(crate) fn commits(&self) -> (u64, u64) {
        (self.commits.load(Ordering::Relaxed), self.commands.load(Ordering::Relaxed))
    }

    /// Tasks that have left the queue since this life began.
    pub(crate) fn drained(&self) -> u64 {
        self.drained.load(Ordering::Relaxed)
    }

    /// Memory runs short, or does not any more.
    pub(crate) fn set_pressed(&self, pressed: bool) {
        self.pressed.store(pressed, Ordering::Relaxed);
    }

    /// Whether tasks are still taken up one by one.
    pub(crate) fn is_recovering(&self) -> bool {
        self.recovering.load(Ordering::Relaxed)
    }

    fn count_commit(&self, commands: usize) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.commands.fetch_add(u64::try_from(commands).unwrap_or(0), Ordering::Relaxed);
    }

    fn set_log_bytes(&self, bytes: u64, cap_bytes: u64) {
        self.log_bytes.store(bytes, Ordering::Relaxed);
        let is_over = bytes > cap_bytes && !chitin_failpoints::planted!("no-log-cap");
        self.log_over.store(is_over, Ordering::Relaxed);
    }

    fn set_figures(&self, figures: Figures) {
        if let Ok(mut place) = self.figures.lock() {
            *place = figures;
        }
    }

    fn set_refusing(&self, why: Option<String>) {
        if let Ok(mut place) = self.refusing.lock() {
            *place = why;
        }
    }
}

/// Sends commands to the writer.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    outbox: Arc<Outbox>,
    next: Arc<AtomicU64>,
    status: Arc<EngineStatus>,
}

impl Engine {
    pub(crate) fn status(&self) -> &Arc<EngineStatus> {
        &self.status
    }

    /// Hands a command over; `bytes` is what it brings to a commit. The receiver resolves when the commit is done, or
    /// is dropped with the gateway.
    pub(crate) fn send(
        &self,
        bytes: u64,
        budget: Option<Share>,
        input: impl FnOnce(CommandId) -> Input,
    ) -> Result<Pending, Trouble> {
        self.hand_over(bytes, None, budget, input)
    }

    fn hand_over(
        &self,
        bytes: u64,
        deadline_boottime_ms: Option<i64>,
        budget: Option<Share>,
        input: impl FnOnce(CommandId) -> Input,
    ) -> Result<Pending, Trouble> {
        let to = CommandId(self.next.fetch_add(1, Ordering::Relaxed));
        let (mut command, answer) = Command::new(to, input(to), bytes);
        command.deadline_boottime_ms = deadline_boottime_ms;
        command.budget = budget;
        self.outbox.put(command)?;
        Ok(answer)
    }

    /// Hands a command over and waits for its commit, so long; after that the writer drops it, unless a commit with it is
    /// under way.
    pub(crate) async fn ask(&self, patience_ms: u64, input: impl FnOnce(CommandId) -> Input) -> Reply {
        let deadline = clock::boottime_ms().saturating_add(i64::try_from(patience_ms).unwrap_or(i64::MAX));
        let answer = self.hand_over(0, Some(deadline), None, input)?;
        let answer = tokio::time::timeout(Duration::from_millis(patience_ms), answer).await;
        answer.unwrap_or(Err(Trouble::TooLate))
    }

    /// Sees to it that `input` is committed: tries again for as long as the store refuses everything. False: the gateway
    /// stops, or the store will never take it; the successor will hear of it.
    pub(crate) async fn insist(&self, bytes: u64, input: Input) -> bool {
        let mut insistence = Insistence::new(bytes, input);
        loop {
            let sent = self.send(insistence.bytes, None, |_| insistence.input.clone());
            let reply = match sent {
                Ok(answer) => answer.await,
                Err(trouble) => Err(trouble),
            };
            let Err(trouble) = reply else { return true };
            match insistence.after(trouble, clock::wall_ms()) {
                Next::Again => tokio::time::sleep(PROBE_EVERY).await,
                Next::GiveUp => {
                    if trouble != Trouble::Stopping {
                        tracing::error!(
                            "what became of an attempt cannot be stored; the next gateway asks it again"
                        );
                    }
                    return false;
                }
            }
        }
    }

    /// From now on, what is handed over reaches the writer.
    pub(crate) fn carry(&self, tasks: &Tasks) {
        self.outbox.carry(tasks);
    }

    /// Pauses or resumes giving out attempts.
    pub(crate) fn dispatch(&self, dispatch: Dispatch) {
        self.outbox.dispatch(dispatch);
    }

    /// Ends the writer once everything handed over before is committed.
    pub(crate) fn stop(&self) {
        self.outbox.stop();
    }
}

/// The writer thread's own things.
pub(crate) struct WriterLoop {
    core: Core,
    writer: Writer,
    /// Its file.
    database: PathBuf,
    ballast: Option<Ballast>,
    clock: Clock,
    dice: OsDice,
    limits: Limits,
    inbox: Inbox,
    /// Commands heavier than a batch: one at a time, and never two batches in a row, while others wait.
    heavy: VecDeque<Box<Command>>,
    last_was_heavy: bool,
    rhythm: Rhythm,
    since_upkeep: u32,
    /// Commits that were carried out since the log was looked at, by their bytes.
    bytes_since_upkeep: u64,
    /// Whether attempts are to be given out, as others wish it.
    dispatch: Dispatch,
    /// The store refuses everything: it is probed until it takes something again.
    refusing: bool,
    why_refused: Trouble,
    status: Arc<EngineStatus>,
    released: Vec<Output>,
}

/// Takes the store over, which is the first commit of a gateway's life, and readies the loop.
///
/// # Errors
/// The store's: without it there is no gateway.
pub(crate) fn prepare(
    writer: Writer,
    database: PathBuf,
    ballast: Option<Ballast>,
    limits: Limits,
    clock: Clock,
    pace: Pace,
) -> Result<(Engine, WriterLoop), StoreError> {
    let (outbox, inbox) = post();
    let status = Arc::new(EngineStatus::default());
    let engine = Engine { outbox, next: Arc::new(AtomicU64::new(1)), status: Arc::clone(&status) };
    let mut writer_loop = WriterLoop {
        core: Core::new(limits.clone()),
        writer,
        database,
        ballast,
        clock,
        dice: OsDice::new(),
        limits,
        inbox,
        heavy: VecDeque::new(),
        last_was_heavy: false,
        rhythm: Rhythm::default(),
        since_upkeep: 0,
        bytes_since_upkeep: 0,
        dispatch: Dispatch::On,
        refusing: false,
        why_refused: Trouble::Unavailable,
        status,
        released: Vec::new(),
    };
    writer_loop.boot(pace)?;
    Ok((engine, writer_loop))
}

impl WriterLoop {
    /// This life's epoch.
    pub(crate) fn epoch(&self) -> i64 {
        self.core.epoch().0
    }

    /// Runs until it is told to stop. Outputs go to `world`.
    pub(crate) fn spawn(mut self, world: World) -> std::io::Result<JoinHandle<()>> {
        // Before anything else runs: whoever sweeps leftovers must know what is under way.
        let boot = std::mem::take(&mut self.released);
        world.release(boot, VecDeque::new());
        thread::Builder::new().name("chitin-writer".to_owned()).spawn(move || {
            let life = std::panic::AssertUnwindSafe(|| while self.turn(&world) {});
            if std::panic::catch_unwind(life).is_err() {
                // A gateway without its writer could only refuse; a new life builds everything anew from the store.
                tracing::error!("the writer panicked; the gateway ends");
                crate::logs::flush();
                std::process::exit(70);
            }
        })
    }

    /// Waits for work, and does a batch of it. False: stop.
    fn turn(&mut self, world: &World) -> bool {
        let wake_ms = self.core.next_wake_ms(&self.now()).min(LONGEST_SLEEP_MS);
        let mut patience =
            Duration::from_millis(if self.heavy.is_empty() { wake_ms.unsigned_abs() } else { 0 });
        if self.refusing || self.status.log().1 {
            patience = patience.min(PROBE_EVERY);
        }
        let gathered = Gathered::from(&mut self.inbox, patience, self.rhythm, &self.limits);
        let Gathered { batch, heavy, dispatch, stop, bytes } = gathered;
        self.heavy.extend(heavy);
        if let Some(dispatch) = dispatch {
            self.dispatch = dispatch;
        }
        self.apply_dispatch();
        self.rhythm = Rhythm::default();
        if batch.is_empty() {
            if self.refusing {
                self.probe();
            } else if self.status.log().1 {
                // Whoever would bring a batch is refused: without this the log would stay as long as it is.
                self.shorten_log();
            }
        }

        if (batch.is_empty() || !self.last_was_heavy)
            && let Some(heavy) = self.heavy.pop_front()
        {
            self.last_was_heavy = true;
            self.batch(VecDeque::from([heavy]), world);
        } else {
            self.last_was_heavy = false;
        }
        if !batch.is_empty() || self.core.next_wake_ms(&self.now()) == 0 {
            let (commands, began) = (batch.len(), clock::steady());
            self.batch(batch, world);
            self.rhythm = Rhythm::of(commands, bytes, clock::steady().saturating_sub(began));
        }
        if stop {
            // What is too heavy for a batch was handed over before the stop, too.
            while let Some(heavy) = self.heavy.pop_front() {
                self.batch(VecDeque::from([heavy]), world);
            }
        }
        !stop
    }

    /// Nothing is begun while memory runs short, nor while the store refuses: what room there is, is for what has begun.
    fn apply_dispatch(&mut self) {
        let held = self.refusing || self.status.pressed.load(Ordering::Relaxed);
        self.core.set_dispatch(if held { Dispatch::Paused } else { self.dispatch });
    }

    fn now(&self) -> chitin_core::Now {
        self.clock.now(self.core.boot_no())
    }
}
