//! How a command fails: an exit code, one line that says what, one that says what to do. Made where the trouble is
//! understood, printed once, in `main`.

pub(crate) use chitin_gateway::chain;

use crate::exit;

/// The end of a command that did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: u8,
    /// What went wrong; none: everything is said already, or nobody reads any more.
    pub(crate) message: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// Bad usage or configuration.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(exit::USAGE, message)
    }

    /// Anything that has no code of its own.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self::new(exit::OTHER, message)
    }

    /// With an exit code and a message.
    pub(crate) fn new(exit: u8, message: impl Into<String>) -> Self {
        Self { exit, message: Some(message.into()), hint: None }
    }

    /// Only an exit code: the command said what there was to say.
    pub(crate) fn silent(exit: u8) -> Self {
        Self { exit, message: None, hint: None }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// For `run` and `wait`, whose code 1 would be taken for the command's own.
    #[must_use]
    pub(crate) fn beside_a_command(mut self) -> Self {
        if self.exit == exit::OTHER {
            self.exit = exit::TROUBLE;
        }
        self
    }
}
