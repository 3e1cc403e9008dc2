//! The points of a test build: reads what a folder says about a name, counts, and acts.

use std::fs::{self, OpenOptions};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();

fn folder() -> Option<&'static Path> {
    FOLDER.get_or_init(|| std::env::var_os(crate::FOLDER).map(PathBuf::from)).as_deref()
}

/// What a point does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
    Abort,
    Panic,
    Sleep(Duration),
    Error,
}

/// An action, and at which hit; `None`: at each.
fn parse(text: &str) -> Option<(Action, Option<u64>)> {
    let (action, at) = text.trim().split_once('@')?;
    let action = match action.split_once(':') {
        Some(("sleep", ms)) => Action::Sleep(Duration::from_millis(ms.parse().ok()?)),
        Some(_) => return None,
        None => match action {
            "kill" => Action::Kill,
            "stop" => Action::Stop,
            "abort" => Action::Abort,
            "panic" => Action::Panic,
            "error" => Action::Error,
            _ => return None,
        },
    };
    let at = if at == "*" { None } else { Some(at.parse().ok()?) };
    Some((action, at))
}

/// This hit's number, over all processes: the file grows by one byte with each.
fn count(path: &Path) -> Option<u64> {
    let mut file = OpenOptions::new().append(true).create(true).open(path).ok()?;
    file.write_all(b".").ok()?;
    file.stream_position().ok()
}

/// Acts as the folder says; true: the step is to fail.
///
/// # Panics
/// If it says `panic`.
#[must_use]
pub fn act(name: &str) -> bool {
    let Some(folder) = folder() else { return false };
    let Some((action, at)) = fs::read_to_string(folder.join(name)).ok().and_then(|text| parse(&text)) else {
        return false;
    };
    let hit = count(&folder.join(format!("{name}.hits")));
    if at.is_some() && at != hit {
        return false;
    }
    match action {
        Action::Kill => signal_self(Signal::KILL),
        Action::Stop => signal_self(Signal::STOP),
        Action::Abort => std::process::abort(),
        #[expect(clippy::panic, reason = "a test asked for it")]
        Action::Panic => panic!("failpoint {name}"),
        Action::Sleep(time) => std::thread::sleep(time),
        Action::Error => return true,
    }
    false
}

fn signal_self(signal: Signal) {
    // A process may signal itself; should it not be so, the test sees that it lives on.
    _ = kill_process(getpid(), signal);
}

/// Whether this process is to have the bug.
#[must_use]
pub fn is_planted(name: &str) -> bool {
    folder().is_some_and(|folder| folder.join(format!("planted.{name}")).exists())
}

/// What is said instead of what is.
#[must_use]
pub fn said(name: &str) -> Option<String> {
    let text = fs::read_to_string(folder()?.join(format!("value.{name}"))).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_may_say() {
        assert_eq!(parse("kill@3\n"), Some((Action::Kill, Some(3))));
        assert_eq!(parse("error@*"), Some((Action::Error, None)));
        assert_eq!(parse("sleep:50@1"), Some((Action::Sleep(Duration::from_millis(50)), Some(1))));
        for nonsense in ["", "kill", "kill@x", "sleep@1", "sleep:x@1", "nap:5@1"] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }
}
