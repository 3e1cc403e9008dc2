//! submit → admit → enqueue: a submission is accepted whole or refused for one reason of a closed list.
//!
//! Check and insert are one step inside one transaction, so concurrent submitters cannot overshoot a bound (R2.1).
//! kill -9 here leaves nothing, or, if the commit was done, everything: the client's key finds it again.

use std::collections::BTreeSet;

use crate::hot::OpenTask;
use crate::valid::{QueueName, TaskSpec};
use crate::verbs::Recovery;
use crate::{
    Answer, AttemptNo, Core, Deadline, NewTask, Now, PrincipalId, QueueId, QueueRow, Refusal,
    ScheduledReason, Seq, Submission, SubmissionRow, TaskId, TaskRow, TaskState, Tx,
};

impl Core {
    pub(crate) fn submit<T: Tx>(
        &mut self,
        now: &Now,
        submission: &Submission,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let answer = self.decide_submission(now, submission, tx)?;
        self.reply(submission.to, answer);
        Ok(())
    }

    fn decide_submission<T: Tx>(
        &mut self,
        now: &Now,
        submission: &Submission,
        tx: &mut T,
    ) -> Result<Answer, T::Error> {
        if now.boottime_ms > submission.deadline_boottime_ms {
            return Ok(Answer::Refused(Refusal::TooLate));
        }
        if submission.tasks.is_empty() {
            return Ok(Answer::Accepted { ids: Vec::new(), state: TaskState::Queued });
        }
        let known = self.names.get().principals.get(&*submission.principal).copied();
        if let (Some(principal), Some(key)) = (known, &submission.key)
            && let Some(prior) = tx.find_submission(principal, &key.route, &key.key)?
        {
            let first = tx.load_task(prior.first_seq)?.map(|row| (row.id, row.state));
            return Ok(prior.answer(&key.body_sha256, first));
        }
        let bounds = self
            .admit(submission.tasks.len(), submission.payload_bytes())
            .and_then(|()| self.admit_shares(now, submission))
            .and_then(|()| self.admit_queues(submission));
        if let Err(refusal) = bounds {
            let for_want_of_room = matches!(
                refusal,
                Refusal::QueueFull { .. } | Refusal::BytesFull { .. } | Refusal::OverShare { .. }
            );
            if for_want_of_room {
                self.wanting.turned_away(submission, now);
            }
            return Ok(Answer::Refused(refusal));
        }
        self.wanting.let_in(submission);

        // Nothing was stored so far, and nothing can be refused from here on.
        let principal = match known {
            Some(principal) => principal,
            None => self.new_principal(&submission.principal, tx)?,
        };
        let first_seq = *self.next_seq.get();
        let mut first_state = TaskState::Queued;
        for (id, spec) in &submission.tasks {
            let queue = self.queue(&spec.queue, tx)?;
            let row = self.new_row(now, *id, spec, principal, queue);
            if row.seq == first_seq {
                first_state = row.state;
            }
            tx.insert_task(NewTask { row: &row, payload: &spec.payload })?;
            self.hot.put(row.seq, OpenTask::of(&row, now));
            self.next_seq.set(row.seq.next());
        }
        let ids: Vec<TaskId> = submission.tasks.iter().map(|(id, _)| *id).collect();
        if let Some(key) = &submission.key {
            tx.insert_submission(&SubmissionRow {
                first_seq,
                ids: ids.clone(),
                principal,
                route: key.route.clone(),
                key: key.key.clone(),
                body_sha256: key.body_sha256,
            })?;
        }
        Ok(Answer::Accepted { ids, state: first_state })
    }

    /// The bounds of what waits; `tasks` together or none.
    pub(crate) fn admit(&self, tasks: usize, bytes: u64) -> Result<(), Refusal> {
        if *self.recovery.get() != Recovery::Over {
            return Err(Refusal::Recovering);
        }
        let counts = self.hot.counts();
        let waiting = u64::try_from(counts.waiting).unwrap_or(0);
        let limit = self.limits.waiting_tasks;
        if waiting.saturating_add(u64::try_from(tasks).unwrap_or(u64::MAX)) > limit {
            return Err(Refusal::QueueFull { waiting, limit });
        }
        let waiting = u64::try_from(counts.waiting_bytes).unwrap_or(0);
        let limit = self.limits.waiting_bytes;
        if waiting.saturating_add(bytes) > limit {
            return Err(Refusal::BytesFull { waiting, limit });
        }
        Ok(())
    }

    fn new_row(
        &self,
        now: &Now,
        id: TaskId,
        spec: &TaskSpec,
        principal: PrincipalId,
        queue: QueueId,
    ) -> TaskRow {
        let due = spec.start.due(now);
        let wait_ms = due.map_or(0, |due| due.remaining_ms(now));
        TaskRow {
            seq: *self.next_seq.get(),
            id,
            principal,
            queue,
            priority: spec.priority,
            state: if due.is_some() {
                TaskState::Scheduled(ScheduledReason::Delay)
            } else {
                TaskState::Queued
            },
            owner_epoch: self.epoch,
            submitted_at_ms: now.wall_ms,
            due,
            expires: Some(Deadline::after(now, wait_ms.saturating_add(spec.policy.ttl_ms))),
            started_at_ms: None,
            ended_at_ms: None,
            round: 1,
            attempt: AttemptNo(0),
            retries: 0,
            poison: 0,
            cancel_requested: false,
            payload_bytes: i64::try_from(spec.payload.bytes()).unwrap_or(i64::MAX),
            kept_bytes: 0,
            policy: spec.policy.clone(),
            tags: spec.tags.clone(),
        }
    }

    /// The bound of queues: as many new names as a submission has, together or none.
    fn admit_queues(&self, submission: &Submission) -> Result<(), Refusal> {
        let queues = &self.names.get().queues;
        let names = submission.tasks.iter().map(|(_, spec)| spec.queue.as_str());
        let new: BTreeSet<_> = names.filter(|name| queues.iter().all(|row| row.name != *name)).collect();
        let all = u64::try_from(queues.len().saturating_add(new.len())).unwrap_or(u64::MAX);
        if !new.is_empty() && all > self.limits.queues {
            return Err(Refusal::TooManyQueues { limit: self.limits.queues });
        }
        Ok(())
    }

    fn new_principal<T: Tx>(&mut self, name: &str, tx: &mut T) -> Result<PrincipalId, T::Error> {
        let highest = self.names.get().principals.values().map(|id| id.0).max().unwrap_or(0);
        let id = PrincipalId(highest + 1);
        tx.insert_principal(id, name)?;
        self.names.change().principals.insert(name.to_owned(), id);
        Ok(id)
    }

    fn queue<T: Tx>(&mut self, name: &QueueName, tx: &mut T) -> Result<QueueId, T::Error> {
        let queues = &self.names.get().queues;
        if let Some(row) = queues.iter().find(|row| row.name == name.as_str()) {
            return Ok(row.id);
        }
        let highest = queues.iter().map(|row| row.id.0).max().unwrap_or(0);
        let row = QueueRow { id: QueueId(highest + 1), name: name.as_str().to_owned(), paused: false };
        tx.insert_queue(&row)?;
        let id = row.id;
        self.names.change().queues.push(row);
        Ok(id)
    }
}

/// The place before the first task.
pub(crate) const BEFORE_ALL: Seq = Seq(0);

#[cfg(test)]
#[path = "submit_tests.rs"]
mod tests;
