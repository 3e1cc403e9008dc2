//! Submissions while the store hangs or refuses (R1.1, R4.3): each is answered, whoever is told that it was too late finds
//! the task once or not at all, and what is known already is known on.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and says what it counted"
)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use common::http::{Answer, Request};
use common::{Gateway, ended, finish, now, program, until};
use serde_json::{Value, json};

const CLIENTS: u32 = 16;

/// With these limits and no others: how long a submission may take is its own here. What comes in stays.
fn still(gateway: &mut Gateway, limits: &str, environment: &str) {
    configured(gateway, limits);
    gateway.up_under(environment);
    gateway.post("/v1/queues/default/pause", &Value::Null).with(200);
}

fn configured(gateway: &Gateway, limits: &str) {
    fs::create_dir_all(&gateway.data).unwrap();
    fs::write(gateway.data.join("chitin.toml"), format!("[limits]\n{limits}")).unwrap();
}

fn task(key: &str) -> Value {
    json!({ "command": ["true"], "tags": [key] })
}

fn submit(gateway: &Gateway, key: &str) -> Answer {
    gateway.tcp(&Request::post("/v1/tasks", &task(key)).header("idempotency-key", key))
}

fn id(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn with_tag(gateway: &Gateway, key: &str) -> Vec<String> {
    let list = gateway.get(&format!("/v1/tasks?tag={key}")).with(200).json();
    list["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
}

/// A disk below the data directory that hangs as long as a file says so; its environment for a gateway.
struct Disk {
    arm: PathBuf,
    report: PathBuf,
}

impl Disk {
    fn of(gateway: &Gateway) -> Option<(Self, String)> {
        let at = |name: &str| gateway.home.path().join(name);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chitin-store/tests/faults/faults.c");
        let mut compiler = program("sh");
        compiler.args(["-c", "exec cc -shared -fPIC -O1 -o \"$0\" \"$1\" -ldl"]);
        compiler.arg(at("faults.so")).arg(source);
        if finish(compiler, None).code != 0 {
            return None;
        }
        let disk = Self { arm: at("faults.arm"), report: at("faults.report") };
        let environment = format!(
            "export LD_PRELOAD='{}' FAULTS_BELOW='{}' FAULTS_ARM='{}' FAULTS_REPORT='{}'",
            at("faults.so").display(),
            gateway.data.display(),
            disk.arm.display(),
            disk.report.display(),
        );
        Some((disk, environment))
    }

    /// From the n-th change from now on.
    fn hangs(&self, nth: u32) {
        let _ = fs::remove_file(&self.report);
        fs::write(self.arm.with_extension("draft"), format!("{nth} +hang")).unwrap();
        fs::rename(self.arm.with_extension("draft"), &self.arm).unwrap();
    }

    fn is_hit(&self) -> bool {
        fs::read(&self.report).is_ok_and(|report| report.contains(&b'!'))
    }

    fn goes_on(&self) {
        fs::remove_file(&self.arm).unwrap();
    }
}

/// What one client was told last, under which key.
struct Told {
    key: String,
    answer: Answer,
}

/// Submits until that is refused.
fn until_refused(gateway: &Gateway, round: u32, client: u32) -> (Vec<Told>, Told, Duration) {
    let mut accepted = Vec::new();
    loop {
        let key = format!("{round}-{client}-{}", accepted.len());
        let began = now();
        let answer = submit(gateway, &key);
        let told = Told { key, answer };
        if told.answer.status != 202 {
            return (accepted, told, began.elapsed());
        }
        accepted.push(told);
    }
}

#[test]
fn whoever_is_told_that_it_was_too_late_finds_the_task_once_or_not_at_all() {
    let mut gateway = Gateway::prepare();
    fs::create_dir(&gateway.data).unwrap();
    gateway.data = gateway.data.canonicalize().unwrap();
    let Some((disk, environment)) = Disk::of(&gateway) else {
        println!("skipped: no compiler");
        return;
    };
    still(&mut gateway, "waiting_tasks = 1000000\n", &environment);
    let pid = gateway.pid();
    let (mut accepted, mut there, mut dropped, mut longest) = (0, 0, 0, Duration::ZERO);
    // Each time it hangs at another call of a commit: before it has begun, in its middle, at its sync.
    for round in 1..=6 {
        let gateway = &gateway;
        let told: Vec<_> = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| scope.spawn(move || until_refused(gateway, round, client)))
                .collect();
            until("some are accepted", || {
                (!with_tag(gateway, &format!("{round}-0-0")).is_empty()).then_some(())
            });
            disk.hangs(round);
            // All of them are answered, and the disk still hangs.
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        assert!(disk.is_hit());
        assert_eq!(gateway.unix(&Request::get("/healthz")).status, 200, "who only asks for life is answered");
        disk.goes_on();
        // Behind all that was handed in before.
        until("it accepts again", || {
            (submit(gateway, &format!("{round}-again")).status == 202).then_some(())
        });
        for (before, late, took) in told {
            for Told { key, answer } in &before {
                assert_eq!(with_tag(gateway, key), [id(answer)], "acknowledged is kept");
            }
            accepted += before.len();
            let problem = late.answer.problem();
            assert_eq!(
                (problem.status, problem.code.as_str()),
                (503, "submit-timeout"),
                "{}",
                problem.detail
            );
            assert!(late.answer.header("retry-after").is_some());
            longest = longest.max(took);
            let found = with_tag(gateway, &late.key);
            let again = submit(gateway, &late.key);
            match found.as_slice() {
                [] => dropped += 1,
                [one] => {
                    there += 1;
                    assert_eq!((again.status, id(&again)), (200, one.clone()), "found by its key");
                }
                several => panic!("{}: {several:?}", late.key),
            }
            assert_eq!(with_tag(gateway, &late.key), [id(&again)], "and from then on it is there once");
        }
    }
    assert_eq!(gateway.pid(), pid, "a disk that hangs ends nobody");
    println!(
        "{accepted} accepted; of {} that were too late, {there} were in a commit and {dropped} dropped; \
         the longest wait was {longest:?}",
        there + dropped
    );
    assert!(there > 0 && dropped > 0, "{there} {dropped}");
}

/// Holds the database's write lock until its input ends.
const LOCK: &str = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
    db.execute('PRAGMA busy_timeout = 60000')\ndb.execute('BEGIN IMMEDIATE')\n\
    print('held', flush=True)\nsys.stdin.read()\ndb.execute('ROLLBACK')";

fn locked(gateway: &Gateway) -> Option<Child> {
    let mut python = program("python3");
    python.args(["-c", LOCK]).arg(gateway.data.join("chitin.db")).stdin(Stdio::piped());
    let mut python = python.spawn().ok()?;
    let mut line = String::new();
    BufReader::new(python.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (line == "held\n").then_some(python)
}

fn let_go(mut lock: Child) {
    lock.stdin.take().unwrap().flush().unwrap();
    ended(lock).with(0);
}

#[test]
fn a_store_that_refuses_is_told_and_what_is_known_is_known_on() {
    let mut gateway = Gateway::prepare();
    still(&mut gateway, "busy_timeout_ms = 50\nsubmit_timeout_ms = 60000\n", "true");
    let known = id(&submit(&gateway, "known").with(202));
    let bulk = json!({ "tasks": [task("bulk"), task("bulk")] });
    let bulk = Request::post("/v1/tasks/bulk", &bulk).header("idempotency-key", "bulk");
    let ids = gateway.tcp(&bulk).with(202).json();
    let Some(lock) = locked(&gateway) else {
        println!("skipped: needs python3 with sqlite3");
        return;
    };
    // A batch of several is refused as a whole, and then each of them for itself.
    let answers: Vec<Answer> = thread::scope(|scope| {
        let gateway = &gateway;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || submit(gateway, &format!("new-{client}"))))
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    for answer in answers {
        let problem = answer.problem();
        assert_eq!(
            (problem.status, problem.code.as_str()),
            (503, "storage-unavailable"),
            "{}",
            problem.detail
        );
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(gateway.unix(&Request::get("/readyz")).status, 503);
    assert_eq!(gateway.unix(&Request::get("/healthz")).status, 200);
    assert_eq!(gateway.task(&known)["state"], "queued", "reads go on");

    let again = submit(&gateway, "known").with(200).json();
    assert_eq!((&again["id"], &again["state"]), (&json!(known), &json!("queued")));
    assert_eq!(gateway.tcp(&bulk).with(200).json(), ids);
    let other = Request::post("/v1/tasks", &task("other")).header("idempotency-key", "known");
    assert_eq!(gateway.tcp(&other).problem().code, "idempotency-mismatch");
    gateway.post("/v1/tasks", &task("keyless")).with(503);
    // A key is its own client's: over the socket it is another one.
    let stranger = Request::post("/v1/tasks", &task("known")).header("idempotency-key", "known");
    gateway.unix(&stranger).with(503);

    let_go(lock);
    until("it is ready by itself", || (gateway.unix(&Request::get("/readyz")).status == 200).then_some(()));
    for client in 0..CLIENTS {
        assert_eq!(
            with_tag(&gateway, &format!("new-{client}")),
            Vec::<String>::new(),
            "refused is not stored"
        );
    }
    submit(&gateway, "new-0").with(202);
    assert_eq!(with_tag(&gateway, "known"), [known]);
}

#[test]
fn while_there_is_too_little_room_a_submission_that_is_known_is_answered() {
    let mut gateway = Gateway::prepare();
    still(&mut gateway, "submit_timeout_ms = 60000\n", "true");
    let known = id(&submit(&gateway, "known").with(202));
    gateway.down(&[]).with(0);
    // On no disk there is that much room.
    configured(
        &gateway,
        "disk_used_percent = 1\ndisk_free_bytes = 1000000000000\nmonitor_interval_ms = 50\n",
    );
    gateway.up();
    until("new work is refused", || {
        let answer = gateway.post("/v1/tasks", &task("new"));
        (answer.status == 507).then_some(())
    });
    let again = submit(&gateway, "known").with(200);
    assert_eq!(
        (id(&again), again.header("location")),
        (known.clone(), Some(format!("/v1/tasks/{known}").as_str()))
    );
    submit(&gateway, "unknown").with(507);
}
