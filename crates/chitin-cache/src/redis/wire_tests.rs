//! The language against a stream that says what it is told to, whole and cut at any byte.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, BufReader, ReadBuf};

use super::*;

/// What a server says, a few bytes at a time, and what it heard.
struct Script {
    says: Vec<u8>,
    heard: Vec<u8>,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let some = self.says.len().min(3).min(buffer.remaining());
        buffer.put_slice(&self.says.drain(..some).collect::<Vec<u8>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.heard.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn talk(ask: &Ask<'_>, says: &[u8]) -> (Result<Reply, RedisError>, String) {
    let mut stream = BufReader::new(Script { says: says.to_vec(), heard: Vec::new() });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let reply = runtime.block_on(exchange(&mut stream, ask));
    let heard = String::from_utf8(stream.into_inner().heard).unwrap();
    (reply, heard)
}

const GET: Ask<'static> = Ask::Get { key: "k", bytes: 3 };

#[test]
fn requests_are_words_with_their_lengths() {
    let set = Ask::Set { key: "s:t:1", body: Bytes::from_static(b"a\r\nb"), ttl_s: 86_400 };
    let cases = [
        (Ask::Ping, "+PONG\r\n", "*1\r\n$4\r\nPING\r\n"),
        (GET, "$-1\r\n", "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
        (set, "+OK\r\n", "*4\r\n$5\r\nSETEX\r\n$5\r\ns:t:1\r\n$5\r\n86400\r\n$4\r\na\r\nb\r\n"),
        (Ask::Auth { user: None, password: "pw" }, "+OK\r\n", "*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n"),
        (
            Ask::Auth { user: Some("me"), password: "pw" },
            "+OK\r\n",
            "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$2\r\npw\r\n",
        ),
        (Ask::Select { database: 12 }, "+OK\r\n", "*2\r\n$6\r\nSELECT\r\n$2\r\n12\r\n"),
    ];
    for (ask, says, words) in cases {
        let (reply, heard) = talk(&ask, says.as_bytes());
        assert!(reply.is_ok(), "{ask:?}: {reply:?}");
        assert_eq!(heard, words);
    }
}

#[test]
fn a_value_is_taken_at_its_length_alone() {
    let value = |says: &[u8]| talk(&GET, says).0.unwrap();
    assert_eq!(value(b"$3\r\na\nb\r\n"), Reply::Value(Bytes::from_static(b"a\nb")));
    assert_eq!(value(b"$-1\r\n"), Reply::Nothing);
    assert_eq!(value(b"$2\r\nab\r\n"), Reply::OtherLength);
    // Nothing is kept for what is only announced.
    assert_eq!(value(b"$18446744073709551615\r\n"), Reply::OtherLength);
    assert_eq!(
        value(b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        Reply::OtherKind
    );
}

#[test]
fn what_redis_would_not_say_is_an_error() {
    let says: [&[u8]; 11] = [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"+OK\r\n",
        b":3\r\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"$3\r\nabcd\r\n",
        b"$3\r\nabc\n\n",
        b"*1\r\n$3\r\nabc\r\n",
        b"$3\nabc\r\n",
        b"+\xff\xfe\r\n",
    ];
    for says in says {
        assert!(matches!(talk(&GET, says).0, Err(RedisError::Foreign { .. })), "{says:?}");
    }
    let endless = vec![b'a'; 1 << 20];
    assert!(matches!(talk(&GET, &endless).0, Err(RedisError::Foreign { .. })));
}

#[test]
fn half_an_answer_is_none() {
    let whole = b"$3\r\nabc\r\n";
    for end in 0..whole.len() {
        assert!(talk(&GET, &whole[..end]).0.is_err(), "{end}");
    }
    assert!(talk(&GET, whole).0.is_ok());
}

#[test]
fn a_refusal_is_told_but_never_the_password() {
    let readonly = b"-READONLY You can't write against a read only replica.\r\n";
    let error = talk(&Ask::Set { key: "k", body: Bytes::new(), ttl_s: 1 }, readonly).0.unwrap_err();
    assert_eq!(
        error.to_string(),
        "it refuses to keep a value: READONLY You can't write against a read only replica."
    );
    let auth = Ask::Auth { user: None, password: "s3cret" };
    let error =
        talk(&auth, b"-ERR unknown command 'AUTH', with args beginning with: 's3cret'\r\n").0.unwrap_err();
    assert_eq!(error.to_string(), "it refuses to log in: ERR");
}
