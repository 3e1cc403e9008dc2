use std::os::unix::ffi::OsStringExt;

use clap::Parser;
use serde_json::{Value, json};

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: TaskOptions,
    #[arg(last = true)]
    command: Vec<OsString>,
}

fn caller() -> Caller {
    let env = [
        ("PATH", "/bin"),
        ("HOME", "/home/a"),
        ("LC_ALL", "C.UTF-8"),
        ("SECRET", "s"),
        ("CHITIN_TASK_ID", "outer"),
        ("CHITIN_DATA_DIR", "/d"),
    ];
    Caller {
        cwd: Some(PathBuf::from("/work dir")),
        env: env.map(|(name, value)| (OsString::from(name), OsString::from(value))).to_vec(),
    }
}

fn request(line: &[&str], stdin: Option<&[u8]>, retries: Option<u32>) -> Result<Value, Failure> {
    let cli = Cli::try_parse_from(std::iter::once(&"chitin").chain(line)).unwrap();
    let request = cli.options.request(&cli.command, stdin.map(<[u8]>::to_vec), retries, &caller())?;
    Ok(serde_json::to_value(request).unwrap())
}

#[test]
fn nothing_given_is_nothing_sent_but_the_place_and_the_environment() {
    assert_eq!(
        request(&["--", "ls", "-l"], None, None).unwrap(),
        json!({
            "command": ["ls", "-l"],
            "cwd": "/work dir",
            "env": {"HOME": "/home/a", "LC_ALL": "C.UTF-8", "PATH": "/bin"},
        })
    );
}

#[test]
fn every_option_has_its_field() {
    let line = "--timeout 1.5s --memory 64MB --cpus 0.5 --pids 7 --retries 2 --queue slow --priority 9 --delay 2m \
                --cwd sub --tag a --tag b -e A=1=2 -e SECRET -e EMPTY= --merge -- x";
    let line: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(
        request(&line, Some(b"\xff\x00"), Some(0)).unwrap(),
        json!({
            "command": ["x"],
            "stdin": {"base64": "/wA="},
            "cwd": "/work dir/sub",
            "env": {"A": "1=2", "EMPTY": "", "HOME": "/home/a", "LC_ALL": "C.UTF-8", "PATH": "/bin", "SECRET": "s"},
            "merge": true,
            "queue": "slow",
            "priority": 9,
            "delay_s": 120.0,
            "timeout_s": 1.5,
            "retry": {"max": 2},
            "memory_bytes": 64_000_000,
            "cpus": 0.5,
            "pids": 7,
            "tags": ["a", "b"],
        })
    );
}

#[test]
fn run_asks_for_no_retries_unless_told() {
    assert_eq!(request(&["--", "x"], None, Some(0)).unwrap()["retry"], json!({"max": 0}));
    assert_eq!(request(&["--retries", "3", "--", "x"], None, Some(0)).unwrap()["retry"], json!({"max": 3}));
    assert_eq!(request(&["--", "x"], None, None).unwrap().get("retry"), None);
}

#[test]
fn the_whole_environment_is_without_what_belongs_to_the_task_we_run_in() {
    let sent = request(&["--env-all", "-e", "PATH=/other", "--", "x"], None, None).unwrap();
    assert_eq!(
        sent["env"],
        json!({"CHITIN_DATA_DIR": "/d", "HOME": "/home/a", "LC_ALL": "C.UTF-8", "PATH": "/other", "SECRET": "s"})
    );
}

#[test]
fn wrong_variables_are_refused_by_name() {
    for (line, message) in [
        (&["-e", "NONE"][..], "-e NONE: no such variable is set here"),
        (&["-e", "=1"], "-e `=1` has no name; allowed: -e NAME or -e NAME=VALUE"),
        (&["-e", "A=1", "-e", "A=2"], "-e A is given twice; allowed: each name once"),
    ] {
        let failure = request(line, None, None).unwrap_err();
        assert_eq!(failure.message.as_deref(), Some(message));
        assert_eq!(failure.exit, 64);
    }
}

#[test]
fn what_is_not_utf8_is_refused_not_mangled() {
    let wrong = || OsString::from_vec(vec![b'a', 0xff]);
    let options = TaskOptions::default();
    let failure = options.request(&[wrong()], None, None, &caller()).unwrap_err();
    assert_eq!(failure.message.as_deref(), Some("the argument `a\u{fffd}` is not UTF-8; allowed: UTF-8"));

    let place = Caller { cwd: Some(PathBuf::from(wrong())), ..caller() };
    let failure = options.request(&["x".into()], None, None, &place).unwrap_err();
    assert_eq!(failure.message.as_deref(), Some("the directory `a\u{fffd}` is not UTF-8"));

    let gone = Caller { cwd: None, ..caller() };
    let failure = options.request(&["x".into()], None, None, &gone).unwrap_err();
    assert_eq!(failure.message.as_deref(), Some("the current directory is gone"));
}

#[test]
fn a_body_has_its_exact_limit() {
    let with =
        |length: usize| TaskRequest { stdin: Some(Stdin(vec![b'a'; length])), ..TaskRequest::default() };
    let around = serde_json::to_vec(&with(0)).unwrap().len();
    let most = usize::try_from(MAX_TASK_BODY_BYTES).unwrap();
    assert_eq!(body(&with(most - around)).unwrap().len(), most);
    assert_eq!(body(&with(most - around + 1)).unwrap_err().exit, 64);
}
