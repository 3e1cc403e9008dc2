//! run: attempts on their way through processes.
//!
//! Owns the [`Hub`] (every attempt under way, and what its shim is to be told), the [`Jobs`] (starts and recoveries,
//! carried out by threads that may block), and one async task per shim that listens to it.
//!
//! Happy path: job → shim started → `Started` → `Ended` → collected → settled by the engine → shim told → gone.
//! Failure path: a shim that is gone is looked for by its claim (`recover`), and reported as what is found; one that hangs
//! is killed first (`heartbeat`).

mod attempt;
mod careful;
mod collect;
mod heartbeat;
pub(crate) mod leftover;
mod part;
mod recover;
mod salvage;
pub(crate) mod shortage;
mod start;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use chitin_core::{AttemptKey, AttemptNo, Heartbeat, Limits, Seq, StartOrder};
use chitin_proto::shim::{Isolation, ResourceLimits};
use chitin_shim::groups::Tier;
use chitin_shim::start::ForkServer;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::engine::Engine;
use crate::readers::Readers;
use crate::spool::{Janitor, Spool};
use crate::tasks::Tasks;

pub(crate) use careful::take_up_one_by_one;
pub(crate) use start::{BaseEnv, spawn_workers};

/// What every attempt needs to know.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) engine: Engine,
    pub(crate) hub: Arc<Hub>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) readers: Readers,
    pub(crate) spool: Spool,
    pub(crate) janitor: Janitor,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
    pub(crate) tier: Tier,
    pub(crate) instance: String,
    pub(crate) shims: ForkServer,
    pub(crate) base_env: BaseEnv,
    pub(crate) limits: Limits,
    pub(crate) epoch: u64,
}

impl Context {
    /// Where an attempt's tree is kept, if this gateway gave it its place.
    pub(crate) fn isolation(&self, key: AttemptKey) -> Isolation {
        let all = ResourceLimits { memory_bytes: Some(1), pids: Some(1), ..ResourceLimits::default() };
        self.tier.isolation(&self.instance, &key.id.to_string(), key.attempt.0, &all)
    }
}

/// What one attempt's listener is to do next. But for the pause, flags only ever rise.
#[derive(Debug)]
pub(crate) struct Wishes {
    pub(crate) key: AttemptKey,
    end: AtomicBool,
    /// Its end may take no time: memory runs out.
    at_once: AtomicBool,
    /// Its shim's process, once that has said so; 0: not known.
    shim_pid: AtomicU32,
    /// Its tree is to stand still.
    paused: AtomicBool,
    settled: AtomicBool,
    /// Meant once it is settled.
    keep_logs: AtomicBool,
    /// Somebody talks with its shim, and afterwards has its folder removed.
    is_listened_to: AtomicBool,
    /// Its shim is listened to.
    found: AtomicBool,
    /// When its shim is asked for a sign of life.
    heartbeat: Mutex<Heartbeat>,
    /// It was killed because it had given none for so long; 0: it was not.
    silent_ms: AtomicU64,
    changed: Notify,
}

impl Wishes {
    fn raise(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::SeqCst);
        self.changed.notify_one();
    }
}

/// Every attempt under way.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    limits: Limits,
    attempts: Mutex<HashMap<(Seq, AttemptNo), Arc<Wishes>>>,
    voids: Mutex<HashMap<(Seq, AttemptNo), u32>>,
}

impl Hub {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// An attempt begins, or is found again. A new token of the same attempt takes the old one's place.
    pub(crate) fn enter(&self, key: AttemptKey, end_requested: bool, paused: bool) {
        let wishes = Arc::new(Wishes {
            key,
            end: AtomicBool::new(end_requested),
            at_once: AtomicBool::new(false),
            shim_pid: AtomicU32::new(0),
            paused: AtomicBool::new(paused),
            settled: AtomicBool::new(false),
            keep_logs: AtomicBool::new(false),
            is_listened_to: AtomicBool::new(false),
            found: AtomicBool::new(false),
            heartbeat: Mutex::new(Heartbeat::new(heartbeat::now_ms(), &self.limits)),
            silent_ms: AtomicU64::new(0),
            changed: Notify::new(),
        });
        self.with(|attempts| attempts.insert((key.seq, key.attempt), wishes));
    }

    pub(crate) fn ask_end(&self, key: AttemptKey) {
        if let Some(wishes) = self.get(key) {
            wishes.raise(&wishes.end);
        }
    }

    /// The same, without the usual grace.
    pub(crate) fn evict(&self, key: AttemptKey) {
        if let Some(wishes) = self.get(key) {
            wishes.at_once.store(true, Ordering::SeqCst);
            wishes.raise(&wishes.end);
        }
    }

