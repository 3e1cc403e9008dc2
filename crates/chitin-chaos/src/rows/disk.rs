//! Rows 13 and 14: a disk that hangs, and a database that is damaged.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::{Need, Row};
use crate::broken::{During, holds};
use crate::check::{self, Ledger, SAY};
use crate::clock::{now, sleep_ms};
use crate::disk::Disk;
use crate::http::Request;
use crate::load::{Load, Plan};
use crate::run::Session;
use crate::{Broken, Held};

pub(super) const FROZEN: Row =
    Row { name: "13", fault: "frozen disk", needs: &[Need::LoopDisk], few: 1, session: frozen };

pub(super) const CORRUPT: Row = Row {
    name: "14",
    fault: "corrupt page; write-ahead log torn at any byte",
    needs: &[],
    few: 4,
    session: damaged,
};

/// The disk hangs for so long: several times what a submission waits.
const FROZEN_MS: (u64, u64) = (2_500, 4_000);
/// Health is answered in this time, however the disk is, where outages are judged strictly.
const HEALTH: Duration = Duration::from_millis(100);

fn frozen(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.prepare("waiting_tasks = 1000000\nsubmit_timeout_ms = 500\n")?;
    let mut disk = Disk::new(&gateway.home, 96)?;
    gateway.data = disk.mount.join("data");
    gateway.up()?;
    let mut ledger = Ledger::default();
    let tried = freeze(session, &mut gateway, &mut disk, &mut ledger);
    // Nothing ends while its disk is frozen, not even by a kill.
    _ = disk.thaw();
    let held = tried.and_then(|()| check::everything(&mut gateway, &ledger));
    gateway.kill_all_but(|_| false)?;
    disk.unmount()?;
    held.map(|()| 1)
}

fn freeze(
    session: &mut Session<'_>,
    gateway: &mut crate::gateway::Gateway,
    disk: &mut Disk,
    ledger: &mut Ledger,
) -> Held {
    let plan = Plan { clients: 32, think_ms: (0, 20), runs_one_in: 20, script: SAY, tcp: false };
    let load = Load::start(gateway, &mut session.chance, "load", &plan)?;
    let before = gateway.process()?.pid;
    sleep_ms(session.chance.between(100, 300));
    disk.freeze()?;
    let (began, frozen) = (now(), Duration::from_millis(session.chance.between(FROZEN_MS.0, FROZEN_MS.1)));
    // Where outages are not judged strictly, a busy machine may be slower here, too.
    let bound = if session.outage_bound > Duration::from_secs(1) { session.outage_bound } else { HEALTH };
    let (mut longest, mut refused) = (Duration::ZERO, None);
    while now().duration_since(began) < frozen {
        let asked = now();
        gateway.asked("GET", "/healthz", None, 200)?;
        longest = longest.max(now().duration_since(asked));
        if refused.is_none() {
            let body = gateway.work("frozen", SAY);
            let request =
                Request { method: "POST", path: "/v1/tasks", key: Some("frozen"), body: Some(&body) };
            refused = Some(gateway.door().ask(&request, Duration::from_secs(20)).during("a submission")?);
        }
        sleep_ms(10);
    }
    disk.thaw()?;
    let thawed = now();
    ledger.sent.insert("frozen".to_owned());
    let refused = refused.during("an answer")?;
    holds!(refused.status == 503, "a submission to a frozen disk: {} {}", refused.status, refused.text());
    holds!(longest < bound, "health was answered after {longest:?}");
    check::accepts_again(gateway, ledger, "after", thawed, session.outage_bound)?;
    holds!(gateway.process()?.pid == before, "the gateway was restarted for its disk");
    load.stop(ledger).map(|_| ())
}

/// Most pages are in use.
const PAGES_TRIED: u32 = 30;

fn damaged(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("")?;
    let trials = session.at_most.min(20);
    gateway.submit("first", &gateway.work("first", "true"))?;
    let mut order = vec!["first".to_owned()];
    for trial in 1..=trials {
        gateway.pause_queue("default")?;
        for number in 0..session.chance.between(5, 40) {
            let key = format!("task-{trial}-{number}");
            gateway.submit(&key, &gateway.work(&key, "true"))?;
            order.push(key);
        }
        match session.chance.between(0, 2) {
            0 => corrupt_page(session, &mut gateway)?,
            1 => torn_log(session, &mut gateway)?,
            _ => left_log(&mut gateway)?,
        }
        // What is there is a beginning of what was accepted, in its order.
        let mut there: Vec<String> = gateway.list("")?.into_iter().map(|task| task.key).collect();
        there.reverse();
        holds!(order.starts_with(&there), "I1: what is left is no beginning of what was: {there:?}");
        order.truncate(there.len());
    }
    gateway.down()?;
    check::nothing_left(&gateway)?;
    check::whole_database(&gateway)?;
    Ok(trials)
}

/// A page that makes no sense is refused; with the file as it was, all is there.
fn corrupt_page(session: &mut Session<'_>, gateway: &mut crate::gateway::Gateway) -> Held {
    // A start works the log into the file.
    gateway.down()?;
    gateway.up()?;
    gateway.down()?;
    let database = gateway.data.join("chitin.db");
    let whole = fs::read(&database).during("read the database")?;
    let pages = u64::try_from(whole.len()).unwrap_or(0) / 4_096;
    for _ in 0..PAGES_TRIED {
        let page = session.chance.between(1, pages.saturating_sub(1));
        let file = OpenOptions::new().write(true).open(&database).during("open the database")?;
        file.write_all_at(&[0xff; 16], page * 4_096).during("damage a page")?;
        drop(file);
        let Err(refused) = gateway.try_up()? else {
            // A page that nothing uses, which harms nobody; another one.
            gateway.down()?;
            check::whole_database(gateway)?;
            continue;
        };
        let says = refused.said.contains("damaged") || refused.said.contains("malformed");
        holds!(refused.code > 0 && says, "how it refuses a damaged database: {refused:?}");
        fs::write(&database, &whole).during("put the database back")?;
        return gateway.up();
    }
    Err(Broken::new(format!("it starts with any of {PAGES_TRIED} pages damaged")))
}

/// What a dead gateway left in the log is worked into the database, and so written and synced again, before anything is
/// read: after a failed sync the page cache shows what the disk may not have.
fn left_log(gateway: &mut crate::gateway::Gateway) -> Held {
    gateway.kill_all_but(|_| false)?;
    let log = gateway.data.join("chitin.db-wal");
    let bytes = || fs::metadata(&log).map_or(0, |meta| meta.len());
    let left = bytes();
    gateway.up()?;
    // A few pages are a new life's own.
    holds!(
        left < 100_000 || bytes() < left,
        "a log of {left} bytes was read as it was found, and gone on with"
    );
    Ok(())
}

/// The end of the log is missing, from any byte on.
fn torn_log(session: &mut Session<'_>, gateway: &mut crate::gateway::Gateway) -> Held {
    gateway.kill_all_but(|_| false)?;
    let log = gateway.data.join("chitin.db-wal");
    let bytes = fs::metadata(&log).during("look at the log")?.len();
    let file = OpenOptions::new().write(true).open(&log).during("open the log")?;
    file.set_len(session.chance.between(0, bytes)).during("tear the log")?;
    drop(file);
    gateway.up()
}
