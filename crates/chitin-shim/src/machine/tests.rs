//! Each row of the life cycle, with an explicit clock.

use super::*;

const GRACE: u64 = 10_000;

fn running(timeout_ms: Option<u64>) -> Machine {
    Machine::running(1_000, 5, timeout_ms, GRACE)
}

fn attach(epoch: u64) -> ToShim {
    ToShim::Attach { v: 2, epoch }
}

fn cancel() -> Input {
    Input::Frame(BORN_WITH, ToShim::Cancel)
}

fn pause() -> Input {
    Input::Frame(BORN_WITH, ToShim::Pause)
}

fn resume() -> Input {
    Input::Frame(BORN_WITH, ToShim::Resume)
}

fn settled(conn: ConnId) -> Input {
    Input::Frame(conn, ToShim::Settled)
}

/// A machine that has told its end to the gateway it was born with.
fn reported() -> Machine {
    let mut m = running(None);
    m.step(2_000, Input::Exited);
    m.step(2_000, Input::TreeGone);
    assert_eq!(m.step(2_000, Input::Collected), [Action::SendEnded(BORN_WITH)]);
    m
}

#[test]
fn a_command_that_leaves_nothing_behind_ends_at_once() {
    let mut m = running(None);
    assert_eq!(m.deadline(), None);
    assert_eq!(m.step(1_500, Input::Exited), []);
    assert_eq!(m.step(1_500, Input::TreeGone), [Action::Collect(Why::Itself)]);
    assert_eq!(m.step(1_500, Input::TreeGone), [], "the end is collected once");
    assert_eq!(m.step(1_500, Input::Collected), [Action::SendEnded(BORN_WITH)]);
    assert_eq!(m.step(1_500, settled(BORN_WITH)), [Action::Exit]);
}

#[test]
fn what_an_ended_command_left_is_waited_for_then_asked_then_killed() {
    let mut m = running(Some(600));
    assert_eq!(m.step(1_500, Input::Exited), []);
    assert_eq!(m.deadline(), Some(2_000));
    assert_eq!(m.step(1_700, Input::Tick), [], "its timeout no longer counts");
    assert_eq!(m.step(2_000, Input::Tick), [Action::Terminate]);
    assert_eq!(m.deadline(), Some(4_000));
    assert_eq!(m.step(4_000, Input::Tick), [Action::Kill]);
    assert_eq!(m.step(4_010, Input::Tick), [Action::Kill]);
    assert_eq!(m.step(4_011, Input::Tick), [], "the pause between kills doubles");
    assert_eq!(m.step(4_020, Input::TreeGone), [Action::Collect(Why::Itself)]);
}

#[test]
fn the_linger_is_never_longer_than_the_grace() {
    let mut m = Machine::running(0, 1, None, 100);
    m.step(0, Input::Exited);
    assert_eq!(m.step(500, Input::Tick), [Action::Terminate]);
    assert_eq!(m.deadline(), Some(600));
}

#[test]
fn a_timeout_asks_waits_the_grace_and_kills() {
    let mut m = running(Some(600));
    assert_eq!(m.deadline(), Some(1_600));
    assert_eq!(m.step(1_599, Input::Tick), []);
    assert_eq!(m.step(1_600, Input::Tick), [Action::Terminate]);
    assert_eq!(m.step(1_601, cancel()), [], "the first reason stands");
    assert_eq!(m.deadline(), Some(11_600));
    assert_eq!(m.step(11_600, Input::Tick), [Action::Kill]);
    assert_eq!(m.step(11_601, Input::Exited), [], "others may remain");
    assert_eq!(m.step(11_602, Input::TreeGone), [Action::Collect(Why::TimedOut)]);
}

