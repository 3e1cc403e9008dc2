//! The simulator: the core's own loop and the shim's own machine in a made-up world, where a seed decides what happens
//! and what goes wrong. The same seed is the same run, so a failure can be looked at again.
//!
//! | what | where |
//! |---|---|
//! | what a seed is like: faults, limits | `plan` |
//! | the world, event by event | `world` |
//! | stores, and the comparison of two | `store` |
//! | what is committed, as seen on its way | `view` |
//! | what must hold, a file each | `check` |
//! | bugs that must be found | `planted` |
//!
//! Invariant: nothing here reads a clock or rolls dice of its own. Invariant: a bug is planted here, never in the product.

mod check;
mod plan;
mod planted;
mod rng;
mod store;
mod trace;
mod view;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use plan::Fault;
pub use planted::Bug;
pub use store::StoreKind;

use world::World;

/// How a seed is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// On what.
    pub store: StoreKind,
    /// Events with faults, before the calm.
    pub steps: u64,
    /// Kinds of faults to leave out.
    pub without: Vec<Fault>,
    /// To see that it is found.
    pub bug: Option<Bug>,
    /// The whole trace, not only its end.
    pub keep_trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { store: StoreKind::Model, steps: 1_500, without: Vec::new(), bug: None, keep_trace: false }
    }
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub invariant: &'static str,
    /// What was seen instead.
    pub detail: String,
}

/// What a run was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events.
    pub events: u64,
    /// Batches of the writer.
    pub commits: u64,
    /// Outputs that left.
    pub outputs: u64,
    /// Gateway lives.
    pub lives: u64,
    /// Faults, by kind.
    pub faults: BTreeMap<Fault, u64>,
}

impl Tally {
    fn count(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Together with another run's.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.commits += other.commits;
        self.outputs += other.outputs;
        self.lives += other.lives;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }
}

/// A run that is over.
#[derive(Debug, Clone)]
pub struct Run {
    /// What was not kept, if anything.
    pub failure: Option<Failure>,
    /// What it was made of.
    pub tally: Tally,
    /// Of everything that happened; the same for the same seed.
    pub trace_hash: u64,
    /// The last of it, or all.
    pub trace: Vec<String>,
}

/// Runs one seed.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Run {
    let mut world = match World::new(seed, options) {
        Ok(world) => world,
        Err(failure) => {
            return Run { failure: Some(failure), tally: Tally::default(), trace_hash: 0, trace: Vec::new() };
        }
    };
    // A broken invariant that the core itself notices stops it: a failure as any other, and of this seed.
    let stopped = catch_unwind(AssertUnwindSafe(|| world.run(options.steps))).err();
    let stopped = stopped.map(|panic| Failure { invariant: "the core's own", detail: words(&*panic) });
    Run {
        failure: stopped.or(world.failure),
        tally: world.tally,
        trace_hash: world.trace.hash(),
        trace: world.trace.lines(),
    }
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
