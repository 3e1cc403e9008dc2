//! How many connections there may be, and how long each may do nothing.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::common::{Gateway, PATIENCE, now};

fn gateway_layer(gateway: &Gateway) -> Value {
    gateway.get("/v1/status").with(200).json()["layers"]["gateway"].clone()
}

#[test]
fn connections_are_bounded_by_descriptors_which_are_raised_for_the_gateway_alone() {
    let mut gateway = Gateway::prepare();
    gateway.up_under("ulimit -Sn 100 -Hn 300 || { ulimit -Sn 100; ulimit -Hn 300; }");
    let layer = gateway_layer(&gateway);
    assert_eq!((&layer["connections_limit"], &layer["connections_wanted"]), (&149.into(), &4_096.into()));
    let doctor = gateway.cli(&["doctor"]);
    assert!(doctor.out().contains("allow for 149 connections, not 4096"), "{doctor:?}");
    // What it starts has what it was itself started with.
    let id = gateway.submit(&["sh", "-c", "ulimit -Sn; ulimit -Hn"]);
    gateway.ended(&id);
    assert_eq!(gateway.get(&format!("/v1/tasks/{id}/result")).with(200).body, b"100\n300\n");
}

/// Waits for the other end to close; what it said before.
fn closed(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read_to_end(&mut said) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
            panic!("it was not closed: {error}")
        }
        _ => said,
    }
}

#[test]
fn a_head_that_does_not_come_and_an_idle_connection_end_and_a_long_poll_does_not() {
    let gateway = Gateway::start_with("header_timeout_ms = 300\nidle_timeout_ms = 600");
    let connect = || TcpStream::connect(gateway.address.unwrap()).unwrap();
    let (silent, mut slow, mut idle) = (connect(), connect(), connect());
    slow.write_all(b"GET /healthz HTTP/1.1\r\nhost: loc").unwrap();
    write!(idle, "GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address.unwrap()).unwrap();
    assert_eq!(closed(silent), b"");
    assert_eq!(closed(slow), b"");
    assert!(closed(idle).starts_with(b"HTTP/1.1 200 OK\r\n"), "answered, and later closed");
    let cut = gateway_layer(&gateway)["connections_cut"].as_u64().unwrap();
    assert!(cut >= 3, "{cut}");

    let id = gateway.submit(&["sleep", "2"]);
    let asked = now();
    let task = gateway.get(&format!("/v1/tasks/{id}?wait_s=60")).with(200).json();
    assert_eq!(task["state"], "succeeded", "after {:?}: {task}", asked.elapsed());
}

#[test]
fn whoever_does_nothing_with_a_place_gives_it_up_when_places_are_few() {
    let gateway =
        Gateway::start_with("connections = 16\nheader_timeout_ms = 600000\nidle_timeout_ms = 600000");
    let silent: Vec<TcpStream> =
        (0..64).map(|_| TcpStream::connect(gateway.address.unwrap()).unwrap()).collect();
    // The other door has places of its own.
    assert_eq!(
        gateway.cli(&["status", "--json"]).with(0).json()["layers"]["gateway"]["connections_limit"],
        16
    );
    gateway.get("/healthz").with(200);
    // The last of them are patiently waited for: they are in nobody's way.
    for stream in silent.into_iter().take(48) {
        assert_eq!(closed(stream), b"");
    }
}
