//! What did not hold: the one error of a trial, a sentence for whoever replays it.

use std::fmt::Display;

/// Something that must hold did not, or the trial could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(String);

/// The outcome of a step of a trial.
pub type Held<T = ()> = Result<T, Broken>;

impl Broken {
    /// What did not hold.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// Says what was being done when something failed.
pub(crate) trait During<T> {
    /// The step's name in front of the error.
    fn during(self, step: impl Display) -> Held<T>;
}

impl<T, E: Display> During<T> for Result<T, E> {
    fn during(self, step: impl Display) -> Held<T> {
        self.map_err(|error| Broken(format!("{step}: {error}")))
    }
}

impl<T> During<T> for Option<T> {
    fn during(self, step: impl Display) -> Held<T> {
        self.ok_or_else(|| Broken(format!("{step}: there is none")))
    }
}

/// Goes on only if the condition holds.
macro_rules! holds {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::Broken::new(format!($($why)+)));
        }
    };
}

pub(crate) use holds;
