//! `chitin run`: submits a command, shows its output while it runs, and ends as it did. The task belongs to the gateway
//! from the moment it is accepted: this command may go at any time, and says how to find the task again.

use std::ffi::OsString;
use std::time::Duration;

use chitin_proto::http::Stdin;

use crate::args::{self, Caller, TaskOptions};
use crate::cli::Globals;
use crate::client::{Client, LOOK, Request, idempotency_key};
use crate::exit;
use crate::failure::Failure;
use crate::follow::{self, Wanted};
use crate::interrupts::Interrupts;
use crate::out;
use crate::outputs::{Outputs, Route};
use crate::runtime;
use crate::start;
use crate::stdin;
use crate::verdict;

/// Run a command as a task, show its output, and exit as it does
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "chitin run [OPTIONS] -- CMD…",
    after_help = "\
It starts a gateway if none runs. Standard input is sent if it is a pipe or a
file. Ctrl-C leaves the task running; a second one within 2 s cancels it. It is
not retried unless --retries says so.

Examples:
  chitin run -- make -j2 test
  chitin run --timeout 2h --memory 2GB -- ./train.py
  tar c src | chitin run -- wc -c
  chitin run -e API_KEY --tag nightly -- ./job.sh"
)]
pub(crate) struct Run {
    #[command(flatten)]
    options: TaskOptions,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// How long after a first Ctrl-C a second one cancels the task.
const SECOND_INTERRUPT: Duration = Duration::from_secs(2);

/// Runs a command as a task.
pub(crate) fn run(run: &Run, globals: &Globals) -> Result<u8, Failure> {
    // What can be refused is refused before anything is waited for or started.
    let data_dir = globals.data_dir()?;
    let mut request = run.options.request(&run.command, None, Some(0), &Caller::this())?;
    if !run.options.no_stdin {
        request.stdin = stdin::read()?.map(Stdin);
    }
    let body = args::body(&request)?;
    start::ensure(&data_dir)?;
    let client = Client::new(&data_dir);
    runtime::block_on(attended(&client, body, globals))
}

async fn attended(client: &Client, body: Vec<u8>, globals: &Globals) -> Result<u8, Failure> {
    let mut interrupts = Interrupts::catch()?;
    let submitted = tokio::select! {
        submitted = client.submit(body, idempotency_key()?) => submitted?,
        () = interrupts.next() => {
            out::remark("interrupted before the task was accepted; should it be accepted yet, `chitin ps` shows it");
            return Ok(exit::CANCELLED);
        }
    };
    let id = submitted.id;
    let mut outputs = Outputs::new(Route::Apart);
    let watched = tokio::select! {
        watched = follow::to_the_end(client, &id, Wanted::default(), &mut outputs) => watched,
        () = interrupts.next() => {
            outputs.progress.clear();
            return detach(client, &id, &mut interrupts, globals).await;
        }
    };
    outputs.progress.clear();
    match watched {
        Ok(task) => {
            if let Some(line) = verdict::of_task(&task) {
                out::remark(&line);
            }
            Ok(exit::of_task(&task).unwrap_or(exit::TROUBLE))
        }
        Err(failure) if failure.exit == exit::PIPE_CLOSED => {
            out::remark(&format!("standard output was closed; task {id} goes on"));
            say_how_to_end_it(&id, globals);
            Err(failure)
        }
        Err(failure) => {
            Err(failure.hint(format!("task {id} may go on: {}", globals.hint(&format!("wait {id}")))))
        }
    }
}

/// Leaves the task to itself, unless a second Ctrl-C says to cancel it.
async fn detach(
    client: &Client,
    id: &str,
    interrupts: &mut Interrupts,
    globals: &Globals,
) -> Result<u8, Failure> {
    out::remark(&format!("detached; task {id} goes on (Ctrl-C again now cancels it)"));
    say_how_to_end_it(id, globals);
    if tokio::time::timeout(SECOND_INTERRUPT, interrupts.next()).await.is_err() {
        return Ok(exit::CANCELLED);
    }
    let request = Request::post(format!("/v1/tasks/{id}/cancel"), "");
    match client.try_call(&request, &LOOK).await {
        Ok(_) => out::remark(&format!("task {id} is cancelled")),
        Err(error) if error.status() == Some(409) => out::remark(&format!("task {id} had ended")),
        Err(error) => return Err(error.into()),
    }
    Ok(exit::CANCELLED)
}

fn say_how_to_end_it(id: &str, globals: &Globals) {
    out::remark(&format!("to end it: {}", globals.hint(&format!("cancel {id}"))));
}
