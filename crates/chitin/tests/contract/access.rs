//! Who may ask: tokens, users, hosts and origins.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use crate::common::Gateway;
use crate::common::http::Request;

fn token(gateway: &Gateway) -> String {
    gateway.cli(&["token"]).with(0).out().trim_end().to_owned()
}

#[test]
fn tcp_needs_the_token() {
    let gateway = Gateway::start();
    let host = gateway.address.unwrap().to_string();
    let ask = |authorization: Option<&str>| {
        let request = Request::get("/v1/status").header("host", &host);
        let answer = gateway.tcp_bare(&match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        });
        if answer.status == 200 {
            return (200, String::new(), String::new());
        }
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"chitin\""));
        let problem = answer.problem();
        (problem.status, problem.code, problem.detail)
    };
    let refused = |detail: &str| (401, "unauthorized".to_owned(), detail.to_owned());
    let token = token(&gateway);
    assert_eq!(token.len(), 64, "256 bits");
    assert_eq!(ask(Some(&format!("Bearer {token}"))).0, 200);
    assert_eq!(ask(Some(&format!("bearer {token}"))).0, 200, "the scheme's case is free");
    assert_eq!(ask(None), refused("send `Authorization: Bearer TOKEN`; `chitin token` prints the token"));
    assert_eq!(ask(Some(&format!("Bearer {}", "0".repeat(64)))), refused("the token is not valid here"));
    assert_eq!(ask(Some(&format!("Bearer {}", &token[..63]))), refused("the token is not valid here"));
    assert_eq!(ask(Some(&token)), refused("the header Authorization is not `Bearer TOKEN`"));
    assert_eq!(ask(Some("Basic eDp5")), refused("the header Authorization is not `Bearer TOKEN`"));
}

#[test]
fn hosts_and_origins_must_be_ours() {
    let gateway = Gateway::start();
    let port = gateway.address.unwrap().port();
    let bearer = format!("Bearer {}", token(&gateway));
    let ask = |host: &str, origin: Option<&str>| {
        let request = Request::get("/v1/status").header("host", host).header("authorization", &bearer);
        let answer = gateway.tcp_bare(&match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        });
        if answer.status == 200 { String::new() } else { answer.problem().detail }
    };
    let ours = format!("127.0.0.1:{port}");
    for good in [ours.clone(), format!("localhost:{port}")] {
        assert_eq!(ask(&good, None), "");
        assert_eq!(ask(&good, Some(&format!("http://{good}"))), "");
    }
    for foreign in ["evil.example".to_owned(), format!("evil.example:{port}"), "127.0.0.1".to_owned()] {
        assert_eq!(ask(&foreign, None), "the header Host does not name this gateway");
    }
    for foreign in ["http://evil.example", "null", "https://127.0.0.1", "http://localhost"] {
        assert_eq!(ask(&ours, Some(foreign)), "the header Origin names another site");
    }
    // The health routes are open, but not to a page of another site.
    let health = Request::get("/healthz").header("host", "evil.example");
    let problem = gateway.tcp_bare(&health).problem();
    assert_eq!((problem.status, problem.code.as_str()), (403, "forbidden"));
}

#[test]
fn health_is_open_to_all() {
    let gateway = Gateway::start();
    let host = gateway.address.unwrap().to_string();
    for path in ["/healthz", "/readyz"] {
        gateway.tcp_bare(&Request::get(path).header("host", &host)).with(200);
        gateway.unix(&Request::get(path)).with(200);
    }
}

#[test]
fn the_socket_trusts_its_user_without_a_token() {
    let gateway = Gateway::start();
    gateway.unix(&Request::get("/v1/status")).with(200);
    let body = r#"{"command": ["true"]}"#;
    gateway.unix(&Request::new("POST", "/v1/tasks").json(body)).with(202);
    let foreign = Request::get("/v1/status").header("origin", "http://evil.example");
    assert_eq!(gateway.unix(&foreign).problem().status, 403);
}

#[test]
fn the_data_directory_is_private_and_complete_before_the_first_answer() {
    let gateway = Gateway::start();
    let mode = |name: &str| fs::metadata(gateway.data.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for name in ["chitin.sock", "admin.token"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert!(fs::metadata(gateway.data.join("chitin.sock")).unwrap().file_type().is_socket());
    for name in ["chitin.db", "gateway.lock", "chitin.log", "spool"] {
        assert!(gateway.data.join(name).exists(), "{name}");
    }
    let status = gateway.get("/v1/status").with(200).json();
    for (name, key) in [("gateway.pid", "pid"), ("supervisor.pid", "supervisor_pid")] {
        let pid = status[key].as_u64().unwrap();
        assert_eq!(fs::read_to_string(gateway.data.join(name)).unwrap(), format!("{pid}\n"), "{name}");
    }
    let token = fs::read_to_string(gateway.data.join("admin.token")).unwrap();
    assert!(token.len() == 65 && token.ends_with('\n'), "{token:?}");
    // No file but its own holds the token: the database knows its hash.
    for entry in fs::read_dir(&gateway.data).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() && entry.file_name() != "admin.token" {
            let bytes = fs::read(entry.path()).unwrap();
            let holds = bytes.windows(64).any(|window| window == token.trim_end().as_bytes());
            assert!(!holds, "{} holds the token", entry.path().display());
        }
    }
}

#[test]
fn the_token_outlives_the_gateway_and_unknown_files_are_left_alone() {
    let mut gateway = Gateway::start();
    let before = token(&gateway);
    fs::write(gateway.data.join("notes.txt"), "mine").unwrap();
    gateway.down(&[]).with(0);
    for name in ["chitin.sock", "gateway.pid", "supervisor.pid"] {
        assert!(!gateway.data.join(name).exists(), "{name} is left");
    }
    assert_eq!(token(&gateway), before, "also without a gateway");
    gateway.up();
    assert_eq!(token(&gateway), before);
    assert_eq!(fs::read_to_string(gateway.data.join("notes.txt")).unwrap(), "mine");
    gateway.get("/v1/status").with(200);
}
