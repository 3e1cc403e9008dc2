//! Requests as bytes made beforehand, and as much of an answer as a measurement needs: status and body. A full client
//! would cost as much as the server it measures.

use std::net::SocketAddr;

/// Where requests go, and what opens the door.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The address.
    pub(super) address: SocketAddr,
    /// The bearer token.
    pub(super) token: String,
}

impl Target {
    /// A whole request.
    pub(super) fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{headers}\r\n",
            self.address,
            self.token,
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

/// What a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed<'b> {
    /// The beginning of an answer.
    Partial,
    /// One answer, whole.
    Whole {
        /// Its status.
        status: u16,
        /// Its body.
        body: &'b [u8],
    },
    /// Nothing this client understands.
    Garbled,
}

/// Looks for an answer that says its length; nothing else is asked for.
pub(super) fn parse(buffer: &[u8]) -> Parsed<'_> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Parsed::Partial;
    };
    let (head, rest) = buffer.split_at(end);
    let status = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let length = head.split(|byte| *byte == b'\n').find_map(length);
    let (Some(status), Some(length), true) = (status, length, head.starts_with(b"HTTP/1.1 ")) else {
        return Parsed::Garbled;
    };
    match rest.get(4..4 + length) {
        Some(body) => Parsed::Whole { status, body },
        None => Parsed::Partial,
    }
}

fn length(line: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let (name, value) = line.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    // Bounded, so that no sum of it can overflow.
    std::str::from_utf8(value).ok()?.trim().parse().ok().filter(|length| *length <= 1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole() {
        let target = Target { address: "127.0.0.1:7411".parse().unwrap(), token: "t".to_owned() };
        let request = target.request("POST", "/v1/tasks", "x: y\r\n", b"{}");
        assert_eq!(
            String::from_utf8(request).unwrap(),
            "POST /v1/tasks HTTP/1.1\r\nhost: 127.0.0.1:7411\r\nauthorization: Bearer t\r\n\
             content-type: application/json\r\ncontent-length: 2\r\nx: y\r\n\r\n{}"
        );
    }

    #[test]
    fn an_answer_is_whole_when_its_last_byte_is_there() {
        let answer = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nlocation: /x\r\n\r\n{}";
        for end in 0..answer.len() {
            assert_eq!(parse(&answer[..end]), Parsed::Partial, "{end}");
        }
        assert_eq!(parse(answer), Parsed::Whole { status: 202, body: b"{}" });
    }

    #[test]
    fn an_answer_without_a_length_is_not_guessed_at() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), Parsed::Garbled);
        assert_eq!(parse(b"SSH-2.0-x  200\r\ncontent-length: 0\r\n\r\n"), Parsed::Garbled);
    }
}
