//! The entrance of an instance: its listening sockets, and the lock that says whose they are.
//!
//! A supervisor opens it once, before there is any gateway, and keeps it over all their lives, so that whoever connects
//! between two of them waits in the backlog instead of being refused. Each gateway is handed the same sockets; one that
//! was started without any opens its own.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, getsockname};

use crate::config::{self, Config};
use crate::data_dir::{DataDir, Purpose, names};
use crate::{ConfigError, GatewayError, Options, Ready};

/// So many connections wait in the system until a gateway takes them in, one that is busy or one that is to come: the most
/// that Linux grants unless it was told otherwise. The library's own 128 are gone in a burst, and whoever comes then is
/// not refused but tries again after a second.
const BACKLOG: i32 = 4_096;

/// The listening sockets.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) tcp: Option<TcpListener>,
    pub(crate) unix: UnixListener,
}

impl Doors {
    /// Opens them. Whoever left a socket in the data directory is gone: a lock says so, and the caller holds it.
    pub(crate) fn open(
        data: &DataDir,
        listen: Option<SocketAddr>,
        tcp_is_optional: bool,
    ) -> Result<Self, GatewayError> {
        let mut tcp = None;
        if let Some(address) = listen {
            match TcpListener::bind(address) {
                Ok(listener) => {
                    let source = rustix::net::listen(&listener, BACKLOG).err();
                    if let Some(source) = source {
                        return Err(GatewayError::Listen {
                            address: address.to_string(),
                            source: source.into(),
                        });
                    }
                    tcp = Some(listener);
                }
                // Said by what is listened on: the ready line names no address.
                Err(error) if tcp_is_optional && error.kind() == io::ErrorKind::AddrInUse => {}
                Err(source) => return Err(GatewayError::Listen { address: address.to_string(), source }),
            }
        }
        let socket = data.join(names::SOCKET);
        let fail = |source| GatewayError::Listen { address: socket.display().to_string(), source };
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let unix = UnixListener::bind(data.short(names::SOCKET)).map_err(fail)?;
        rustix::net::listen(&unix, BACKLOG).map_err(|errno| fail(errno.into()))?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).map_err(fail)?;
        Ok(Self { tcp, unix })
    }

    /// Those that were handed over, in whatever order; none without one on a Unix socket.
    pub(crate) fn handed_over(sockets: Vec<OwnedFd>) -> Option<Self> {
        let (mut tcp, mut unix) = (None, None);
        for socket in sockets {
            match getsockname(&socket).map(|address| address.address_family()) {
                Ok(AddressFamily::UNIX) => unix = Some(UnixListener::from(socket)),
                Ok(AddressFamily::INET | AddressFamily::INET6) => tcp = Some(TcpListener::from(socket)),
                Ok(_) | Err(_) => {}
            }
        }
        Some(Self { tcp, unix: unix? })
    }

    /// Where they can be reached.
    pub(crate) fn addresses(&self, data: &DataDir) -> Ready {
        let tcp = self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok());
        Ready { tcp, socket: data.join(names::SOCKET) }
    }

    /// The same sockets once more, to be handed on.
    pub(crate) fn spare(&self) -> io::Result<Vec<OwnedFd>> {
        let tcp = self.tcp.as_ref().map(|tcp| tcp.try_clone().map(OwnedFd::from)).transpose()?;
        let unix = OwnedFd::from(self.unix.try_clone()?);
        Ok(tcp.into_iter().chain([unix]).collect())
    }
}

/// An entrance that is open, for a supervisor. Only one process of an instance has it.
#[derive(Debug)]
pub struct Entrance {
    data: DataDir,
    _lock: File,
}

impl Entrance {
    /// Makes sure that a gateway could live here and that none does, and opens its sockets.
    ///
    /// # Errors
    /// See [`GatewayError`]. The configuration, the shim, the directory and the addresses are looked at in this order;
    /// nothing is left behind but, for the last, the directory.
    pub fn open(options: &Options) -> Result<(Self, Vec<OwnedFd>, Ready), GatewayError> {
        let config = configuration(options)?;
        find_shim()?;
        let data = DataDir::open(&options.data_dir)?;
        let lock = data.lock(names::SUPERVISOR_LOCK, Purpose::Serve)?;
        // A gateway without a supervisor: a service manager's, or one that is about to start a new one. None begins while the
        // sockets are opened, or its own would be replaced by ours.
        let no_gateway = data.lock(names::GATEWAY_LOCK, Purpose::Serve)?;
        let doors = Doors::open(&data, config.listen, options.listen_optional)?;
        drop(no_gateway);
        let addresses = doors.addresses(&data);
        let sockets =
            doors.spare().map_err(|source| GatewayError::System { step: "keep the sockets", source })?;
        Ok((Self { data, _lock: lock }, sockets, addresses))
    }

