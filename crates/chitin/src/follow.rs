//! Following a task's output: from where we are, over lost connections and restarts of the gateway, without a byte lost
//! or written twice. [`Place`] is what makes that so; it is pure.

use std::time::{Duration, Instant};

use chitin_proto::http::TaskView;

use crate::client::{CallError, Client, FOLLOW, Query, Request, api, backoff};
use crate::clock;
use crate::exit;
use crate::failure::Failure;
use crate::frames::{Decoder, FrameError, Piece, Stream};
use crate::outputs::Outputs;

/// What of the output is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// Only one of the outputs.
    pub(crate) stream: Option<Stream>,
    /// This attempt; none: the newest.
    pub(crate) attempt: Option<u32>,
}

/// How long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// What there is by now.
    Now,
    /// Until the task has ended, with all attempts after the first one.
    End,
}

/// How far we have come: everything before it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    attempt: Option<u32>,
    stdout: u64,
    stderr: u64,
    /// The task was paused when it was last looked at.
    paused: bool,
}

/// Whether a piece begins something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// Another attempt than before.
    NextAttempt(u32),
    /// More of the same.
    None,
}

impl Place {
    /// Goes past a piece. A beginning that we know already, as a resumed stream may repeat it, changes nothing.
    fn pass(&mut self, piece: &Piece<'_>) -> News {
        match *piece {
            Piece::Attempt(attempt) if self.attempt == Some(attempt) => {}
            Piece::Attempt(attempt) => {
                let before = std::mem::replace(self, Self { attempt: Some(attempt), ..Self::default() });
                if before.attempt.is_some() {
                    return News::NextAttempt(attempt);
                }
            }
            Piece::Bytes(stream, bytes) => self.add(stream, u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Piece::Omitted(stream, count) => self.add(stream, count),
        }
        News::None
    }

    fn add(&mut self, stream: Stream, count: u64) {
        let offset = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        *offset = offset.saturating_add(count);
    }

    /// What to ask for to go on from here.
    fn target(&self, id: &str, wanted: Wanted, until: Until) -> String {
        let stream = wanted.stream.map(|stream| match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        });
        let attempt = self.attempt.or(wanted.attempt).map(|attempt| attempt.to_string());
        let query = Query::new(format!("/v1/tasks/{id}/logs"))
            .and("framed", "true")
            .and_maybe("follow", (until == Until::End).then_some("true"))
            .and_maybe("stream", stream)
            .and_maybe("attempt", attempt);
        if self.attempt.is_none() {
            return query.target();
        }
        query.and("stdout_from", self.stdout.to_string()).and("stderr_from", self.stderr.to_string()).target()
    }
}

/// Why a stream of frames ended before its end.
enum Broken {
    /// May be taken up again.
    Call(CallError),
    /// May not.
    Ours(Failure),
}

/// The head of a followed log may wait for the first frame, and that for a keep-alive.
const HEAD_WAIT: Duration = Duration::from_secs(20);
/// After so long without a frame it is said that the task waits.
const IDLE: Duration = Duration::from_secs(1);
/// After so long without a frame it is looked whether somebody has paused the task; and again, for as long as it is silent.
const SILENT: Duration = Duration::from_secs(2);
/// A gateway that is there answers at once.
const ANSWER: Duration = Duration::from_secs(2);

/// Writes what there is of a task's output.
pub(crate) async fn so_far(
    client: &Client,
    id: &str,
    wanted: Wanted,
    outputs: &mut Outputs,
) -> Result<(), Failure> {
    follow(client, id, wanted, Until::Now, &mut Place::default(), outputs).await
}

/// Writes a task's output until the task has ended; gives the task as it ended.
pub(crate) async fn to_the_end(
    client: &Client,
    id: &str,
    wanted: Wanted,
    outputs: &mut Outputs,
) -> Result<TaskView, Failure> {
    let mut place = Place::default();
    let state = Request::get(format!("/v1/tasks/{id}"));
    loop {
        follow(client, id, wanted, Until::End, &mut place, outputs).await?;
        // A gateway that stops ends the output, too. If it is gone or the task is open, the output goes on; only a
        // gateway that is still there and says that the task has ended has shown all of it.
        let answer = match client.once(&state).await {
            Ok(mut answer) => answer.json().await,
            Err(error) => Err(error),
        };
        if let Ok(json) = answer {
            let task: TaskView = api::shape(json)?;
            if exit::of_task(&task).is_some() {
                return Ok(task);
            }
        }
        tokio::time::sleep(backoff(1)).await;
    }
}

