//! Shims that serve one attempt after another: each attempt finds what it would find with a fresh shim in a fresh folder,
//! and is found again as one that has.
#![allow(clippy::unwrap_used, reason = "a test may; clippy sees no test in its helpers")]

mod common;

use std::fs;
use std::os::unix::net::UnixStream;

use chitin_proto::shim::{Cause, FromShim, PROTOCOL_VERSION, ToShim, names};
use chitin_shim::groups::Tier;
use chitin_shim::recover::{self, Found, Voided};
use chitin_shim::start::{ForkServer, Resting};
use common::{Attempt, EPOCH, Gateway, Tiers, alive, boot_id, group_tiers, kill9, sh, tiers, until};

/// A shim as its gateway sees it.
struct Served {
    gateway: Gateway,
    socket: UnixStream,
}

fn server() -> ForkServer {
    ForkServer::new(env!("CARGO_BIN_EXE_chitin-shim").into(), 200)
}

/// The tiers in which shims rest: groups measure all there is.
fn measured() -> Tiers {
    let mut tiers = group_tiers();
    tiers.0.retain(|tier| !matches!(tier, Tier::Cgroup1 { unified: None, .. }));
    tiers
}

/// An attempt under a token of its own that runs in its scratch directory.
fn attempt(tier: &Tier, script: &str) -> Attempt {
    let mut attempt = sh(tier, script);
    attempt.order.token = format!("{:032}", attempt.order.task.rsplit('-').next().unwrap());
    attempt.order.cwd = None;
    attempt
}

impl Served {
    fn fork(server: &ForkServer, attempt: &Attempt) -> Self {
        let spawned = server.start(attempt.path(), &attempt.order, attempt.stdin.as_deref()).unwrap();
        Self::new(spawned.pid.unwrap(), spawned.socket)
    }

    fn new(shim_pid: u32, socket: UnixStream) -> Self {
        Self { socket: socket.try_clone().unwrap(), gateway: Gateway::new(shim_pid, socket) }
    }

    /// Asks the shim of an ended attempt to rest; whether it does. Else it has left.
    fn rests(&mut self) -> bool {
        self.gateway.send(&ToShim::Rest);
        match self.gateway.next() {
            Some(frame) => {
                assert_eq!(frame, FromShim::Resting { v: PROTOCOL_VERSION });
                true
            }
            None => {
                until("the shim ends", || !alive(self.gateway.shim_pid));
                false
            }
        }
    }

    /// Gives the folder to another attempt, which has none.
    fn folder(from: &Attempt, to: &Attempt) {
        fs::remove_dir(to.path()).unwrap();
        fs::rename(from.path(), to.path()).unwrap();
    }

    /// Has the shim serve another attempt; `None`: it is gone.
    fn wake(self, to: &Attempt) -> Option<Self> {
        let shim = Resting::new(self.socket);
        let again = shim.start(to.path(), &to.order, to.stdin.as_deref()).unwrap()?;
        Some(Self::new(self.gateway.shim_pid, again.socket))
    }

    fn settle(mut self) {
        self.gateway.send(&ToShim::Settled);
        assert_eq!(self.gateway.next(), None);
        until("the shim ends", || !alive(self.gateway.shim_pid));
    }
}

