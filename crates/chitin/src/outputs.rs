//! A command's two outputs, written where they belong, byte for byte. Writes happen off the async thread, so that a
//! reader who stopped (`| less`) does not keep Ctrl-C from being heard.

use tokio::io::{AsyncWriteExt, Stderr, Stdout};

use crate::failure::Failure;
use crate::frames::Stream;
use crate::out;
use crate::style::Progress;

/// Where the outputs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Each to its own.
    Apart,
    /// The one that was asked for, to standard output.
    ToStdout,
}

/// Standard output and standard error, and the line that tells what is waited for.
#[derive(Debug)]
pub(crate) struct Outputs {
    route: Route,
    stdout: Stdout,
    stderr: Stderr,
    /// Cleared before anything else is written.
    pub(crate) progress: Progress,
}

impl Outputs {
    /// Nothing written yet.
    pub(crate) fn new(route: Route) -> Self {
        Self { route, stdout: tokio::io::stdout(), stderr: tokio::io::stderr(), progress: Progress::new() }
    }

    /// Writes bytes of an output; what came first is out first, also between the two.
    pub(crate) async fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Failure> {
        self.progress.clear();
        if stream == Stream::Stderr && self.route == Route::Apart {
            // Nobody reads our standard error: no reason to leave the command.
            let _ = self.stderr.write_all(bytes).await;
            let _ = self.stderr.flush().await;
            return Ok(());
        }
        let written = async {
            self.stdout.write_all(bytes).await?;
            self.stdout.flush().await
        };
        written.await.map_err(|error| out::closed(&error))
    }

    /// A remark of ours, between the outputs.
    pub(crate) fn remark(&mut self, remark: &str) {
        self.progress.clear();
        out::remark(remark);
    }
}
