//! What a gateway says of itself, as its supervisor hears it: datagrams on a pair of sockets of which the gateway was given
//! the other end, each with its sender's credentials from the kernel. Only the gateway's own word counts.
//!
//! Invariant: the sockets have no name, so that nobody else can say anything, nor fill them.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};

/// Datagrams read in a row. The socket holds no more than a few hundred; whatever comes meanwhile makes us look again.
const IN_A_ROW: usize = 256;

/// What was said, all datagrams together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// It serves.
    pub(crate) ready: bool,
    /// It lives.
    pub(crate) alive: bool,
    /// It was asked to end, and does.
    pub(crate) stopping: bool,
}

/// Our end.
#[derive(Debug)]
pub(crate) struct Notify(UnixDatagram);

impl Notify {
    /// A pair for one gateway: our end, and its.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixDatagram::pair()?;
        Ok((Self::heard_on(ours)?, theirs.into()))
    }

    /// Our end of a pair that the gateway made.
    pub(crate) fn heard_on(socket: UnixDatagram) -> io::Result<Self> {
        sockopt::set_socket_passcred(&socket, true)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Reads all that waits. What others than process `pid` say is dropped.
    pub(crate) fn hear(&self, pid: u32) -> Said {
        let mut said = Said::default();
        for _ in 0..IN_A_ROW {
            let mut text = [0; 256];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let got = recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut control, flags);
            let Ok(got) = got else { break };
            let sender = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmCredentials(sender) => {
                    Some(sender.pid.as_raw_nonzero().get().cast_unsigned())
                }
                _ => None,
            });
            if sender == Some(pid) {
                said.add(text.get(..got.bytes).unwrap_or_default());
            }
        }
        said
    }
}

impl Said {
    fn add(&mut self, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n') {
            match line {
                b"READY=1" => self.ready = true,
                b"WATCHDOG=1" => self.alive = true,
                b"STOPPING=1" => self.stopping = true,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_gateways_own_word_counts() {
        let (notify, gateway) = Notify::pair().unwrap();
        let gateway = UnixDatagram::from(gateway);
        let us = std::process::id();
        let say = |text: &str| gateway.send(text.as_bytes()).unwrap();
        say("READY=1\nSTATUS=fine");
        say("WATCHDOG=1");
        let heard = Said { ready: true, alive: true, stopping: false };
        assert_eq!(notify.hear(us), heard);
        assert_eq!(notify.hear(us), Said::default(), "each is heard once");
        say("STOPPING=1");
        assert_eq!(notify.hear(us + 1), Said::default(), "it was somebody else");
        say(&"x".repeat(1_000));
        say("STOPPING=1");
        assert!(notify.hear(us).stopping);
        let address = notify.0.local_addr().unwrap();
        assert!(address.is_unnamed(), "nobody else could say anything: {address:?}");
    }
}
