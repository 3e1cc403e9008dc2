//! A child that shares this process's memory, and does not leave it.

use std::process::{Command, Stdio};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::pause;

use super::*;

#[test]
fn a_child_that_does_not_leave_in_time_is_killed_and_ran_no_program() {
    let mut stays = || loop {
        pause();
    };
    let given_up = spawn_sharing(&mut stays, 0).unwrap();
    let Sharing::Killed(pid) = given_up else { panic!("{given_up:?}") };
    // Nobody has waited for it yet: the kernel still knows.
    assert!(!proc::has_executed(pid.as_raw().unsigned_abs()));
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Signaled(pid, Signal::SIGKILL, false)));
}

#[test]
fn a_child_that_leaves_is_not_killed() {
    let given = spawn_sharing(&mut || (), 30).unwrap();
    let Sharing::Over(pid) = given else { panic!("{given:?}") };
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 127)));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own process")]
fn one_that_executed_its_program_just_before_it_was_killed_has_run() {
    let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    child.kill().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    assert_eq!(killed(pid), Sharing::Over(pid));
    child.wait().unwrap();
}
