//! Ending in good order: whatever a trial mounted, started or froze is undone also when somebody presses Ctrl-C.
//!
//! A program that is killed undoes nothing. So the trials run in a second process, in a group of its own, that holds a
//! pipe from the first: when that is gone, every wait ends with an error, and what was made is unmade on the way out.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::broken::During;
use crate::{Broken, Held, system};

/// Tells the second process what it is.
const VARIABLE: &str = "CHITIN_CHAOS_TRIALS";

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Who this process is.
#[derive(Debug)]
pub enum InCharge {
    /// The one a person sees; the other has ended so.
    Parent(ExitCode),
    /// The one that makes the trials.
    Child,
}

/// Starts the second process and waits for it, or says that this is it.
///
/// # Errors
/// It cannot be started.
pub fn in_charge() -> Held<InCharge> {
    if std::env::var_os(VARIABLE).is_some() {
        thread::spawn(|| {
            // Nobody writes: this returns when the other end is gone.
            _ = std::io::stdin().read(&mut [0]);
            INTERRUPTED.store(true, Ordering::SeqCst);
        });
        return Ok(InCharge::Child);
    }
    let mut command = system::command(std::env::current_exe().during("find this program")?);
    command.args(std::env::args_os().skip(1)).envs(std::env::vars_os()).env(VARIABLE, "1").process_group(0);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .spawn()
        .during("start the trials")?;
    // Standard input is closed by `wait`; it has to stay.
    let pipe = child.stdin.take();
    let status = child.wait().during("wait for the trials")?;
    drop(pipe);
    Ok(InCharge::Parent(
        status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
    ))
}

/// An error once the run is to end.
pub(crate) fn check() -> Held {
    if INTERRUPTED.load(Ordering::SeqCst) { Err(Broken::new("interrupted")) } else { Ok(()) }
}
