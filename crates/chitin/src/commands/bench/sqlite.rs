//! The reference for storing: SQLite alone, with the very rows of the submissions measured.

use super::Plan;
use super::figures::{Sample, ratio};
use super::load::count;
use super::own::Folder;
use super::submit::TASK;
use crate::clock;
use crate::failure::{Failure, chain};

/// Tasks a second, so many in each transaction.
pub(super) fn rate(plan: &Plan, tasks_per_commit: u32) -> Result<Sample, Failure> {
    let folder = Folder::make(&plan.dir, "sqlite")?;
    let task: serde_json::Value = serde_json::from_str(TASK).unwrap_or_default();
    let part = |key: &str| task.get(key).map(ToString::to_string).unwrap_or_default();
    let mut begun = None;
    let go_on = || begun.get_or_insert_with(clock::now).elapsed() < plan.short() && !plan.stop.asked();
    let path = folder.path().join("chitin.db");
    let stored = chitin_gateway::bench::sqlite(&path, tasks_per_commit, part("command"), part("env"), go_on)
        .map_err(|error| Failure::other(format!("SQLite: {}", chain(&error))))?;
    plan.stop.check()?;
    Ok(Sample::rate(ratio(count(stored), begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64()))))
}
