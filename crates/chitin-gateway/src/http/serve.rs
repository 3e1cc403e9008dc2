//! Connections: accepts them, bounds them, serves each until it ends or the gateway does.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::guard::{Guarded, MAX_HEAD_BYTES, MAX_HEADERS, Peer};
use super::{Shared, routes};
use crate::tasks::TaskKind;

/// After an accept failed (descriptors are gone): long enough not to spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The most that is read of a head, before anything is known of the sender. Twice what the guard lets pass, so that
/// whoever is not far over it reads why; beyond, the answer is a bare 431.
const READ_HEAD_BYTES: usize = 2 * MAX_HEAD_BYTES;
const READ_HEADERS: usize = 2 * MAX_HEADERS;

/// The listening sockets.
pub(crate) struct Listeners {
    pub(crate) tcp: Option<TcpListener>,
    pub(crate) unix: UnixListener,
}

impl Listeners {
    /// Accepts until the gateway stops.
    pub(crate) fn serve(self, face: &Shared) {
        let most = usize::try_from(face.limits.connections).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(most));
        let app = routes(Arc::clone(face));
        if let Some(listener) = self.tcp {
            let (face, places, app) = (Arc::clone(face), Arc::clone(&places), app.clone());
            let tasks = face.tasks.clone();
            tasks.spawn(TaskKind::Accept, async move {
                loop {
                    let Some(place) = place(&face, &places).await else { return };
                    let accepted = tokio::select! {
                        accepted = listener.accept() => accepted,
                        () = face.tasks.stopped() => return,
                    };
                    match accepted {
                        Ok((stream, _)) => {
                            // Answers are small and whole: waiting to fill a segment only adds latency.
                            _ = stream.set_nodelay(true);
                            let guarded = Guarded::new(Arc::clone(&face), app.clone(), Peer::Tcp);
                            connection(&face, stream, guarded, place);
                        }
                        Err(error) => pause(&error).await,
                    }
                }
            });
        }
        let (face, listener) = (Arc::clone(face), self.unix);
        let tasks = face.tasks.clone();
        tasks.spawn(TaskKind::Accept, async move {
            loop {
                let Some(place) = place(&face, &places).await else { return };
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = face.tasks.stopped() => return,
                };
                match accepted {
                    Ok((stream, _)) => {
                        // Without credentials nobody is trusted: a user that cannot be ours.
                        let uid = stream.peer_cred().map_or(u32::MAX, |cred| cred.uid());
                        let guarded = Guarded::new(Arc::clone(&face), app.clone(), Peer::Local { uid });
                        connection(&face, stream, guarded, place);
                    }
                    Err(error) => pause(&error).await,
                }
            }
        });
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// A place for one more connection; whoever comes meanwhile waits in the backlog.
async fn place(face: &Shared, places: &Arc<Semaphore>) -> Option<Place> {
    tokio::select! {
        place = Arc::clone(places).acquire_owned() => place.ok(),
        () = face.tasks.stopped() => None,
    }
}

async fn pause(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn connection<S>(face: &Shared, stream: S, guarded: Guarded, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let header_timeout = Duration::from_millis(face.limits.header_timeout_ms);
    let face = Arc::clone(face);
    let tasks = face.tasks.clone();
    tasks.spawn(TaskKind::Connection, async move {
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(READ_HEAD_BYTES)
            .max_headers(READ_HEADERS)
            .serve_connection(TokioIo::new(stream), guarded);
        tokio::pin!(served);
        tokio::select! {
            ended = &mut served => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
            }
            () = face.tasks.stopped() => {
                // What is being answered is answered; then the connection closes.
                served.as_mut().graceful_shutdown();
                _ = served.await;
            }
        }
        drop(place);
    });
}
