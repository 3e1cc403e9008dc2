//! The command line where no gateway runs: usage, exact messages, exit codes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests, helpers included")]

mod support;

use support::{chitin, finish};

fn alone(args: &[&str]) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap().to_owned();
    let (code, out, err) = finish(chitin(dir.path(), args));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    (code, out, err.replace(&place, "DIR"))
}

#[test]
fn bad_usage_is_64_and_says_what_is_allowed() {
    for (args, message) in [
        (&["nope"][..], "chitin: unrecognized subcommand 'nope'\n"),
        (&["run"], "chitin: the following required arguments were not provided:\n  <CMD>...\n"),
        (&["run", "--frob", "--", "true"], "chitin: unexpected argument '--frob' found\n"),
        (
            &["run", "--timeout", "5", "--", "true"],
            "chitin: invalid value '5' for '--timeout <DURATION>': it has no unit; allowed: a number and a unit, as in \
             500ms, 1s, 5m, 2h, 1d\n",
        ),
        (
            &["run", "--timeout", "0s", "--", "true"],
            "chitin: invalid value '0s' for '--timeout <DURATION>': it must be longer than 0s\n",
        ),
        (
            &["run", "--memory", "64M", "--", "true"],
            "chitin: invalid value '64M' for '--memory <SIZE>': no such unit of size: `M`; allowed: a number and a \
             unit, as in 100B, 512KB, 64MB, 1GB (1 MB = 1,000,000 bytes), 64MiB\n",
        ),
        (
            &["submit", "--priority", "10", "--", "true"],
            "chitin: invalid value '10' for '--priority <0-9>': 10 is not in 0..=9\n",
        ),
        (
            &["run", "-e", "NOPE", "--", "true"],
            "chitin: -e NOPE: no such variable is set here\nhint: set it with -e NOPE=VALUE\n",
        ),
        (
            &["submit", "resize", "--input", "{}"],
            "chitin: handlers are not supported yet\nhint: to run a command: chitin submit -- resize …\n",
        ),
        (&["submit"], "chitin: no command is given\nhint: chitin submit [OPTIONS] -- CMD…\n"),
        (&["show", "../x"], "chitin: `../x` is not a task's id; allowed: an id as `chitin ps` shows it\n"),
        (&["down", "--wait", "--kill"], "chitin: the argument '--wait' cannot be used with '--kill'\n"),
    ] {
        let (code, out, err) = alone(args);
        assert_eq!((code, out.as_str()), (64, ""), "{args:?}: {err}");
        assert!(err.starts_with(message), "{args:?}: {err}");
    }
}

#[test]
fn without_a_gateway_it_is_69_and_says_how_to_start_one() {
    for args in [
        &["ps"][..],
        &["show", "0198"],
        &["result", "0198"],
        &["logs", "-f", "0198"],
        &["wait", "0198"],
        &["cancel", "0198"],
        &["retry", "0198"],
        &["status"],
        &["queues"],
        &["submit", "--", "true"],
    ] {
        let (code, out, err) = alone(args);
        assert_eq!((code, out.as_str()), (69, ""), "{args:?}");
        assert_eq!(
            err, "chitin: no gateway is reachable at DIR/chitin.sock\nhint: start one: chitin up --detach\n",
            "{args:?}"
        );
    }
}

#[test]
fn what_is_not_there_is_said_plainly() {
    assert_eq!(alone(&["down"]), (0, "not running\n".to_owned(), String::new()));
    assert_eq!(
        alone(&["token"]),
        (
            1,
            String::new(),
            "chitin: there is no token yet at DIR/admin.token\nhint: the first start makes it: chitin up --detach\n"
                .to_owned()
        )
    );
}

#[test]
fn help_has_examples_and_goes_to_standard_output() {
    let (code, out, err) = alone(&["run", "--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("Usage: chitin run [OPTIONS] -- CMD…\n"), "{out}");
    assert!(out.contains("Examples:\n  chitin run -- make -j2 test\n"), "{out}");
    let (code, out, _) = alone(&["--version"]);
    assert_eq!((code, out), (0, format!("chitin {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn shells_can_complete_it() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = alone(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(out.contains("submit") && out.contains("--detach"), "{shell}");
    }
}

/// What makes a test build die on purpose is not in the program, nor in the shim beside it.
#[test]
fn the_product_has_no_failpoints() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_chitin"));
    let shim = program.with_file_name("chitin-shim");
    for (binary, own) in [(program, "chitin.db"), (&shim, "exit.draft")] {
        let bytes = std::fs::read(binary).unwrap();
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(has(own), "{}: its own words are found", binary.display());
        for word in ["CHITIN_FAILPOINTS", "shim.claim.before", "engine.commit.before", "synchronous-normal"] {
            assert!(!has(word), "{}: {word}", binary.display());
        }
    }
}
