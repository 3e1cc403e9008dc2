//! `chitin backup`: a copy of the store in a file. The gateway takes it; where none runs, this process does, under its lock.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chitin_gateway::{BackupError, GatewayError};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::client::{CallError, Client, LOOK, Request};
use crate::exit;
use crate::failure::Failure;
use crate::failure::chain;
use crate::out;
use crate::paths::{self, DataDir, Lock};
use crate::runtime;
use crate::text;
use crate::units;

/// Copy the store into a file, while it is in use
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The copy is of one moment and holds every task with its result and its keys. Logs
of more than `inline_log_bytes` stand in files of their own and are not in it.

Examples:
  chitin backup /mnt/other/chitin.backup
  chitin backup --force nightly.backup     replace the one that is there
  chitin restore nightly.backup            back to it")]
pub(crate) struct Backup {
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    /// The file to write, on the gateway's machine
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// How long a copy may take: terabytes are not what this store is for.
const LONGEST: Duration = Duration::from_secs(3_600);

/// What was copied.
struct Taken {
    bytes: u64,
    tasks: u64,
    logs_in_files: u64,
}

/// Takes a backup.
pub(crate) fn backup(backup: &Backup, globals: &Globals) -> Result<u8, Failure> {
    let data_dir = globals.data_dir()?;
    let file = paths::absolute(&backup.file)?;
    let taken = match runtime::block_on(by_gateway(&data_dir, &file, backup.force))? {
        Some(taken) => taken,
        None => here(&data_dir, &file, backup.force)?,
    };
    out::line(&said(&taken, &file))?;
    if taken.logs_in_files > 0 {
        let logs = text::count(taken.logs_in_files, "attempt");
        out::remark(&format!("the logs of {logs} are too large for the database and are not in it"));
    }
    Ok(0)
}

/// Asks the gateway for it. `None`: there is no gateway.
async fn by_gateway(data_dir: &DataDir, file: &Path, force: bool) -> Result<Option<Taken>, Failure> {
    let client = Client::new(data_dir);
    let path = file.to_str().ok_or_else(|| Failure::usage("FILE must be UTF-8"))?;
    match client.try_call(&Request::get("/v1/status"), &LOOK).await {
        Err(CallError::Absent { .. }) if data_dir.lock()? == Lock::Free => return Ok(None),
        other => other?,
    };
    let body = json!({ "path": path, "replace": force }).to_string();
    // Once: a second try would find the file of the first.
    let mut answer = client.once(&Request::post("/v1/backup", body).waits(LONGEST)).await?;
    let answer = answer.json().await?;
    let number = |name| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
    Ok(Some(Taken { bytes: number("bytes"), tasks: number("tasks"), logs_in_files: number("logs_in_files") }))
}

/// No gateway runs: its lock is ours for the time.
fn here(data_dir: &DataDir, file: &Path, force: bool) -> Result<Taken, Failure> {
    let taken = chitin_gateway::backup(data_dir.path(), file, force).map_err(|error| {
        let message = text::escape(&chain(&error));
        match error {
            BackupError::Exists { .. } | BackupError::Target { .. } | BackupError::File { .. } => {
                Failure::usage(message)
            }
            BackupError::DataDir(GatewayError::InUse { .. }) => Failure::new(exit::REFUSED, message),
            _ => Failure::other(message),
        }
    })?;
    Ok(Taken { bytes: taken.bytes, tasks: taken.tasks, logs_in_files: taken.logs_in_files })
}

fn said(taken: &Taken, file: &Path) -> String {
    let (tasks, bytes) = (text::count(taken.tasks, "task"), units::show_size(taken.bytes));
    text::escape(&format!("backed up {tasks}, {bytes}, to {}", file.display()))
}
