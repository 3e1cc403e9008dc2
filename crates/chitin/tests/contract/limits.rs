//! Commands that take more than they may, or do not want to end: each ends, named rightly, with all that it started; and
//! the limits of which that is said are in force, by whatever means this machine has.

use chitin_shim::groups::{self, TierKind};
use serde_json::Value;

use crate::common::{Gateway, traces, until};

/// With a short grace, and each of the means that there are: a gateway that was told to use it.
fn by_each_means(test: impl Fn(&Gateway, TierKind)) {
    for tier in groups::all() {
        let gateway = gateway(&format!("isolation = \"{}\"", tier.name()));
        assert_eq!(gateway.get("/v1/status").with(200).json()["isolation"], tier.name());
        let shown = format!(", isolation {}", tier.name());
        assert!(gateway.cli(&["status"]).with(0).out().lines().next().unwrap().contains(&shown));
        assert!(gateway.cli(&["doctor"]).out().contains(&format!("{} (this machine has: ", tier.name())));
        test(&gateway, tier.kind());
    }
}

fn gateway(keys: &str) -> Gateway {
    Gateway::start_configured(keys, "grace_ms = 300\nsegment_bytes = 1000000\nresult_bytes = 1000000")
}

/// Whether this machine holds a task to it.
fn is_enforced(gateway: &Gateway, limit: &str) -> bool {
    let status = gateway.get("/v1/status").with(200).json();
    let weak = status["layers"]["workers"]["not_enforced"].as_array().unwrap();
    !weak.iter().any(|what| what == limit)
}

/// Whatever a command started is gone.
fn nothing_left(gateway: &Gateway) {
    let of_a_command = |process: &traces::Process| {
        let ours = ["chitin-shim", "chitin-forks", env!("CARGO_BIN_EXE_chitin")];
        !ours.iter().any(|name| process.command.starts_with(name))
    };
    until("nothing of it is left", || {
        (!traces::processes(&gateway.data).iter().any(of_a_command)).then_some(())
    });
}

/// The last task's only attempt.
fn attempt(gateway: &Gateway) -> Value {
    let list = gateway.get("/v1/tasks?limit=1").with(200).json();
    let task = gateway.task(list["tasks"][0]["id"].as_str().unwrap());
    assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
    task["attempts"][0].clone()
}

/// Takes a mebibyte after the other; slowly where memory is only looked at now and then.
fn eater(kind: TierKind) -> String {
    let pause = if kind == TierKind::Rlimit { "0.005" } else { "0" };
    format!("import time\nx = []\nwhile True: x.append(bytearray(1 << 20)); time.sleep({pause})")
}