fn files(attempt: &Attempt) -> Vec<String> {
    let entries = fs::read_dir(attempt.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn each_attempt_is_as_with_a_shim_of_its_own() {
    let tiers = measured();
    let server = server();
    for tier in &tiers.0 {
        // It looks before it says anything, which would make a file.
        let script = "seen=$(ls -A . ..); pwd; echo \"$seen\"; echo $CHITIN_SOCKET; ls /proc/self/fd
            grep Sig[BI] /proc/self/status; cat; echo e >&2; echo r > $CHITIN_RESULT_FILE; exit 3";
        let fresh = || {
            let mut fresh = attempt(tier, script);
            fresh.stdin = Some(b"given".to_vec());
            fresh
        };
        let mut now = fresh();
        let mut served = Served::fork(&server, &now);
        let mut told: Vec<String> = Vec::new();
        for number in 0..4 {
            served.gateway.started();
            let Found::Alive = now.probe() else { panic!("{:?}", now.probe()) };
            let cmdline = fs::read(format!("/proc/{}/cmdline", served.gateway.shim_pid)).unwrap();
            assert_eq!(cmdline, format!("chitin-shim\0{}\0", now.path().display()).into_bytes());
            let report = served.gateway.ended();
            assert_eq!((&report.cause, report.exit_code), (&Cause::Exited, Some(3)), "{number}");
            assert_eq!((&report.token, &report.task), (&now.order.token, &now.order.task));
            assert!(report.peak_memory_bytes.unwrap() > 0 && report.running_ms < 60_000);
            assert_eq!(report.result.as_ref().unwrap().len, 2);
            let hidden = [(now.path().to_str().unwrap(), "FOLDER"), (now.order.token.as_str(), "TOKEN")];
            let said = now.stdout(&report) + &now.stderr(&report);
            let said = hidden.into_iter().fold(said, |said, (own, word)| said.replace(own, word));
            assert!(said.starts_with("FOLDER/work\n") && said.contains("\nFOLDER/shim.sock\n"), "{said}");
            told.push(said);
            assert_eq!(told[number], told[0], "number {number} finds what the first one found");
            assert!(served.rests());
            let claim = names::claim(&now.order.token);
            let left = [&claim, names::EXIT_RECORD_DRAFT, names::SOCKET, names::SCRATCH];
            assert_eq!(files(&now), left, "nothing of an attempt is left to the next one");
            assert!(now.groups().iter().all(|group| !group.exists()), "nor a group");
            let next = fresh();
            Served::folder(&now, &next);
            served = served.wake(&next).unwrap();
            now = next;
        }
        served.gateway.ended();
        served.settle();
        now.assert_nothing_left();
    }
}

#[test]
fn an_attempt_of_a_shim_that_served_before_is_found_and_followed_by_a_later_gateway() {
    let tiers = measured();
    for tier in &tiers.0 {
        let server = server();
        let before = attempt(tier, "echo before");
        let mut served = Served::fork(&server, &before);
        served.gateway.ended();
        assert!(served.rests());
        let now = attempt(tier, "echo now; sleep 1000");
        Served::folder(&before, &now);
        let mut served = served.wake(&now).unwrap();
        served.gateway.started();
        let shim = served.gateway.shim_pid;
        assert_eq!(now.claim().shim.unwrap().pid, shim);
        // As a killed gateway does: every descriptor closes.
        drop((served, server));
        let mut later = now.attach(shim, EPOCH + 1);
        until("it said something", || now.file("stdout.0").exists());
        later.cancel();
        let report = later.ended();
        assert_eq!((report.cause.clone(), now.stdout(&report).as_str()), (Cause::Cancelled, "now\n"));
        // And without anybody it leaves a record, not another rest.
        drop(later);
        until("the shim ends", || !alive(shim));
        let Found::Dead { record: Some(record), .. } = now.probe() else { panic!("no record") };
        assert_eq!(record, report);
        now.assert_nothing_left();
    }
}

#[test]
fn what_was_voided_before_its_order_came_is_not_started() {
    let tiers = measured();
    let server = server();
    for tier in &tiers.0 {
        let before = attempt(tier, "true");
        let mut served = Served::fork(&server, &before);
        served.gateway.ended();
        assert!(served.rests());
        let now = attempt(tier, "echo x > $CHITIN_RESULT_FILE");
        Served::folder(&before, &now);
        let voided = recover::void(now.path(), &now.order.token, &boot_id()).unwrap();
        assert_eq!(voided, Voided::Voided);
        let mut served = served.wake(&now).unwrap();
        assert_eq!(served.gateway.next(), Some(FromShim::Void { v: PROTOCOL_VERSION }));
        assert_eq!(served.gateway.next(), None);
        assert_eq!(now.probe(), Found::Void);
        assert!(!now.file(names::RESULT).exists());
        // The folder serves the next token, with another shim: what stands in it is in nobody's way.
        let mut again = attempt(tier, "exit 4");
        again.order.task.clone_from(&now.order.task);
        again.order.isolation.clone_from(&now.order.isolation);
        Served::folder(&now, &again);
        let mut other = Served::fork(&server, &again);
        assert_eq!(other.gateway.ended().exit_code, Some(4));
        assert!(!other.rests(), "with another claim in it, a folder does not serve again");
    }
}

#[test]
fn a_shim_rests_only_after_an_ordinary_life() {
    let tiers = tiers();
    let server = server();
    for tier in &tiers.0 {
        let measured = !matches!(tier, Tier::Rlimit | Tier::Cgroup1 { unified: None, .. });
        for (script, ordinary) in [
            ("exit 1", true),
            ("kill -9 $$", true),
            ("echo x; echo x >&2; echo r > $CHITIN_RESULT_FILE", true),
            ("touch left", false),
            ("chmod 755 .", false),
            ("rmdir ../work", false),
            ("touch ../unknown", false),
            ("mkdir $CHITIN_RESULT_FILE", false),
            ("echo x > ../claim-of-another", false),
        ] {
            let attempt = attempt(tier, script);
            let mut served = Served::fork(&server, &attempt);
            served.gateway.ended();
            // Without its scratch directory the folder is as good: the next one makes it.
            let expected = measured && (ordinary || script.starts_with("rmdir"));
            assert_eq!(served.rests(), expected, "{script}");
        }
    }
}

#[test]
fn a_shim_with_a_second_connection_or_of_a_later_gateway_leaves() {
    let tiers = measured();
    let server = server();
    for tier in &tiers.0 {
        let one = attempt(tier, "exit 0");
        let mut served = Served::fork(&server, &one);
        served.gateway.ended();
        let stranger = recover::connect(one.path()).unwrap();
        // It was taken in when the shim answers the attached one.
        let mut later = one.attach(served.gateway.shim_pid, EPOCH + 1);
        later.ended();
        later.send(&ToShim::Rest);
        assert_eq!(later.next(), None);
        until("the shim ends", || !alive(served.gateway.shim_pid));
        drop(stranger);
    }
}

#[test]
fn a_resting_shim_leaves_with_its_gateway_and_one_that_was_killed_starts_nothing() {
    let tiers = measured();
    let server = server();
    for tier in &tiers.0 {
        let one = attempt(tier, "exit 0");
        let mut served = Served::fork(&server, &one);
        served.gateway.ended();
        assert!(served.rests());
        let shim = served.gateway.shim_pid;
        drop(served);
        until("it leaves", || !alive(shim));

        let two = attempt(tier, "exit 0");
        let mut served = Served::fork(&server, &two);
        served.gateway.ended();
        assert!(served.rests());
        kill9(served.gateway.shim_pid);
        until("it is gone", || !alive(served.gateway.shim_pid));
        let three = attempt(tier, "exit 5");
        Served::folder(&two, &three);
        assert!(served.wake(&three).is_none(), "nobody hears it");
        assert_eq!(three.probe(), Found::NoClaim);
        // A shim of its own takes the folder over as it is.
        let mut served = Served::fork(&server, &three);
        assert_eq!(served.gateway.ended().exit_code, Some(5));
        served.settle();
        three.assert_nothing_left();
    }
}
