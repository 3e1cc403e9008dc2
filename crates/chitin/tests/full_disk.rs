//! A disk that is really full (R5.3): new work is refused, what has begun is recorded, and when space returns nobody has
//! to do anything. On a small file system of its own, for which it takes the right to mount.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use common::http::Request;
use common::{Gateway, finish, program, until};
use serde_json::json;

/// A small file system for as long as it lives.
struct Disk(PathBuf);

impl Disk {
    /// None: this user may not mount.
    fn at(place: &Path, options: &str) -> Option<Self> {
        let mut mount = program("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(place);
        (finish(mount, None).code == 0).then(|| Self(place.to_owned()))
    }

    /// Not a byte is left.
    fn fill(&self) {
        let mut file = fs::File::options().create(true).append(true).open(self.0.join("fill")).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while file.write(&vec![b'x'; size]).is_ok() {}
        }
    }

    /// Not a file can be made.
    fn use_up_inodes(&self) {
        fs::create_dir(self.0.join("files")).unwrap();
        let mut made = 0;
        while fs::File::create(self.0.join(format!("files/{made}"))).is_ok() {
            made += 1;
        }
        assert!(made > 10, "{made}");
    }

    fn free_inodes(&self) {
        fs::remove_dir_all(self.0.join("files")).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut unmount = program("umount");
        unmount.arg("-l").arg(&self.0);
        finish(unmount, None);
    }
}

/// A gateway that is not started yet, with a small disk for its data; said if this user may not mount. The disk stands first, so
/// that it goes last.
#[expect(clippy::print_stdout, reason = "a test says that it is skipped")]
fn on_small_disk(options: &str) -> Option<(Disk, Gateway)> {
    let gateway = Gateway::prepare();
    fs::create_dir(&gateway.data).unwrap();
    let disk = Disk::at(&gateway.data, options);
    if disk.is_none() {
        println!("skipped: no right to mount a file system");
    }
    Some((disk?, gateway))
}

#[test]
fn a_full_disk_refuses_new_work_and_records_what_has_begun() {
    let Some((disk, mut gateway)) = on_small_disk("size=80m") else { return };
    fs::write(gateway.data.join("chitin.toml"), "[limits]\nrunning_tasks = 1\nsubmit_timeout_ms = 60000\n")
        .unwrap();
    gateway.up();
    let go = gateway.home.path().join("go");
    let script = format!("echo recorded; while [ ! -e '{}' ]; do sleep 0.05; done", go.display());
    let id = gateway.submit(&["sh", "-c", &script]);
    until("its output", || (gateway.cli(&["logs", &id]).out() == "recorded\n").then_some(()));
    let next = gateway.submit(&["echo", "next"]);
    disk.fill();

    let large = json!({ "command": ["true"], "stdin": "x".repeat(1_000_000) });
    let refused = until("a refusal", || {
        let answer = gateway.post("/v1/tasks", &large);
        (answer.status != 202).then_some(answer)
    });
    assert_eq!(refused.with(507).problem().code, "storage-full");
    assert_eq!(gateway.unix(&Request::get("/readyz")).status, 503);
    assert_eq!(gateway.unix(&Request::get("/healthz")).status, 200);

    fs::write(&go, "").unwrap();
    assert_eq!(gateway.ended(&id)["state"], "succeeded");
    assert_eq!(gateway.cli(&["result", &id]).with(0).out(), "recorded\n");
    let small = json!({ "command": ["true"] });
    gateway.post("/v1/tasks", &small).with(507);
    // There is a place to run now, and what room was kept back is not for that.
    assert_eq!(gateway.task(&next)["state"], "queued");

    disk.free();
    until("readiness", || (gateway.unix(&Request::get("/readyz")).status == 200).then_some(()));
    assert_eq!(fs::metadata(gateway.data.join("chitin.ballast")).unwrap().len(), 32_000_000, "taken back");
    until("new work is taken", || (gateway.post("/v1/tasks", &small).status == 202).then_some(()));
    assert_eq!(gateway.ended(&next)["state"], "succeeded");
}

