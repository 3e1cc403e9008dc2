//! The accept loop: takes connections in, bounds them, serves each until it ends or the gateway does.
//!
//! It goes on whatever accepting says: without descriptors it pauses, and whoever still waits after a while is let in over
//! one that was kept back, told so, and sent away.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::connections::{Connections, Door, LOOK_EVERY, Place};
use super::guard::{Guarded, MAX_HEAD_BYTES, MAX_HEADERS, Peer};
use super::line::Watched;
use super::reserve::Reserve;
use super::{Shared, routes};
use crate::clock;
use crate::tasks::TaskKind;

/// After an accept failed (descriptors are gone): long enough not to spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The most that is read of a head, before anything is known of the sender. Twice what the guard lets pass, so that
/// whoever is not far over it reads why; beyond, the answer is a bare 431.
const READ_HEAD_BYTES: usize = 2 * MAX_HEAD_BYTES;
const READ_HEADERS: usize = 2 * MAX_HEADERS;

/// What is taken of a request that will not be served.
const READ_AWAY_BYTES: usize = 4_096;

/// The listening sockets.
pub(crate) struct Listeners {
    pub(crate) tcp: Option<TcpListener>,
    pub(crate) unix: UnixListener,
}

impl Listeners {
    /// Accepts until the gateway stops.
    pub(crate) fn serve(self, face: &Shared) {
        let app = routes(Arc::clone(face));
        if let Some(listener) = self.tcp {
            accept(face, listener, &app);
        }
        accept(face, self.unix, &app);
        let (tasks, face) = (face.tasks.clone(), Arc::clone(face));
        tasks.spawn(TaskKind::Watch, async move {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                tokio::select! {
                    _ = looks.tick() => look(&face),
                    () = face.tasks.stopped() => break,
                }
            }
            face.connections.end();
            // Answers under way are given, to whoever takes them.
            loop {
                looks.tick().await;
                look(&face);
            }
        });
    }
}

/// What is looked at now and then, so that no request has to.
fn look(face: &Shared) {
    let now_ms = clock::boottime_ms();
    face.connections.look(now_ms, face.budgets.answer_kib.is_scarce());
    face.budgets.requests.tell_time(now_ms);
    if face.memory.look(&face.events) {
        face.cache.shed();
    }
    face.refusals.look(now_ms, face.engine.status(), &face.limits);
}

/// A listening socket.
pub(super) trait Listen: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    const DOOR: Door;

    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;

    /// Says something to whoever will not be served, without waiting.
    fn say(stream: &Self::Stream, text: &[u8]);
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    const DOOR: Door = Door::Tcp;

    async fn next(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, _) = self.accept().await?;
        // Answers are small and whole: waiting to fill a segment only adds latency.
        _ = stream.set_nodelay(true);
        Ok((stream, Peer::Tcp))
    }

    fn say(stream: &TcpStream, text: &[u8]) {
        // What was sent is taken: else closing would take the answer back.
        _ = stream.try_read(&mut [0; READ_AWAY_BYTES]);
        _ = stream.try_write(text);
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    const DOOR: Door = Door::Unix;

    async fn next(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        // Without credentials nobody is trusted: a user that cannot be ours.
        let uid = stream.peer_cred().map_or(u32::MAX, |cred| cred.uid());
        Ok((stream, Peer::Local { uid }))
    }

    fn say(stream: &UnixStream, text: &[u8]) {
        // What was sent is taken: else closing would take the answer back.
        _ = stream.try_read(&mut [0; READ_AWAY_BYTES]);
        _ = stream.try_write(text);
    }
}

fn accept<L: Listen + Sync>(face: &Shared, listener: L, app: &axum::Router) {
    let (tasks, face, app) = (face.tasks.clone(), Arc::clone(face), app.clone());
    tasks.spawn(TaskKind::Accept, async move {
        let mut reserve = Reserve::new();
        let accepting = async {
            while let Some(place) = face.connections.place(L::DOOR).await {
                match listener.next().await {
                    Ok((stream, peer)) => {
                        reserve.accepted();
                        let guarded = Guarded::new(Arc::clone(&face), app.clone(), peer);
                        connection(&face, stream, guarded, place);
                    }
                    Err(error) => {
                        let turned_away = reserve.failed(&error, &listener).await;
                        face.connections.turned_away.fetch_add(turned_away, Ordering::Relaxed);
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = face.tasks.stopped() => {}
        }
    });
}

fn connection<S>(face: &Shared, stream: S, guarded: Guarded, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let entered = Connections::enter(&face.connections);
    face.tasks.spawn(TaskKind::Connection, async move {
        let line = &entered.line;
        let stream = TokioIo::new(Watched::new(stream, Arc::clone(line)));
        // Times are kept by whoever looks after the lines, not by a timer of each. Head and body leave in one piece: nearly
        // every answer is small, and copying it costs less than telling the kernel of two.
        let served = http1::Builder::new()
            .writev(false)
            .header_read_timeout(None)
            .max_buf_size(READ_HEAD_BYTES)
            .max_headers(READ_HEADERS)
            .serve_connection(stream, guarded.on(Arc::clone(line)));
        tokio::pin!(served);
        let at_once = tokio::select! {
            ended = &mut served => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                true
            }
            at_once = line.is_to_end() => at_once,
        };
        if !at_once {
            // What is being answered is answered; then the connection closes.
            served.as_mut().graceful_shutdown();
            tokio::select! {
                _ = &mut served => {}
                () = line.is_cut() => {}
            }
        }
        drop(place);
    });
}
