//! `chitin submit`: hands in a task and goes; its id is all that is printed.

use std::ffi::OsString;

use chitin_proto::http::Stdin;

use crate::args::{self, Caller, TaskOptions};
use crate::cli::Globals;
use crate::client::{Client, idempotency_key};
use crate::failure::Failure;
use crate::out;
use crate::runtime;
use crate::stdin;

/// Hand in a command as a task, and print its id
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "chitin submit [OPTIONS] -- CMD…",
    after_help = "\
A task that fails is retried 3 times, after 1, 5 and 15 minutes, unless
--retries says otherwise.

Examples:
  chitin submit -- ./nightly.sh
  chitin submit --delay 2h --priority 9 --tag report -- ./report.sh weekly
  id=$(chitin submit -- ./job.sh) && chitin wait \"$id\" && chitin result \"$id\""
)]
pub(crate) struct Submit {
    #[command(flatten)]
    options: TaskOptions,
    /// A configured handler (not supported yet)
    #[arg(value_name = "HANDLER", hide = true)]
    handler: Option<String>,
    /// The handler's input (not supported yet)
    #[arg(long, value_name = "JSON|@FILE", hide = true)]
    input: Option<String>,
    /// The command and its arguments
    #[arg(value_name = "CMD", last = true)]
    command: Vec<OsString>,
}

/// Submits a task.
pub(crate) fn submit(submit: &Submit, globals: &Globals) -> Result<u8, Failure> {
    if let Some(handler) = &submit.handler {
        return Err(Failure::usage("handlers are not supported yet")
            .hint(format!("to run a command: chitin submit -- {handler} …")));
    }
    if submit.input.is_some() {
        return Err(Failure::usage("--input belongs to handlers, which are not supported yet")
            .hint("a command reads standard input"));
    }
    if submit.command.is_empty() {
        return Err(Failure::usage("no command is given").hint("chitin submit [OPTIONS] -- CMD…"));
    }
    let data_dir = globals.data_dir()?;
    let mut request = submit.options.request(&submit.command, None, None, &Caller::this())?;
    if !submit.options.no_stdin {
        request.stdin = stdin::read()?.map(Stdin);
    }
    let body = args::body(&request)?;
    let client = Client::new(&data_dir);
    runtime::block_on(async {
        let submitted = client.submit(body, idempotency_key()?).await?;
        out::line(&submitted.id)?;
        Ok(0)
    })
}
