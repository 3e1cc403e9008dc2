//! One batch: begin, steps, tick, commit, outputs; and what is done when the commit is refused.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::thread;

use chitin_core::{CommitOutcome, Input, Output, Pace};
use chitin_failpoints::failpoint;
use chitin_store::{Ballast, Commit, NoReason, Restart, StoreError, Verdict};

use super::{Command, PROBE_EVERY, Trouble, WriterLoop, read_only};
use crate::clock;
use crate::effects::World;

/// Batches between two looks at the write-ahead log: far fewer than fill it.
const UPKEEP_EVERY: u32 = 16;
/// And so many bytes of commands at most, so that the log's cap is noticed in time.
const UPKEEP_BYTES: u64 = 4_000_000;

impl WriterLoop {
    /// The first commit: takes the store over.
    pub(super) fn boot(&mut self, pace: Pace) -> Result<(), StoreError> {
        let boot = Input::Boot { boot_id: self.clock.boot_id().to_owned(), pace };
        match self.attempt([&boot]) {
            Ok(outputs) => {
                self.released = outputs;
                self.tell_status();
                Ok(())
            }
            Err(Refused::No(error) | Refused::Unknown(error)) => Err(error),
        }
    }

    pub(super) fn batch(&mut self, commands: VecDeque<Box<Command>>, world: &World) {
        let commands = drop_late(commands);
        let commands = if self.refusing { self.probe_or_refuse(commands) } else { commands };
        let commands =
            if self.core.is_recovering() { refuse_new_work(commands, Trouble::Recovering) } else { commands };
        let commands =
            if self.status.log().1 { refuse_new_work(commands, Trouble::LogFull) } else { commands };
        let bytes: u64 = commands.iter().map(|command| command.bytes).sum();
        self.bytes_since_upkeep = self.bytes_since_upkeep.saturating_add(bytes);
        let tried = self.attempt(commands.iter().map(|command| &command.input).chain([&Input::Tick]));
        match tried {
            Ok(outputs) => self.release(outputs, commands, world),
            Err(Refused::Unknown(error)) => self.give_up(&error, commands),
            Err(Refused::No(error)) => {
                tracing::warn!(error = %chain(&error), commands = commands.len(), "the store refused a batch");
                if trouble(&error) != Trouble::Row {
                    // Before the commands are tried one by one: none of them is to be followed by a start.
                    self.refuses(&error);
                }
                self.one_by_one(commands, world);
            }
        }
        self.upkeep();
    }

    /// While the store refuses, only what has begun is tried: what room there is, is for that.
    fn probe_or_refuse(&mut self, commands: VecDeque<Box<Command>>) -> VecDeque<Box<Command>> {
        self.probe();
        if self.refusing { refuse_new_work(commands, self.why_refused) } else { commands }
    }

    fn tell_status(&self) {
        self.status.set_figures(self.core.figures());
        self.status.drained.store(self.core.drained(), Ordering::Relaxed);
        self.status.recovering.store(self.core.is_recovering(), Ordering::Relaxed);
    }

    /// Whoever is refused now is refused for their own row, or because nothing can be stored.
    fn one_by_one(&mut self, commands: VecDeque<Box<Command>>, world: &World) {
        let alone = commands.is_empty();
        for command in commands {
            let is_new_work = is_new_work(&command.input);
            let mut tried = self.attempt([&command.input]);
            // What was kept back is for what has begun, never for new work.
            if let Err(Refused::No(error)) = &tried
                && !is_new_work
                && self.make_room(error)
            {
                tried = self.attempt([&command.input]);
            }
            match tried {
                Ok(outputs) => self.release(outputs, VecDeque::from([command]), world),
                Err(Refused::Unknown(error)) => self.give_up(&error, VecDeque::from([command])),
                Err(Refused::No(error)) => {
                    let why = trouble(&error);
                    if why == Trouble::Row {
                        tracing::error!(error = %chain(&error), "the store refused a row; the others are stored");
                    } else {
                        self.refuses(&error);
                    }
                    command.answer(Err(why));
                }
            }
        }
        match self.attempt([&Input::Tick]) {
            Ok(outputs) => self.release(outputs, VecDeque::new(), world),
            Err(Refused::Unknown(error)) => self.give_up(&error, VecDeque::new()),
            Err(Refused::No(error)) => {
                self.refuses(&error);
                if alone {
                    // Nobody is waiting and time alone brought this on: not again at once.
                    thread::sleep(PROBE_EVERY);
                }
            }
        }
    }

