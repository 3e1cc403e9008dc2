//! Row 12: the disk is full, has no inodes, or is read-only, one after the other by chance and under load. The disk is a
//! `tmpfs` of the session's own that is mounted anew with less room than it has; read-only it cannot be made under a
//! process that writes, so there each change fails in the gateway, by the library of row 11.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::statvfs;
use serde_json::Value;

use super::faulty::Faults;
use super::{Need, Row};
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::{now, sleep_ms, until};
use crate::gateway::Gateway;
use crate::http::Request;
use crate::load::{Load, Plan};
use crate::run::Session;
use crate::{Broken, Held, system};

pub(super) const FULL: Row = Row {
    name: "12",
    fault: "disk full; inodes gone; read-only; back again",
    needs: &[Need::SmallDisk, Need::Compiler],
    few: 6,
    session: full,
};

/// The disk, when nothing is wrong with it.
const ROOM: &str = "size=192m,nr_inodes=20000";
/// What is left of it: enough that the system does not refuse to take the rest away.
const LEFT_BYTES: u64 = 65_536;
/// `EROFS`.
const READ_ONLY: u32 = 30;
/// How long something is wrong, in milliseconds.
const FAULT_MS: (u64, u64) = (300, 1_500);
/// The monitor looks often and trusts soon: how long it waits before it takes new work again is not what is under test.
const LIMITS: &str = "waiting_tasks = 1000000\nmonitor_interval_ms = 50\nmonitor_hold_ms = 100\n";

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Full,
    NoInodes,
    ReadOnly,
}

const FAULTS: &[Fault] = &[Fault::Full, Fault::NoInodes, Fault::ReadOnly];

/// A small file system, unmounted at the end.
#[derive(Debug)]
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(place: &Path) -> Held<Self> {
        fs::create_dir(place).during("make a folder")?;
        let options = ["-t", "tmpfs", "-o", ROOM, "tmpfs"].map(AsRef::as_ref);
        system::run("mount", &[&options[..], &[place.as_os_str()]].concat())?;
        Ok(Self(place.to_owned()))
    }

    /// Mounts it anew with as much room.
    fn room(&self, options: &str) -> Held {
        let options = format!("remount,{options}");
        system::run("mount", &["-o".as_ref(), options.as_ref(), self.0.as_os_str()]).map(|_| ())
    }

    /// Takes away what is left, as soon as the system agrees: what is in use changes meanwhile.
    fn take_away(&self, what: Fault) -> Held {
        until("a disk has nothing left", || {
            let now = statvfs(&self.0).during("look at the disk")?;
            let options = match what {
                Fault::NoInodes => format!("nr_inodes={}", now.f_files - now.f_ffree),
                _ => format!("size={}", (now.f_blocks - now.f_bfree) * now.f_frsize + LEFT_BYTES),
            };
            Ok(self.room(&options).ok())
        })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Somebody may still have something open: it goes when they do.
        _ = system::run("umount", &["-l".as_ref(), self.0.as_os_str()]);
    }
}

/// Why none can be had here; `None`: one can.
pub(super) fn is_missing() -> Option<String> {
    let tried = tempfile::Builder::new().prefix("chitin-chaos.").tempdir().during("make a folder");
    let tried = tried.and_then(|folder| SmallDisk::at(&folder.path().join("disk"))?.room(ROOM));
    tried.err().map(|error| format!("no small disk can be mounted here: {error}"))
}

struct Place {
    gateway: Gateway,
    faults: Faults,
    disk: SmallDisk,
    ledger: Ledger,
    /// One that has ended, whose result must be read all the while.
    done: String,
}

fn full(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.prepare(LIMITS)?;
    let disk = SmallDisk::at(&gateway.home.join("disk"))?;
    gateway.data = disk.0.join("data");
    let faults = Faults::preload(&mut gateway)?;
    gateway.up()?;
    let mut ledger = Ledger::default();
    let done = gateway.submit("done", &gateway.work("done", SAY))?;
    ledger.accepted("done".to_owned(), done.clone())?;
    gateway.ended(&done)?;
    let mut place = Place { gateway, faults, disk, ledger, done };
    place.hold_the_queue()?;

    let plan = Plan { clients: 6, think_ms: (2, 20), runs_one_in: u64::MAX, script: SAY, tcp: true };
    let load = Load::start(&place.gateway, &mut session.chance, "load", &plan)?;
    let trials = session.at_most.min(6);
    for trial in 0..trials {
        let fault = *session.chance.pick(FAULTS).during("a fault")?;
        place.once(session, trial, fault).map_err(|error| {
            Broken::new(format!("trial {trial}, {fault:?}: {error}\n{}", place.gateway.log_tail()))
        })?;
    }
    load.stop(&mut place.ledger)?.nobody_refused()?;
    check::everything(&mut place.gateway, &place.ledger)?;
    Ok(trials)
}

