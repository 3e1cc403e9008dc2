//! Descriptors that a process was started with, for the long-lived ones: a gateway takes the listening sockets it was
//! handed (`LISTEN_FDS`), a supervisor closes whatever else leaked into it.

use std::os::fd::OwnedFd;

use crate::sys;

/// Takes the descriptors 3 to 2 + `count`, close-on-exec from here on: those that the convention of `LISTEN_FDS` passes.
/// Ones that are not open are left out. To be called first in `main`, once.
#[must_use]
pub fn take(count: u32) -> Vec<OwnedFd> {
    sys::take_inherited(count)
}

/// Closes every descriptor from 3 on: leaks of whoever started us. To be called first in `main`, before anything is
/// opened.
pub fn close() {
    sys::close_inherited();
}