#[test]
fn a_disk_that_is_nearly_full_refuses_new_work_and_recovers_by_itself() {
    let Some((disk, mut gateway)) = on_small_disk("size=120m") else { return };
    fs::write(
        gateway.data.join("chitin.toml"),
        "[limits]\nsubmit_timeout_ms = 60000\nmonitor_interval_ms = 50\n",
    )
    .unwrap();
    gateway.up();
    let go = gateway.home.path().join("go");
    let script = format!("echo recorded; while [ ! -e '{}' ]; do sleep 0.05; done", go.display());
    let runs = gateway.submit(&["sh", "-c", &script]);
    gateway.until_state(&runs, "running");
    let monitor = || gateway.get("/v1/status").json()["layers"]["monitor"].clone();
    let mut file = fs::File::create(disk.0.join("fill")).unwrap();
    let mut seen = u64::MAX;
    let shedding = until("the monitor refuses", || {
        let monitor = monitor();
        if monitor["state"] == "shedding" {
            return Some(monitor);
        }
        // Up to the line, and not beyond it: a piece at a time, once the one before it was seen.
        let free = monitor["disk_free_bytes"].as_u64()?;
        if free > 11_000_000 && free < seen.saturating_sub(1_500_000) {
            seen = free;
            file.write_all(&vec![b'x'; 4_000_000]).unwrap();
        }
        None
    });
    assert!(shedding["disk_free_bytes"].as_u64().unwrap() > 5_000_000, "{shedding}");
    let small = json!({ "command": ["true"] });
    let refused = gateway.post("/v1/tasks", &small).with(507);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.problem().code, "storage-full");
    assert_eq!(gateway.get("/v1/status").json()["shedding"], true);
    // The store takes what it is given: reads go on, and what runs is recorded.
    assert_eq!(gateway.unix(&Request::get("/readyz")).status, 200);
    assert_eq!(gateway.cli(&["logs", &runs]).with(0).out(), "recorded\n");
    fs::write(&go, "").unwrap();
    assert_eq!(gateway.ended(&runs)["state"], "succeeded");
    assert_eq!(gateway.cli(&["result", &runs]).with(0).out(), "recorded\n");

    // What is open keeps its room.
    drop(file);
    disk.free();
    until("new work is taken", || (gateway.post("/v1/tasks", &small).status == 202).then_some(()));
    assert_eq!(monitor()["state"], "ok");
    let told = gateway.cli(&["events", "-n", "100"]).with(0);
    let at = |name: &str| told.out().lines().position(|line| line.contains(name));
    let [low, began, better, ended] =
        ["disk.low", "shed.began", "disk.recovered", "shed.ended"].map(|name| at(name).unwrap());
    assert!(low < began && began < better && better < ended, "{}", told.out());
}

#[test]
fn without_inodes_what_was_accepted_waits_and_nothing_is_used_up() {
    let Some((disk, mut gateway)) = on_small_disk("size=80m,nr_inodes=200") else { return };
    gateway.up();
    let go = gateway.home.path().join("go");
    let script = format!("echo recorded; while [ ! -e '{}' ]; do sleep 0.05; done", go.display());
    let runs = gateway.submit(&["sh", "-c", &script]);
    until("its output", || (gateway.cli(&["logs", &runs]).out() == "recorded\n").then_some(()));
    disk.use_up_inodes();

    // The database needs none: new work is accepted, or refused with a reason.
    let small = json!({ "command": ["echo", "later"], "retry": { "max": 0 } });
    let answers: Vec<_> = (0..5).map(|_| gateway.post("/v1/tasks", &small)).collect();
    let accepted: Vec<String> = answers
        .iter()
        .filter_map(|answer| match answer.status {
            202 => Some(answer.json()["id"].as_str().unwrap().to_owned()),
            503 | 507 => None,
            status => panic!("{status}"),
        })
        .collect();
    assert_eq!(gateway.unix(&Request::get("/healthz")).status, 200);
    fs::write(&go, "").unwrap();
    assert_eq!(gateway.ended(&runs)["state"], "succeeded", "what ran ends and is recorded");

    disk.free_inodes();
    for id in &accepted {
        let task = gateway.ended(id);
        assert_eq!((&task["state"], &task["attempt"]), (&json!("succeeded"), &json!(1)), "{task}");
    }
    println!("{} of 5 were accepted without an inode left, and all of them ran", accepted.len());
}