#[test]
fn a_command_that_heeds_sigterm_leaves_its_children_the_rest_of_the_grace() {
    let mut m = running(None);
    assert_eq!(m.step(2_000, cancel()), [Action::Terminate]);
    assert_eq!(m.step(2_100, Input::Exited), []);
    assert_eq!(m.deadline(), Some(12_000));
    assert_eq!(m.step(2_200, Input::TreeGone), [Action::Collect(Why::Cancelled)]);
}

#[test]
fn cancelling_twice_does_not_start_the_grace_again() {
    let mut m = running(None);
    assert_eq!(m.step(2_000, cancel()), [Action::Terminate]);
    assert_eq!(m.step(9_000, cancel()), []);
    assert_eq!(m.deadline(), Some(12_000));
}

#[test]
fn cancelling_an_ended_command_changes_nothing() {
    let mut m = running(None);
    m.step(2_000, Input::Exited);
    assert_eq!(m.step(2_001, cancel()), []);
    assert_eq!(m.step(2_002, Input::TreeGone), [Action::Collect(Why::Itself)]);
}

#[test]
fn out_of_memory_kills_at_once_and_is_the_reason_unless_an_end_had_begun() {
    let mut m = running(None);
    assert_eq!(m.step(2_000, Input::OutOfMemory), [Action::Kill]);
    assert_eq!(m.step(2_001, Input::OutOfMemory), []);
    assert_eq!(m.step(2_002, Input::TreeGone), [Action::Collect(Why::OutOfMemory)]);

    let mut m = running(None);
    m.step(2_000, cancel());
    assert_eq!(m.step(2_001, Input::OutOfMemory), [Action::Kill]);
    assert_eq!(m.step(2_002, Input::TreeGone), [Action::Collect(Why::Cancelled)]);
}

#[test]
fn what_cannot_be_killed_is_given_up_in_the_end() {
    let mut m = running(Some(0));
    m.step(1_000, Input::Tick);
    let mut kills = 0;
    let mut now = 11_000;
    let why = loop {
        match m.step(now, Input::Tick).as_slice() {
            [Action::Kill] => kills += 1,
            [Action::Collect(why)] => break *why,
            other => assert!(other.is_empty()),
        }
        now = m.deadline().unwrap();
    };
    assert_eq!((why, now), (Why::TimedOut, 41_000));
    assert!((20..100).contains(&kills), "{kills}");
}

#[test]
fn settled_before_the_end_is_ignored() {
    let mut m = running(None);
    assert_eq!(m.step(2_000, settled(BORN_WITH)), []);
    m.step(2_000, Input::Exited);
    assert_eq!(m.step(2_000, settled(BORN_WITH)), []);
}

#[test]
fn a_lost_gateway_changes_nothing_while_the_command_runs() {
    let mut m = running(None);
    assert_eq!(m.step(2_000, Input::Lost(BORN_WITH)), []);
    m.step(2_001, Input::Exited);
    assert_eq!(m.step(2_001, Input::TreeGone), [Action::Collect(Why::Itself)]);
    assert_eq!(m.step(2_001, Input::Collected), [Action::Record]);
    assert_eq!(m.step(2_001, Input::Recorded), [Action::TakeBacklog]);
    assert_eq!(m.step(2_001, Input::BacklogTaken), [Action::Exit]);
}

#[test]
fn a_gateway_lost_after_the_report_leads_to_the_record() {
    let mut m = reported();
    assert_eq!(m.step(3_000, Input::Lost(BORN_WITH)), [Action::Record]);
}

#[test]
fn a_gateway_in_the_backlog_is_answered_before_leaving() {
    let mut m = reported();
    m.step(3_000, Input::Lost(BORN_WITH));
    m.step(3_000, Input::Recorded);
    assert_eq!(m.step(3_000, Input::Connected(1)), []);
    assert_eq!(m.step(3_000, Input::BacklogTaken), []);
    assert_eq!(m.step(3_100, Input::Frame(1, attach(6))), [Action::SendEnded(1)]);
    assert_eq!(m.step(3_200, settled(1)), [Action::Exit]);
}

