//! The one place that starts processes.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::broken::{During, holds};
use crate::{Broken, Held};

/// A command with nothing of the suite's environment but where programs are.
#[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LANG", "C.UTF-8").env("PATH", path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command, which must succeed; what it said.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Held<String> {
    let output = command(program).args(args).output().during(program)?;
    holds!(
        output.status.success(),
        "{program}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).map_err(|error| Broken::new(format!("{program}: {error}")))
}

/// Where programs are; what administrators use may be outside of other people's path.
fn path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&path()).map(|folder| folder.join(program)).find(|path| path.is_file())
}
