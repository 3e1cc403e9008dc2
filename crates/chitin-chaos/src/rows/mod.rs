//! The faults, a file for each kind. A row is run in sessions: each prepares a gateway, makes some trials and checks.

mod cache;
mod descriptors;
mod disk;
mod faulty;
mod forged;
mod full;
mod greedy;
mod heap;
mod hostile;
mod kills;
mod machine;
mod overload;
mod power;
mod reader;
mod schema;
mod slow;
mod steps;
mod supervisor;
mod time;
mod tree;
mod worker;

use std::sync::OnceLock;

use crate::Held;
use crate::disk::Disk;
use crate::run::Session;
use crate::{system, vm};

/// A fault.
#[derive(Debug)]
pub struct Row {
    /// Its number, as in `--rows`.
    pub name: &'static str,
    /// What is done.
    pub fault: &'static str,
    /// What the machine must have.
    pub(crate) needs: &'static [Need],
    /// Trials where nobody says how many.
    pub(crate) few: u32,
    /// Makes at least one trial and at most as many as it may; how many.
    pub(crate) session: fn(&mut Session<'_>) -> Held<u32>,
}

/// What not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Mounting file systems over loop devices, and the programs for that.
    LoopDisk,
    /// Emulating a whole machine.
    Machine,
    /// A C compiler, for a library that is preloaded.
    Compiler,
    /// Python, with SQLite.
    Python,
    /// A Redis server.
    Redis,
    /// Mounting a small file system.
    SmallDisk,
    /// Control groups of version 1 that bound memory.
    MemoryGroup,
}

impl Need {
    /// Why it cannot be had here; `None`: it can.
    pub(crate) fn is_missing(self) -> Option<String> {
        match self {
            // What a root in a container may do, only trying tells.
            Self::LoopDisk => {
                let tried = TRIED.get_or_init(|| Disk::try_one().err().map(|error| error.to_string()));
                tried.as_ref().map(|error| format!("no disk can be mounted and cut off here: {error}"))
            }
            Self::Machine => vm::is_missing(),
            Self::Redis => crate::redis::is_missing(),
            Self::SmallDisk => full::is_missing(),
            Self::MemoryGroup => heap::is_missing(),
            Self::Compiler => missing_program("cc"),
            Self::Python => missing_program("python3"),
        }
    }
}

fn missing_program(program: &str) -> Option<String> {
    system::find(program).is_none().then(|| format!("{program} is not installed"))
}

static TRIED: OnceLock<Option<String>> = OnceLock::new();

/// All of them, in order.
pub const ROWS: &[Row] = &[
    kills::LOAD,
    steps::VERBS,
    supervisor::KILL_SUPERVISOR,
    worker::KILL_SHIM,
    worker::KILL_WORKER,
    kills::ALL_BUT_SHIMS,
    supervisor::HANG,
    supervisor::CRASH_LOOP,
    power::CUT,
    power::CUT_RUN,
    machine::RESET,
    steps::STARTS,
    faulty::FAULTY,
    full::FULL,
    disk::FROZEN,
    disk::CORRUPT,
    schema::MIGRATION,
    reader::READER,
    descriptors::GONE,
    kills::PANIC,
    heap::CAP,
    greedy::GREEDY,
    machine::GROUPS,
    tree::STUBBORN,
    kills::FLOOD,
    forged::FORGED,
    time::CLOCK,
    cache::REDIS,
    overload::OVERLOAD,
    slow::SLOW,
    hostile::HOSTILE,
];

/// The row of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}