/// A library that, preloaded, makes changes below a folder fail, or of one file, while a file says so.
fn faults(gateway: &Gateway, below: &str) -> Option<(PathBuf, String)> {
    let at = |name: &str| gateway.home.path().join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chitin-store/tests/faults/faults.c");
    let mut compiler = program("sh");
    compiler.args(["-c", "exec cc -shared -fPIC -O1 -o \"$0\" \"$1\" -ldl"]).arg(at("faults.so")).arg(source);
    if finish(compiler, None).code != 0 {
        return None;
    }
    let environment = format!(
        "export LD_PRELOAD='{}' FAULTS_BELOW='{}' FAULTS_ARM='{}' FAULTS_REPORT='{}'",
        at("faults.so").display(),
        gateway.data.canonicalize().unwrap().join(below).to_str().unwrap().trim_end_matches('/'),
        at("faults.arm").display(),
        at("faults.report").display(),
    );
    Some((at("faults.arm"), environment))
}

/// Makes the n-th change from now on meet something; see `faults.c`.
fn arm(file: &Path, what: &str) {
    let _ = fs::remove_file(file);
    let _ = fs::remove_file(file.with_extension("report"));
    fs::write(file.with_extension("draft"), what).unwrap();
    fs::rename(file.with_extension("draft"), file).unwrap();
}

/// Some megabytes of the log that wait to be worked off; whoever submits them goes on also when the gateway ends meanwhile.
fn make_much_to_work_off(gateway: &Gateway) -> Vec<String> {
    let submit = ["submit", "--delay", "1h", "--", "true"];
    let accept = |_| {
        let submitted = finish(gateway.command(&submit), Some(&vec![b'x'; 1_500_000]));
        submitted.with(0).out().trim_end().to_owned()
    };
    (0..4).map(accept).collect()
}

/// A gateway whose database's own file fails as it is told to. Nothing but checkpoints writes to that.
fn failing_checkpoints() -> Option<(Gateway, PathBuf)> {
    let mut gateway = Gateway::prepare();
    fs::create_dir(&gateway.data).unwrap();
    let (file, environment) = faults(&gateway, "chitin.db")?;
    gateway.up_under(&environment);
    Some((gateway, file))
}

#[test]
fn a_checkpoint_that_meets_an_error_ends_the_gateway_and_its_successor_has_everything() {
    let Some((gateway, file)) = failing_checkpoints() else {
        println!("skipped: no compiler");
        return;
    };
    // The first page that it writes, and a later one.
    for nth in [1, 40] {
        let pid = gateway.pid();
        arm(&file, &format!("{nth} 5"));
        let accepted = make_much_to_work_off(&gateway);
        until("another gateway serves", || {
            let status = gateway.cli(&["status", "--json"]);
            (status.code == 0 && status.json()["pid"] != pid).then_some(())
        });
        assert!(fs::read_to_string(file.with_extension("report")).unwrap().contains('!'));
        let gateway_layer = gateway.cli(&["status", "gateway", "--json"]).json();
        assert!(gateway_layer["last_end"].as_str().unwrap().contains("70"), "{gateway_layer}");
        for id in accepted {
            assert_eq!(gateway.task(&id)["state"], "scheduled");
        }
    }
}

