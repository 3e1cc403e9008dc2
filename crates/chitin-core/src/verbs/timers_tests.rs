//! Timers: due and expiry on the clock that does not step, a client's wall time on the one that does.

use crate::testing::*;
use crate::{BootNo, Start, TaskSpec, TaskState};

const HOUR: i64 = 3_600_000;

fn after(delay_ms: i64) -> TaskSpec {
    TaskSpec { start: Start::After(delay_ms), ..spec() }
}

/// A task that nothing takes while it waits.
fn stuck(bench: &mut Bench, spec: TaskSpec) -> crate::TaskId {
    bench.core.set_dispatch(crate::Dispatch::Paused);
    bench.submit(spec)
}

#[test]
fn a_delay_runs_on_the_steady_clock_whatever_the_wall_clock_does() {
    for step_ms in [-HOUR, 0, HOUR] {
        let mut bench = Bench::default();
        let id = bench.submit(after(1_000));
        bench.now.wall_ms += step_ms;
        bench.pass_ms(999);
        assert_eq!(bench.core.next_wake_ms(&bench.now), 1);
        assert_eq!(bench.batch(&[]), [], "step {step_ms}");
        bench.pass_ms(1);
        bench.batch(&[]);
        assert_eq!(bench.state(id), TaskState::Queued, "step {step_ms}");
    }
}

#[test]
fn a_wall_time_follows_the_wall_clock() {
    let mut bench = Bench::default();
    let id = bench.submit(TaskSpec { start: Start::At(bench.now.wall_ms + HOUR), ..spec() });
    bench.now.wall_ms -= HOUR;
    bench.pass_ms(1_000);
    bench.batch(&[]);
    assert_ne!(bench.state(id), TaskState::Queued);
    bench.now.wall_ms += 2 * HOUR;
    assert_eq!(bench.core.next_wake_ms(&bench.now), 0);
    bench.batch(&[]);
    assert_eq!(bench.state(id), TaskState::Queued);
}

#[test]
fn a_wall_time_that_has_passed_is_now() {
    let mut bench = Bench::default();
    let id = bench.submit(TaskSpec { start: Start::At(bench.now.wall_ms), ..spec() });
    assert_eq!(bench.state(id), TaskState::Queued);
}

#[test]
fn a_delay_goes_on_in_another_boot_by_the_wall_clock_and_never_longer_than_asked() {
    for (away_ms, left_ms) in [(400, 600), (-HOUR, 1_000), (HOUR, 0)] {
        let mut bench = Bench::default();
        let policy = crate::Policy { ttl_ms: 2 * HOUR, ..spec().policy };
        let id = bench.submit(TaskSpec { policy, ..after(1_000) });
        bench.now = crate::Now { boot: BootNo(0), boottime_ms: 5, wall_ms: bench.now.wall_ms + away_ms };
        bench.boot("boot-b");
        assert_eq!(bench.core.boot_no(), BootNo(2));
        bench.batch(&[]);
        if left_ms > 0 {
            assert_eq!(bench.core.next_wake_ms(&bench.now), left_ms);
            bench.pass_ms(left_ms);
            bench.batch(&[]);
        }
        assert_eq!(bench.state(id), TaskState::Queued, "away {away_ms}");
    }
}

#[test]
fn a_new_life_in_the_same_boot_keeps_to_the_steady_clock() {
    let mut bench = Bench::default();
    bench.submit(after(1_000));
    bench.pass_ms(400);
    bench.now.wall_ms += HOUR;
    // A gateway that has only just begun does not know yet how the store numbers its boot.
    bench.now.boot = BootNo(0);
    bench.boot(BOOT);
    bench.batch(&[]);
    assert_eq!(bench.core.next_wake_ms(&bench.now), 600);
}

#[test]
fn what_has_not_started_in_time_expires_counting_from_its_due_time() {
    let mut bench = Bench::default();
    let id = stuck(&mut bench, after(1_000));
    bench.pass_ms(60_999);
    bench.batch(&[]);
    assert_eq!(bench.state(id), TaskState::Queued);
    assert_eq!(bench.core.next_wake_ms(&bench.now), 1);
    bench.pass_ms(1);
    bench.batch(&[]);
    assert_eq!(bench.state(id), TaskState::Expired);
    assert_eq!(bench.core.figures().waiting, 0);
}

#[test]
fn what_is_due_and_over_in_the_same_moment_ends_and_never_starts() {
    let mut bench = Bench::default();
    let spec = TaskSpec { policy: crate::Policy { ttl_ms: 0, ..spec().policy }, ..after(1_000) };
    let id = bench.submit(spec);
    bench.pass_ms(1_000);
    bench.batch(&[]);
    assert_eq!(bench.state(id), TaskState::Expired);
}

#[test]
fn what_expires_in_this_very_batch_is_not_given_out_by_it() {
    let mut bench = Bench::default();
    let id = stuck(&mut bench, spec());
    bench.core.set_dispatch(crate::Dispatch::On);
    bench.pass_ms(60_000);
    assert_eq!(starts(&bench.batch(&[])), []);
    assert_eq!(bench.state(id), TaskState::Expired);
    assert_eq!(bench.store.attempts().count(), 0);
}

#[test]
fn nothing_that_has_started_expires_not_even_between_its_attempts() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    bench.batch(&[report(attempt, end(crate::Outcome::Failed))]);
    bench.core.set_dispatch(crate::Dispatch::Paused);
    bench.pass_ms(HOUR);
    bench.batch(&[]);
    assert_eq!(bench.state(attempt.id), TaskState::Queued);
}

#[test]
fn a_backlog_of_timers_is_worked_off_in_pieces_without_a_pause() {
    let mut bench = Bench::default();
    let submission = bench.submission(vec![after(1_000); super::MOST + 1]);
    bench.batch(&[crate::Input::Submit(submission)]);
    bench.core.set_dispatch(crate::Dispatch::Paused);
    bench.pass_ms(1_000);
    bench.batch(&[]);
    let scheduled = |bench: &Bench| {
        bench.store.tasks().filter(|row| matches!(row.state, TaskState::Scheduled(_))).count()
    };
    assert_eq!(scheduled(&bench), 1);
    assert_eq!(bench.core.next_wake_ms(&bench.now), 0);
    bench.batch(&[]);
    assert_eq!(scheduled(&bench), 0);
}
