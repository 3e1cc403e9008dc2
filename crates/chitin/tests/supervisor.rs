//! The supervisor: whatever of an instance is killed or hangs, it is back, and nobody was refused (R0.1, R0.6, R6.5).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use common::http::Request;
use common::{Gateway, ended, finish, program, traces, until};

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    pidfd_send_signal(pidfd_open(pid, PidfdFlags::empty()).unwrap(), signal).unwrap();
}

/// Waits until another supervisor than `before` has the sockets.
fn next_supervisor(gateway: &Gateway, before: u32) -> u32 {
    until("a new supervisor", || {
        let pid = gateway.get("/v1/status").with(200).json()["supervisor_pid"].as_u64()?;
        (pid != u64::from(before)).then_some(u32::try_from(pid).unwrap())
    })
}

/// Waits until another gateway than `before` answers; its status. Asked as a person would: threads stop one after the other,
/// so the old one may still take a connection, which then breaks, and is asked again.
fn next_gateway(gateway: &Gateway, before: u32) -> Value {
    until("the next gateway answers", || {
        let status = gateway.cli(&["status", "--json"]).with(0).json();
        (status["pid"] != before).then_some(status)
    })
}

fn layer(gateway: &Gateway) -> Value {
    gateway.get("/v1/status").with(200).json()["layers"]["gateway"].clone()
}

#[test]
fn a_killed_gateway_is_back_and_says_why() {
    let gateway = Gateway::start();
    assert_eq!((&layer(&gateway)["restarts"], &layer(&gateway)["last_end"]), (&json!(0), &Value::Null));
    let supervisor = gateway.supervisor_pid();
    for kill in 1..=3 {
        let pid = gateway.pid();
        gateway.kill_gateway();
        // No wait and no second try: whoever connects between two gateways waits in the backlog.
        let status = gateway.get("/v1/status").with(200).json();
        assert_ne!(status["pid"], pid);
        assert_eq!(status["supervisor_pid"], supervisor);
        let layer = &status["layers"]["gateway"];
        let said = format!("process {pid} was killed by signal 9");
        assert_eq!((&layer["restarts"], &layer["last_end"]), (&json!(kill), &json!(said)));
        assert!(layer["last_end_at"].is_string(), "{layer}");
    }
    let run = gateway.cli(&["run", "--", "echo", "as ever"]).with(0);
    assert_eq!((run.out(), run.err.as_str()), ("as ever\n", ""));
}

