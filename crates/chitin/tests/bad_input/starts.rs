//! Gateways that cannot start, and places that look hard and are not.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::common::{Gateway, finish, program, traces};

/// What is in a folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Nothing says that a gateway runs, and none does.
fn nobody(gateway: &Gateway) {
    assert_eq!(traces::processes(&gateway.data), []);
    let left = names(&gateway.data);
    for name in ["chitin.sock", "gateway.pid", "supervisor.pid"] {
        assert!(!left.contains(&name.to_owned()), "{name} is left: {left:?}");
    }
    assert_eq!(gateway.cli(&["down"]).with(0).out(), "not running\n");
}

#[test]
fn a_wrong_configuration_is_refused_with_the_nearest_right_one() {
    let gateway = Gateway::prepare();
    fs::create_dir(&gateway.data).unwrap();
    let file = gateway.data.join("chitin.toml");
    for (text, said) in [
        ("lisen = \"none\"", "has an unknown key `lisen`; did you mean `listen`?"),
        (
            "[limits]\nrunning_task = 2",
            "has an unknown key `limits.running_task`; did you mean `limits.running_tasks`?",
        ),
        ("[limits]\nrunning_tasks = 0", ": `limits.running_tasks` is 0; allowed are 1 to 1000 attempts"),
        ("[limits]\nrunning_tasks = \"2\"", ": `limits.running_tasks` is a string; a whole number is needed"),
        (
            "listen = \"7411\"",
            ": `listen` is \"7411\"; an IP address with a port is needed, \"127.0.0.1:7411\", or \"none\"",
        ),
        (
            "listen = \"0.0.0.0:0\"",
            ": `listen` is \"0.0.0.0:0\", which other machines can reach: that needs TLS, which is not supported yet; \
             use a loopback address",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let colon = if said.starts_with(':') { "" } else { " " };
        let said = format!("chitin: the configuration {}{colon}{said}\n", file.display());
        for args in [&["up"][..], &["up", "--detach"], &["run", "--", "true"], &["config", "check"]] {
            let end = gateway.cli(args).with(64);
            assert_eq!((end.out(), end.err.as_str()), ("", said.as_str()), "{args:?}: {text}");
        }
        assert_eq!(names(&gateway.data), ["chitin.toml"], "nothing was made: {text}");
    }
    fs::write(&file, "listen = ").unwrap();
    let end = gateway.cli(&["up"]).with(64);
    assert!(end.err.contains("chitin.toml is not valid TOML: "), "{}", end.err);
    let missing = gateway.path("no.toml");
    let end = gateway.cli(&["up", "--config", "no.toml"]).with(64);
    let said = format!("chitin: cannot read the configuration {}: No such file", missing.display());
    assert!(end.err.starts_with(&said), "{}", end.err);
    fs::remove_file(file).unwrap();
    nobody(&gateway);
}

#[test]
fn a_bad_address_is_refused() {
    let gateway = Gateway::prepare();
    let end = gateway.cli(&["up", "--listen", "nonsense"]).with(64);
    assert_eq!(
        end.err,
        "chitin: --listen is \"nonsense\"; an IP address with a port is needed, \"127.0.0.1:7411\", or \
         \"none\"\n"
    );
    assert!(!gateway.data.exists(), "nothing was made");
}

#[test]
fn a_port_in_use_is_said_and_leaves_the_directory_to_others() {
    let gateway = Gateway::prepare();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = format!(
        "chitin: cannot listen on {address}; choose another with --listen, or --listen none for the socket alone: \
         Address already in use (os error 98)\n"
    );
    for args in [&["up", "--listen", &address][..], &["up", "--detach", "--listen", &address]] {
        let end = gateway.cli(args).with(1);
        assert_eq!((end.out(), end.err.as_str()), ("", said.as_str()));
        nobody(&gateway);
    }
    // What starts a gateway on the way does without.
    fs::write(gateway.data.join("chitin.toml"), format!("listen = \"{address}\"\n")).unwrap();
    assert_eq!(gateway.cli(&["run", "--", "echo", "hi"]).with(0).out(), "hi\n");
}

#[test]
fn a_directory_that_a_gateway_holds_is_its_own() {
    let gateway = Gateway::start();
    let before = names(&gateway.data);
    let pid = gateway.pid();
    let end = gateway.cli(&["up", "--listen", "127.0.0.1:0"]).with(0);
    assert_eq!(
        (end.out(), end.err.as_str()),
        ("", format!("chitin: already running (pid {pid})\n").as_str())
    );
    assert_eq!(names(&gateway.data), before);
    assert_eq!(gateway.pid(), pid);
    gateway.cli(&["run", "--", "true"]).with(0);
}

#[test]
fn a_directory_that_cannot_be_made_or_written_is_said() {
    let gateway = Gateway::prepare();
    let file = gateway.path("file");
    fs::write(&file, "mine").unwrap();
    let cases = [
        (file.join("data"), "Not a directory (os error 20)"),
        (file.clone(), "File exists (os error 17)"),
        ("/proc/chitin".into(), "No such file or directory (os error 2)"),
    ];
    for (place, why) in cases {
        let said = format!("chitin: cannot create the data directory {}: {why}\n", place.display());
        let place = place.to_str().unwrap();
        for args in [&["up", "--data-dir", place][..], &["up", "--detach", "--data-dir", place]] {
            let end = gateway.cli(args).with(1);
            assert_eq!((end.out(), end.err.as_str()), ("", said.as_str()), "{args:?}");
        }
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let end = gateway.cli(&["up", "--data-dir", "/proc/1"]).with(1);
    assert!(
        end.err.starts_with("chitin: cannot open the lock of the data directory /proc/1: "),
        "{}",
        end.err
    );
}

#[test]
fn a_directory_far_down_works() {
    let mut gateway = Gateway::prepare();
    let longest = 200 - gateway.home.path().as_os_str().len() - 1;
    gateway.data = gateway.home.path().canonicalize().unwrap().join("d".repeat(longest));
    assert_eq!(gateway.data.as_os_str().len(), 200);
    gateway.up();
    assert_eq!(gateway.cli(&["run", "--", "echo", "deep"]).with(0).out(), "deep\n");
    gateway.get("/v1/status").with(200);
    let id = gateway.submit(&["sh", "-c", "[ -S \"$CHITIN_SOCKET\" ] && echo there"]);
    gateway.ended(&id);
    assert_eq!(gateway.cli(&["result", &id]).with(0).out(), "there\n");
}

#[test]
fn a_broken_database_is_said_and_left_as_it_is() {
    let gateway = Gateway::prepare();
    fs::create_dir(&gateway.data).unwrap();
    let database = gateway.data.join("chitin.db");
    fs::write(&database, "this is no database, whatever its name says").unwrap();
    let end = gateway.cli(&["up", "--listen", "none"]).with(1);
    let said = format!("chitin: {} is damaged: file is not a database; ", database.display());
    assert!(end.err.starts_with(&said), "{}", end.err);
    assert_eq!(fs::read_to_string(&database).unwrap(), "this is no database, whatever its name says");
    nobody(&gateway);
}

#[test]
fn without_its_shim_a_gateway_does_not_start() {
    let gateway = Gateway::prepare();
    let alone = gateway.path("chitin");
    // By another process: a file that was open for writing here, while another test starts one, cannot be run yet.
    let mut copy = program("cp");
    copy.arg(env!("CARGO_BIN_EXE_chitin")).arg(&alone);
    finish(copy, None).with(0);
    let mut up = program(alone.to_str().unwrap());
    up.args(["up", "--listen", "none", "--data-dir"]).arg(&gateway.data);
    let end = finish(up, None).with(1);
    let missing = gateway.home.path().canonicalize().unwrap().join("chitin-shim");
    assert_eq!(
        end.err,
        format!(
            "chitin: {} is missing: chitin-shim belongs beside chitin; build the whole workspace\n",
            missing.display()
        )
    );
    assert!(!gateway.data.exists(), "nothing was made");
}