#[test]
fn what_takes_memory_without_end_is_told_with_limit_and_peak() {
    by_each_means(|gateway, kind| {
        let eats = eater(kind);
        let run = gateway.cli(&["run", "--memory", "64MB", "--", "python3", "-c", &eats]).with(137);
        assert!(run.err.starts_with("chitin: out of memory: limit 64MB, peak "), "{}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        let attempt = attempt(gateway);
        assert_eq!(attempt["outcome"], "oom_killed");
        assert!(attempt["peak_memory_bytes"].as_u64().unwrap() > 50_000_000, "{attempt}");
        nothing_left(gateway);
    });
}

#[test]
fn too_many_processes_are_refused_and_the_end_says_so() {
    by_each_means(|gateway, _| {
        if !is_enforced(gateway, "pids") {
            println!("skipped: nothing limits processes here");
            return;
        }
        let many = "for i in $(seq 100); do sleep 1000 & done; wait";
        let run = gateway.cli(&["run", "--pids", "50", "--", "sh", "-c", many]).with(2);
        let said = "chitin: its limit of 50 processes and threads was met: 1 more was refused\n";
        assert!(run.err.ends_with(said), "{}", run.err);
        let attempt = attempt(gateway);
        assert_eq!(attempt["outcome"], "failed");
        nothing_left(gateway);
        // Those that never give up, those that are nobody's children, and one that is left behind.
        std::fs::write(gateway.path("bomb"), "setsid sh bomb & setsid sh bomb & sleep 1000").unwrap();
        let bombs = [
            ("bomb() { bomb | bomb & }; bomb; sleep 1000", 124, "chitin: timed out after 1s\n"),
            ("sh bomb; sleep 1000", 124, "chitin: timed out after 1s\n"),
            ("bomb() { bomb | bomb & }; bomb; exit 0", 0, ""),
        ];
        for (bomb, code, said) in bombs {
            let run = gateway.cli(&["run", "--pids", "50", "--timeout", "1s", "--", "sh", "-c", bomb]);
            assert_eq!(run.code, code, "{bomb}: {}", run.err);
            assert!(run.err.ends_with(said) && run.err.contains("Cannot fork"), "{bomb}: {}", run.err);
            nothing_left(gateway);
        }
    });
}

#[test]
fn output_without_end_is_cut_and_blocks_nobody() {
    let gateway = gateway("");
    // Nobody reads it: the command runs into its timeout and not into a full pipe.
    let id = gateway.submit_with(&["--timeout", "500ms"], &["yes"]);
    let wait = gateway.cli(&["wait", &id]).with(124);
    assert_eq!(wait.err, "chitin: timed out after 500ms\n");
    let logs = gateway.cli(&["logs", &id]).with(0);
    assert!((2_000_000..=3_000_000).contains(&logs.bytes.len()), "{} bytes", logs.bytes.len());
    assert!(logs.err.ends_with(" bytes of stdout were not kept\n"), "{}", logs.err);
    // Somebody reads it, slower than it comes: what is missing is said in two lines, not in thousands.
    let run = gateway.cli(&["run", "--timeout", "500ms", "--", "yes"]).with(124);
    assert!(run.bytes.chunks(2).all(|line| line == b"y\n" || line == b"y" || line == b"\ny"));
    assert!(
        run.err.lines().count() <= 3 && run.err.ends_with("chitin: timed out after 500ms\n"),
        "{}",
        run.err
    );
    // One that ends by itself has a result, which is said to be cut.
    let id = gateway.submit(&["sh", "-c", "yes | head -c 5000000"]);
    let task = gateway.ended(&id);
    assert_eq!((&task["state"], &task["result_truncated"]), (&"succeeded".into(), &true.into()), "{task}");
    let result = gateway.cli(&["result", &id]).with(0);
    assert!(result.bytes == b"y\n".repeat(500_000), "{} bytes", result.bytes.len());
    assert_eq!(result.err, "chitin: this is the result's beginning: it was longer than what is kept\n");
    nothing_left(&gateway);
}

#[test]
fn what_does_not_want_to_end_ends() {
    by_each_means(|gateway, kind| {
        let deaf = "trap '' TERM INT HUP; while :; do sleep 0.05; done";
        let run = gateway.cli(&["run", "--timeout", "300ms", "--", "sh", "-c", deaf]).with(124);
        assert_eq!(run.err, "chitin: timed out after 300ms\n", "{kind:?}");
        nothing_left(gateway);
        // Twice removed, in a session of its own, and deaf too: the command's end is not held up.
        let stray = "setsid sh -c 'trap \"\" TERM; setsid sleep 1000 & exec sleep 1000' & exit 3";
        let run = gateway.cli(&["run", "--", "sh", "-c", stray]).with(3);
        assert_eq!(run.err, "", "{kind:?}");
        nothing_left(gateway);
        let id = gateway.submit(&["sh", "-c", &format!("({stray}); touch begun-{kind:?}; sleep 1000")]);
        until("it runs", || gateway.path(&format!("begun-{kind:?}")).exists().then_some(()));
        gateway.cli(&["cancel", &id]).with(0);
        assert_eq!(gateway.cli(&["wait", &id]).with(130).err, "chitin: cancelled\n");
        nothing_left(gateway);
    });
}

#[test]
fn all_limits_together_hold_and_let_honest_work_be() {
    let options = ["run", "--memory", "64MB", "--cpus", "0.5", "--pids", "50", "--timeout", "10s", "--"];
    by_each_means(|gateway, kind| {
        let run = |command: &[&str]| gateway.cli(&[&options, command].concat());
        let honest = run(&["sh", "-c", "seq 1 1000 | sort -n | tail -n 1"]).with(0);
        assert_eq!((honest.out(), honest.err.as_str()), ("1000\n", ""), "{kind:?}");
        let ate = run(&["python3", "-c", &eater(kind)]).with(137);
        assert!(ate.err.starts_with("chitin: out of memory: limit 64MB, peak "), "{kind:?}: {}", ate.err);
        if is_enforced(gateway, "pids") {
            let many = run(&["sh", "-c", "for i in $(seq 100); do sleep 1000 & done; wait"]).with(2);
            assert!(many.err.contains("its limit of 50 processes"), "{kind:?}: {}", many.err);
        }
        nothing_left(gateway);
    });
}

#[test]
fn whoever_names_no_limits_has_the_defaults() {
    let gateway = Gateway::start();
    let id = gateway.submit(&["sleep", "1000"]);
    gateway.until_state(&id, "running");
    let groups = traces::groups(&gateway.data);
    if groups.is_empty() {
        println!("skipped: no control groups here");
        return;
    }
    let limit = |files: [&str; 2]| {
        let groups = groups.iter().map(|group| group.join(format!("{id}.1")));
        let files = groups.flat_map(|group| files.map(|file| group.join(file)));
        let text = files.filter_map(|file| std::fs::read_to_string(file).ok()).next();
        text.and_then(|text| text.trim().parse::<u64>().ok())
    };
    // In whole pages of 4 KiB.
    let written = until("its memory is limited", || limit(["memory.limit_in_bytes", "memory.max"]));
    assert_eq!(written, 499_998_720);
    if is_enforced(&gateway, "pids") {
        assert_eq!(until("its processes are", || limit(["pids.max", "pids.max"])), 2_048);
    }
    gateway.cli(&["cancel", &id]).with(0);
}

#[test]
fn means_that_are_not_there_are_not_promised() {
    let here: Vec<TierKind> = groups::all().iter().map(groups::Tier::kind).collect();
    let Some(missing) = TierKind::ALL.into_iter().find(|kind| !here.contains(kind)) else {
        println!("skipped: this machine has all of them");
        return;
    };
    let gateway = Gateway::prepare();
    std::fs::create_dir(&gateway.data).unwrap();
    let config = format!("listen = \"127.0.0.1:0\"\nisolation = \"{}\"\n", missing.name());
    std::fs::write(gateway.data.join("chitin.toml"), config).unwrap();
    let up = gateway.cli(&["gateway"]).with(64);
    let said =
        format!("chitin: `isolation` is \"{}\", which this machine does not let chitin have", missing.name());
    assert!(up.err.starts_with(&said) && up.err.trim_end().ends_with("rlimit"), "{}", up.err);
}

#[test]
fn files_and_descriptors_of_a_command_are_bounded_as_configured() {
    let gateway = Gateway::start_with("task_file_bytes = 100000\ntask_open_files = 99");
    let run = gateway.cli(&["run", "--", "sh", "-c", "ulimit -n; ulimit -Hn"]).with(0);
    assert_eq!(run.out(), "99\n99\n");
    let run = gateway.cli(&["run", "--", "sh", "-c", "exec head -c 200000 /dev/zero > large"]).with(153);
    assert!(run.err.starts_with("chitin: ended by signal 25 (SIGXFSZ): a file was to grow"), "{}", run.err);
    assert_eq!(gateway.path("large").metadata().unwrap().len(), 100_000);
    // Output is no file of the command's, nor is what the shim keeps of it.
    let run = gateway.cli(&["run", "--", "sh", "-c", "head -c 300000 /dev/zero"]).with(0);
    assert_eq!(run.bytes.len(), 300_000);
}
