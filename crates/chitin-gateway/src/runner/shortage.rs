//! What the machine is short of for a while: descriptors, memory, processes, room, a disk that can be written to. It comes back by itself, so it is no
//! attempt's end: whatever it kept from being done is done again, and nothing is consumed.

use std::io;
use std::time::Duration;

use nix::errno::Errno;

/// Between two tries. Descriptors that are there again are noticed within a second, and trying costs nothing.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// Whether an error says no more than that.
pub(crate) fn is_one(error: &io::Error) -> bool {
    error.raw_os_error().map(Errno::from_raw).is_some_and(|errno| {
        matches!(
            errno,
            Errno::EMFILE
                | Errno::ENFILE
                | Errno::ENOMEM
                | Errno::EAGAIN
                | Errno::EINTR
                | Errno::ENOSPC
                | Errno::EDQUOT
                | Errno::EROFS
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_back_is_a_shortage() {
        let is = |errno: Errno| is_one(&io::Error::from_raw_os_error(errno as i32));
        assert!(is(Errno::EMFILE) && is(Errno::ENOMEM) && is(Errno::ENOSPC) && is(Errno::EROFS));
        assert!(!is(Errno::ENOENT) && !is(Errno::EACCES) && !is(Errno::EIO));
        assert!(!is_one(&io::Error::new(io::ErrorKind::InvalidData, "torn")));
    }
}