#[test]
fn a_silent_stranger_does_not_keep_the_shim() {
    let mut m = reported();
    m.step(3_000, Input::Connected(1));
    m.step(3_000, Input::Lost(BORN_WITH));
    m.step(3_000, Input::Recorded);
    assert_eq!(m.step(3_000, Input::BacklogTaken), []);
    assert_eq!(m.deadline(), Some(8_000));
    assert_eq!(m.step(8_000, Input::Tick), [Action::Close(1), Action::Exit]);
}

#[test]
fn the_highest_epoch_is_obeyed() {
    let mut m = running(None);
    m.step(2_000, Input::Connected(1));
    assert_eq!(m.step(2_000, Input::Frame(1, attach(4))), [Action::Close(1)], "lower");
    m.step(2_000, Input::Connected(2));
    let taken = [Action::Close(BORN_WITH), Action::SendStarted(2)];
    assert_eq!(m.step(2_000, Input::Frame(2, attach(5))), taken, "the same gateway may come again");
    m.step(2_000, Input::Connected(3));
    assert_eq!(m.step(2_000, Input::Frame(3, attach(9))), [Action::Close(2), Action::SendStarted(3)]);
    m.step(2_000, Input::Connected(4));
    assert_eq!(m.step(2_000, Input::Frame(4, attach(8))), [Action::Close(4)]);
    assert_eq!(m.step(2_001, cancel()), [Action::Close(BORN_WITH)], "the old one is not heard");
    assert_eq!(m.step(2_002, Input::Frame(3, ToShim::Cancel)), [Action::Terminate]);
}

#[test]
fn an_end_is_told_to_whoever_attaches_last() {
    let mut m = reported();
    m.step(3_000, Input::Connected(1));
    let taken = [Action::Close(BORN_WITH), Action::SendEnded(1)];
    assert_eq!(m.step(3_000, Input::Frame(1, attach(6))), taken);
    assert_eq!(m.step(3_001, Input::Lost(BORN_WITH)), [], "the old connection's end means nothing");
    assert_eq!(m.step(3_002, settled(1)), [Action::Exit]);
}

#[test]
fn a_stranger_gives_no_orders() {
    for frame in [ToShim::Cancel, ToShim::Settled] {
        let mut m = reported();
        m.step(3_000, Input::Connected(1));
        assert_eq!(m.step(3_000, Input::Frame(1, frame)), [Action::Close(1)]);
    }
}

#[test]
fn a_command_that_never_started_is_reported_like_any_other() {
    let mut m = Machine::not_started(5);
    assert_eq!(m.step(0, Input::Collected), [Action::SendEnded(BORN_WITH)]);
    assert_eq!(m.step(0, Input::Lost(BORN_WITH)), [Action::Record]);
    assert_eq!(m.step(0, Input::Recorded), [Action::TakeBacklog]);
}

#[test]
fn a_shim_is_asked_to_rest_with_nothing_left_of_its_tree_or_leaves() {
    let rest = |conn| Input::Frame(conn, ToShim::Rest);
    assert_eq!(reported().step(3_000, rest(BORN_WITH)), [Action::Rest]);
    assert_eq!(running(None).step(3_000, rest(BORN_WITH)), [], "before the end it means nothing");

    let mut given_up = running(Some(0));
    given_up.step(1_000, Input::Tick);
    given_up.step(1_000 + GRACE, Input::Tick);
    given_up.step(1_000 + GRACE + limits::KILL_GIVE_UP_MS, Input::Tick);
    assert_eq!(given_up.step(50_000, Input::Collected), [Action::SendEnded(BORN_WITH)]);
    assert_eq!(given_up.step(50_000, rest(BORN_WITH)), [Action::Exit], "a process is still its child");

    let mut alone = reported();
    assert_eq!(alone.step(3_000, Input::Lost(BORN_WITH)), [Action::Record]);
    alone.step(3_001, Input::Connected(1));
    assert_eq!(alone.step(3_001, Input::Frame(1, attach(6))), [Action::SendEnded(1)]);
    assert_eq!(alone.step(3_001, rest(1)), [Action::Exit], "its record is being written");
}

