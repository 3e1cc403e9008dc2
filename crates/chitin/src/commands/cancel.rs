//! `chitin cancel`: ends tasks, running or waiting.

use serde_json::Value;

use super::tasks::{act, field};
use crate::cli::Globals;
use crate::failure::Failure;
use crate::text;

/// Cancel tasks
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A running command gets SIGTERM, and after 10 s SIGKILL, with everything it started.

Examples:
  chitin cancel 0198c2f1
  chitin cancel 0198c2f1 0198c2f4")]
pub(crate) struct Cancel {
    /// The tasks; the beginning of an id is enough
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Cancels tasks.
pub(crate) fn cancel(cancel: &Cancel, globals: &Globals) -> Result<u8, Failure> {
    act(&cancel.ids, "cancel", globals, said)
}

fn said(task: &Value) -> String {
    let word = if field(task, "state") == "cancelled" { "cancelled" } else { "cancelling" };
    text::escape(&format!("{word} {}", field(task, "id")))
}
