//! `chitin restore`: puts a backup in the place of the store. No gateway may run: this process holds its lock meanwhile.

use std::path::PathBuf;

use chitin_gateway::{GatewayError, RestoreError, Restored};

use crate::cli::Globals;
use crate::exit;
use crate::failure::Failure;
use crate::failure::chain;
use crate::out;
use crate::paths;
use crate::text;

/// Put a backup in the place of the store
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What was there before is kept beside it, and said. Tasks that ran when the backup
was taken are lost attempts: they run again if their retries allow it.

Examples:
  chitin down && chitin restore nightly.backup && chitin up --detach
  chitin restore --kill nightly.backup     and end what the old store had started")]
pub(crate) struct Restore {
    /// End commands of the old store that still run
    #[arg(long)]
    kill: bool,
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Restores.
pub(crate) fn restore(restore: &Restore, globals: &Globals) -> Result<u8, Failure> {
    let data_dir = globals.data_dir()?;
    let file = paths::absolute(&restore.file)?;
    let restored = chitin_gateway::restore(data_dir.path(), &file, restore.kill).map_err(|error| {
        let failure = Failure::new(exit::OTHER, text::escape(&chain(&error)));
        match error {
            RestoreError::StillRunning { .. } if !restore.kill => failure.hint("end them: --kill"),
            RestoreError::DataDir(GatewayError::AlreadyRunning { .. }) => {
                failure.hint(format!("stop it first: {}", globals.hint("down")))
            }
            RestoreError::DataDir(GatewayError::InUse { .. }) => Failure { exit: exit::REFUSED, ..failure },
            _ => failure,
        }
    })?;
    let tasks = text::count(restored.tasks, "task");
    out::line(&text::escape(&format!("restored {tasks} from {}", file.display())))?;
    remarks(&restored).iter().for_each(|remark| out::remark(remark));
    Ok(0)
}

/// What else is to be known.
fn remarks(restored: &Restored) -> Vec<String> {
    let mut remarks = Vec::new();
    if restored.ended > 0 {
        let commands = text::count(u64::try_from(restored.ended).unwrap_or(u64::MAX), "command");
        remarks.push(format!("{commands} of the old store ended"));
    }
    if restored.running > 0 {
        let tasks = text::count(restored.running, "task");
        remarks
            .push(format!("{tasks} ran when the backup was taken: lost, and run again if retries allow it"));
    }
    if restored.logs_missing > 0 {
        let attempts = text::count(restored.logs_missing, "attempt");
        remarks.push(format!("the large logs of {attempts} are not in a backup, and not here"));
    }
    if let Some(replaced) = &restored.replaced {
        remarks.push(format!("what was there before is kept in {}", replaced.display()));
    }
    remarks
}
