//! A descriptor kept back for the time when there are none: a connection can then be taken in, told that it will not be
//! served, and closed, instead of waiting for an answer that does not come (R0.4).

use std::fs::File;
use std::future::ready;
use std::io;

use rustix::io::Errno;
use tokio::time::{Duration, Instant};

use super::serve::Listen;

/// So long whoever comes waits in the backlog: most shortages are over by then, and nobody has given up yet.
const HOLD_OUT: Duration = Duration::from_millis(500);
/// Sent away at a time, before descriptors are asked for again.
const AT_ONCE: u64 = 16;

/// What is said to those who are sent away.
const SORRY: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n",
    "content-length: 151\r\nretry-after: 1\r\nconnection: close\r\n\r\n",
    r#"{"code":"overloaded","title":"The gateway is overloaded","status":503,"#,
    r#""detail":"the gateway has no file descriptors left; try again","retry_after_s":1}"#,
);

/// The descriptor, while it is kept.
#[derive(Debug)]
pub(super) struct Reserve {
    kept: Option<File>,
    short_since: Option<Instant>,
}

impl Reserve {
    pub(super) fn new() -> Self {
        Self { kept: keep(), short_since: None }
    }

    /// All is well.
    pub(super) fn accepted(&mut self) {
        if self.short_since.take().is_some() {
            tracing::info!("there are file descriptors again");
        }
        if self.kept.is_none() {
            self.kept = keep();
        }
    }

    /// Accepting failed; how many were sent away for it.
    pub(super) async fn failed<L: Listen>(&mut self, error: &io::Error, listener: &L) -> u64 {
        let errno = Errno::from_io_error(error);
        if !matches!(errno, Some(Errno::MFILE | Errno::NFILE)) {
            // One that broke off before it was taken in, or memory for sockets that is short.
            tracing::warn!(%error, "a connection could not be accepted");
            return 0;
        }
        let since = match self.short_since {
            Some(since) => since,
            None => {
                tracing::warn!(%error, "no file descriptors are left; connections wait, and are then turned away");
                *self.short_since.insert(Instant::now())
            }
        };
        if since.elapsed() < HOLD_OUT {
            return 0;
        }
        let mut turned_away = 0;
        while turned_away < AT_ONCE {
            if self.kept.take().is_none() {
                self.kept = keep();
                break;
            }
            let taken = tokio::select! {
                biased;
                taken = listener.next() => Some(taken),
                () = ready(()) => None,
            };
            let sent_away = if let Some(Ok((stream, _))) = taken {
                L::say(&stream, SORRY.as_bytes());
                true
            } else {
                false
            };
            self.kept = keep();
            if !sent_away {
                break;
            }
            turned_away += 1;
        }
        turned_away
    }
}

fn keep() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_an_answer_of_its_length() {
        let (head, body) = SORRY.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&problem["code"], &problem["status"]), (&"overloaded".into(), &503.into()));
    }
}