#[test]
fn a_checkpoint_that_finds_no_room_is_tried_again_by_the_same_gateway() {
    let Some((gateway, file)) = failing_checkpoints() else {
        println!("skipped: no compiler");
        return;
    };
    let pid = gateway.pid();
    arm(&file, "1 28");
    let accepted = make_much_to_work_off(&gateway);
    until("it is tried again", || {
        fs::read_to_string(file.with_extension("report"))
            .is_ok_and(|calls| calls.contains("!."))
            .then_some(())
    });
    assert_eq!(gateway.pid(), pid);
    for id in accepted {
        assert_eq!(gateway.task(&id)["state"], "scheduled");
    }
}

#[test]
fn on_a_full_disk_a_gateway_starts_by_what_was_kept_back_or_says_what_is_missing() {
    let Some((disk, mut gateway)) = on_small_disk("size=80m") else { return };
    gateway.up();
    let done = gateway.submit(&["echo", "recorded"]);
    gateway.ended(&done);
    // As a power cut leaves it: the index of the log was never synced, and its room is somebody else's.
    let index = gateway.data.join("chitin.db-shm");
    gateway.crash();
    fs::remove_file(&index).unwrap();
    disk.fill();
    gateway.up();
    assert_eq!(gateway.cli(&["result", &done]).with(0).out(), "recorded\n");

    gateway.crash();
    fs::remove_file(&index).unwrap();
    fs::write(gateway.data.join("chitin.ballast"), "").unwrap();
    disk.fill();
    let refused = gateway.cli(&["gateway", "--listen", "127.0.0.1:0"]);
    assert!(refused.code != 0 && refused.err.contains("find room for the index"), "{refused:?}");
    disk.free();
    gateway.up();
    assert_eq!(gateway.cli(&["result", &done]).with(0).out(), "recorded\n");
}

#[test]
fn a_disk_that_turns_read_only_is_waited_out_while_reads_go_on() {
    let mut gateway = Gateway::prepare();
    fs::create_dir(&gateway.data).unwrap();
    let Some((file, environment)) = faults(&gateway, "") else {
        println!("skipped: no compiler");
        return;
    };
    gateway.up_under(&environment);
    let done = gateway.submit(&["echo", "recorded"]);
    gateway.ended(&done);
    let go = gateway.home.path().join("go");
    let runs =
        gateway.submit(&["sh", "-c", &format!("while [ ! -e '{}' ]; do sleep 0.05; done", go.display())]);
    gateway.until_state(&runs, "running");
    let pid = gateway.pid();

    // Every change fails from the first one on, as on a file system that is read-only (`EROFS`).
    arm(&file, "1 +30");
    let small = json!({ "command": ["true"], "retry": { "max": 0 } });
    let refused = until("a refusal that says so", || {
        let answer = gateway.post("/v1/tasks", &small).with(503);
        (answer.problem().code == "storage-unavailable").then_some(answer)
    });
    assert!(refused.header("retry-after").is_some());
    for _ in 0..20 {
        assert_eq!(gateway.unix(&Request::get("/healthz")).status, 200);
        assert_eq!(gateway.unix(&Request::get("/readyz")).status, 503);
        assert_eq!(gateway.cli(&["result", &done]).with(0).out(), "recorded\n");
        assert_eq!(gateway.task(&runs)["state"], "running");
    }
    assert_eq!(gateway.get("/v1/status").json()["layers"]["store"]["state"], "refusing");
    assert_eq!(gateway.pid(), pid, "the same gateway all the while");
    fs::write(&go, "").unwrap();

    fs::remove_file(&file).unwrap();
    // The gateway ends then, and whoever asks at that moment loses the answer: the command line asks again.
    until("new work is taken", || (gateway.cli(&["submit", "--", "true"]).code == 0).then_some(()));
    until("another gateway serves", || (gateway.pid() != pid).then_some(()));
    let task = gateway.ended(&runs);
    assert_eq!((&task["state"], &task["attempt"]), (&json!("succeeded"), &json!(1)), "{task}");
    assert_eq!(gateway.cli(&["result", &done]).with(0).out(), "recorded\n");
}