/// Writes a task's output until it ends, or until the gateway was away for too long.
async fn follow(
    client: &Client,
    id: &str,
    wanted: Wanted,
    until: Until,
    place: &mut Place,
    outputs: &mut Outputs,
) -> Result<(), Failure> {
    let mut heard_at = clock::now();
    let mut losses = 0_u32;
    loop {
        let before = heard_at;
        let request = Request::get(place.target(id, wanted, until)).waits(HEAD_WAIT);
        let error = match stream(client, id, &request, until, place, outputs, &mut heard_at).await {
            Ok(()) => return Ok(()),
            Err(Broken::Ours(failure)) => return Err(failure),
            Err(Broken::Call(error)) => error,
        };
        losses = if heard_at == before { losses.saturating_add(1) } else { 1 };
        let again = matches!(error, CallError::Lost { .. } | CallError::Late { .. });
        if !again || heard_at.elapsed() > FOLLOW.reach() {
            return Err(error.into());
        }
        outputs.progress.show("the gateway is away; the task goes on");
        tokio::time::sleep(backoff(losses)).await;
    }
}

async fn stream(
    client: &Client,
    id: &str,
    request: &Request,
    until: Until,
    place: &mut Place,
    outputs: &mut Outputs,
    heard_at: &mut Instant,
) -> Result<(), Broken> {
    let mut answer = client.try_call(request, &FOLLOW).await.map_err(Broken::Call)?;
    let mut decoder = Decoder::new();
    loop {
        let waiting = outputs.progress.visible() && place.attempt.is_none();
        let patience = if waiting { IDLE } else { SILENT };
        let chunk = match tokio::time::timeout(patience, answer.chunk()).await {
            Ok(chunk) => chunk,
            Err(_) if until == Until::End => {
                if waiting {
                    outputs.progress.show(&format!("{id} waits to be started"));
                }
                loop {
                    say_if_paused(client, id, place, outputs).await;
                    if let Ok(chunk) = tokio::time::timeout(SILENT, answer.chunk()).await {
                        break chunk;
                    }
                }
            }
            Err(_) => answer.chunk().await,
        };
        let Some(chunk) = chunk.map_err(Broken::Call)? else {
            outputs.end();
            return Ok(());
        };
        *heard_at = clock::now();
        let mut bytes = chunk.as_ref();
        while let Some(piece) = decoder.next(&mut bytes).map_err(garbled)? {
            write(&piece, place, outputs).await.map_err(Broken::Ours)?;
        }
    }
}

/// A command that is silent may stand still because somebody wished that, or go on again.
async fn say_if_paused(client: &Client, id: &str, place: &mut Place, outputs: &mut Outputs) {
    let look = client.once(&Request::get(format!("/v1/tasks/{id}")).within(ANSWER)).await;
    let Ok(mut answer) = look else { return };
    let Some(state) = answer.json().await.ok().and_then(|task| Some(task.get("state")?.as_str()?.to_owned()))
    else {
        return;
    };
    let paused = state == "paused";
    if paused != std::mem::replace(&mut place.paused, paused) {
        outputs.remark(&if paused {
            format!("the task is paused; it goes on after `chitin resume {id}`")
        } else {
            "the task goes on".to_owned()
        });
    }
}

async fn write(piece: &Piece<'_>, place: &mut Place, outputs: &mut Outputs) -> Result<(), Failure> {
    let news = place.pass(piece);
    match (piece, news) {
        (_, News::NextAttempt(attempt)) => {
            outputs.end();
            outputs.remark(&format!("attempt {attempt} begins"));
        }
        (Piece::Bytes(stream, bytes), _) => outputs.write(*stream, bytes).await?,
        (Piece::Omitted(stream, count), _) => outputs.missing(*stream, *count),
        (Piece::Attempt(_), _) => outputs.progress.clear(),
    }
    Ok(())
}

fn garbled(error: FrameError) -> Broken {
    Broken::Call(CallError::Garbled { what: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_goes_on_where_one_was() {
        let mut place = Place::default();
        assert_eq!(
            place.target("a", Wanted::default(), Until::End),
            "/v1/tasks/a/logs?framed=true&follow=true"
        );
        assert_eq!(place.pass(&Piece::Attempt(1)), News::None);
        place.pass(&Piece::Bytes(Stream::Stdout, b"12345"));
        place.pass(&Piece::Bytes(Stream::Stderr, b"12"));
        place.pass(&Piece::Omitted(Stream::Stdout, 1_000));
        assert_eq!(
            place.target("a", Wanted::default(), Until::End),
            "/v1/tasks/a/logs?framed=true&follow=true&attempt=1&stdout_from=1005&stderr_from=2"
        );
        assert_eq!(place.pass(&Piece::Attempt(1)), News::None, "a beginning we know");
        assert_eq!(place.stdout, 1_005);
        assert_eq!(place.pass(&Piece::Attempt(2)), News::NextAttempt(2));
        assert_eq!(place, Place { attempt: Some(2), ..Place::default() });
    }

    #[test]
    fn what_is_wanted_is_asked_for() {
        let wanted = Wanted { stream: Some(Stream::Stderr), attempt: Some(3) };
        assert_eq!(
            Place::default().target("a", wanted, Until::Now),
            "/v1/tasks/a/logs?framed=true&stream=stderr&attempt=3"
        );
    }
}
