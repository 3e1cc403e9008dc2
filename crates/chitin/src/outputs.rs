//! A command's two outputs, written where they belong, byte for byte. Writes happen off the async thread, so that a
//! reader who stopped (`| less`) does not keep Ctrl-C from being heard.

use tokio::io::{AsyncWriteExt, Stderr, Stdout};

use crate::failure::Failure;
use crate::frames::Stream;
use crate::out;
use crate::style::Progress;
use crate::text;

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
    /// Bytes that were not kept, after those that were told; none: nothing was missing yet.
    missing: Option<u64>,
}

impl Outputs {
    /// Nothing written yet.
    pub(crate) fn new(route: Route) -> Self {
        Self {
            route,
            stdout: tokio::io::stdout(),
            stderr: tokio::io::stderr(),
            progress: Progress::new(),
            missing: None,
        }
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

    /// Some bytes were not kept. Said where they are first missing; what else is, of a command that speaks faster than it is
    /// read, is said at its end.
    pub(crate) fn missing(&mut self, stream: Stream, count: u64) {
        match &mut self.missing {
            Some(more) => *more = more.saturating_add(count),
            None => {
                self.missing = Some(0);
                let name = if stream == Stream::Stdout { "stdout" } else { "stderr" };
                self.remark(&format!("{} of {name} were not kept", text::count(count, "byte")));
            }
        }
    }

    /// An attempt's output has come to its end.
    pub(crate) fn end(&mut self) {
        if let Some(more) = self.missing.take().filter(|more| *more > 0) {
            self.remark(&format!("later {} more were not kept", text::count(more, "byte")));
        }
    }

    /// A remark of ours, between the outputs.
    pub(crate) fn remark(&mut self, remark: &str) {
        self.progress.clear();
        out::remark(remark);
    }
}
