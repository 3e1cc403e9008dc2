//! `chitin retry`: runs tasks again that ended without success.

use serde_json::Value;

use super::tasks::{act, field};
use crate::cli::Globals;
use crate::failure::Failure;
use crate::text;

/// Run dead, cancelled or expired tasks again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The task keeps its id and its history; retries are counted anew.

Examples:
  chitin retry 0198c2f1")]
pub(crate) struct Retry {
    /// The tasks; the beginning of an id is enough
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Retries tasks.
pub(crate) fn retry(retry: &Retry, globals: &Globals) -> Result<u8, Failure> {
    act(&retry.ids, "retry", globals, said)
}

fn said(task: &Value) -> String {
    text::escape(&format!("{} {}", field(task, "state"), field(task, "id")))
}
