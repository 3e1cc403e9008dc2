//! What a command sees and gives: input, output, exit, and why it could not be started.

mod common;

use chitin_proto::shim::{Cause, StartStep, names};
use common::{command, script, sh, tiers};

#[test]
fn exit_codes_are_told() {
    let tiers = tiers();
    for tier in &tiers.0 {
        for code in [0, 3, 255] {
            let attempt = sh(tier, &format!("exit {code}"));
            let report = attempt.run();
            assert_eq!((report.cause, report.exit_code, report.signal), (Cause::Exited, Some(code), None));
            assert_eq!((report.token.as_str(), report.attempt), (common::TOKEN, 1));
            assert!(report.started_at_ms.unwrap() <= report.ended_at_ms);
            assert_eq!(report.stdout.segments, [], "{}", tier.name());
        }
    }
}

#[test]
fn a_foreign_signal_is_told_by_its_number() {
    let tiers = tiers();
    for tier in &tiers.0 {
        // 34: a real-time signal is a signal like any other.
        for signal in [9, 15, 11, 34] {
            let report = sh(tier, &format!("kill -{signal} $$")).run();
            assert_eq!(
                (report.cause, report.exit_code, report.signal),
                (Cause::Signalled, None, Some(signal))
            );
        }
    }
}

#[test]
fn input_and_output_are_exact_bytes() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let mut attempt = command(tier, &["cat"]);
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i * 31).to_le_bytes()[0]).collect();
        attempt.stdin = Some(bytes.clone());
        let report = attempt.run();
        assert_eq!(report.stdout.total_bytes, 3_000_000);
        assert!(attempt.kept("stdout", &report.stdout) == bytes);
        assert_eq!((report.stderr.total_bytes, report.interleave_bytes), (0, 0));
    }
}

#[test]
fn without_input_it_is_empty() {
    let tiers = tiers();
    let attempt = sh(&tiers.0[0], "wc -c");
    assert_eq!(attempt.stdout(&attempt.run()).trim(), "0");
}

#[test]
fn both_streams_and_their_order_are_kept() {
    let tiers = tiers();
    let attempt = sh(
        &tiers.0[0],
        "echo one; until [ -s stdout.0 ]; do sleep 0.01; done; \
         echo two >&2; until [ -s stderr.0 ]; do sleep 0.01; done; echo three",
    );
    let report = attempt.run();
    assert_eq!(attempt.stdout(&report), "one\nthree\n");
    assert_eq!(attempt.stderr(&report), "two\n");
    let entries: Vec<u64> = attempt
        .read(names::INTERLEAVE)
        .chunks(8)
        .map(|c| u64::from_le_bytes(c.try_into().unwrap()))
        .collect();
    assert_eq!(report.interleave_bytes, 24);
    assert_eq!(entries, [4 << 1, 4 << 1 | 1, 6 << 1]);
}

#[test]
fn merged_streams_are_one() {
    let tiers = tiers();
    let mut attempt = sh(&tiers.0[0], "echo one; echo two >&2; echo three");
    attempt.order.merge = true;
    let report = attempt.run();
    assert_eq!(attempt.stdout(&report), "one\ntwo\nthree\n");
    assert_eq!((report.stderr.total_bytes, report.interleave_bytes), (0, 0));
}

#[test]
fn output_is_capped_to_its_head_and_tail() {
    let tiers = tiers();
    let mut attempt = command(&tiers.0[0], &["seq", "1", "100000"]);
    attempt.order.segment_bytes = 1_000;
    let report = attempt.run();
    let all: String = (1..=100_000).map(|i| format!("{i}\n")).collect();
    assert_eq!(report.stdout.total_bytes, all.len() as u64);
    for s in &report.stdout.segments {
        let bytes = attempt.read(&names::segment("stdout", s.start));
        let from = usize::try_from(s.start).unwrap();
        assert_eq!(bytes, &all.as_bytes()[from..from + bytes.len()]);
        assert_eq!(crc32fast::hash(&bytes), s.crc32);
    }
    let last = report.stdout.segments.last().unwrap();
    assert_eq!(report.stdout.segments.len(), 3);
    assert_eq!(last.start + last.len, all.len() as u64);
    let files = std::fs::read_dir(attempt.path()).unwrap().flatten();
    let names = files.filter(|e| e.file_name().to_str().unwrap().starts_with("stdout"));
    assert_eq!(names.count(), 3, "nothing between is left on the disk");
}

#[test]
fn a_result_file_is_measured_and_cut() {
    let tiers = tiers();
    let attempt = sh(&tiers.0[0], "printf hello > \"$CHITIN_RESULT_FILE\"");
    let result = attempt.run().result.unwrap();
    assert_eq!((result.len, result.crc32, result.truncated), (5, crc32fast::hash(b"hello"), false));

    let mut attempt = sh(&tiers.0[0], "printf hello > \"$CHITIN_RESULT_FILE\"");
    attempt.order.result_max_bytes = 4;
    let result = attempt.run().result.unwrap();
    assert_eq!((result.len, result.crc32, result.truncated), (4, crc32fast::hash(b"hell"), true));
}

#[test]
fn a_result_that_is_no_file_is_none() {
    let tiers = tiers();
    for script in ["ln -s /etc/passwd result", "mkfifo result", "mkdir result", ":"] {
        assert_eq!(sh(&tiers.0[0], script).run().result, None, "{script}");
    }
}

