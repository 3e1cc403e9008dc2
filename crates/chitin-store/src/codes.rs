//! The numbers that stand in the database for states, outcomes and places of logs.
//!
//! Owns: the table below. A number once used is never given another meaning; a new state takes a new number. Every
//! verb that reads or writes a row passes here.
//!
//! | code | state | code | outcome | code | logs |
//! |---|---|---|---|---|---|
//! | 1 | scheduled (delay) | 1 | succeeded | 0 | none |
//! | 2 | scheduled (backoff) | 2 | failed | 1 | stored |
//! | 3 | queued | 3 | timed_out | 2 | files |
//! | 4 | running | 4 | stalled | | |
//! | 5 | paused (held) | 5 | oom_killed | | |
//! | 6 | succeeded | 6 | signalled | | |
//! | 7 | cancelled | 7 | worker_lost | | |
//! | 8 | expired | 8 | host_lost | | |
//! | 9 | dead (retries_exhausted) | 9 | cancelled | | |
//! | 10 | dead (non_retryable) | | | | |
//! | 11 | dead (poison) | | | | |
//! | 12 | paused (frozen) | | | | |

use chitin_core::{DeadReason, KeptLogs, Outcome, PausedReason, ScheduledReason, TaskState};

pub(crate) fn of_state(state: TaskState) -> i64 {
    match state {
        TaskState::Scheduled(ScheduledReason::Delay) => 1,
        TaskState::Scheduled(ScheduledReason::Backoff) => 2,
        TaskState::Queued => 3,
        TaskState::Running => 4,
        TaskState::Paused(PausedReason::Held) => 5,
        TaskState::Succeeded => 6,
        TaskState::Cancelled => 7,
        TaskState::Expired => 8,
        TaskState::Dead(DeadReason::RetriesExhausted) => 9,
        TaskState::Dead(DeadReason::NonRetryable) => 10,
        TaskState::Dead(DeadReason::Poison) => 11,
        TaskState::Paused(PausedReason::Frozen) => 12,
    }
}

pub(crate) fn to_state(code: i64) -> Option<TaskState> {
    Some(match code {
        1 => TaskState::Scheduled(ScheduledReason::Delay),
        2 => TaskState::Scheduled(ScheduledReason::Backoff),
        3 => TaskState::Queued,
        4 => TaskState::Running,
        5 => TaskState::Paused(PausedReason::Held),
        6 => TaskState::Succeeded,
        7 => TaskState::Cancelled,
        8 => TaskState::Expired,
        9 => TaskState::Dead(DeadReason::RetriesExhausted),
        10 => TaskState::Dead(DeadReason::NonRetryable),
        11 => TaskState::Dead(DeadReason::Poison),
        12 => TaskState::Paused(PausedReason::Frozen),
        _ => return None,
    })
}

pub(crate) fn of_outcome(outcome: Outcome) -> i64 {
    match outcome {
        Outcome::Succeeded => 1,
        Outcome::Failed => 2,
        Outcome::TimedOut => 3,
        Outcome::Stalled => 4,
        Outcome::OomKilled => 5,
        Outcome::Signalled => 6,
        Outcome::WorkerLost => 7,
        Outcome::HostLost => 8,
        Outcome::Cancelled => 9,
    }
}

pub(crate) fn to_outcome(code: i64) -> Option<Outcome> {
    Some(match code {
        1 => Outcome::Succeeded,
        2 => Outcome::Failed,
        3 => Outcome::TimedOut,
        4 => Outcome::Stalled,
        5 => Outcome::OomKilled,
        6 => Outcome::Signalled,
        7 => Outcome::WorkerLost,
        8 => Outcome::HostLost,
        9 => Outcome::Cancelled,
        _ => return None,
    })
}

pub(crate) fn of_logs(logs: KeptLogs) -> i64 {
    match logs {
        KeptLogs::None => 0,
        KeptLogs::Stored => 1,
        KeptLogs::Files => 2,
    }
}

pub(crate) fn to_logs(code: i64) -> Option<KeptLogs> {
    Some(match code {
        0 => KeptLogs::None,
        1 => KeptLogs::Stored,
        2 => KeptLogs::Files,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_own_number_and_comes_back_from_it() {
        let codes: Vec<i64> = TaskState::ALL.into_iter().map(of_state).collect();
        assert_eq!(codes, (1..=12).collect::<Vec<_>>(), "the numbers of the table, in the order of the core");
        for state in TaskState::ALL {
            assert_eq!(to_state(of_state(state)), Some(state));
        }
        assert_eq!([to_state(0), to_state(13), to_state(-1)], [None; 3]);
    }

    #[test]
    fn every_outcome_has_its_own_number_and_comes_back_from_it() {
        let codes: Vec<i64> = Outcome::ALL.into_iter().map(of_outcome).collect();
        assert_eq!(codes, (1..=9).collect::<Vec<_>>());
        for outcome in Outcome::ALL {
            assert_eq!(to_outcome(of_outcome(outcome)), Some(outcome));
        }
        assert_eq!([to_outcome(0), to_outcome(10)], [None; 2]);
    }

    #[test]
    fn places_of_logs_come_back_from_their_numbers() {
        for logs in [KeptLogs::None, KeptLogs::Stored, KeptLogs::Files] {
            assert_eq!(to_logs(of_logs(logs)), Some(logs));
        }
        assert_eq!(to_logs(3), None);
    }
}
