//! The checkers: one for each thing that must hold, a file each. They see every row as it becomes true, every output as
//! it leaves, and what really happened in the world; they know nothing of how the core decides.

mod accepted;
mod aside;
mod cancelled;
mod ends;
mod evicted;
mod fencing;
mod keys;
mod limits;
mod memory;
mod outcomes;
mod paused;
mod retries;
mod swept;
mod told;
mod visible;

use chitin_core::{Answer, AttemptKey, AttemptNo, Figures, Input, Limits, Outcome, Output, TaskId};

use crate::Failure;
use crate::view::{Change, View};

/// What an evicted attempt is told.
pub(crate) const EVICTED: &str = "evicted: memory ran out";

/// What a checker may see.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// A row of a transaction that is committed; the view is as before it.
    Change(&'a Change),
    /// All rows of a transaction are true; with what the core says of them, once it knows all that is open.
    Committed(Option<&'a Figures>),
    /// A gateway has taken the store over, at once or one task after another.
    Boot { is_careful: bool },
    /// And it is gone.
    GatewayDied,
    /// The writer gives out no attempt for now, or does again.
    Dispatch { is_held: bool },
    /// An output leaves.
    Output(&'a Output),
    /// All of a commit's outputs have left.
    Released,
    /// A client hands in work, for the first time or again.
    Submits { client: usize, ids: &'a [TaskId] },
    /// Somebody uses a client's key for a task of their own.
    Misuses { client: usize, id: TaskId },
    /// A client has its answer.
    Answered { client: usize, ids: &'a [TaskId], answer: &'a Answer },
    /// A person asks for something, or the monitor for an eviction.
    Asked(&'a Input),
    /// A command was started.
    Begins(AttemptKey),
    /// What it started is frozen, or goes on.
    Moves { key: AttemptKey, moves: bool },
    /// Nothing of what it started is left.
    TreeGone(AttemptKey),
    /// A shim saw how its attempt ended.
    Collected { key: AttemptKey, outcome: Outcome },
    /// Its exit record is durable.
    Recorded(AttemptKey),
    /// A shim was killed.
    ShimKilled(AttemptKey),
    /// The machine went down.
    PowerCut,
    /// A shim still listens to somebody of this epoch.
    StaleOrder { key: AttemptKey, epoch: u64, heard_epoch: u64 },
    /// All is quiet.
    End { folders: Vec<(TaskId, AttemptNo)> },
}

/// When it is, for those who know everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Never steps, goes on over boots.
    pub(crate) true_ms: i64,
    pub(crate) wall_ms: i64,
    pub(crate) boot: u32,
    /// How often the wall clock has stepped.
    pub(crate) steps: u32,
}

/// Before what a checker sees it.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    /// What is committed.
    pub(crate) view: &'a View,
    pub(crate) limits: &'a Limits,
    pub(crate) now: Moment,
}

/// What is wrong, if something is.
pub(crate) type Held = Result<(), String>;

/// Holds one promise.
pub(crate) trait Checker {
    /// What must hold.
    fn name(&self) -> &'static str;

    /// Sees something happen.
    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held;
}

/// Every checker.
pub(crate) struct Checkers(Vec<Box<dyn Checker>>);

impl Checkers {
    pub(crate) fn new() -> Self {
        Self(vec![
            Box::<accepted::Accepted>::default(),
            Box::<aside::Aside>::default(),
            Box::<visible::Visible>::default(),
            Box::<ends::Ends>::default(),
            Box::<evicted::Evicted>::default(),
            Box::<fencing::Fencing>::default(),
            Box::<outcomes::Outcomes>::default(),
            Box::<retries::Retries>::default(),
            Box::<limits::Bounds>::default(),
            Box::<keys::Keys>::default(),
            Box::<cancelled::Cancelled>::default(),
            Box::<paused::Paused>::default(),
            Box::new(memory::Memory),
            Box::<swept::Swept>::default(),
            Box::<told::Told>::default(),
        ])
    }

    pub(crate) fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Result<(), Failure> {
        for checker in &mut self.0 {
            if let Err(detail) = checker.see(seen, scene) {
                return Err(Failure { invariant: checker.name(), detail });
            }
        }
        Ok(())
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err(what()) }
}
