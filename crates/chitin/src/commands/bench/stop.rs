//! Ctrl-C and SIGTERM during a measurement: heard by the main thread, asked for by the one that measures, so that the
//! gateway and its folder are gone before we are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit;
use crate::failure::Failure;
use crate::interrupts::Interrupts;
use crate::runtime;

/// Whether somebody wants this to end.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// An error if so.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::silent(exit::CANCELLED)) } else { Ok(()) }
    }

    /// Whether so.
    pub(super) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs this on a thread of its own, with signals heard meanwhile.
pub(super) fn guarded<T: Send + 'static>(
    work: impl FnOnce(&Stop) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    runtime::block_on(async {
        let stop = Stop::default();
        let mut interrupts = Interrupts::catch()?;
        let mut terminate = signal(SignalKind::terminate())
            .map_err(|error| Failure::other(format!("cannot catch signals: {error}")))?;
        let (sender, mut ended) = oneshot::channel();
        let theirs = stop.clone();
        let thread = thread::Builder::new()
            .name("bench".to_owned())
            .spawn(move || sender.send(work(&theirs)))
            .map_err(|error| Failure::other(format!("cannot start a thread: {error}")))?;
        let result = loop {
            tokio::select! {
                result = &mut ended => break result,
                () = interrupts.next() => stop.0.store(true, Ordering::Relaxed),
                _ = terminate.recv() => stop.0.store(true, Ordering::Relaxed),
            }
        };
        _ = thread.join();
        result.unwrap_or_else(|_| Err(Failure::other("the measurement broke off")))
    })
}
