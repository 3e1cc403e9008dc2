//! publish: events, from whoever saw something to whoever follows.
//!
//! What happens to tasks is written down by the core, in the commit that makes it true. What concerns the gateway as a
//! whole is told here, by [`Events::tell`], from any thread and without waiting: it goes into the log at once, and is
//! handed to the writer by a task of its own. While the store takes nothing, followers are told all the same, without an
//! id; the row comes as soon as the store takes it, with the time it was seen.
//!
//! Followers read a board that one task fills from the store, however many there are; see [`board`].

pub(crate) mod board;
pub(crate) mod publish;
pub(crate) mod render;

use std::sync::Mutex;
use std::time::Duration;

use chitin_core::{AttemptNo, EventName, Input, TaskId};
use serde_json::{Value, json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::clock;
use crate::engine::{Engine, Trouble};
use board::Board;

/// Events that may wait for the writer. While it takes nothing little happens more than a few times a second.
const WAITING: usize = 256;
/// A commit that takes longer is not waited for before followers are told.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries while the store refuses.
const AGAIN: Duration = Duration::from_millis(500);

/// Something that was seen.
#[derive(Debug)]
struct Told {
    name: EventName,
    task: Option<(TaskId, AttemptNo)>,
    /// With the time it was seen at.
    detail: Value,
}

/// Tells, and shows what was told.
#[derive(Debug)]
pub(crate) struct Events {
    sender: Sender<Told>,
    receiver: Mutex<Option<Receiver<Told>>>,
    pub(crate) board: Board,
}

impl Default for Events {
    fn default() -> Self {
        let (sender, receiver) = channel(WAITING);
        Self { sender, receiver: Mutex::new(Some(receiver)), board: Board::default() }
    }
}

impl Events {
    /// Tells of something that concerns the gateway as a whole; `detail` is a JSON object with the figures that go with it.
    pub(crate) fn tell(&self, name: EventName, detail: Value) {
        self.send(Told { name, task: None, detail });
    }

    /// The last of a life: nobody writes it down after this. What the store does not take at once is not kept.
    pub(crate) async fn tell_last(&self, engine: &Engine, name: EventName, detail: Value) {
        tracing::info!(event = name.as_str(), %detail, "event");
        let patience_ms = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
        _ = engine.ask(patience_ms, |_| Input::Tell { name, task: None, detail: detail.to_string() }).await;
    }

    fn send(&self, mut told: Told) {
        tracing::info!(event = told.name.as_str(), detail = %told.detail, "event");
        if let Value::Object(detail) = &mut told.detail {
            detail.insert(render::SEEN_AT.to_owned(), json!(clock::wall_ms()));
        }
        if let Err(TrySendError::Full(told)) = self.sender.try_send(told) {
            tracing::warn!(
                event = told.name.as_str(),
                "too many events wait for the store; this one is not kept"
            );
        }
    }

    /// Hands what was told to the writer, one after the other, until the gateway stops.
    pub(crate) async fn write_down(&self, engine: &Engine) {
        let receiver = self.receiver.lock().ok().and_then(|mut receiver| receiver.take());
        let Some(mut receiver) = receiver else { return };
        while let Some(told) = receiver.recv().await {
            if !self.write_one(engine, &told).await {
                return;
            }
        }
    }

    /// False: the gateway stops.
    async fn write_one(&self, engine: &Engine, told: &Told) -> bool {
        let Told { name, task, detail } = told;
        let mut posted = false;
        let mut post = || {
            if !std::mem::replace(&mut posted, true) {
                self.board.post_unstored(&render::unstored(*name, *task, detail));
            }
        };
        loop {
            let input = Input::Tell { name: *name, task: *task, detail: detail.to_string() };
            let reply = match engine.send(0, None, |_| input) {
                Ok(mut answer) => match tokio::time::timeout(PATIENCE, &mut answer).await {
                    Ok(reply) => reply,
                    Err(_) => {
                        post();
                        answer.await
                    }
                },
                Err(trouble) => Err(trouble),
            };
            match reply {
                Ok(_) => return true,
                Err(Trouble::Stopping) => return false,
                // Our bug, which the engine has logged.
                Err(Trouble::Row) => return true,
                Err(_) => {
                    post();
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}