#[test]
fn the_environment_is_the_orders_and_nothing_else() {
    let tiers = tiers();
    let mut attempt = command(&tiers.0[0], &["env"]);
    attempt.order.env.push(("LINES".into(), "two\nlines".into()));
    let told = attempt.stdout(&attempt.run());
    let dir = attempt.path().display();
    let mut expected: Vec<String> = attempt.order.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    expected.push(format!("CHITIN_SOCKET={dir}/shim.sock"));
    expected.push(format!("CHITIN_RESULT_FILE={dir}/result"));
    assert_eq!(told, expected.join("\n") + "\n");
}

#[test]
fn a_command_starts_with_clean_signals_and_three_descriptors() {
    // A descriptor that somebody forgot to close; `dup` clears close-on-exec.
    let _leak = rustix::io::dup(std::io::stdin()).unwrap();
    let tiers = tiers();
    for tier in &tiers.0 {
        let attempt = command(tier, &["grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"]);
        let told = attempt.stdout(&attempt.run());
        let masks: Vec<u64> = told
            .lines()
            .map(|l| u64::from_str_radix(l.rsplit('\t').next().unwrap(), 16).unwrap())
            // 32 and 33 belong to the C library, which lets nobody else touch them.
            .map(|mask| mask & !(0b11 << 31))
            .collect();
        assert_eq!(masks, [0, 0], "{told}");
        // The fourth is the listing's own.
        let attempt = command(tier, &["ls", "/proc/self/fd"]);
        assert_eq!(attempt.stdout(&attempt.run()), "0\n1\n2\n3\n");
    }
}

#[test]
fn without_a_directory_it_runs_in_a_scratch_one() {
    let tiers = tiers();
    let mut attempt = command(&tiers.0[0], &["pwd"]);
    attempt.order.cwd = None;
    let told = attempt.stdout(&attempt.run());
    assert_eq!(told.trim(), attempt.file("work").to_str().unwrap());
}

#[test]
fn a_program_is_searched_in_the_orders_path() {
    let tiers = tiers();
    let mut attempt = command(&tiers.0[0], &["tool"]);
    std::fs::create_dir(attempt.file("bin")).unwrap();
    script(&attempt.file("bin/tool"), "#!/bin/sh\necho found\n", 0o755);
    attempt.order.env[0].1 = "/nowhere:bin".into();
    assert_eq!(attempt.stdout(&attempt.run()), "found\n");
}

#[test]
fn what_cannot_be_started_is_told_by_its_step() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let long = "x".repeat(200_000);
        for (argv, step, message) in [
            (vec!["no-such-tool"], StartStep::NotFound, "command not found: `no-such-tool`"),
            (vec!["./gone"], StartStep::NotFound, "command not found: `./gone`"),
            (
                vec!["./lost"],
                StartStep::NotFound,
                "cannot execute `./lost`: its interpreter `/no/interp` does not exist",
            ),
            (vec!["./plain"], StartStep::NotExecutable, "cannot execute `./plain`: permission denied"),
            (
                vec!["./bare"],
                StartStep::NotExecutable,
                "cannot execute `./bare`: not a program (a script needs a first line such as `#!/bin/sh`)",
            ),
            (vec!["./"], StartStep::NotExecutable, "cannot execute `./`: permission denied"),
            (vec!["true", &long], StartStep::NotExecutable, "argument list too long"),
            (
                vec!["true", "a\0b"],
                StartStep::NotExecutable,
                "an argument contains a NUL byte, which no program can be given",
            ),
        ] {
            let attempt = command(tier, &argv);
            script(&attempt.file("lost"), "#! /no/interp -x\n", 0o755);
            script(&attempt.file("plain"), "#!/bin/sh\n", 0o644);
            script(&attempt.file("bare"), "echo\n", 0o755);
            let mut gateway = attempt.start();
            let why = gateway.not_started();
            assert_eq!((why.step, why.message.as_str()), (step, message));
            gateway.settle();
            attempt.assert_nothing_left();
        }
    }
}

#[test]
fn a_directory_that_is_none_is_named() {
    let tiers = tiers();
    for (name, why) in [("gone", "no such directory"), ("file", "not a directory")] {
        let mut attempt = command(&tiers.0[0], &["true"]);
        std::fs::write(attempt.file("file"), "").unwrap();
        attempt.order.cwd = Some(attempt.file(name));
        let mut gateway = attempt.start();
        let told = gateway.not_started();
        assert_eq!(told.step, StartStep::Directory);
        assert_eq!(told.message, format!("cannot run in `{}`: {why}", attempt.file(name).display()));
        gateway.settle();
    }
}

#[test]
fn a_group_that_cannot_be_made_is_our_trouble() {
    let tiers = tiers();
    let mut attempt = sh(&tiers.0[0], "touch ran");
    let group = attempt.file("no/such/parent");
    attempt.order.isolation = chitin_proto::shim::Isolation::Cgroup2 { group };
    let mut gateway = attempt.start();
    let why = gateway.not_started();
    assert_eq!((why.step, why.errno), (StartStep::Machinery, 2));
    gateway.settle();
    assert!(!attempt.file("ran").exists());
}

#[test]
fn a_deep_spool_folder_is_no_trouble() {
    let tiers = tiers();
    let mut attempt = sh(&tiers.0[0], "test -S \"$CHITIN_SOCKET\"");
    let deep = attempt.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    attempt.order.cwd = None;
    let shim = std::path::Path::new(env!("CARGO_BIN_EXE_chitin-shim"));
    let spawned = chitin_shim::start::spawn(shim, &deep, &attempt.order, None).unwrap();
    let mut gateway = common::Gateway::new(spawned.pid.unwrap(), spawned.socket);
    assert_eq!(gateway.ended().exit_code, Some(0));
    chitin_shim::recover::connect(&deep).unwrap();
    gateway.settle();
}
