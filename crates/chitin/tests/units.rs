//! The units for systemd that stand in `packaging/systemd`: systemd itself finds nothing wrong with them, and what chitin's
//! promises rest on is in them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{finish, program};

fn unit(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd").join(name);
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

#[test]
fn the_promises_are_in_the_units() {
    let (_, service) = unit("chitin.service");
    for line in [
        // Restarted for ever, known by its own word, and ended when it gives no sign.
        "Restart=on-failure",
        "TimeoutStartSec=infinity",
        "StartLimitIntervalSec=0",
        "Type=notify",
        "WatchdogSec=3s",
        // Tasks outlive it, in groups of their own, and end for themselves alone.
        "KillMode=process",
        "Delegate=yes",
        "OOMPolicy=continue",
        "Requires=chitin.socket",
    ] {
        assert!(service.lines().any(|it| it == line), "{line} is missing");
    }
    let (_, socket) = unit("chitin.socket");
    for line in ["ListenStream=127.0.0.1:7411", "ListenStream=/var/lib/chitin/chitin.sock", "SocketMode=0600"]
    {
        assert!(socket.lines().any(|it| it == line), "{line} is missing");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_them() {
    if finish(program("sh"), Some(b"command -v systemd-analyze")).code != 0 {
        println!("skipped: there is no systemd-analyze here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, service) = unit("chitin.service");
    let (_, socket) = unit("chitin.socket");
    // The program where it is, and a user that exists.
    let service = service
        .replace("/usr/local/bin/chitin", env!("CARGO_BIN_EXE_chitin"))
        .replace("User=chitin", "User=root")
        .replace("Group=chitin", "Group=root");
    let socket = socket
        .replace("SocketUser=chitin", "SocketUser=root")
        .replace("SocketGroup=chitin", "SocketGroup=root");
    let paths = ["chitin.service", "chitin.socket"].map(|name| folder.path().join(name));
    fs::write(&paths[0], service).unwrap();
    fs::write(&paths[1], socket).unwrap();
    let mut verify = program("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).args(&paths);
    let verify = finish(verify, None);
    let folder = folder.path().to_str().unwrap();
    let complaints: Vec<&str> = verify.err.lines().filter(|line| line.contains(folder)).collect();
    assert_eq!((verify.code, complaints), (0, Vec::new()), "{}", verify.err);
}
