//! The only file that writes to standard output and standard error (beside the byte streams of followed logs). A closed
//! standard output ends the command quietly, as it would end any other; a closed standard error is no reason to stop.

use std::io::{self, Write};

use serde_json::Value;

use crate::exit;
use crate::failure::Failure;
use crate::text;

/// Bytes, as they are, to standard output.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| closed(&error))
}

/// A line to standard output.
pub(crate) fn line(line: &str) -> Result<(), Failure> {
    bytes(format!("{line}\n").as_bytes())
}

/// What the gateway answered: indented for people, on one line for programs.
pub(crate) fn json(value: &Value) -> Result<(), Failure> {
    let pretty = io::IsTerminal::is_terminal(&io::stdout());
    let json = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    let json = json.map_err(|error| Failure::other(format!("cannot write JSON: {error}")))?;
    line(&text::escape_json(&json))
}

/// A remark of ours: one line on standard error.
pub(crate) fn remark(remark: &str) {
    error_bytes(format!("chitin: {}\n", text::escape(remark)).as_bytes());
}

/// Text that was made for standard error elsewhere.
pub(crate) fn error_bytes(bytes: &[u8]) {
    // Nobody to tell: this is where one would.
    let _ = io::stderr().lock().write_all(bytes);
}

/// Says why the command failed.
pub(crate) fn failure(failure: &Failure) {
    if let Some(message) = &failure.message {
        // Several lines only where we made them: what others say is escaped where it comes in.
        let lines: Vec<String> = message.lines().map(text::escape).collect();
        error_bytes(format!("chitin: {}\n", lines.join("\n")).as_bytes());
    }
    if let Some(hint) = &failure.hint {
        error_bytes(format!("hint: {}\n", text::escape(hint)).as_bytes());
    }
}

/// A failed write to standard output, as an end of the command.
pub(crate) fn closed(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::silent(exit::PIPE_CLOSED);
    }
    Failure::other(format!("cannot write to standard output: {error}"))
}