    /// Attempts under way, each with its shim's process and whether its end is wanted.
    pub(crate) fn under_way(&self) -> Vec<(AttemptKey, Option<u32>, bool)> {
        let one = |wishes: &Arc<Wishes>| {
            let pid = wishes.shim_pid.load(Ordering::SeqCst);
            (wishes.key, (pid > 0).then_some(pid), wishes.end.load(Ordering::SeqCst))
        };
        self.with(|attempts| attempts.values().map(one).collect()).unwrap_or_default()
    }

    pub(crate) fn pause(&self, key: AttemptKey, paused: bool) {
        if let Some(wishes) = self.get(key) {
            wishes.paused.store(paused, Ordering::SeqCst);
            wishes.changed.notify_one();
        }
    }

    /// Its end is committed. True: whoever listens to its shim sees to its folder.
    pub(crate) fn settled(&self, key: AttemptKey, keep_logs: bool) -> bool {
        let Some(wishes) = self.get(key) else { return false };
        wishes.keep_logs.store(keep_logs, Ordering::SeqCst);
        wishes.raise(&wishes.settled);
        self.with(|attempts| attempts.remove(&(key.seq, key.attempt)));
        if let Ok(mut voids) = self.voids.lock() {
            voids.remove(&(key.seq, key.attempt));
        }
        // One that ceases to listen looks whether it was settled after it said so: one of the two sees the other.
        wishes.is_listened_to.load(Ordering::SeqCst)
    }

    /// Ends everything that runs. What ends because of this is put back, not cancelled: no task says that somebody
    /// wished its end. The gateway goes, the work does not.
    pub(crate) fn end_all(&self) {
        let all: Vec<Arc<Wishes>> =
            self.with(|attempts| attempts.values().cloned().collect()).unwrap_or_default();
        for wishes in all {
            wishes.raise(&wishes.end);
        }
    }

    /// Whether the attempt of this name, `<task>.<attempt>`, is not settled yet.
    pub(crate) fn is_under_way(&self, name: &str) -> bool {
        let is_it = |key: &AttemptKey| format!("{}.{}", key.id, key.attempt.0) == name;
        self.with(|attempts| attempts.values().any(|wishes| is_it(&wishes.key))).unwrap_or(true)
    }

    /// Whether this attempt is to end, because somebody asked or because the gateway goes and takes all with it.
    fn is_end_wanted(&self, key: AttemptKey) -> bool {
        self.get(key).is_some_and(|wishes| wishes.end.load(Ordering::SeqCst))
    }

    /// How often this attempt was voided before; counts this time.
    fn voided_before(&self, key: AttemptKey) -> u32 {
        let Ok(mut voids) = self.voids.lock() else { return 0 };
        let count = voids.entry((key.seq, key.attempt)).or_default();
        let before = *count;
        *count = count.saturating_add(1);
        before
    }

    /// Whether of every attempt under way it is known how it is.
    fn all_are_found(&self) -> bool {
        let found = |wishes: &Arc<Wishes>| wishes.found.load(Ordering::SeqCst);
        self.with(|attempts| attempts.values().all(found)).unwrap_or(true)
    }

    /// Attempts that are not settled yet.
    pub(crate) fn len(&self) -> usize {
        self.with(|attempts| attempts.len()).unwrap_or(0)
    }

    fn get(&self, key: AttemptKey) -> Option<Arc<Wishes>> {
        let found = self.with(|attempts| attempts.get(&(key.seq, key.attempt)).cloned())?;
        found.filter(|wishes| wishes.key == key)
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<(Seq, AttemptNo), Arc<Wishes>>) -> T) -> Option<T> {
        self.attempts.lock().ok().map(|mut attempts| work(&mut attempts))
    }
}

/// What a worker thread is to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Start a shim.
    Start(StartOrder),
    /// Find out what became of an attempt.
    Recover {
        /// Which.
        attempt: AttemptKey,
        /// It was given out in this boot of the machine.
        same_boot: bool,
    },
}

/// Jobs in order. Bounded by the attempts under way: each has at most one job at a time.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    queue: Mutex<(VecDeque<Job>, bool)>,
    ready: Condvar,
}

impl Jobs {
    pub(crate) fn push(&self, job: Job) {
        if let Ok(mut queue) = self.queue.lock() {
            queue.0.push_back(job);
            self.ready.notify_one();
        }
    }

    /// The next job; `None`: stop.
    fn pop(&self) -> Option<Job> {
        let mut queue = self.queue.lock().ok()?;
        loop {
            if queue.1 {
                return None;
            }
            if let Some(job) = queue.0.pop_front() {
                return Some(job);
            }
            queue = self.ready.wait(queue).ok()?;
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.queue.lock().is_ok_and(|queue| queue.1)
    }

    /// Ends the worker threads. A job that is left is found again at the next boot.
    pub(crate) fn stop(&self) {
        if let Ok(mut queue) = self.queue.lock() {
            queue.1 = true;
            self.ready.notify_all();
        }
    }
}