#[test]
fn a_pause_stops_the_tree_and_its_timeout() {
    let mut m = running(Some(600));
    assert_eq!(m.step(1_400, pause()), [Action::Freeze]);
    assert_eq!(m.step(1_500, pause()), [], "once");
    assert_eq!(m.deadline(), None);
    assert_eq!(m.step(90_000, Input::Tick), [], "however long");
    assert_eq!(m.step(91_400, resume()), [Action::Thaw]);
    assert_eq!(m.step(91_400, resume()), [], "once");
    assert_eq!(m.stood_ms(), 90_000);
    assert_eq!(m.deadline(), Some(91_600), "what was left");
    m.step(91_500, pause());
    m.step(91_700, resume());
    assert_eq!((m.stood_ms(), m.deadline()), (90_200, Some(91_800)), "as often as one likes");
    assert_eq!(m.step(91_800, Input::Tick), [Action::Terminate]);
}

#[test]
fn a_tree_that_still_moves_is_stopped_again_less_and_less_often() {
    let mut m = running(None);
    m.step(2_000, pause());
    m.step(2_000, Input::NotFrozen);
    assert_eq!(m.step(2_009, Input::Tick), []);
    assert_eq!(m.step(2_010, Input::Tick), [Action::Freeze]);
    m.step(2_010, Input::NotFrozen);
    assert_eq!(m.deadline(), Some(2_030));
    assert_eq!(m.step(2_030, Input::Tick), [Action::Freeze]);
    assert_eq!(m.deadline(), None, "none moves");
    m.step(2_040, resume());
    assert_eq!((m.step(2_040, Input::NotFrozen), m.deadline()), (vec![], None), "nothing is to stand still");
}

#[test]
fn whatever_ends_a_frozen_command_thaws_it() {
    let frozen = || {
        let mut m = running(Some(600));
        m.step(1_400, pause());
        m
    };
    let mut m = frozen();
    assert_eq!(m.step(2_400, cancel()), [Action::Terminate], "which thaws");
    assert_eq!((m.stood_ms(), m.deadline()), (1_000, Some(12_400)));
    assert_eq!(m.step(2_500, pause()), [], "what ends is not held up");
    assert_eq!(m.step(2_500, resume()), []);

    let mut m = frozen();
    assert_eq!(m.step(2_400, Input::OutOfMemory), [Action::Kill]);
    assert_eq!(m.step(2_400, Input::TreeGone), [Action::Collect(Why::OutOfMemory)]);

    let mut m = frozen();
    assert_eq!(m.step(2_400, Input::Exited), [Action::Thaw], "others may remain");
    assert_eq!(m.deadline(), Some(2_900));
    assert_eq!(m.step(2_500, Input::TreeGone), [Action::Collect(Why::Itself)]);
    assert_eq!(m.stood_ms(), 1_000);
}

#[test]
fn a_gateway_that_was_replaced_pauses_nothing() {
    let mut m = running(None);
    m.step(2_000, Input::Connected(1));
    m.step(2_000, Input::Frame(1, attach(6)));
    assert_eq!(m.step(2_001, pause()), [Action::Close(BORN_WITH)]);
    assert_eq!(m.step(2_002, Input::Frame(1, ToShim::Pause)), [Action::Freeze]);
    m.step(2_003, Input::Lost(1));
    assert_eq!(m.deadline(), None, "it stays as it is while nobody is there");
    m.step(3_000, Input::Connected(2));
    assert_eq!(m.step(3_000, Input::Frame(2, attach(7))), [Action::SendStarted(2)]);
    assert_eq!(m.step(3_001, Input::Frame(2, ToShim::Resume)), [Action::Thaw]);
}