impl Place {
    /// What the load adds is not run: output that is written to a full disk is lost, which is no fault of the store's.
    fn hold_the_queue(&mut self) -> Held {
        let id = self.gateway.submit("held", &self.waits("held"))?;
        self.ledger.accepted("held".to_owned(), id)?;
        self.gateway.pause_queue("held")
    }

    /// A task that is not run.
    fn waits(&self, key: &str) -> Value {
        let mut body = self.gateway.work(key, SAY);
        if let Some(fields) = body.as_object_mut() {
            fields.insert("queue".to_owned(), "held".into());
            fields.insert("delay_s".to_owned(), 3_600.into());
        }
        body
    }

    fn once(&mut self, session: &mut Session<'_>, trial: u32, fault: Fault) -> Held {
        let go = self.gateway.home.join(format!("go-{trial}"));
        let script = format!("{SAY}; while [ ! -e '{}' ]; do sleep 0.02; done", go.display());
        let key = format!("runs-{trial}");
        let runs = self.gateway.submit(&key, &self.gateway.work(&key, &script))?;
        self.ledger.accepted(key.clone(), runs.clone())?;
        self.gateway.until_begun(&key, 1)?;
        until("its output is there", || Ok((!self.gateway.stdout(&runs)?.is_empty()).then_some(())))?;

        self.begin(fault)?;
        let (began, span) = (now(), session.chance.between(FAULT_MS.0, FAULT_MS.1));
        // What runs ends at any time: meanwhile, or after.
        let ends_ms = session.chance.between(0, 2 * span);
        let refused = self.refuses(fault, trial)?;
        while now().duration_since(began) < Duration::from_millis(span) {
            if now().duration_since(began) > Duration::from_millis(ends_ms) {
                fs::write(&go, "").during("let it end")?;
            }
            self.is_there()?;
            sleep_ms(20);
        }
        self.end(fault)?;
        let ended = now();
        let key = format!("after-{trial}");
        let silence =
            check::accepts_again(&self.gateway, &mut self.ledger, &key, ended, session.outage_bound)?;
        session.outage(silence);
        session.saw(format!("times {fault:?}{refused}"), 1);
        fs::write(&go, "").during("let it end")?;
        let task = self.gateway.ended(&runs)?;
        holds!(task.state == "succeeded" && task.attempt == 1, "what ran meanwhile: {task:?}");
        check::one_end(&self.gateway, &task)
    }

    fn begin(&self, fault: Fault) -> Held {
        match fault {
            Fault::Full | Fault::NoInodes => self.disk.take_away(fault),
            Fault::ReadOnly => self.faults.arm_with(1, true, READ_ONLY),
        }
    }

    fn end(&self, fault: Fault) -> Held {
        match fault {
            Fault::Full | Fault::NoInodes => self.disk.room(ROOM),
            Fault::ReadOnly => {
                self.faults.disarm();
                Ok(())
            }
        }
    }

    /// New work is refused, and rightly named. Without inodes the database goes on, and so may the gateway.
    fn refuses(&mut self, fault: Fault, trial: u32) -> Held<&'static str> {
        let right: &[u16] = match fault {
            Fault::Full => &[507],
            Fault::NoInodes => &[202, 503, 507],
            Fault::ReadOnly => &[503],
        };
        let mut number = 0;
        until(&format!("{fault:?}: an answer that fits"), || {
            number += 1;
            let key = format!("refused-{trial}-{number}");
            let body = self.waits(&key);
            let request = Request { method: "POST", path: "/v1/tasks", key: Some(&key), body: Some(&body) };
            let answer = self.gateway.door().ask(&request, Duration::from_secs(30)).during("a submission")?;
            self.ledger.sent.insert(key.clone());
            match answer.status {
                202 => {
                    let id = answer.json().get("id").and_then(|id| id.as_str().map(str::to_owned));
                    self.ledger.accepted(key, id.during("an id")?)?;
                }
                503 | 507 => {}
                other => return Err(Broken::new(format!("{other} {}", answer.text()))),
            }
            Ok(right.contains(&answer.status).then_some(match answer.status {
                202 => ", and work was taken",
                _ => ", and work was refused",
            }))
        })
    }

    /// Health and reads.
    fn is_there(&self) -> Held {
        self.gateway.asked("GET", "/healthz", None, 200)?;
        let result = self.gateway.result(&self.done)?;
        holds!(result == check::expected("done"), "I1: the result of one that had ended is {result:?}");
        Ok(())
    }
}
