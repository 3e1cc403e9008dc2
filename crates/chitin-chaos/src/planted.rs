//! Bugs that the suite must find, or it proves nothing. Each stands in the program as one line that only a test build has
//! and only this asks for; each is looked for by the row that is meant to find it.
//!
//! Bugs of the pure core (a settlement without its token, a retry whose due time is forgotten, …) are planted in the
//! simulator's tests, which need no processes.

use std::fmt::Write;

use crate::program::Program;
use crate::rows;
use crate::run::{self, Options};

/// A bug.
#[derive(Debug)]
pub struct Bug {
    /// As the program knows it.
    pub name: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// The row that finds it.
    pub row: &'static str,
    /// In at most so many trials: a power cut at a random instant may pass a bug by, ten of them do not.
    trials: u32,
    /// Found within seconds, so that every change is tested with it.
    pub is_quick: bool,
}

/// All of them.
pub const BUGS: &[Bug] = &[
    Bug { name: "synchronous-normal", what: "commits are not synced", row: "9", trials: 30, is_quick: true },
    Bug {
        name: "trust-page-cache",
        what: "what the page cache shows of a log is taken for what the disk has",
        row: "14",
        trials: 20,
        is_quick: true,
    },
    Bug {
        name: "ack-before-commit",
        what: "a submission is acknowledged before its commit",
        row: "2",
        trials: 22,
        is_quick: true,
    },
    Bug {
        name: "start-without-claim",
        what: "a shim starts its command without having claimed the attempt",
        row: "10a",
        trials: 60,
        is_quick: true,
    },
    Bug {
        name: "no-reattach",
        what: "what still runs is started anew by the next gateway",
        row: "6",
        trials: 5,
        is_quick: true,
    },
    Bug {
        name: "spool-before-settlement",
        what: "an attempt's folder is removed before its settlement is committed",
        row: "2",
        trials: 44,
        is_quick: true,
    },
    Bug {
        name: "record-without-sync",
        what: "an exit record is not synced",
        row: "10",
        trials: 40,
        is_quick: true,
    },
    Bug {
        name: "shim-dies-with-gateway",
        what: "a shim ends when its gateway does",
        row: "6",
        trials: 5,
        is_quick: true,
    },
    Bug {
        name: "own-sockets",
        what: "a gateway opens sockets of its own, which are closed between lives",
        row: "1",
        trials: 5,
        is_quick: false,
    },
    Bug {
        name: "synchronous-normal",
        what: "commits are not synced, and the whole machine is reset",
        row: "9r",
        trials: 10,
        is_quick: false,
    },
    Bug {
        name: "trust-failed-commit",
        what: "a commit that failed is taken for one that did not",
        row: "11",
        trials: 60,
        is_quick: true,
    },
    Bug {
        name: "migrate-by-statement",
        what: "a migration is committed statement by statement",
        row: "15",
        trials: 12,
        is_quick: true,
    },
    Bug {
        name: "trust-cache",
        what: "bytes from the cache are not compared with the digest in the store's row",
        row: "26",
        trials: 9,
        is_quick: true,
    },
    Bug {
        name: "oom-as-signal",
        what: "an end for want of memory is told as any signal's",
        row: "20",
        trials: 1,
        is_quick: true,
    },
    Bug { name: "no-log-cap", what: "the log has no cap", row: "16", trials: 1, is_quick: true },
    Bug {
        name: "trust-failed-commit",
        what: "a commit that failed for want of room is taken for one that did not",
        row: "12",
        trials: 12,
        is_quick: true,
    },
    Bug {
        name: "no-byte-budget",
        what: "bodies in flight have no bound",
        row: "19",
        trials: 1,
        is_quick: true,
    },
    Bug { name: "no-places", what: "requests in flight have no bound", row: "27", trials: 2, is_quick: true },
    Bug { name: "no-lock", what: "locks are not taken: two gateways", row: "3", trials: 2, is_quick: false },
];

/// What came of the search for a bug.
#[derive(Debug)]
pub struct Found {
    /// The bug.
    pub bug: &'static Bug,
    /// Trials until it was found, or all of them.
    pub trials: u32,
    /// What did not hold; `None`: the suite did not notice.
    pub by: Option<String>,
    /// Why its row cannot be run here.
    pub skipped: Option<String>,
}

impl Found {
    /// The suite noticed, or could not look.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.by.is_some() || self.skipped.is_some()
    }
}

/// Looks for a bug with the row that is meant to find it.
#[must_use]
pub fn look_for(bug: &'static Bug, program: &Program, options: &Options) -> Found {
    let Some(row) = rows::find(bug.row) else {
        return Found { bug, trials: 0, by: None, skipped: None };
    };
    let options =
        Options { trials: Some(bug.trials), planted: Some(bug.name), most_failures: 1, ..options.clone() };
    let outcome = run::row(row, program, &options);
    let by = outcome.failures.into_iter().next().map(|failure| failure.why);
    Found { bug, trials: outcome.trials, by, skipped: outcome.skipped }
}

/// The table.
#[must_use]
pub fn table(all: &[Found]) -> String {
    let mut text = format!("{:<24} {:<4} {:>6}  {}\n", "planted bug", "row", "trials", "found by");
    for Found { bug, trials, by, skipped } in all {
        let first =
            |text: &str| text.lines().next().unwrap_or_default().chars().take(110).collect::<String>();
        let said = match (skipped, by) {
            (Some(why), _) => format!("skipped: {why}"),
            (None, Some(by)) => first(by),
            (None, None) => "NOT FOUND".to_owned(),
        };
        _ = writeln!(text, "{:<24} {:<4} {:>6}  {said}", bug.name, bug.row, trials);
    }
    text
}
