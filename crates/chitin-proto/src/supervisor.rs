//! What supervisor and gateway say to each other, beside the conventions of service managers (`LISTEN_FDS`,
//! `WATCHDOG_USEC`, and the words that go to a `NOTIFY_SOCKET`): how a gateway's predecessors ended, and how a gateway hands its sockets to a new
//! supervisor. Both ends may be of different versions of chitin, so unknown fields are passed over and missing ones have
//! a meaning.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Tells a gateway its supervisor's process id, which is its parent's. Absent: it has none to watch.
pub const SUPERVISOR_VARIABLE: &str = "CHITIN_SUPERVISOR";

/// Tells a gateway of the lives before it: [`Lives`] as JSON.
pub const LIVES_VARIABLE: &str = "CHITIN_LIVES";

/// Tells a gateway on which descriptor its supervisor hears what it would say to a `NOTIFY_SOCKET`: 0, its standard input.
/// A socket without a name, so that nobody else can speak to the supervisor.
pub const NOTIFY_VARIABLE: &str = "CHITIN_NOTIFY";

/// The gateways of one instance since it was started, as its supervisor saw them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lives {
    /// Gateways that ended without having been asked to.
    pub restarts: u64,
    /// How the last of them ended, for people.
    pub last_end: Option<String>,
    /// When, milliseconds since the Unix epoch.
    pub last_end_at_ms: Option<i64>,
    /// It served, and was ended by SIGKILL, or for want of signs: by nothing it had met itself.
    pub was_killed: bool,
    /// The gateway that reads this is to be careful: several before it ended early.
    pub safe_mode: bool,
}

/// What a gateway whose supervisor died tells the new one. The listening sockets come with the same message, as
/// descriptors, and a datagram socket on which it is heard from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The configuration file, if one was named.
    pub config: Option<PathBuf>,
    /// Nobody reads this instance's standard error: later gateways leave theirs to the log.
    #[serde(default)]
    pub background: bool,
    /// The lives so far.
    #[serde(default)]
    pub lives: Lives,
}

/// The new supervisor's answer: from now on it holds the sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_understood() {
        let lives: Lives = serde_json::from_str(r#"{"restarts": 3, "of_the_future": true}"#).unwrap();
        assert_eq!(lives, Lives { restarts: 3, ..Lives::default() });
        let old = r#"{"data_dir": "/d", "config": null}"#;
        let handover: Handover = serde_json::from_str(old).unwrap();
        assert_eq!((handover.background, handover.lives), (false, Lives::default()));
    }

    #[test]
    fn what_is_said_is_what_is_heard() {
        let lives = Lives {
            restarts: 2,
            last_end: Some("killed by signal 9".to_owned()),
            last_end_at_ms: Some(1),
            was_killed: true,
            safe_mode: true,
        };
        let handover = Handover {
            data_dir: PathBuf::from("/d"),
            config: Some(PathBuf::from("/c.toml")),
            background: true,
            lives,
        };
        let text = serde_json::to_string(&handover).unwrap();
        assert_eq!(serde_json::from_str::<Handover>(&text).unwrap(), handover);
    }
}
