//! Nobody misses anything, and nobody is told anything twice, however slowly they read.

use chitin_core::EventName;
use serde_json::json;

use super::*;

fn place(no: i64) -> EventPlace {
    EventPlace { seq: 0, no }
}

fn event(no: i64) -> StoredEvent {
    StoredEvent {
        place: place(no),
        at_ms: 0,
        name: "shed.began".to_owned(),
        task: None,
        attempt: None,
        detail: Some(json!({"n": no, "seen_at_ms": no}).to_string()),
        end: None,
    }
}

fn unstored(no: i64) -> Rendered {
    render::unstored(EventName::ShedBegan, None, &json!({"n": no, "seen_at_ms": no}))
}

/// Numbers of the events in some frames; those that say no more than an id are negative.
fn numbers(frames: &[Bytes]) -> Vec<i64> {
    let number = |frame: &Bytes| {
        let text = String::from_utf8(frame.to_vec()).unwrap();
        match text.split_once("\"n\":") {
            Some((_, rest)) => rest.split_once('}').unwrap().0.parse().unwrap(),
            None => -text.trim_end().rsplit_once('-').unwrap().1.parse::<i64>().unwrap(),
        }
    };
    frames.iter().map(number).collect()
}

fn read(board: &Board, reading: &mut Reading) -> Vec<i64> {
    match board.read(*reading, 100) {
        Found::Frames(frames, next) => {
            *reading = next;
            numbers(&frames)
        }
        Found::Nothing(next) => {
            *reading = next;
            Vec::new()
        }
        Found::Behind(start) => panic!("behind {start:?}"),
    }
}

fn begun(at: i64) -> Board {
    let board = Board::default();
    std::mem::forget(board.follow());
    board.begin(place(at));
    board
}

#[test]
fn a_follower_reads_from_its_place_on_and_goes_on() {
    let board = begun(4);
    board.post("s", &[event(5), event(6)]);
    let mut reading = Reading::from(place(5));
    assert_eq!(read(&board, &mut reading), [6]);
    assert_eq!(read(&board, &mut reading), [0; 0]);
    board.post("s", &[event(7)]);
    assert_eq!(read(&board, &mut reading), [7]);
    assert_eq!(reading.place, place(7));
}

#[test]
fn whoever_is_behind_is_sent_to_the_store() {
    let board = begun(4);
    assert!(
        matches!(board.read(Reading::from(place(3)), 9), Found::Behind(Some(start)) if start == place(4))
    );
    assert!(matches!(Board::default().read(Reading::from(place(3)), 9), Found::Behind(None)));
    let mut reading = Reading::from(place(4));
    read(&board, &mut reading);
    let most = i64::try_from(MOST_ENTRIES).unwrap();
    board.post("s", &(5..6 + most).map(event).collect::<Vec<_>>());
    assert!(matches!(board.read(reading, 9), Found::Behind(Some(start)) if start == place(5)));
}

#[test]
fn the_board_is_bounded_by_bytes_too() {
    let board = begun(0);
    let heavy = |no| StoredEvent {
        detail: Some(json!({"n": no, "x": "y".repeat(100_000)}).to_string()),
        ..event(no)
    };
    board.post("s", &(1..=100).map(heavy).collect::<Vec<_>>());
    let state = board.state.lock().unwrap();
    assert!(state.bytes <= MOST_BYTES && state.entries.len() < 41, "{}", state.entries.len());
    assert_eq!(state.gone + number(state.entries.len()), 100);
}

#[test]
fn what_was_told_before_it_was_stored_is_not_told_again_but_to_others() {
    let board = begun(4);
    let mut early = Reading::from(place(4));
    assert_eq!(read(&board, &mut early), [0; 0]);
    board.post_unstored(&unstored(9));
    assert_eq!(read(&board, &mut early), [9]);
    assert_eq!(early.place, place(4), "it has no place of its own");
    board.post("s", &[event(8)]);
    let mut late = Reading::from(place(8));
    assert_eq!(read(&board, &mut late), [0; 0]);
    board.post("s", &[event(9)]);
    assert_eq!(read(&board, &mut early), [8, -9], "the id alone");
    assert_eq!(read(&board, &mut late), [9]);
}

#[test]
fn with_nobody_there_it_is_wiped() {
    let board = Board::default();
    let following = board.follow();
    board.begin(place(4));
    board.post("s", &[event(5)]);
    assert_eq!(board.end(), Some(Some(place(5))));
    drop(following);
    assert_eq!(board.end(), None);
    assert!(board.state.lock().unwrap().entries.is_empty());
}

#[test]
fn whoever_is_ahead_of_the_board_is_not_told_what_they_have_read_in_the_store() {
    let board = begun(4);
    board.post("s", &[event(5)]);
    let mut reading = Reading::from(place(7));
    assert_eq!(read(&board, &mut reading), [0; 0]);
    board.post("s", &[event(6)]);
    assert_eq!(read(&board, &mut reading), [0; 0]);
    board.post("s", &[event(7), event(8)]);
    assert_eq!(read(&board, &mut reading), [8]);
}
