//! The listening sockets where a gateway looks for them: `LISTEN_FDS` counts from descriptor 3, and a process that is
//! started without a fork inherits numbers as they are. So they stand at 3 and 4 for as long as the supervisor lives, and
//! are the only descriptors of its that its children keep.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// The first descriptor of the convention.
const FIRST: i32 = 3;
/// TCP and Unix.
const MOST: usize = 2;

/// Descriptors 3 and 4, kept free.
#[derive(Debug)]
pub(crate) struct Reserved([OwnedFd; MOST]);

impl Reserved {
    /// To be called first: right after whatever had leaked into this process was closed.
    ///
    /// # Errors
    /// They are taken.
    pub(crate) fn new() -> io::Result<Self> {
        let place = || File::open("/dev/null").map(OwnedFd::from);
        let places = [place()?, place()?];
        if places.iter().zip(FIRST..).any(|(place, number)| place.as_raw_fd() != number) {
            return Err(io::Error::other("descriptors 3 and 4 are taken"));
        }
        Ok(Self(places))
    }

    /// Puts the sockets there; children inherit them.
    ///
    /// # Errors
    /// There are none, or too many, or the system refuses.
    pub(crate) fn fill(self, sockets: Vec<OwnedFd>) -> io::Result<Handed> {
        if sockets.is_empty() || sockets.len() > MOST {
            return Err(io::Error::other(format!(
                "{} listening sockets, one or two are needed",
                sockets.len()
            )));
        }
        let mut places = Vec::with_capacity(MOST);
        for (mut place, socket) in self.0.into_iter().zip(sockets) {
            rustix::io::dup2(&socket, &mut place)?;
            places.push(place);
        }
        Ok(Handed(places))
    }
}

/// The sockets in their places.
#[derive(Debug)]
pub(crate) struct Handed(Vec<OwnedFd>);

impl Handed {
    /// For `LISTEN_FDS`.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}