#[test]
fn nobody_is_refused_while_gateways_are_killed() {
    const KILLS: u32 = 10;
    let gateway = Gateway::start();
    let (done, connections) = (AtomicBool::new(false), AtomicUsize::new(0));
    let connect = |tcp: bool| {
        while !done.load(Ordering::Relaxed) {
            let connected = if tcp {
                TcpStream::connect(gateway.address.unwrap()).map(drop)
            } else {
                UnixStream::connect(gateway.data.join("chitin.sock")).map(drop)
            };
            connected.unwrap();
            connections.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| connect(true));
        scope.spawn(|| connect(false));
        for _ in 0..KILLS {
            let (before, connected) = (gateway.pid(), connections.load(Ordering::Relaxed));
            gateway.kill_gateway();
            until("there is another gateway, and connections meanwhile", || {
                let next = fs::read_to_string(gateway.data.join("gateway.pid")).ok()?;
                let more = connections.load(Ordering::Relaxed) > connected + 10;
                (more && next.trim() != before.to_string()).then_some(())
            });
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(layer(&gateway)["restarts"], KILLS);
}

#[test]
fn a_killed_supervisor_is_started_again_and_is_as_good() {
    let mut gateway = Gateway::start();
    let pid = gateway.pid();
    let mut supervisor = gateway.supervisor_pid();
    for _ in 0..2 {
        signal(supervisor, Signal::KILL);
        let next = next_supervisor(&gateway, supervisor);
        assert_eq!(gateway.pid(), pid, "the gateway goes on");
        // The gateway knows whom it has started before that one has written itself down.
        until("it is written down", || (gateway.supervisor_pid() == next).then_some(()));
        supervisor = next;
    }
    // What the new one has to do: be the one, bring a gateway back, and know of lives before its own.
    let up = gateway.cli(&["up"]).with(0);
    assert_eq!(up.err, format!("chitin: already running (pid {pid})\n"));
    gateway.kill_gateway();
    gateway.kill_gateway_again(pid);
    assert_eq!(layer(&gateway)["restarts"], 2);
    assert_eq!(gateway.supervisor_pid(), supervisor);
    gateway.cli(&["run", "--", "true"]).with(0);

    gateway.forget_process();
    assert_eq!(gateway.cli(&["down"]).with(0).out(), "stopped\n");
    assert_eq!(traces::processes(&gateway.data), []);
    for name in ["chitin.sock", "gateway.pid", "supervisor.pid"] {
        assert!(!gateway.data.join(name).exists(), "{name} is left");
    }
}

#[test]
fn a_gateway_that_gives_no_sign_of_life_is_followed_by_another() {
    let gateway = Gateway::start();
    let pid = gateway.pid();
    signal(pid, Signal::STOP);
    let status = next_gateway(&gateway, pid);
    let said = format!("process {pid} gave no sign of life and was ended");
    assert_eq!(status["layers"]["gateway"]["last_end"], said);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "the old one is gone, and reaped");
}

#[test]
fn a_task_outlives_many_gateways_whole() {
    const KILLS: usize = 12;
    let gateway = Gateway::start();
    let script = "echo $CHITIN_ATTEMPT >> starts; n=0; while [ ! -e go ]; do n=$((n+1)); echo $n; sleep 0.05; done; \
        echo $n > last; exit 7";
    let id = gateway.submit(&["sh", "-c", script]);
    let follows = gateway.command(&["logs", "-f", &id]).stdout(Stdio::piped()).spawn().unwrap();
    gateway.until_state(&id, "running");
    for kill in 0..KILLS {
        if kill == KILLS / 2 {
            let supervisor = gateway.supervisor_pid();
            signal(supervisor, Signal::KILL);
            next_supervisor(&gateway, supervisor);
        }
        gateway.kill_gateway();
        gateway.until_state(&id, "running");
    }
    fs::write(gateway.path("go"), "").unwrap();
    let task = gateway.ended(&id);
    assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task}");
    assert_eq!(task["attempts"][0]["exit_code"], 7);
    assert_eq!(fs::read_to_string(gateway.path("starts")).unwrap(), "1\n");
    let last: u64 = fs::read_to_string(gateway.path("last")).unwrap().trim().parse().unwrap();
    let whole: String = (1..=last).map(|n| format!("{n}\n")).collect();
    assert_eq!(gateway.cli(&["logs", &id]).with(0).out(), whole);
    assert_eq!(ended(follows).with(0).out(), whole, "whoever followed missed nothing");
}

#[test]
fn a_terminated_supervisor_stops_its_gateway_and_leaves_tasks_running() {
    let mut gateway = Gateway::start();
    let id = gateway.submit(&["sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; exit 3"]);
    gateway.until_state(&id, "running");
    gateway.terminate();
    let left = traces::processes(&gateway.data);
    assert!(left.iter().all(|process| !process.command.contains("gateway --data-dir")), "{left:?}");
    assert!(!gateway.data.join("chitin.sock").exists());
    gateway.up();
    fs::write(gateway.path("go"), "").unwrap();
    assert_eq!(gateway.ended(&id)["attempts"][0]["exit_code"], 3);
}

