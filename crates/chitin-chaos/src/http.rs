//! HTTP/1.1 by hand, one request a connection: the suite must see each refusal as the system tells it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// Where a gateway is spoken to.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    /// Its socket, which trusts the same user.
    Unix(PathBuf),
    /// Its port, with the token.
    Tcp(SocketAddr, String),
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// Nobody listens: what must never happen while a supervisor lives.
    Refused(io::Error),
    /// The connection broke, or nothing came in time.
    Broke(io::Error),
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "refused: {error}"),
            Self::Broke(error) => write!(f, "no answer: {error}"),
        }
    }
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// The idempotency key.
    pub(crate) key: Option<&'a str>,
    pub(crate) body: Option<&'a Value>,
}

/// A connection that is spoken over by hand.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    /// How long reading and writing may take.
    pub(crate) fn patience(&self, patience: Duration) -> io::Result<()> {
        let patience = Some(patience);
        match self {
            Self::Unix(stream) => {
                stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience))
            }
            Self::Tcp(stream) => {
                stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience))
            }
        }
    }
}

impl Door {
    /// A connection over which nothing was said yet.
    pub(crate) fn open(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
            Self::Tcp(address, _) => TcpStream::connect(address).map(Stream::Tcp),
        }
    }

    /// The lines of a head that every request has.
    pub(crate) fn headers(&self) -> String {
        match self {
            Self::Unix(_) => "host: localhost\r\n".to_owned(),
            Self::Tcp(address, token) => format!("host: {address}\r\nauthorization: Bearer {token}\r\n"),
        }
    }

    pub(crate) fn ask(&self, request: &Request<'_>, patience: Duration) -> Result<Answer, NoAnswer> {
        let stream = match self {
            Self::Unix(_) => self.open().map_err(NoAnswer::Refused)?,
            Self::Tcp(address, _) => {
                let stream = TcpStream::connect_timeout(address, patience).map_err(|error| {
                    let refused = error.kind() == io::ErrorKind::ConnectionRefused;
                    if refused { NoAnswer::Refused(error) } else { NoAnswer::Broke(error) }
                })?;
                Stream::Tcp(stream)
            }
        };
        stream
            .patience(patience)
            .and_then(|()| exchange(stream, &self.headers(), request))
            .map_err(NoAnswer::Broke)
    }
}

fn exchange(mut stream: Stream, headers: &str, request: &Request<'_>) -> io::Result<Answer> {
    let body = request.body.map(Value::to_string).unwrap_or_default();
    let Request { method, path, key, .. } = request;
    let mut text = format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\n");
    if let Some(key) = key {
        text.push_str(&format!("idempotency-key: {key}\r\n"));
    }
    if request.body.is_some() {
        text.push_str("content-type: application/json\r\n");
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes())?;
    read(BufReader::new(stream))
}

/// One answer, whole.
pub(crate) fn read(mut reader: impl BufRead) -> io::Result<Answer> {
    let bad = || io::Error::new(io::ErrorKind::UnexpectedEof, "half an answer");
    let status = line(&mut reader)?.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(bad)?;
    let (mut length, mut chunked) = (0, false);
    loop {
        let header = line(&mut reader)?.to_ascii_lowercase();
        match header.split_once(':') {
            None => break,
            Some(("content-length", value)) => length = value.trim().parse().map_err(|_| bad())?,
            Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
            Some(_) => {}
        }
    }
    let mut body = Vec::new();
    loop {
        let part =
            if chunked { usize::from_str_radix(&line(&mut reader)?, 16).map_err(|_| bad())? } else { length };
        let begin = body.len();
        body.resize(begin + part, 0);
        reader.read_exact(body.get_mut(begin..).ok_or_else(bad)?)?;
        if !chunked {
            break;
        }
        line(&mut reader)?;
        if part == 0 {
            break;
        }
    }
    Ok(Answer { status, body })
}

/// A line without its end; a connection that ends before is half an answer.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_none() {
        let whole = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
        let answer = read(&whole[..]).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (202, &b"{}"[..]));
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
        let chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(read(&chunks[..]).unwrap().body, b"abcd");
        assert!(read(&chunks[..chunks.len() - 7]).is_err());
    }
}
