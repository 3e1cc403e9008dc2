//! Connections to a server: a few, opened when first needed, one request at a time on each. A connection on which
//! anything went wrong, or whose request was given up, is closed: an answer that comes late is nobody's.

use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

use super::RedisError;
use super::server::{Place, Server};
use super::wire::{Ask, Reply, exchange};

/// A socket of either kind.
trait Socket: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Socket for S {}

type Connection = BufReader<Box<dyn Socket>>;

pub(super) struct Link {
    server: Server,
    places: Semaphore,
    idle: Mutex<Vec<Connection>>,
    timeout: Duration,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Link {
    /// At most `most` connections. `timeout` is for connecting, and for each answer.
    pub(super) fn new(server: Server, most: usize, timeout: Duration) -> Self {
        Self { server, places: Semaphore::new(most.max(1)), idle: Mutex::default(), timeout }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Closes what is not in use.
    pub(super) fn close_idle(&self) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.clear();
        }
    }

    /// Asks, and waits no longer than `patience` for all of it.
    pub(super) async fn ask_within(&self, patience: Duration, ask: Ask<'_>) -> Result<Reply, RedisError> {
        let step = ask.step();
        let has_place = AtomicBool::new(false);
        let asked = async {
            let _place = self.places.acquire().await.map_err(|_| RedisError::Busy)?;
            has_place.store(true, Ordering::Relaxed);
            self.exchange(&ask).await
        };
        match tokio::time::timeout(patience, asked).await {
            Ok(reply) => reply,
            Err(_) if !has_place.load(Ordering::Relaxed) => Err(RedisError::Busy),
            Err(_) => Err(timed_out(step, patience)),
        }
    }

    /// Asks; connecting and each answer may take the timeout.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Reply, RedisError> {
        let _place = self.places.acquire().await.map_err(|_| RedisError::Busy)?;
        self.exchange(&ask).await
    }

    async fn exchange(&self, ask: &Ask<'_>) -> Result<Reply, RedisError> {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        if let Some(connection) = idle {
            match self.on(connection, ask).await {
                // The server closed it while nobody looked, as when it was started anew, and the others too: that says
                // nothing of how it is now.
                Err(RedisError::Io { source, .. }) if is_stale(source.kind()) => self.close_idle(),
                other => return other,
            }
        }
        let connection = self.connect().await?;
        self.on(connection, ask).await
    }

    /// Asks on this connection, and keeps it for the next one if that went well.
    async fn on(&self, mut connection: Connection, ask: &Ask<'_>) -> Result<Reply, RedisError> {
        let reply = self.answer(&mut connection, ask).await?;
        let is_clean = reply != Reply::OtherLength && connection.buffer().is_empty();
        if is_clean && let Ok(mut idle) = self.idle.lock() {
            idle.push(connection);
        }
        Ok(reply)
    }

    async fn answer(&self, connection: &mut Connection, ask: &Ask<'_>) -> Result<Reply, RedisError> {
        let answer = tokio::time::timeout(self.timeout, exchange(connection, ask)).await;
        answer.unwrap_or_else(|_| Err(timed_out(ask.step(), self.timeout)))
    }

    async fn connect(&self) -> Result<Connection, RedisError> {
        const STEP: &str = "connect";
        let socket = async {
            let socket: Box<dyn Socket> = match &self.server.place {
                Place::Tcp { host, port } => {
                    let stream = TcpStream::connect((host.as_str(), *port)).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
                Place::Unix(path) => Box::new(UnixStream::connect(path).await?),
            };
            Ok(socket)
        };
        let socket = tokio::time::timeout(self.timeout, socket)
            .await
            .map_err(|_| timed_out(STEP, self.timeout))?
            .map_err(|source| RedisError::Io { step: STEP, source })?;
        let mut connection = BufReader::new(socket);
        if let Some(password) = &self.server.password {
            let auth = Ask::Auth { user: self.server.user.as_deref(), password: password.reveal() };
            self.answer(&mut connection, &auth).await?;
        }
        if self.server.database > 0 {
            self.answer(&mut connection, &Ask::Select { database: self.server.database }).await?;
        }
        Ok(connection)
    }
}

fn is_stale(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

fn timed_out(step: &'static str, after: Duration) -> RedisError {
    RedisError::TimedOut { step, ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX) }
}
