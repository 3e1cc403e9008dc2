//! Stands in for the gateway's library until that is there, with its signatures.
#![expect(dead_code, reason = "goes away with the library's arrival")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) data_dir: PathBuf,
    pub(crate) config: Option<PathBuf>,
    pub(crate) listen: Option<String>,
    pub(crate) listen_optional: bool,
}

#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) socket: PathBuf,
}

#[derive(Debug)]
pub(crate) enum ErrorKind {
    AlreadyRunning { pid: Option<u32> },
    Config,
    Other,
}

#[derive(Debug, thiserror::Error)]
#[error("this build has no gateway")]
pub(crate) struct GatewayError;

impl GatewayError {
    pub(crate) fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

pub(crate) fn run(
    _options: Options,
    _ready: impl FnOnce(&Ready) + Send + 'static,
) -> Result<(), GatewayError> {
    Err(GatewayError)
}

pub(crate) mod config {
    use super::{GatewayError, Path};

    pub(crate) fn load(_path: Option<&Path>, _data_dir: &Path) -> Result<String, GatewayError> {
        Err(GatewayError)
    }
}
