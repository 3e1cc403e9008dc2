use super::*;

const EVENTS: [Event; 17] = [
    Event::Due,
    Event::Leased,
    Event::Voided,
    Event::PutBack,
    Event::Backoff,
    Event::Succeeded,
    Event::GaveUp(DeadReason::RetriesExhausted),
    Event::GaveUp(DeadReason::NonRetryable),
    Event::GaveUp(DeadReason::Poison),
    Event::Cancelled,
    Event::Expired,
    Event::Paused,
    Event::Resumed,
    Event::WaitsOn(ScheduledReason::Delay),
    Event::WaitsOn(ScheduledReason::Backoff),
    Event::Retried,
    Event::SetAside,
];

#[test]
fn the_whole_matrix_is_as_it_was_agreed() {
    let mut matrix = String::new();
    for state in TaskState::ALL {
        for event in EVENTS {
            let to = next(state, event).map_or_else(|_| "-".to_owned(), |to| to.to_string());
            matrix.push_str(&format!("{:30} {:28} {to}\n", state.to_string(), format!("{event:?}")));
        }
    }
    insta::assert_snapshot!(matrix);
}

#[test]
fn only_a_person_brings_an_ended_task_back() {
    for state in TaskState::ALL.into_iter().filter(|state| state.has_ended()) {
        for event in EVENTS.into_iter().filter(|event| *event != Event::Retried) {
            assert!(next(state, event).is_err(), "{state} {event:?}");
        }
    }
    assert!(next(TaskState::Succeeded, Event::Retried).is_err(), "what succeeded is not run again");
}

#[test]
fn nothing_expires_once_it_runs() {
    assert!(next(TaskState::Running, Event::Expired).is_err());
}

#[test]
fn what_is_paused_neither_starts_nor_expires_and_waits_for_no_time() {
    for state in [PausedReason::Held, PausedReason::Frozen].map(TaskState::Paused) {
        for event in [Event::Leased, Event::Expired, Event::Due] {
            assert!(next(state, event).is_err(), "{state} {event:?}");
        }
        for event in EVENTS {
            let goes_on = matches!(event, Event::Resumed | Event::WaitsOn(_));
            let is_open = next(state, event).is_ok_and(|to| !to.has_ended() && to != state);
            let left = next(state, event).is_ok_and(|to| !matches!(to, TaskState::Paused(_)));
            assert!(!is_open || !left || goes_on, "{state} {event:?}: only a person lets it go on");
        }
    }
}

#[test]
fn what_may_happen_to_what_runs_may_happen_to_what_is_frozen() {
    let frozen = TaskState::Paused(PausedReason::Frozen);
    for event in EVENTS.into_iter().filter(|event| *event != Event::Paused) {
        let (runs, stands) = (next(TaskState::Running, event), next(frozen, event));
        assert!(runs.is_err() || stands.is_ok(), "{event:?}");
    }
}
