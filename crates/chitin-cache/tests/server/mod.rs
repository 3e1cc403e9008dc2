//! A server that speaks as much of Redis' language as is asked of one, in a manner that a test decides.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Good,
    /// Takes connections and requests, and answers none.
    Hangs,
    /// As a replica does.
    RefusesWrites,
}

#[derive(Default)]
struct State {
    manner: Option<Manner>,
    values: HashMap<String, (Vec<u8>, u64)>,
    open: Vec<TcpStream>,
}

/// The server; its threads end with the test's process.
pub(crate) struct Fake {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    connections: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
}

impl Fake {
    pub(crate) fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State { manner: Some(manner), ..State::default() })),
            connections: Arc::default(),
            writes: Arc::default(),
        };
        let (state, connections, writes) =
            (Arc::clone(&fake.state), Arc::clone(&fake.connections), Arc::clone(&fake.writes));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                state.lock().unwrap().open.push(stream.try_clone().unwrap());
                let (state, writes) = (Arc::clone(&state), Arc::clone(&writes));
                thread::spawn(move || serve(stream, &state, &writes));
            }
        });
        fake
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub(crate) fn set(&self, manner: Manner) {
        self.state.lock().unwrap().manner = Some(manner);
    }

    /// All connections break, and nothing is known any more.
    pub(crate) fn restart(&self) {
        let mut state = self.state.lock().unwrap();
        for stream in state.open.drain(..) {
            _ = stream.shutdown(std::net::Shutdown::Both);
        }
        state.values.clear();
    }

    pub(crate) fn value(&self, key: &str) -> Option<(Vec<u8>, u64)> {
        self.state.lock().unwrap().values.get(key).cloned()
    }

    pub(crate) fn put(&self, key: &str, value: &[u8]) {
        self.state.lock().unwrap().values.insert(key.to_owned(), (value.to_vec(), 1));
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, writes: &AtomicU64) {
    let mut write = stream.try_clone().unwrap();
    let mut read = BufReader::new(stream);
    while let Some(words) = request(&mut read) {
        let text = |at: usize| String::from_utf8(words[at].clone()).unwrap();
        let mut state = state.lock().unwrap();
        let manner = state.manner.unwrap();
        let answer = match (text(0).as_str(), manner) {
            (_, Manner::Hangs) => continue,
            ("PING", _) => b"+PONG\r\n".to_vec(),
            ("GET", _) => match state.values.get(&text(1)) {
                None => b"$-1\r\n".to_vec(),
                Some((value, _)) => {
                    let mut answer = format!("${}\r\n", value.len()).into_bytes();
                    answer.extend_from_slice(value);
                    answer.extend_from_slice(b"\r\n");
                    answer
                }
            },
            ("SETEX", Manner::RefusesWrites) => {
                writes.fetch_add(1, Ordering::SeqCst);
                b"-READONLY You can't write against a read only replica.\r\n".to_vec()
            }
            ("SETEX", Manner::Good) => {
                writes.fetch_add(1, Ordering::SeqCst);
                let value = (words[3].clone(), text(2).parse().unwrap());
                state.values.insert(text(1), value);
                b"+OK\r\n".to_vec()
            }
            (other, _) => panic!("{other} is never asked"),
        };
        drop(state);
        // Whoever asked may have gone.
        if write.write_all(&answer).is_err() {
            return;
        }
    }
}

fn request(read: &mut impl BufRead) -> Option<Vec<Vec<u8>>> {
    let count = number(read, '*')?;
    (0..count)
        .map(|_| {
            let len = number(read, '$')?;
            let mut word = vec![0; len + 2];
            read.read_exact(&mut word).ok()?;
            word.truncate(len);
            Some(word)
        })
        .collect()
}

fn number(read: &mut impl BufRead, kind: char) -> Option<usize> {
    let mut line = String::new();
    read.read_line(&mut line).ok()?;
    line.strip_prefix(kind)?.trim_end().parse().ok()
}
