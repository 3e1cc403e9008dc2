//! The gateway: accepts, stores, schedules, answers. It executes what the core decides, and may die at any
//! instruction: whatever matters is on disk or in a shim.
//!
//! | part | file | its verbs |
//! |---|---|---|
//! | routes, and the guard before them | `http` | submit |
//! | the writer thread | `engine` | admit, enqueue, lease, settle (it runs the core) |
//! | what happens after a commit | `effects`, `events` | publish |
//! | processes | `runner`, `spool` | run |
//! | memory, disk and processors | `monitor` | none: it holds the others back |
//! | sockets, and who restarts whom | `entrance`, `supervised` | none: they keep the rest alive |
//!
//! Invariant: the accept path and the health answers never wait for the data disk.
//! Invariant: only the writer thread changes the database.

mod backup;
pub mod bench;
mod cache;
mod chance;
mod clock;
pub mod config;
mod data_dir;
mod effects;
mod engine;
mod entrance;
mod events;
mod http;
mod logs;
mod monitor;
mod readers;
mod restore;
mod runner;
mod serve;
mod spool;
mod stop;
mod supervised;
mod tasks;
mod waiters;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use chitin_store::{StoreError, Verdict};

pub use backup::{Backup, BackupError, Known, Stop, backup};
pub use cache::reach_redis;
pub use chitin_core::monitor::DiskReading;
pub use config::{Config, ConfigError};
pub use engine::chain;
pub use entrance::{Entrance, own_program};
pub use monitor::outlook::{Outlook, outlook};
pub use restore::{RestoreError, Restored, restore};
pub use serve::run;
pub use supervised::Inherited;

/// How a gateway is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The data directory; made if it is missing.
    pub data_dir: PathBuf,
    /// The configuration; `None`: `chitin.toml` in the data directory, if there is one.
    pub config: Option<PathBuf>,
    /// The TCP address, over the configuration's: `127.0.0.1:7411`, or `none`.
    pub listen: Option<String>,
    /// If the TCP port is taken, serve the Unix socket alone.
    pub listen_optional: bool,
    /// Nobody reads standard error; for a supervisor that has to be started anew.
    pub background: bool,
}

/// Where a gateway that is ready can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The TCP address.
    pub tcp: Option<SocketAddr>,
    /// The Unix socket.
    pub socket: PathBuf,
}

/// Why a gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Another gateway holds the data directory.
    #[error("a gateway already runs on {}{}", path.display(), pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    AlreadyRunning {
        /// Its process, if it says.
        pid: Option<u32>,
        /// The data directory.
        path: PathBuf,
    },
    /// Somebody else works on the data directory, and will be done with it.
    #[error("{by} on {}; try again when it is done", path.display())]
    InUse {
        /// What is being done.
        by: &'static str,
        /// The data directory.
        path: PathBuf,
    },
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be used.
    #[error("cannot {step} the data directory {}", path.display())]
    DataDir {
        /// What was tried.
        step: &'static str,
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}{}", if source.kind() == io::ErrorKind::AddrInUse { "; choose another with --listen, or --listen none for the socket alone" } else { "" })]
    Listen {
        /// The address.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The database cannot be used.
    #[error("cannot use the database")]
    Store(#[from] StoreError),
    /// The database can be used, and what stands in it cannot be taken over.
    #[error("cannot take over what the database holds")]
    TakeOver(#[source] StoreError),
    /// The database is damaged.
    #[error("{}{}", engine::chain(damage), match newest {
        Some(known) => format!(
            ": the newest that is known is {}, taken {} with {} tasks; `chitin restore --data-dir {} {0}` does that and keeps what is there now",
            known.path.display(), known.taken_at(), known.tasks, data_dir.display(),
        ),
        None => format!(
            ": none is known here; `chitin restore --data-dir {} FILE` does that and keeps what is there now",
            data_dir.display(),
        ),
    })]
    Damaged {
        /// What was found. Its text is in ours.
        damage: Box<StoreError>,
        /// The newest backup known.
        newest: Option<Known>,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// `chitin-shim` is not where it belongs.
    #[error("{} is missing: chitin-shim belongs beside chitin; build the whole workspace", path.display())]
    NoShim {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// What is to hold process trees to their limits is not to be had.
    #[error("`isolation` is \"{wanted}\", which this machine does not let chitin have; there is: {here}")]
    NoTier {
        /// What the configuration wants.
        wanted: &'static str,
        /// What there is, the best first.
        here: String,
    },
    /// The same, though it seemed to be.
    #[error("`isolation` is \"{wanted}\", and its control groups cannot be made")]
    Tier {
        /// What the configuration wants.
        wanted: &'static str,
        /// Why.
        source: chitin_shim::groups::TierError,
    },
    /// The system refuses something a gateway needs.
    #[error("cannot {step}")]
    System {
        /// What was tried.
        step: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// What kind of end that is, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing to do: one runs.
    AlreadyRunning {
        /// Its process, if it says.
        pid: Option<u32>,
    },
    /// Refused for now: the data directory is somebody's who will be done with it.
    InUse,
    /// Whoever called has to change something.
    Config,
    /// Something that should not be: it may be different the next time, or be what stands in the store.
    Crash,
    /// The rest: the machine refuses what a gateway needs.
    Other,
}

impl GatewayError {
    /// Damage is said with the way out of it.
    pub(crate) fn or_damaged(self, data_dir: &Path) -> Self {
        match self {
            Self::Store(error) | Self::TakeOver(error @ StoreError::Sql { .. })
                if error.verdict() == Verdict::Corrupt =>
            {
                Self::Damaged {
                    damage: Box::new(error),
                    newest: backup::newest(data_dir),
                    data_dir: data_dir.to_owned(),
                }
            }
            other => other,
        }
    }

    /// What kind of end that is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::AlreadyRunning { pid, .. } => ErrorKind::AlreadyRunning { pid: *pid },
            Self::InUse { .. } => ErrorKind::InUse,
            Self::Config(_) | Self::NoTier { .. } => ErrorKind::Config,
            Self::TakeOver(_) => ErrorKind::Crash,
            Self::DataDir { .. }
            | Self::Listen { .. }
            | Self::Store(_)
            | Self::Damaged { .. }
            | Self::NoShim { .. }
            | Self::Tier { .. }
            | Self::System { .. } => ErrorKind::Other,
        }
    }
}
