//! `chitin wait`: waits until tasks have ended; exits as they did.

use crate::cli::Globals;
use crate::client::{Client, check_id};
use crate::exit;
use crate::failure::Failure;
use crate::out;
use crate::runtime;
use crate::verdict;

/// Wait until tasks have ended, and exit as they did
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Of several tasks, the first in this order that did not succeed gives the exit code.

Examples:
  chitin wait 0198c2f1 && echo fine
  chitin wait --json 0198c2f1 0198c2f4")]
pub(crate) struct Wait {
    /// The tasks; the beginning of an id is enough
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Print each task as JSON, as soon as it and those before it have ended
    #[arg(long)]
    json: bool,
}

/// Waits for tasks.
pub(crate) fn wait(wait: &Wait, globals: &Globals) -> Result<u8, Failure> {
    let ids = wait.ids.iter().map(|id| check_id(id)).collect::<Result<Vec<_>, _>>()?;
    let client = Client::new(&globals.data_dir()?);
    runtime::block_on(async {
        let mut code = 0;
        for id in &ids {
            let ended = match client.ended(id).await {
                Ok((json, task)) => {
                    if wait.json {
                        out::json(&json)?;
                    } else if let Some(line) = verdict::of_task(&task) {
                        out::remark(&if ids.len() > 1 { format!("{id}: {line}") } else { line });
                    }
                    exit::of_task(&task).unwrap_or(exit::TROUBLE)
                }
                // Without a gateway every one of them would fail alike.
                Err(failure) if failure.exit == exit::UNREACHABLE => return Err(failure),
                Err(failure) => {
                    let failure = failure.beside_a_command();
                    out::failure(&failure);
                    failure.exit
                }
            };
            code = if code == 0 { ended } else { code };
        }
        Ok(code)
    })
}
