//! publish, and every other effect: carries out what the core asked for, after the commit, in order. Runs on the writer
//! thread, so nothing here waits: answers, queues and wake-ups only.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use chitin_cache::{Cache, Key};
use chitin_core::{Answer, Output};
use chitin_failpoints::failpoint;

use crate::engine::{Answers, Command};
use crate::events::Events;
use crate::runner::{Hub, Job, Jobs};
use crate::spool::{Janitor, Removal};
use crate::waiters::Waiters;

/// Whoever waits for an answer, in the order of their commands.
pub(crate) type Waiting = VecDeque<Box<Command>>;

/// The parts of the world that effects reach.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) hub: Arc<Hub>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) janitor: Janitor,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) events: Arc<Events>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) answers: Arc<Answers>,
}

impl World {
    /// Carries the outputs of one commit out in order, and answers last: whoever asked, and then whoever only waited for the
    /// commit.
    pub(crate) fn release(&self, outputs: Vec<Output>, mut waiting: Waiting) {
        let mut answers = Vec::with_capacity(waiting.len());
        // Whatever was committed may be an event, and who follows looks at the store.
        self.events.board.stir();
        for output in outputs {
            match output {
                Output::Reply { to, answer } => {
                    // Answers come in the order of the commands, so the first is nearly always the right one.
                    failpoint!("effect.reply");
                    let at = waiting.iter().position(|command| command.id() == to);
                    if let Some(command) = at.and_then(|at| waiting.remove(at)) {
                        answers.push((command, Ok(answer)));
                    }
                }
                Output::Start(order) => {
                    failpoint!("effect.start");
                    self.hub.enter(order.attempt, false, order.paused);
                    self.jobs.push(Job::Start(order));
                }
                Output::Evict { attempt } => {
                    failpoint!("effect.evict");
                    self.hub.evict(attempt);
                }
                Output::Recover { attempt, cancel_requested, paused, same_boot } => {
                    failpoint!("effect.recover");
                    self.hub.enter(attempt, cancel_requested, paused);
                    self.jobs.push(Job::Recover { attempt, same_boot });
                }
                Output::EndAttempt { attempt } => {
                    failpoint!("effect.end");
                    self.hub.ask_end(attempt);
                }
                Output::PauseAttempt { attempt, paused } => {
                    failpoint!("effect.pause");
                    self.hub.pause(attempt, paused);
                }
                Output::Settled { attempt, keep_logs } => {
                    failpoint!("effect.settled");
                    if !self.hub.settled(attempt, keep_logs) {
                        self.janitor.remove(Removal::Attempt {
                            id: attempt.id,
                            attempt: attempt.attempt,
                            keep_logs,
                        });
                    }
                }
                Output::Publish { attempt, round } => {
                    failpoint!("effect.publish");
                    // The bytes came with the report, which is done with them.
                    let result = waiting.iter_mut().find_map(|command| command.take_result(attempt));
                    if let Some(result) = result {
                        let key = Key { task: attempt.id, round };
                        self.cache.offer(key, result.sha256, Bytes::from(result.body));
                    }
                }
                Output::RemoveFiles { id } => self.janitor.remove(Removal::Task { id }),
                Output::Changed { id, state: _ } => {
                    failpoint!("effect.changed");
                    self.waiters.wake(id);
                }
            }
        }
        answers.extend(waiting.into_iter().map(|command| (command, Ok(Answer::Done))));
        self.answers.give(answers);
    }
}
