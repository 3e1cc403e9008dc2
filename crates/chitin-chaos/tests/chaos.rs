//! Every row a few times, and the bugs that are found quickly. The long run is a command, see `docs/chaos.md`.
//!
//! Outages are judged loosely here: a debug build on a busy machine is slow, and slowness is not what these tests are for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test helpers, which clippy does not know as such"
)]

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use chitin_chaos::planted::{self, BUGS, Found};
use chitin_chaos::report::{self, Outcome};
use chitin_chaos::run::{self, Options};
use chitin_chaos::{Program, rows};

/// One fault at a time: what is under test is not how many a machine can bear.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The seed is told, or it is 1: the same change meets the same faults.
fn options() -> Options {
    let seed = std::env::var("CHITIN_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    Options {
        seed: seed.unwrap_or(1),
        outage_bound: Duration::from_secs(20),
        hold: Duration::from_secs(2),
        ..Options::default()
    }
}

#[test]
fn every_row_holds_a_few_times() {
    let _alone = alone();
    let program = Program::build().expect("the program with failpoints");
    let outcomes: Vec<Outcome> = rows::ROWS.iter().map(|row| run::row(row, &program, &options())).collect();
    let table = report::table(&outcomes);
    eprintln!("{table}");
    assert!(outcomes.iter().all(|outcome| outcome.failures.is_empty()), "\n{table}");
    // Nothing was looked at where nothing was tried.
    for outcome in &outcomes {
        assert!(outcome.skipped.is_some() || outcome.trials > 0, "row {}: no trial", outcome.name);
    }
}

#[test]
fn planted_bugs_are_found() {
    let _alone = alone();
    let program = Program::build().expect("the program with failpoints");
    let quick = BUGS.iter().filter(|bug| bug.is_quick);
    let found: Vec<Found> = quick.map(|bug| planted::look_for(bug, &program, &options())).collect();
    let table = planted::table(&found);
    eprintln!("{table}");
    assert!(found.iter().all(Found::is_good), "\n{table}");
}
