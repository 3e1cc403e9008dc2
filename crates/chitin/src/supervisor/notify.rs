//! What gateways say of themselves, as the supervisor hears it: datagrams on an abstract socket, each with its sender's
//! credentials from the kernel. Only the gateway's own word counts.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, bind, recvmsg, sockopt,
};

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

/// The socket.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: UnixDatagram,
    name: String,
}

impl Notify {
    /// One under a name that the kernel chooses.
    pub(crate) fn new() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        bind(&socket, &SocketAddrUnix::new_unnamed())?;
        sockopt::set_socket_passcred(&socket, true)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let name = address.as_abstract_name().and_then(|name| std::str::from_utf8(name).ok());
        let name = name.ok_or_else(|| io::Error::other("the kernel gave the socket no name"))?;
        let name = format!("@{name}");
        Ok(Self { socket, name })
    }

    /// For `NOTIFY_SOCKET`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads all that waits. What others than process `pid` say is dropped.
    pub(crate) fn hear(&self, pid: Option<u32>) -> Said {
        let mut said = Said::default();
        for _ in 0..IN_A_ROW {
            let mut text = [0; 256];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let got = recvmsg(&self.socket, &mut [IoSliceMut::new(&mut text)], &mut control, flags);
            let Ok(got) = got else { break };
            let sender = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmCredentials(sender) => {
                    Some(sender.pid.as_raw_nonzero().get().cast_unsigned())
                }
                _ => None,
            });
            if sender.is_some() && sender == pid {
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
    use std::os::unix::net::SocketAddr;

    use super::*;

    #[test]
    fn only_the_gateways_own_word_counts() {
        let notify = Notify::new().unwrap();
        let to = SocketAddr::from_abstract_name(notify.name().trim_start_matches('@')).unwrap();
        let gateway = UnixDatagram::unbound().unwrap();
        let us = std::process::id();
        let say = |text: &str| gateway.send_to_addr(text.as_bytes(), &to).unwrap();
        say("READY=1\nSTATUS=fine");
        say("WATCHDOG=1");
        let heard = Said { ready: true, alive: true, stopping: false };
        assert_eq!(notify.hear(Some(us)), heard);
        assert_eq!(notify.hear(Some(us)), Said::default(), "each is heard once");
        say("STOPPING=1");
        assert_eq!(notify.hear(Some(us + 1)), Said::default(), "it was somebody else");
        say("STOPPING=1");
        assert_eq!(notify.hear(None), Said::default(), "there is no gateway");
        say(&"x".repeat(1_000));
        say("STOPPING=1");
        assert!(notify.hear(Some(us)).stopping);
    }
}
