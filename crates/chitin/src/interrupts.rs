//! Ctrl-C, heard instead of obeyed, for commands that have something to say before they go.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Interrupts, from when this is made.
#[derive(Debug)]
pub(crate) struct Interrupts(Signal);

impl Interrupts {
    /// From now on Ctrl-C does not end the process.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let signal = signal(SignalKind::interrupt());
        signal.map(Self).map_err(|error| Failure::other(format!("cannot catch signals: {error}")))
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // No more can come: as if none does.
            std::future::pending::<()>().await;
        }
    }
}
