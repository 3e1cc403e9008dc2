//! Row 11: the n-th call that changes a file fails, of a gateway under load or of one that starts.
//!
//! The faults are `chitin-store`'s, a library that is preloaded (`faults.c` there); here it is told while processes run. Shims
//! and commands have environments of their own, without it: what fails is the gateway's disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Need, Row};
use crate::broken::During;
use crate::check::{self, Ledger, SAY};
use crate::clock::{now, sleep_ms, until};
use crate::gateway::Gateway;
use crate::load::{Load, Plan};
use crate::run::Session;
use crate::{Broken, Held, program, system};

pub(super) const FAULTY: Row = Row {
    name: "11",
    fault: "I/O error at the n-th write, sync, cut or new name",
    needs: &[Need::Compiler],
    few: 15,
    session: faulty,
};

/// `EIO`.
const ERROR: u32 = 5;
/// A start makes some fifty calls; a gateway that serves makes about ten for each task.
const CALLS: (u64, u64) = (1, 300);

/// The library, and the files that it reads and writes.
#[derive(Debug)]
pub(super) struct Faults {
    arm: PathBuf,
    report: PathBuf,
}

impl Faults {
    /// From here on whatever of the gateway is started has it.
    pub(super) fn preload(gateway: &mut Gateway) -> Held<Self> {
        let library = gateway.home.join("faults.so");
        compile(&library)?;
        let faults =
            Self { arm: gateway.home.join("faults.arm"), report: gateway.home.join("faults.report") };
        let data = gateway.data.clone();
        gateway.environment("LD_PRELOAD", &library);
        gateway.environment("FAULTS_BELOW", &data);
        gateway.environment("FAULTS_ARM", &faults.arm);
        gateway.environment("FAULTS_REPORT", &faults.report);
        Ok(faults)
    }

    /// The n-th call from here on fails, or each from there on.
    fn arm(&self, nth: u64, from_there_on: bool) -> Held {
        self.arm_with(nth, from_there_on, ERROR)
    }

    /// The same with another error.
    pub(super) fn arm_with(&self, nth: u64, from_there_on: bool, error: u32) -> Held {
        _ = fs::remove_file(&self.report);
        let draft = self.arm.with_extension("draft");
        let sign = if from_there_on { "+" } else { "" };
        fs::write(&draft, format!("{nth} {sign}{error}")).during("write a fault")?;
        fs::rename(&draft, &self.arm).during("arm a fault")
    }

    pub(super) fn disarm(&self) {
        _ = fs::remove_file(&self.arm);
    }

    fn is_met(&self) -> bool {
        fs::read(&self.report).is_ok_and(|report| report.contains(&b'!'))
    }
}

pub(super) fn compile(library: &Path) -> Held {
    let source = program::root().join("crates/chitin-store/tests/faults/faults.c");
    let args = ["-shared", "-fPIC", "-O1", "-o"].map(AsRef::as_ref);
    let files = [library.as_os_str(), source.as_os_str(), "-ldl".as_ref()];
    system::run("cc", &[args.as_slice(), &files].concat()).map(|_| ())
}

fn faulty(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.prepare("waiting_tasks = 1000000\n")?;
    let faults = Faults::preload(&mut gateway)?;
    gateway.up()?;
    let mut ledger = Ledger::default();
    let plan = Plan { clients: 4, think_ms: (0, 20), runs_one_in: 3, script: SAY, tcp: true };
    super::kills::fill(&gateway, &mut ledger, 0)?;
    let load = Load::start(&gateway, &mut session.chance, "load", &plan)?;
    let trials = session.at_most.min(15);
    for trial in 1..=trials {
        let nth = session.chance.between(CALLS.0, CALLS.1);
        let at_start = session.chance.one_in(2);
        let stays = session.chance.one_in(3);
        let tried = one(session, &mut gateway, &faults, nth, at_start, stays).and_then(|since| {
            let key = format!("after-{trial}");
            check::accepts_again(&gateway, &mut ledger, &key, since, session.outage_bound)
        });
        tried.map_err(|error| {
            let how = format!("call {nth}, at a start {at_start}, from there on {stays}");
            Broken::new(format!("{how}: {error}\n{}", gateway.log_tail()))
        })?;
    }
    // Its supervisor lives all the while: a gateway that has to end is followed by another.
    load.stop(&mut ledger)?.nobody_refused()?;
    // A folder that could not be removed goes when leftovers are looked for, as each start does.
    gateway.kill()?;
    gateway.back()?;
    check::everything(&mut gateway, &ledger)?;
    Ok(trials)
}

/// One fault; since when there is none.
fn one(
    session: &mut Session<'_>,
    gateway: &mut Gateway,
    faults: &Faults,
    nth: u64,
    at_start: bool,
    stays: bool,
) -> Held<Instant> {
    faults.arm(nth, stays)?;
    if at_start {
        gateway.kill()?;
    }
    until("the fault is met", || Ok(faults.is_met().then_some(())))?;
    if stays {
        sleep_ms(session.chance.between(0, 300));
    }
    faults.disarm();
    let ended = now();
    gateway.back()?;
    // Lives that ended before they served are followed by waits: those are no part of the fault.
    Ok(if stays || at_start { now() } else { ended })
}
