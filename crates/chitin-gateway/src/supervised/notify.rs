//! What a gateway says of itself, in datagrams to the socket that `NOTIFY_SOCKET` names, or on one end of a pair whose other
//! one its supervisor holds. A supervisor that does not listen has its own trouble: it is waited for only with the last word,
//! and not for long.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// What must be heard is said so often, two seconds in all: a socket that is full is read within one.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Says how this process is; nobody may be listening.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    to: Mutex<Option<Listener>>,
}

/// Who listens.
#[derive(Debug)]
enum Listener {
    /// Whoever has a socket of this address.
    Named(UnixDatagram, SocketAddr),
    /// Whoever holds the other end.
    Paired(UnixDatagram),
}

impl Listener {
    fn send(&self, text: &[u8]) -> io::Result<usize> {
        match self {
            Self::Named(socket, address) => socket.send_to_addr(text, address),
            Self::Paired(socket) => socket.send(text),
        }
    }
}

impl Notifier {
    /// To the socket of this name; none: to nobody.
    pub(crate) fn new(name: Option<OsString>) -> Self {
        let notifier = Self::default();
        if let Some(name) = name {
            notifier.report_to(&name);
        }
        notifier
    }

    /// On the socket that is standard input, which is nothing from here on.
    pub(crate) fn on_standard_input() -> Self {
        let notifier = Self::default();
        let taken = io::stdin().as_fd().try_clone_to_owned().and_then(|socket| {
            rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
            Ok(UnixDatagram::from(socket))
        });
        notifier.report(taken.and_then(paired));
        notifier
    }

    /// From now on to whoever holds the other end.
    pub(crate) fn report_on(&self, socket: UnixDatagram) {
        self.report(paired(socket));
    }

    /// From now on to this one.
    fn report_to(&self, name: &OsStr) {
        let found = address(name).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok(Listener::Named(socket, address))
        });
        self.report(found);
    }

    fn report(&self, found: io::Result<Listener>) {
        match (found, self.to.lock()) {
            (Ok(found), Ok(mut to)) => *to = Some(found),
            (Err(error), _) => tracing::warn!(%error, "the supervisor's socket cannot be used"),
            (_, Err(_)) => {}
        }
    }

    /// A state, as `sd_notify(3)` spells it.
    pub(crate) fn say(&self, state: &str) {
        self.try_say(state);
    }

    /// The same for what must be heard: waits a moment for a supervisor that is slow to listen.
    pub(crate) fn say_surely(&self, state: &str) {
        for _ in 0..TRIES {
            if self.try_say(state) {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    /// Whether it was said, or cannot be said at all.
    fn try_say(&self, state: &str) -> bool {
        let Ok(to) = self.to.lock() else { return true };
        let Some(listener) = to.as_ref() else { return true };
        match listener.send(state.as_bytes()) {
            Err(error) => error.kind() != ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }
}

fn paired(socket: UnixDatagram) -> io::Result<Listener> {
    socket.set_nonblocking(true)?;
    Ok(Listener::Paired(socket))
}

/// A path, or an abstract name behind `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_heard_on_paths_and_abstract_names_and_follows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let on_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("chitin-notify-{}", std::process::id());
        let on_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let mut buffer = [0; 64];

        let notifier = Notifier::new(Some(path.into_os_string()));
        notifier.say("READY=1");
        assert_eq!(on_path.recv(&mut buffer).unwrap(), 7);
        notifier.report_to(OsStr::new(&format!("@{name}")));
        notifier.say("WATCHDOG=1");
        assert_eq!(on_name.recv(&mut buffer).unwrap(), 10);
        assert_eq!(&buffer[..10], b"WATCHDOG=1");
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        notifier.report_on(ours);
        notifier.say("READY=1");
        assert_eq!(theirs.recv(&mut buffer).unwrap(), 7);
        drop((on_name, theirs));
        notifier.say("nobody is there, and nothing is wrong");
        Notifier::new(None).say("nobody ever was");
    }
}
