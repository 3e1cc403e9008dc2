//! Reaching the gateway's socket. A socket's path may have 107 bytes; one in a deeper data directory is reached through
//! the directory's file descriptor.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tokio::net::UnixStream;

/// The longest path that fits an address, without its closing NUL.
const MAX_ADDRESS_BYTES: usize = 107;

/// Connects.
pub(super) async fn connect(socket: &Path) -> io::Result<UnixStream> {
    if socket.as_os_str().len() <= MAX_ADDRESS_BYTES {
        return UnixStream::connect(socket).await;
    }
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    // The descriptor lives until the connection stands.
    UnixStream::connect(short).await
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_deep_folder_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let folder = std::fs::File::open(&deep).unwrap();
        let _listener = UnixListener::bind(format!("/proc/self/fd/{}/s.sock", folder.as_raw_fd())).unwrap();
        let runtime = crate::runtime::build().unwrap();
        runtime.block_on(connect(&deep.join("s.sock"))).unwrap();
        let gone = runtime.block_on(connect(&deep.join("other.sock"))).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
