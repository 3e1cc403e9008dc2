//! HTTP/1.1 by hand, one request a connection: what a test says is what is sent, right or wrong.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};

use serde_json::Value;

/// A request as it goes out. `content-length` is added unless the headers speak of the body's form.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self { line: format!("{method} {path} HTTP/1.1"), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// With a body of JSON.
    pub(crate) fn post(path: &str, body: &Value) -> Self {
        Self::new("POST", path).json(body.to_string())
    }

    /// With a body that says it is JSON.
    pub(crate) fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A header, unless there is one of this name.
    pub(crate) fn or_header(self, name: &str, value: &str) -> Self {
        if self.has(name) { self } else { self.header(name, value) }
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known == name)
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("{}\r\nconnection: close\r\n", self.line);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.has("content-length") && !self.has("transfer-encoding") {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// 200 and the like.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// The bytes.
    pub(crate) body: Vec<u8>,
}

/// An error answer's parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) field: String,
    pub(crate) detail: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, if it has this status.
    #[track_caller]
    pub(crate) fn with(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// The error it says, which must have the form of one.
    #[track_caller]
    pub(crate) fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], self.status, "{body}");
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        assert!(!text("title").is_empty(), "{body}");
        Problem { status: self.status, code: text("code"), field: text("field"), detail: text("detail") }
    }
}

/// Sends a request and reads its answer. With `expect: 100-continue` the body goes only if it is asked for.
pub(crate) fn exchange<S: Read + Write>(mut stream: S, request: &Request) -> Answer {
    let asks_first = request.has("expect");
    // Whoever refuses early may not read to the end: what counts is the answer.
    let _ = stream.write_all(&request.head());
    if !asks_first {
        let _ = stream.write_all(&request.body);
    }
    let mut reader = BufReader::new(stream);
    loop {
        let (status, headers) = read_head(&mut reader);
        if status == 100 {
            let _ = reader.get_mut().write_all(&request.body);
            continue;
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        answer.body = if answer.header("transfer-encoding") == Some("chunked") {
            read_chunks(&mut reader)
        } else {
            let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            body
        };
        return answer;
    }
}

fn read_head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let first = read_line(reader);
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no answer: {first:?}"));
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader);
        let Some((name, value)) = line.split_once(':') else { return (status, headers) };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_line(reader: &mut impl BufRead) -> String {
    let mut line = Vec::new();
    match reader.read_until(b'\n', &mut line) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8(line).unwrap().trim_end().to_owned(),
    }
}

fn read_chunks(reader: &mut impl BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader);
        let length = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("no chunk: {line:?}"));
        let mut chunk = vec![0; length];
        reader.read_exact(&mut chunk).unwrap();
        body.extend_from_slice(&chunk);
        read_line(reader);
        if length == 0 {
            return body;
        }
    }
}
