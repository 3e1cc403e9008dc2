//! `chitin logs`: a task's output, as far as it has come or until it ends.

use clap::ValueEnum;

use crate::cli::Globals;
use crate::client::{Client, check_id};
use crate::failure::Failure;
use crate::follow::{self, Wanted};
use crate::frames;
use crate::outputs::{Outputs, Route};
use crate::runtime;

/// Show a task's output
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Standard output goes to standard output, standard error to standard error, in
the order they were received. The first and last 10 MB of each are kept.

Examples:
  chitin logs 0198c2f1
  chitin logs -f 0198c2f1                   until it has ended
  chitin logs --stream stderr 0198c2f1      one of the two, to standard output")]
pub(crate) struct Logs {
    /// Go on until the task has ended
    #[arg(short, long)]
    follow: bool,
    /// Only this one, to standard output
    #[arg(long, value_name = "STREAM")]
    stream: Option<Stream>,
    /// Of this attempt [default: the newest]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// The task; the beginning of an id is enough
    id: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stream {
    Stdout,
    Stderr,
}

/// Shows a task's output.
pub(crate) fn logs(logs: &Logs, globals: &Globals) -> Result<u8, Failure> {
    let id = check_id(&logs.id)?;
    let client = Client::new(&globals.data_dir()?);
    let stream = logs.stream.map(|stream| match stream {
        Stream::Stdout => frames::Stream::Stdout,
        Stream::Stderr => frames::Stream::Stderr,
    });
    let wanted = Wanted { stream, attempt: logs.attempt };
    let route = if stream.is_some() { Route::ToStdout } else { Route::Apart };
    runtime::block_on(async {
        let mut outputs = Outputs::new(route);
        if logs.follow {
            follow::to_the_end(&client, &id, wanted, &mut outputs).await?;
        } else {
            follow::so_far(&client, &id, wanted, &mut outputs).await?;
        }
        Ok(0)
    })
}