    /// Takes the entrance of an instance whose supervisor died; its sockets come from its gateway.
    ///
    /// # Errors
    /// See [`GatewayError`]: among others, somebody else took it.
    pub fn adopt(data_dir: &Path) -> Result<Self, GatewayError> {
        let data = DataDir::open(data_dir)?;
        let lock = data.lock(names::SUPERVISOR_LOCK, Purpose::Serve)?;
        Ok(Self { data, _lock: lock })
    }

    /// Says on disk who the supervisor is.
    ///
    /// # Errors
    /// The disk's.
    pub fn sign(&self) -> Result<(), GatewayError> {
        let fail = |source| GatewayError::System { step: "write the pid file", source };
        self.data.write_pid(names::SUPERVISOR_PID).map_err(fail)
    }

    /// The data directory, without links.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Nobody is here any more; unless a gateway that is none of ours came first: then what says that it is here, stays.
    pub fn close(self) {
        self.data.remove(&[names::SUPERVISOR_PID]);
        if let Ok(_no_gateway) = self.data.lock(names::GATEWAY_LOCK, Purpose::Serve) {
            self.data.remove(&[names::SOCKET, names::GATEWAY_PID]);
        }
    }
}

/// The configuration with what the command line says over it.
pub(crate) fn configuration(options: &Options) -> Result<Config, GatewayError> {
    let mut config = config::load(options.config.as_deref(), &options.data_dir)?;
    if let Some(listen) = &options.listen {
        config.listen = config::parse_listen(listen).map_err(|detail| ConfigError::Listen { detail })?;
    }
    Ok(config)
}

/// The path of this program, for starting it again. One that was replaced while it runs is reported with a suffix: its
/// successor is as good.
///
/// # Errors
/// The system does not say.
pub fn own_program() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(match own.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
        Some(path) => PathBuf::from(path),
        None => own,
    })
}

/// The shim's binary lies beside ours.
pub(crate) fn find_shim() -> Result<PathBuf, GatewayError> {
    let own = own_program()
        .map_err(|source| GatewayError::System { step: "find this program's own path", source })?;
    let path = own.with_file_name("chitin-shim");
    if path.is_file() { Ok(path) } else { Err(GatewayError::NoShim { path }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_known_by_their_kind_and_not_by_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let unix = |name: &str| OwnedFd::from(UnixListener::bind(folder.path().join(name)).unwrap());
        let doors = Doors::handed_over(vec![unix("a"), tcp()]).unwrap();
        assert!(doors.tcp.is_some());
        assert!(Doors::handed_over(vec![unix("b")]).unwrap().tcp.is_none());
        assert!(Doors::handed_over(vec![tcp()]).is_none(), "the command line needs its socket");
        assert!(Doors::handed_over(vec![OwnedFd::from(File::open("/dev/null").unwrap())]).is_none());
    }

    #[test]
    fn who_closes_leaves_the_socket_of_a_gateway_that_came_first() {
        let folder = tempfile::tempdir().unwrap();
        let there = || [names::SOCKET, names::GATEWAY_PID].map(|name| folder.path().join(name).exists());
        let put = || {
            [names::SOCKET, names::GATEWAY_PID].map(|name| fs::write(folder.path().join(name), "").unwrap())
        };
        let data = DataDir::open(folder.path()).unwrap();
        put();
        let gateway = data.lock(names::GATEWAY_LOCK, Purpose::Serve).unwrap();
        Entrance::adopt(folder.path()).unwrap().close();
        assert_eq!(there(), [true; 2]);
        drop(gateway);
        Entrance::adopt(folder.path()).unwrap().close();
        assert_eq!(there(), [false; 2]);
    }

    #[test]
    fn a_lock_says_what_it_is_held_for() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let taken = |purpose| data.lock(names::GATEWAY_LOCK, purpose);
        for (purpose, said) in
            [(Purpose::Restore, "a restore is under way"), (Purpose::Backup, "a backup is being taken")]
        {
            let held = taken(purpose).unwrap();
            let refused =
                Entrance::open(&Options { data_dir: folder.path().to_owned(), ..Options::default() });
            // Where no shim lies beside this test, that is said first.
            let by = match refused {
                Err(GatewayError::NoShim { .. }) => taken(Purpose::Serve).err(),
                other => other.err(),
            };
            assert!(matches!(by, Some(GatewayError::InUse { by, .. }) if by == said), "{purpose:?}");
            drop(held);
        }
        let _gateway = taken(Purpose::Serve).unwrap();
        assert!(matches!(taken(Purpose::Restore), Err(GatewayError::AlreadyRunning { .. })));
    }

    #[test]
    fn only_one_has_the_entrance() {
        let folder = tempfile::tempdir().unwrap();
        let first = Entrance::adopt(folder.path()).unwrap();
        assert!(matches!(Entrance::adopt(folder.path()), Err(GatewayError::AlreadyRunning { .. })));
        first.sign().unwrap();
        first.close();
        assert!(!folder.path().join(names::SUPERVISOR_PID).exists());
        Entrance::adopt(folder.path()).unwrap();
    }
}
