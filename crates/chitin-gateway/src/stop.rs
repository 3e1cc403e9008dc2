//! How the gateway is asked to stop: by a signal, or by `chitin down`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::Deserialize;
use tokio::sync::Notify;

/// What becomes of running tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// They end first; nothing new starts.
    Drain,
    /// They go on; the next gateway finds them.
    Leave,
    /// They are ended, and run again with the next gateway.
    Kill,
}

impl Mode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Leave => "leave",
            Self::Kill => "kill",
        }
    }
}

/// The wish to stop. A more urgent one overtakes a less urgent one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    wish: Arc<AtomicU8>,
    changed: Arc<Notify>,
}

impl Stop {
    pub(crate) fn ask(&self, mode: Mode) {
        self.wish.fetch_max(mode as u8 + 1, Ordering::SeqCst);
        self.changed.notify_one();
    }

    pub(crate) fn wish(&self) -> Option<Mode> {
        match self.wish.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Mode::Drain),
            2 => Some(Mode::Leave),
            _ => Some(Mode::Kill),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.wish() == Some(Mode::Drain)
    }

    /// Resolves when the wish may have changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}
