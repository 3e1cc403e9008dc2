use super::*;

const EVENTS: [Event; 15] = [
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
    assert!(next(TaskState::Paused, Event::Expired).is_err());
}
