//! Redis' language, as much as is needed of it: version 2 of its protocol, which every server speaks to whoever asks for
//! no other. Every length is bounded before anything is read or kept for it.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::RedisError;

/// A line: an error's text, a status, a length. What is longer is not from Redis, or not worth showing.
const LINE_BYTES: u64 = 1_024;
/// Of an error's text, this much is shown.
const SHOWN_CHARS: usize = 200;

/// What is asked of a server.
#[derive(Debug, Clone)]
pub(super) enum Ask<'a> {
    /// To let us in.
    Auth { user: Option<&'a str>, password: &'a str },
    /// To use another of its databases.
    Select { database: u32 },
    /// Whether it is there.
    Ping,
    /// A value of `bytes` bytes.
    Get { key: &'a str, bytes: u64 },
    /// To keep a value for so long.
    Set { key: &'a str, body: Bytes, ttl_s: u64 },
}

/// What it answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Done, or there.
    Done,
    /// The value.
    Value(Bytes),
    /// No such key.
    Nothing,
    /// There is a value, of another length. It was not read: the connection cannot be used any more.
    OtherLength,
    /// There is something under that key that is no string of bytes.
    OtherKind,
}

impl Ask<'_> {
    /// What is being tried, for errors.
    pub(super) fn step(&self) -> &'static str {
        match self {
            Self::Auth { .. } => "log in",
            Self::Select { .. } => "choose the database",
            Self::Ping => "be asked whether it is there",
            Self::Get { .. } => "give a value",
            Self::Set { .. } => "keep a value",
        }
    }

    /// The request: what stands before the value, the value, what stands behind it.
    fn parts(&self) -> (BytesMut, Bytes, &'static [u8]) {
        let mut head = BytesMut::with_capacity(256);
        match self {
            Self::Auth { user: Some(user), password } => words(&mut head, 3, &["AUTH", user, password]),
            Self::Auth { user: None, password } => words(&mut head, 2, &["AUTH", password]),
            Self::Select { database } => words(&mut head, 2, &["SELECT", &database.to_string()]),
            Self::Ping => words(&mut head, 1, &["PING"]),
            Self::Get { key, .. } => words(&mut head, 2, &["GET", key]),
            Self::Set { key, body, ttl_s } => {
                // SETEX key seconds value: the value last.
                words(&mut head, 4, &["SETEX", key, &ttl_s.to_string()]);
                head.put_slice(format!("${}\r\n", body.len()).as_bytes());
                return (head, body.clone(), b"\r\n");
            }
        }
        (head, Bytes::new(), b"")
    }
}

/// The beginning of an array of `all` words, and the first of them.
fn words(to: &mut BytesMut, all: usize, first: &[&str]) {
    to.put_slice(format!("*{all}\r\n").as_bytes());
    for word in first {
        to.put_slice(format!("${}\r\n", word.len()).as_bytes());
        to.put_slice(word.as_bytes());
        to.put_slice(b"\r\n");
    }
}

/// Asks, and reads the one answer.
pub(super) async fn exchange<S>(stream: &mut S, ask: &Ask<'_>) -> Result<Reply, RedisError>
where
    S: AsyncBufRead + AsyncWrite + Unpin,
{
    let step = ask.step();
    let io = |source| RedisError::Io { step, source };
    let (head, body, tail) = ask.parts();
    let mut request = bytes::Buf::chain(bytes::Buf::chain(head, body), tail);
    stream.write_all_buf(&mut request).await.map_err(io)?;
    stream.flush().await.map_err(io)?;

    let line = line(stream, step).await?;
    let foreign = || RedisError::Foreign { step };
    let (kind, rest) = line.split_at_checked(1).ok_or_else(foreign)?;
    match (kind, ask) {
        ("-", _) => refused(ask, rest),
        ("+", Ask::Auth { .. } | Ask::Select { .. } | Ask::Set { .. }) if rest == "OK" => Ok(Reply::Done),
        ("+", Ask::Ping) if rest == "PONG" => Ok(Reply::Done),
        ("$", Ask::Get { .. }) if rest == "-1" => Ok(Reply::Nothing),
        ("$", Ask::Get { bytes, .. }) => {
            let length: u64 = rest.parse().map_err(|_| foreign())?;
            if length != *bytes {
                return Ok(Reply::OtherLength);
            }
            let mut body = vec![0; usize::try_from(length).map_err(|_| foreign())?];
            stream.read_exact(&mut body).await.map_err(io)?;
            let mut end = [0; 2];
            stream.read_exact(&mut end).await.map_err(io)?;
            if end == *b"\r\n" { Ok(Reply::Value(Bytes::from(body))) } else { Err(foreign()) }
        }
        _ => Err(foreign()),
    }
}

fn refused(ask: &Ask<'_>, says: &str) -> Result<Reply, RedisError> {
    if matches!(ask, Ask::Get { .. }) && says.starts_with("WRONGTYPE") {
        return Ok(Reply::OtherKind);
    }
    // Servers that do not know a command repeat it, password and all: of this answer only the code is shown.
    let shown = match ask {
        Ask::Auth { .. } => says.split(' ').next().unwrap_or_default(),
        _ => says,
    };
    let says = shown.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
    Err(RedisError::Refused { step: ask.step(), says })
}

/// A line without its end.
async fn line<S: AsyncBufRead + Unpin>(stream: &mut S, step: &'static str) -> Result<String, RedisError> {
    let mut line = Vec::new();
    let mut bounded = stream.take(LINE_BYTES);
    bounded.read_until(b'\n', &mut line).await.map_err(|source| RedisError::Io { step, source })?;
    if line.is_empty() {
        let source = std::io::ErrorKind::UnexpectedEof.into();
        return Err(RedisError::Io { step, source });
    }
    let whole = line.strip_suffix(b"\r\n").ok_or(RedisError::Foreign { step })?;
    String::from_utf8(whole.to_vec()).map_err(|_| RedisError::Foreign { step })
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