#[test]
fn a_supervisor_is_small() {
    let gateway = Gateway::start();
    gateway.kill_gateway();
    gateway.get("/v1/status").with(200);
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", gateway.supervisor_pid())).unwrap();
    let private = |line: &str| {
        let value = line.strip_prefix("Private_Clean:").or_else(|| line.strip_prefix("Private_Dirty:"))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    let kilobytes: u64 = rollup.lines().filter_map(private).sum();
    assert!((1..2_000).contains(&kilobytes), "{kilobytes} kB:\n{rollup}");
}

#[test]
fn a_gateway_that_never_serves_is_tried_on_and_can_be_stopped() {
    let mut gateway = Gateway::start();
    gateway.down(&[]);
    let mut spoil = program("python3");
    let script = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\n\
        assert db.execute(\"DELETE FROM counter WHERE name = 'epoch'\").rowcount == 1\ndb.commit()";
    spoil.args(["-c", script]).arg(gateway.data.join("chitin.db"));
    finish(spoil, None).with(0);

    let up = gateway.command(&["up", "--listen", "none"]).spawn().unwrap();
    until("it was tried in safe mode, too", || {
        common::log(&gateway.data).contains("\"safe_mode\":true").then_some(())
    });
    // The sockets are held: whoever comes waits.
    UnixStream::connect(gateway.data.join("chitin.sock")).unwrap();
    let down = gateway.cli(&["down"]).with(0);
    assert_eq!(down.out(), "stopped\n");
    let said = format!("; its supervisor (pid {}) was asked to end it\n", up.id());
    assert!(down.err.ends_with(&said), "{}", down.err);
    let up = ended(up).with(0);
    assert!(up.err.contains("chitin: cannot take over what the database holds: "), "{}", up.err);
    assert!(!gateway.data.join("chitin.sock").exists());
    assert_eq!(traces::processes(&gateway.data), []);
}

/// A service manager in miniature: opens the sockets, hands them over, and listens to what it is told.
const MANAGER: &str = r#"
import os, signal, socket, subprocess, sys
program, data = sys.argv[1:]
tcp = socket.create_server(("127.0.0.1", 0))
unix = socket.socket(socket.AF_UNIX)
os.mkdir(data)
unix.bind(data + "/chitin.sock")
unix.listen()
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(data + "/notify")
os.dup2(unix.fileno(), 30); os.dup2(tcp.fileno(), 31)
def place():
    os.dup2(30, 3); os.dup2(31, 4)
    os.environ["LISTEN_PID"] = str(os.getpid())
env = dict(os.environ, LISTEN_FDS="2", NOTIFY_SOCKET=data + "/notify", WATCHDOG_USEC="300000")
def hear(wanted):
    while True:
        said = notify.recv(100).decode()
        if said == wanted: return
notify.settimeout(30)
gateway = subprocess.Popen(["sh", "-c", 'LISTEN_PID=$$ exec "$0" gateway --data-dir "$1"', program, data],
    env=env, preexec_fn=place, close_fds=False)
hear("READY=1")
for _ in range(3): hear("WATCHDOG=1")
print(tcp.getsockname()[1], flush=True)
sys.stdin.readline()
gateway.send_signal(signal.SIGTERM)
hear("STOPPING=1")
print(gateway.wait(), os.path.exists(data + "/chitin.sock"), flush=True)
"#;

#[test]
fn a_service_manager_can_be_the_supervisor() {
    let gateway = Gateway::prepare();
    let mut manager = program("python3");
    manager.args(["-c", MANAGER, env!("CARGO_BIN_EXE_chitin"), gateway.data.to_str().unwrap()]);
    let mut manager = manager.stdin(Stdio::piped()).spawn().unwrap();
    until("it serves", || gateway.data.join("gateway.pid").exists().then_some(()));
    let status = gateway.unix(&Request::get("/v1/status")).with(200).json();
    assert_eq!(status["supervisor_pid"], Value::Null);
    let up = gateway.cli(&["up"]).with(0);
    assert!(up.err.starts_with("chitin: already running (pid "), "{}", up.err);
    gateway.cli(&["run", "--", "true"]).with(0);
    manager.stdin.take().unwrap().write_all(b"end\n").unwrap();
    let said = ended(manager).with(0);
    let (port, end) = said.out().trim_end().split_once('\n').unwrap();
    assert!(port.parse::<u16>().unwrap() > 0);
    assert_eq!(end, "0 True", "it ends well, and leaves the socket to whoever opened it");
    fs::remove_file(gateway.data.join("chitin.sock")).unwrap();
}

/// Makes a row that cannot be read, as a bug of an earlier version might have.
const SPOIL: &str = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\n\
    changed = db.execute('UPDATE task SET priority = 99 WHERE id = ?', [bytes.fromhex(sys.argv[2].replace('-', ''))])\n\
    assert changed.rowcount == 1\ndb.commit()";

#[test]
fn a_row_that_kills_recovery_is_set_aside_and_the_rest_goes_on() {
    let mut gateway = Gateway::start();
    let waits = gateway.submit_with(&["--delay", "1h"], &["true"]);
    let script = "echo $CHITIN_ATTEMPT >> starts; while [ ! -e go ]; do sleep 0.02; done; exit 3";
    let runs = gateway.submit(&["sh", "-c", script]);
    let spoiled = gateway.submit_with(&["--delay", "1h"], &["echo", "spoiled"]);
    let also_waits = gateway.submit_with(&["--delay", "1h"], &["true"]);
    gateway.until_state(&runs, "running");
    gateway.down(&[]);
    let mut spoil = program("python3");
    spoil.args(["-c", SPOIL]).arg(gateway.data.join("chitin.db")).arg(&spoiled);
    finish(spoil, None).with(0);

    gateway.up();
    // Until then a gateway may end in the middle of an answer.
    until("safe mode is over", || common::log(&gateway.data).contains("safe mode is over").then_some(()));
    let layer = layer(&gateway);
    assert!(layer["restarts"].as_u64().unwrap() >= 3, "{layer}");
    let said = layer["last_end"].as_str().unwrap();
    assert!(said.contains(" ended with exit code 70"), "{said}");
    assert_eq!(layer["state"], "ok");

    let task = gateway.task(&spoiled);
    assert_eq!((&task["state"], &task["reason"]), (&json!("dead"), &json!("poison")));
    for id in [&waits, &also_waits] {
        assert_eq!(gateway.task(id)["state"], "scheduled");
    }
    assert_eq!(gateway.counts(), (2, 1));
    fs::write(gateway.path("go"), "").unwrap();
    assert_eq!(gateway.ended(&runs)["attempts"][0]["exit_code"], 3);
    assert_eq!(fs::read_to_string(gateway.path("starts")).unwrap(), "1\n", "it went on through it all");
    gateway.cli(&["run", "--", "true"]).with(0);
    gateway.cli(&["retry", &spoiled]).with(0);
    assert_eq!(gateway.ended(&spoiled)["state"], "succeeded");
    assert_eq!(gateway.cli(&["result", &spoiled]).with(0).out(), "spoiled\n");
}

#[test]
fn a_task_that_was_set_aside_runs_again_only_once_nothing_runs_of_it_any_more() {
    let mut gateway = Gateway::start();
    let script = "if [ $CHITIN_ATTEMPT = 1 ]; then echo $$ > first; while :; do sleep 0.02; done; fi; \
        if kill -0 $(cat first) 2> /dev/null; then echo beside it; else echo alone; fi";
    let id = gateway.submit(&["sh", "-c", script]);
    until("it runs", || gateway.path("first").exists().then_some(()));
    gateway.down(&[]);
    let mut spoil = program("python3");
    spoil.args(["-c", SPOIL]).arg(gateway.data.join("chitin.db")).arg(&id);
    finish(spoil, None).with(0);

    gateway.up();
    until("it is set aside", || common::log(&gateway.data).contains("safe mode is over").then_some(()));
    assert_eq!(gateway.task(&id)["reason"], "poison");
    until("it may run again", || {
        let answer = gateway.post(&format!("/v1/tasks/{id}/retry"), &Value::Null);
        if answer.status == 409 {
            assert_eq!(answer.problem().code, "conflict");
        }
        (answer.status == 200).then_some(())
    });
    assert_eq!(gateway.ended(&id)["state"], "succeeded");
    assert_eq!(gateway.cli(&["result", &id]).with(0).out(), "alone\n");
}

#[test]
fn a_drain_that_loses_its_gateway_goes_on_with_the_next_one() {
    let mut gateway = Gateway::start_with("running_tasks = 1");
    let runs = gateway.submit(&["sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; exit 3"]);
    gateway.until_state(&runs, "running");
    let waits = gateway.submit(&["true"]);
    let drains = || {
        let status = gateway.get("/v1/status").with(200).json();
        (status["layers"]["workers"]["state"] == "draining").then_some(())
    };
    let down = gateway.command(&["down", "--wait"]).spawn().unwrap();
    until("it drains", drains);
    gateway.kill_gateway();
    until("the next one drains, too", drains);
    fs::write(gateway.path("go"), "").unwrap();
    assert_eq!(ended(down).with(0).out(), "stopped\n");
    assert_eq!(traces::processes(&gateway.data), []);
    gateway.down(&[]);
    gateway.up();
    assert_eq!(gateway.ended(&runs)["attempts"][0]["exit_code"], 3);
    assert_eq!(gateway.ended(&waits)["state"], "succeeded");
}

#[test]
fn an_instance_that_stood_still_goes_on_with_the_same_gateway() {
    let gateway = Gateway::start();
    let (pid, supervisor) = (gateway.pid(), gateway.supervisor_pid());
    signal(supervisor, Signal::STOP);
    signal(pid, Signal::STOP);
    // Longer than the watchdog waits: what stands still must not be missed for it.
    thread::sleep(std::time::Duration::from_millis(4_500));
    signal(supervisor, Signal::CONT);
    signal(pid, Signal::CONT);
    let status = gateway.get("/v1/status").with(200).json();
    assert_eq!((&status["pid"], &status["layers"]["gateway"]["restarts"]), (&json!(pid), &json!(0)));
    // And one that stays away is missed all the same.
    signal(pid, Signal::STOP);
    next_gateway(&gateway, pid);
}

/// Starts a new supervisor as a gateway does, and is gone before it has looked.
const ORPHAN: &str = r#"
import array, json, os, signal, socket, subprocess, sys
program, data = sys.argv[1:]
tcp = socket.create_server(("127.0.0.1", 0))
unix = socket.socket(socket.AF_UNIX); unix.bind(data + "/chitin.sock"); unix.listen()
if os.fork() == 0:
    ours, theirs = socket.socketpair()
    # Stopped until its parent is gone.
    child = subprocess.Popen(["sh", "-c", 'kill -STOP $$; exec "$0" up --adopt', program], stdin=theirs)
    said = json.dumps({"data_dir": data, "config": None}).encode() + b"\n"
    heard = socket.socketpair(type=socket.SOCK_DGRAM)[0]
    socket.send_fds(ours, [said], [tcp.fileno(), unix.fileno(), heard.fileno()])
    print(child.pid, tcp.getsockname()[1], flush=True)
    os._exit(0)
os.wait()
sys.stdin.readline()
"#;

#[test]
fn a_supervisor_whose_gateway_died_in_the_handover_starts_the_next_and_takes_nobody_else_for_it() {
    let gateway = Gateway::prepare();
    fs::create_dir(&gateway.data).unwrap();
    let mut parent = program("python3");
    parent.args(["-c", ORPHAN, env!("CARGO_BIN_EXE_chitin"), gateway.data.to_str().unwrap()]);
    let mut parent = parent.stdin(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let stdout = parent.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let pid: u32 = line.split(' ').next().unwrap().parse().unwrap();
    until("it is an orphan that is stopped", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('T').then_some(())
    });
    signal(pid, Signal::CONT);
    let socket = gateway.data.join("chitin.sock");
    let status = until("a gateway answers", || {
        fs::exists(gateway.data.join("gateway.pid"))
            .unwrap()
            .then(|| gateway.unix(&Request::get("/v1/status")).json())
    });
    assert_eq!(status["supervisor_pid"], pid);
    let layer = &status["layers"]["gateway"];
    assert_eq!(layer["restarts"], 1, "the one that handed over ended unasked: {status}");
    assert_eq!(layer["last_end"], "a gateway ended while its supervisor was replaced");
    assert_eq!(gateway.cli(&["down"]).with(0).out(), "stopped\n");
    assert!(!socket.exists());
    parent.stdin.take().unwrap().write_all(b"end\n").unwrap();
    ended(parent).with(0);
}

#[test]
fn nothing_but_a_supervisor_adopts() {
    let gateway = Gateway::start();
    let end = finish(gateway.command(&["up", "--adopt"]), Some(b"{}")).with(1);
    assert!(end.err.starts_with("chitin: cannot take over from a supervisor that died: "), "{}", end.err);
    gateway.get("/v1/status").with(200);
}

/// Where a gateway could be spoken of by name, anybody could fill the socket, and its own word would be lost.
#[test]
fn a_supervisor_has_no_socket_that_others_could_speak_to() {
    let gateway = Gateway::start();
    let named = |pid: u32| -> Vec<String> {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let links =
            links.filter_map(|entry| fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok());
        let inodes: Vec<String> = links
            .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let table = fs::read_to_string("/proc/net/unix").unwrap();
        let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
        // Type 2 is datagrams; the eighth column is a name.
        rows.filter(|row| row[4] == "0002" && inodes.iter().any(|inode| inode == row[6]) && row.len() > 7)
            .map(|row| row[7].to_owned())
            .collect()
    };
    assert_eq!(named(gateway.supervisor_pid()), [""; 0]);
    let before = gateway.supervisor_pid();
    signal(before, Signal::KILL);
    assert_eq!(named(next_supervisor(&gateway, before)), [""; 0]);
    // And it is heard: a gateway that is not would be ended after three seconds.
    let pid = gateway.pid();
    thread::sleep(std::time::Duration::from_millis(4_000));
    assert_eq!((gateway.pid(), &layer(&gateway)["restarts"]), (pid, &json!(0)));
}
