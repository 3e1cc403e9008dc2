//! `chitin resume`: lets paused tasks go on.

use serde_json::Value;

use super::tasks::{act, field};
use crate::cli::Globals;
use crate::failure::Failure;
use crate::text;

/// Let paused tasks go on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A task that was held waits on, for its time or for its turn; one that was frozen
runs on where it was.

Examples:
  chitin resume 0198c2f1
  chitin ps --state paused --json | jq -r '.tasks[].id' | xargs chitin resume")]
pub(crate) struct Resume {
    /// The tasks; the beginning of an id is enough
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Resumes tasks.
pub(crate) fn resume(resume: &Resume, globals: &Globals) -> Result<u8, Failure> {
    act(&resume.ids, "resume", globals, said)
}

fn said(task: &Value) -> String {
    text::escape(&format!("{} {}", field(task, "state"), field(task, "id")))
}
