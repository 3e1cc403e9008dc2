//! `chitin pause`: keeps tasks from going on, running or waiting.

use serde_json::Value;

use super::tasks::{act, field};
use crate::cli::Globals;
use crate::failure::Failure;
use crate::text;

/// Keep tasks from going on until they are resumed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A task that waits is held: it does not start, and does not expire. One that runs
is frozen with everything it started: its timeout stands still, its memory stays
taken, and it keeps its place among those that run.

Examples:
  chitin pause 0198c2f1
  chitin resume 0198c2f1")]
pub(crate) struct Pause {
    /// The tasks; the beginning of an id is enough
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Pauses tasks.
pub(crate) fn pause(pause: &Pause, globals: &Globals) -> Result<u8, Failure> {
    act(&pause.ids, "pause", globals, said)
}

fn said(task: &Value) -> String {
    let how = match field(task, "reason") {
        "frozen" => " (it runs, and stands still)",
        _ => "",
    };
    text::escape(&format!("{} {}{how}", field(task, "state"), field(task, "id")))
}
