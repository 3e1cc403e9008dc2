//! The one place that starts processes.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::broken::{During, holds};
use crate::{Broken, Held};

/// A command with nothing of the suite's environment but where programs are.
#[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LANG", "C.UTF-8");
    command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH"));
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