    /// Steps and commit. Nothing of a refused try is left, here or on disk.
    fn attempt<'i>(&mut self, inputs: impl IntoIterator<Item = &'i Input>) -> Result<Vec<Output>, Refused> {
        let mut now = self.clock.now(self.core.boot_no());
        let mut tx = self.writer.begin().map_err(Refused::from_error)?;
        failpoint!("engine.steps");
        let mut failed = None;
        for input in inputs {
            if matches!(input, Input::Tick) {
                now = self.clock.now(self.core.boot_no());
            }
            if let Err(error) = self.core.step(&now, &mut self.dice, input, &mut tx) {
                failed = Some(error);
                break;
            }
        }
        failpoint!("engine.commit.before");
        let committed = match failed {
            None => tx.commit(),
            Some(error) => match tx.rollback() {
                Ok(()) => Commit::No(error),
                Err(rollback) => Commit::Unknown(rollback),
            },
        };
        failpoint!("engine.commit.after");
        match committed {
            Commit::Ok => Ok(self.core.finish(CommitOutcome::Ok)),
            Commit::No(error) => {
                _ = self.core.finish(CommitOutcome::RolledBack);
                Err(Refused::from_error(error))
            }
            Commit::Unknown(error) => {
                _ = self.core.finish(CommitOutcome::Unknown);
                Err(Refused::Unknown(error))
            }
        }
    }

    /// Lets the world see what is now true.
    fn release(&mut self, outputs: Vec<Output>, commands: VecDeque<Box<Command>>, world: &World) {
        self.status.count_commit(commands.len());
        self.tell_status();
        world.release(outputs, commands);
    }

    /// A full disk: the ballast makes room to record what has ended. True if it did.
    fn make_room(&mut self, error: &StoreError) -> bool {
        let Some(ballast) = &self.ballast else { return false };
        if error.verdict() != Verdict::No(NoReason::Full) || !ballast.is_held() {
            return false;
        }
        match ballast.release() {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(error = %chain(&error), "the ballast could not be released");
                false
            }
        }
    }

    fn refuses(&mut self, error: &StoreError) {
        self.refusing = true;
        self.apply_dispatch();
        self.why_refused = trouble(error);
        self.status.set_refusing(Some(chain(error)));
    }

    /// A store that refused is tried with a commit of its own, so that the gateway is ready again without being asked
    /// (R1.4): once it takes that, and what was given away for the time of need is taken back.
    pub(super) fn probe(&mut self) {
        match self.writer.probe() {
            Commit::Ok => {}
            Commit::No(error) => return self.refuses(&error),
            Commit::Unknown(error) => self.give_up(&error, VecDeque::new()),
        }
        match self.ballast.as_ref().map_or(Ok(()), Ballast::ensure) {
            Ok(()) => {
                self.refusing = false;
                self.apply_dispatch();
                self.status.set_refusing(None);
            }
            Err(error) => self.refuses(&error),
        }
    }

    /// After a commit nobody knows the end of, or a checkpoint, this process commits nothing more, and ends.
    ///
    /// Not at once where the file system has become read-only: a successor could not even begin there, while what was
    /// committed before can still be read here, and nothing else: readers are shown a commit only after its end is known.
    /// So it goes on without a writer, until it can be written again; whoever had handed something in is told that it may
    /// have been too late.
    fn give_up(&mut self, error: &StoreError, commands: VecDeque<Box<Command>>) -> ! {
        let folder = self.database.parent().unwrap_or(&self.database).to_owned();
        if error.verdict() == Verdict::Unknown && read_only::is_read_only(&folder) {
            tracing::error!(error = %chain(error), "the file system is read-only; only reads are answered until it is not");
            self.refusing = true;
            self.status.set_refusing(Some("the file system of the data directory is read-only".to_owned()));
            commands.into_iter().for_each(|command| command.answer(Err(Trouble::TooLate)));
            read_only::wait(&folder, &mut self.inbox);
        }
        die(error)
    }

    /// Between batches, now and then: the write-ahead log stays short.
    fn upkeep(&mut self) {
        self.since_upkeep = self.since_upkeep.saturating_add(1);
        if self.since_upkeep < UPKEEP_EVERY && self.bytes_since_upkeep < UPKEEP_BYTES {
            return;
        }
        (self.since_upkeep, self.bytes_since_upkeep) = (0, 0);
        self.restart_log();
    }

    /// Begins the log anew where that can be done; whether it could.
    fn restart_log(&mut self) -> bool {
        match self.writer.restart_wal_if_above(self.limits.wal_restart_bytes) {
            Ok(Restart::Below(log) | Restart::Behind(log) | Restart::Busy(log)) => {
                self.status.set_log_bytes(log.bytes, self.limits.wal_cap_bytes);
                false
            }
            // The next commit writes it from its beginning.
            Ok(Restart::Done) => {
                self.status.set_log_bytes(0, self.limits.wal_cap_bytes);
                true
            }
            Err(error) => match Refused::from_error(error) {
                Refused::No(error) => {
                    tracing::warn!(error = %chain(&error), "the write-ahead log could not be restarted");
                    false
                }
                Refused::Unknown(error) => self.give_up(&error, VecDeque::new()),
            },
        }
    }

    /// While the log is over its cap and nobody commits: as soon as it can be begun anew, a commit of our own does so.
    pub(super) fn shorten_log(&mut self) {
        if self.restart_log() {
            self.probe();
        }
    }
}

