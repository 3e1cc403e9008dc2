//! How one call to the gateway can go wrong. The variants are what decides whether it is tried again.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use chitin_proto::http::Problem;

use crate::exit;
use crate::failure::Failure;
use crate::text;
use crate::units;

/// One call that did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens: nothing was sent.
    #[error("no gateway is reachable at {}", socket.display())]
    Absent {
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody listens, and has no room for another connection: nothing was sent.
    #[error("the gateway accepts no more connections at {}", socket.display())]
    Busy {
        /// Where.
        socket: PathBuf,
    },
    /// The socket is there and not for us.
    #[error("the gateway's socket {} cannot be used: {source}", socket.display())]
    Denied {
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke: it is unknown whether the request was heard.
    #[error("the connection to the gateway was lost")]
    Lost {
        /// Why.
        source: hyper::Error,
    },
    /// It took too long: it is unknown whether the request was heard.
    #[error("the gateway did not answer within {}", units::show_duration(after.as_secs_f64()))]
    Late {
        /// How long.
        after: Duration,
    },
    /// An answer that says no.
    #[error("{}", problem.detail)]
    Refused {
        /// The answer.
        problem: Box<Problem>,
        /// After which another try makes sense.
        retry_after: Option<Duration>,
    },
    /// An answer that makes no sense.
    #[error("the gateway's answer makes no sense: {what}")]
    Garbled {
        /// What of it.
        what: String,
    },
}

impl CallError {
    /// The refusal's status, if it was one.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { problem, .. } => Some(problem.status),
            _ => None,
        }
    }

    /// Whether nobody answered, for now or at all.
    pub(crate) fn is_no_answer(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::Busy { .. } | Self::Lost { .. } | Self::Late { .. })
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        // It may quote what the gateway said: one line.
        let message = text::escape(&error.to_string());
        match error {
            CallError::Absent { .. } => {
                Self::new(exit::UNREACHABLE, message).hint("start one: chitin up --detach")
            }
            CallError::Busy { .. } | CallError::Lost { .. } | CallError::Late { .. } => {
                Self::new(exit::UNREACHABLE, message)
                    .hint("see what it does: chitin status, and its chitin.log")
            }
            CallError::Denied { .. } => Self::new(exit::UNREACHABLE, message)
                .hint("only the user who started the gateway may use its socket"),
            CallError::Garbled { .. } => Self::other(message),
            CallError::Refused { problem, .. } => refused(&problem),
        }
    }
}

fn refused(problem: &Problem) -> Failure {
    let code = match problem.status {
        400 | 413 | 415 | 431 => exit::USAGE,
        429 | 503 | 507 => exit::REFUSED,
        _ => exit::OTHER,
    };
    let message = match &problem.field {
        Some(field) if !problem.detail.contains(field.as_str()) => format!("{field}: {}", problem.detail),
        _ => problem.detail.clone(),
    };
    let message = text::escape(&message);
    match problem.retry_after_s {
        Some(seconds) if code == exit::REFUSED => {
            Failure::new(code, message).hint(format!("try again in {seconds} s"))
        }
        _ => Failure::new(code, message),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::client) fn refusal(
        status: u16,
        field: Option<&str>,
        retry_after_s: Option<u64>,
    ) -> CallError {
        CallError::Refused {
            problem: Box::new(Problem {
                code: "code".to_owned(),
                title: "Title".to_owned(),
                status,
                detail: "must be at least 1".to_owned(),
                field: field.map(str::to_owned),
                retry_after_s,
            }),
            retry_after: retry_after_s.map(Duration::from_secs),
        }
    }

    #[test]
    fn every_refusal_has_its_exit_code() {
        for (status, code) in [
            (400, 64),
            (401, 1),
            (403, 1),
            (404, 1),
            (409, 1),
            (413, 64),
            (415, 64),
            (429, 75),
            (431, 64),
            (500, 1),
            (503, 75),
            (507, 75),
        ] {
            assert_eq!(Failure::from(refusal(status, None, None)).exit, code, "{status}");
        }
    }

    #[test]
    fn the_field_is_named_once() {
        let failure = Failure::from(refusal(400, Some("retry.max"), None));
        assert_eq!(failure.message.as_deref(), Some("retry.max: must be at least 1"));
        let failure = Failure::from(refusal(400, Some("must"), None));
        assert_eq!(failure.message.as_deref(), Some("must be at least 1"));
    }
}
