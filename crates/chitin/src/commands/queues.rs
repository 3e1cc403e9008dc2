//! `chitin queues`: the queues, and stopping and starting what comes from them.

use chitin_proto::http::QueueList;
use serde_json::Value;

use crate::cli::Globals;
use crate::client::{Client, LOOK, Request, api, escape_segment};
use crate::failure::Failure;
use crate::out;
use crate::runtime;
use crate::style::{self, Style};
use crate::table::{self, Cell};
use crate::text;

/// List queues, pause and resume them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  chitin queues
  chitin queues pause nightly     start nothing from it; what runs goes on
  chitin queues resume nightly")]
pub(crate) struct Queues {
    #[command(subcommand)]
    command: Option<QueueCommand>,
    /// Print the gateway's JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum QueueCommand {
    /// Start nothing from a queue; its tasks wait
    #[command(after_help = "Example:\n  chitin queues pause nightly")]
    Pause {
        /// The queue
        name: String,
    },
    /// Start tasks from it again
    #[command(after_help = "Example:\n  chitin queues resume nightly")]
    Resume {
        /// The queue
        name: String,
    },
}

/// Lists queues, or changes one.
pub(crate) fn queues(queues: &Queues, globals: &Globals) -> Result<u8, Failure> {
    let client = Client::new(&globals.data_dir()?);
    runtime::block_on(async {
        match &queues.command {
            None => list(&client, queues.json).await,
            Some(QueueCommand::Pause { name }) => change(&client, name, "pause", queues.json).await,
            Some(QueueCommand::Resume { name }) => change(&client, name, "resume", queues.json).await,
        }
    })
}

async fn change(client: &Client, name: &str, action: &str, json: bool) -> Result<u8, Failure> {
    let target = format!("/v1/queues/{}/{action}", escape_segment(name));
    let queue: Value = client.read(&Request::post(target, ""), &LOOK).await?;
    if json {
        out::json(&queue)?;
    } else {
        out::line(&text::escape(&format!("{action}d {name}")))?;
    }
    Ok(0)
}

async fn list(client: &Client, json: bool) -> Result<u8, Failure> {
    let answer = client.read(&Request::get("/v1/queues"), &LOOK).await?;
    if json {
        out::json(&answer)?;
        return Ok(0);
    }
    let list: QueueList = api::shape(answer)?;
    let rows: Vec<Vec<Cell>> = list
        .queues
        .iter()
        .map(|queue| {
            let state = if queue.paused { "paused" } else { "open" };
            vec![
                Cell::new(&queue.name),
                Cell::coloured(state, style::of_state(state)),
                Cell::new(&queue.waiting.to_string()),
                Cell::new(&queue.running.to_string()),
            ]
        })
        .collect();
    let heading = ["QUEUE", "STATE", "WAITING", "RUNNING"];
    out::bytes(table::render(&heading, &rows, style::width(), Style::of_stdout()).as_bytes())?;
    Ok(0)
}
