//! Colours and the line that comes and goes: both only on a terminal, so that what is piped is plain.

use std::io::{self, IsTerminal};

use crate::out;
use crate::text;

/// The colours in use; few, because every one of them has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Went well.
    Green,
    /// Went wrong.
    Red,
    /// In between.
    Yellow,
    /// At work.
    Blue,
    /// Headings.
    Bold,
}

/// Whether standard output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Escape sequences are understood and wanted.
    Coloured,
    /// A file, a pipe, `NO_COLOR`, or a terminal that is none.
    Plain,
}

impl Style {
    /// What standard output is.
    pub(crate) fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if io::stdout().is_terminal() && !refused { Self::Coloured } else { Self::Plain }
    }

    /// The text in a colour, if colours are wanted.
    pub(crate) fn paint(self, colour: Option<Colour>, text: &str) -> String {
        let (Self::Coloured, Some(colour)) = (self, colour) else {
            return text.to_owned();
        };
        let code = match colour {
            Colour::Bold => 1,
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Blue => 34,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The colour of a task's state or an attempt's outcome.
pub(crate) fn of_state(state: &str) -> Option<Colour> {
    match state {
        "succeeded" | "ok" => Some(Colour::Green),
        "running" => Some(Colour::Blue),
        "queued" | "scheduled" | "paused" => Some(Colour::Yellow),
        "dead" | "expired" | "failed" | "timed_out" | "stalled" | "oom_killed" | "signalled"
        | "worker_lost" | "host_lost" => Some(Colour::Red),
        _ => None,
    }
}

/// The width of the terminal on standard output; none if it is not one.
pub(crate) fn width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// A line on standard error that is replaced by the next and leaves no trace; nothing at all without a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    shown: Option<String>,
}

impl Progress {
    /// None shown yet.
    pub(crate) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: None }
    }

    /// Whether anybody would see it.
    pub(crate) fn visible(&self) -> bool {
        self.terminal
    }

    /// Shows this instead of what was shown.
    pub(crate) fn show(&mut self, line: &str) {
        if self.terminal && self.shown.as_deref() != Some(line) {
            out::error_bytes(format!("\r\x1b[2Kchitin: {}", text::escape(line)).as_bytes());
            self.shown = Some(line.to_owned());
        }
    }

    /// Takes it away, before something else is written.
    pub(crate) fn clear(&mut self) {
        if self.shown.take().is_some() {
            out::error_bytes(b"\r\x1b[2K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
