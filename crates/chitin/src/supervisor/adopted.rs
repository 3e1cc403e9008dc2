//! A supervisor that takes over from one that died: its parent is the gateway, which sends the listening sockets and all
//! that is to be known in one message on standard input, and is answered there.

use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use chitin_gateway::Entrance;
use chitin_proto::supervisor::{Adopted, Handover, Lives};
use rustix::net::sockopt::{socket_peercred, socket_type};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketType, recvmsg};

use super::gateway::Gateway;
use super::notify::Notify;
use super::{Recipe, Reserved, Signals, Stage, Supervisor};
use crate::clock;

/// A handover is a few hundred bytes and two paths.
const MAX_BYTES: usize = 64 * 1024;
/// The lock is free, since its owner died; whoever looks at it holds it for an instant.
const LOCK_TRIES: u32 = 10;

/// Takes over; the entrance is to be kept.
pub(crate) fn take_over(reserved: Reserved, signals: Signals) -> io::Result<(Supervisor, Entrance)> {
    let mut gateway_socket = UnixStream::from(io::stdin().lock().as_fd().try_clone_to_owned()?);
    let (handover, sockets, notify) = receive(&gateway_socket)?;
    // Who made the pair, whatever has become of them since: never whoever happens to be our parent by now.
    let gateway = Gateway::adopt(socket_peercred(&gateway_socket)?.pid, notify, clock::now())?;
    let entrance = entrance(&handover)?;
    let recipe = Recipe {
        program: chitin_gateway::own_program()?,
        data_dir: handover.data_dir,
        config: handover.config,
        background: handover.background,
    };
    let handed = reserved.fill(sockets)?;
    // That the life before was killed says nothing of one that died since.
    let lives = Lives { was_killed: false, ..handover.lives };
    let died = gateway.is_none();
    let stage = gateway.map_or_else(|| Stage::Waiting(clock::now()), Stage::Alive);
    let mut supervisor = Supervisor::with(recipe, handed, signals, stage, lives, true)?;
    if died {
        supervisor.note("a gateway ended while its supervisor was replaced".to_owned());
    }
    let mut answer = serde_json::to_vec(&Adopted {})?;
    answer.push(b'\n');
    match gateway_socket.write_all(&answer) {
        // It waited for too long and lives: it starts another supervisor, and would never report to this one.
        Err(error) if supervisor.gateway().is_some_and(|gateway| !gateway.is_gone()) => Err(error),
        // A gateway that died meanwhile is followed by the next, as any other.
        Ok(()) | Err(_) => Ok((supervisor, entrance)),
    }
}

fn entrance(handover: &Handover) -> io::Result<Entrance> {
    let mut tries = 1;
    loop {
        match Entrance::adopt(&handover.data_dir) {
            Ok(entrance) => return Ok(entrance),
            Err(chitin_gateway::GatewayError::AlreadyRunning { .. }) if tries < LOCK_TRIES => tries += 1,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// What is to be known, the listening sockets, and where the gateway is heard.
fn receive(from: &UnixStream) -> io::Result<(Handover, Vec<OwnedFd>, Notify)> {
    let mut text = vec![0; MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(from, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let (mut notify, sockets): (Vec<OwnedFd>, Vec<OwnedFd>) =
        sockets.flatten().partition(|socket| socket_type(socket) == Ok(SocketType::DGRAM));
    let notify = notify.pop().ok_or_else(|| io::Error::other("there is no socket to hear the gateway on"))?;
    let notify = Notify::heard_on(UnixDatagram::from(notify))?;
    Ok((serde_json::from_slice(text.get(..got.bytes).unwrap_or_default())?, sockets, notify))
}
