//! `chitin down`: stops the gateway, and returns only when it is gone: its lock is free.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::Globals;
use crate::client::{CallError, Client, Request, STOP};
use crate::clock;
use crate::failure::Failure;
use crate::out;
use crate::paths::{DataDir, Lock};
use crate::runtime;
use crate::style::Progress;
use crate::supervisor::asked::ask_to_end;
use crate::text;

/// Stop the gateway; tasks that run go on running
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Tasks that wait keep their place, and tasks that run are found again, when a
gateway starts next.

Examples:
  chitin down           stop; what runs goes on running
  chitin down --wait    start nothing new, and stop when nothing runs any more
  chitin down --kill    end what runs, too; it runs again with the next gateway")]
pub(crate) struct Down {
    /// Start nothing new, wait for what runs, then stop
    #[arg(long, conflicts_with = "kill")]
    wait: bool,
    /// End what runs, and queue it again; returns when all of it is gone
    #[arg(long)]
    kill: bool,
}

/// What becomes of what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Leave,
    Drain,
    Kill,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::Drain => "drain",
            Self::Kill => "kill",
        }
    }

    /// How long it may take; none: as long as the tasks do.
    fn bound(self) -> Option<Duration> {
        match self {
            Self::Leave => Some(Duration::from_secs(30)),
            Self::Drain => None,
            Self::Kill => Some(Duration::from_secs(60)),
        }
    }
}

/// A gateway that is there answers at once; one that was just killed is back in a moment.
const ANSWER: Duration = Duration::from_secs(2);
/// How often it is looked whether the gateway is gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often it is looked whether what is waited for is paused.
const LOOK_FOR_PAUSED: Duration = Duration::from_secs(1);
/// How often the waiting person is told how many tasks still run.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Stops the gateway of the data directory, if one runs.
pub(crate) fn down(down: &Down, globals: &Globals) -> Result<u8, Failure> {
    let data_dir = globals.data_dir()?;
    let mode = match (down.wait, down.kill) {
        (true, _) => Mode::Drain,
        (_, true) => Mode::Kill,
        _ => Mode::Leave,
    };
    let client = Client::new(&data_dir);
    runtime::block_on(async {
        let running = match shut_down(&client, mode).await {
            Ok(running) => running,
            Err(CallError::Absent { .. }) if data_dir.lock()? == Lock::Free => {
                out::line("not running")?;
                return Ok(0);
            }
            // Nobody is there to be asked, or it does not answer. What runs goes on, whatever becomes of the gateway.
            Err(error) if mode == Mode::Leave && error.is_no_answer() => match ask_to_end(&data_dir) {
                Ok(Some(pid)) => {
                    out::remark(&format!("{error}; its supervisor (pid {pid}) was asked to end it"));
                    None
                }
                Ok(None) | Err(_) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        let mut running = running;
        // A gateway that was killed meanwhile was followed by another, which knows nothing of the wish.
        while gone(&client, &data_dir, mode).await? == Gone::Followed {
            running = shut_down(&client, mode).await?.or(running);
        }
        out::line(&stopped(mode, running))?;
        Ok(0)
    })
}

/// Asks; gives the number of tasks that run. None: it was asked and went before it had answered.
async fn shut_down(client: &Client, mode: Mode) -> Result<Option<u64>, CallError> {
    let body = json!({ "mode": mode.word() }).to_string();
    client.try_call(&Request::get("/v1/status").within(ANSWER), &STOP).await?;
    let answer = match client.once(&Request::post("/v1/shutdown", body)).await {
        Ok(mut answer) => answer.json().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => Ok(answer.get("running").and_then(Value::as_u64)),
        Err(CallError::Lost { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What became of the gateway that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// It ended, and the instance with it; another may have been started since.
    Stopped,
    /// It ended in another way, and its supervisor started the next one.
    Followed,
}

/// Waits until the gateway has ended.
async fn gone(client: &Client, data_dir: &DataDir, mode: Mode) -> Result<Gone, Failure> {
    let (pid, supervisor) = (data_dir.gateway_pid(), data_dir.supervisor_pid());
    let begin = clock::now();
    let mut progress = Progress::new();
    let mut told: Option<Instant> = None;
    let (mut looked, mut said): (Option<Instant>, u64) = (None, 0);
    while data_dir.lock()? == Lock::Held {
        // Another pid: ours is gone. Under the same supervisor it was followed, else somebody has started the next instance.
        if let (Some(was), Some(now)) = (pid, data_dir.gateway_pid())
            && was != now
        {
            let same = supervisor.is_some() && supervisor == data_dir.supervisor_pid();
            return Ok(if same { Gone::Followed } else { Gone::Stopped });
        }
        if let Some(bound) = mode.bound().filter(|bound| begin.elapsed() > *bound) {
            let who = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            return Err(Failure::other(format!(
                "the gateway{who} has not stopped within {} s",
                bound.as_secs()
            ))
            .hint(format!("see {}", data_dir.log().display())));
        }
        if mode == Mode::Drain && looked.is_none_or(|looked| looked.elapsed() >= LOOK_FOR_PAUSED) {
            looked = Some(clock::now());
            let paused = running(client).await.map_or(0, |(_, paused)| paused);
            if paused > 0 && paused != said {
                progress.clear();
                out::remark(&waits_for_paused(paused));
            }
            said = paused;
        }
        if mode == Mode::Drain && progress.visible() && told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told = Some(clock::now());
            if let Some((running, _)) = running(client).await {
                progress.show(&format!("waiting for {}", text::count(running, "task")));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(Gone::Stopped)
}

/// How many tasks run, and how many of them are paused, if the gateway still says so.
async fn running(client: &Client) -> Option<(u64, u64)> {
    let mut answer = client.once(&Request::get("/v1/status")).await.ok()?;
    let status = answer.json().await.ok()?;
    let paused = status.pointer("/layers/workers/paused").and_then(Value::as_u64).unwrap_or(0);
    Some((status.pointer("/layers/queue/running")?.as_u64()?, paused))
}

/// Nobody would wait for what does not end by itself without being told so.
fn waits_for_paused(paused: u64) -> String {
    let are = if paused == 1 { "is" } else { "are" };
    format!(
        "{paused} of the tasks it waits for {are} paused, and must be resumed or cancelled: `chitin ps --state paused`"
    )
}

fn stopped(mode: Mode, running: Option<u64>) -> String {
    match (mode, running) {
        (Mode::Leave, Some(1)) => "stopped; 1 task goes on running".to_owned(),
        (Mode::Leave, Some(running @ 1..)) => format!("stopped; {running} tasks go on running"),
        (Mode::Kill, Some(1)) => "stopped; 1 task was ended and is queued again".to_owned(),
        (Mode::Kill, Some(running @ 1..)) => {
            format!("stopped; {running} tasks were ended and are queued again")
        }
        _ => "stopped".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_goes_on() {
        assert_eq!(stopped(Mode::Leave, Some(0)), "stopped");
        assert_eq!(stopped(Mode::Leave, Some(1)), "stopped; 1 task goes on running");
        assert_eq!(stopped(Mode::Leave, Some(3)), "stopped; 3 tasks go on running");
        assert_eq!(stopped(Mode::Leave, None), "stopped");
        assert_eq!(stopped(Mode::Drain, Some(3)), "stopped");
        assert_eq!(stopped(Mode::Kill, Some(2)), "stopped; 2 tasks were ended and are queued again");
    }
}