/// Refuses what is new; what has begun is left.
fn refuse_new_work(commands: VecDeque<Box<Command>>, why: Trouble) -> VecDeque<Box<Command>> {
    let (new, begun): (VecDeque<_>, VecDeque<_>) =
        commands.into_iter().partition(|command| is_new_work(&command.input));
    new.into_iter().for_each(|command| command.answer(Err(why)));
    begun
}

/// What has not begun: submissions, and events, which can wait in memory for as long as it takes.
fn is_new_work(input: &Input) -> bool {
    matches!(input, Input::Submit(_) | Input::Tell { .. })
}

/// Whoever asked has been told that it was too late: then it must not happen.
fn drop_late(commands: VecDeque<Box<Command>>) -> VecDeque<Box<Command>> {
    let now_ms = clock::boottime_ms();
    let is_late = |command: &Command| command.deadline_boottime_ms.is_some_and(|deadline| deadline < now_ms);
    if !commands.iter().any(|command| is_late(command)) {
        return commands;
    }
    let (late, in_time): (VecDeque<_>, VecDeque<_>) =
        commands.into_iter().partition(|command| is_late(command));
    late.into_iter().for_each(|command| command.answer(Err(Trouble::TooLate)));
    in_time
}

/// A try that stored nothing, or nobody knows what.
enum Refused {
    No(StoreError),
    Unknown(StoreError),
}

impl Refused {
    fn from_error(error: StoreError) -> Self {
        match error.verdict() {
            Verdict::No(_) => Self::No(error),
            Verdict::Unknown | Verdict::Corrupt | Verdict::Foreign | Verdict::Broken => Self::Unknown(error),
        }
    }
}

fn trouble(error: &StoreError) -> Trouble {
    match error.verdict() {
        Verdict::No(NoReason::Full) => Trouble::Full,
        Verdict::No(NoReason::Constraint | NoReason::TooBig) => Trouble::Row,
        _ => Trouble::Unavailable,
    }
}

/// What the disk holds is not known. Answering on would be guessing: the next life reads what is there.
pub(super) fn die(error: &StoreError) -> ! {
    let why = match error.verdict() {
        Verdict::Corrupt => "the database is damaged; the gateway ends, and its successor looks at all of it",
        _ => "what the disk holds is unknown; the gateway ends, so that its successor reads what is true",
    };
    tracing::error!(error = %chain(error), "{why}");
    crate::logs::flush();
    std::process::exit(70)
}

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Pending;
    use super::*;

    #[test]
    fn whoever_was_told_that_it_is_too_late_is_not_carried_out() {
        let now_ms = clock::boottime_ms();
        let (commands, mut answers): (VecDeque<_>, Vec<_>) =
            [None, Some(now_ms - 1), Some(now_ms + 1_000_000), Some(0)]
                .into_iter()
                .map(|deadline_boottime_ms| {
                    let (mut command, answer) = Command::new(chitin_core::CommandId(0), Input::Tick, 0);
                    command.deadline_boottime_ms = deadline_boottime_ms;
                    (command, answer)
                })
                .unzip();
        let left = drop_late(commands);
        assert_eq!(left.len(), 2);
        let answered: Vec<bool> = answers.iter_mut().map(Pending::is_answered).collect();
        assert_eq!(answered, [false, true, false, true]);
    }
}
