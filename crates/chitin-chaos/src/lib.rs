//! The chaos suite: the real program, real faults, and what must hold after each, counted.
//!
//! Of no verb: it stands outside all of them and does to the whole what the world does: kills, stops, cuts the power,
//! freezes the disk. A row is one fault of [`rows`]; a trial is one occurrence of it. A row's session prepares a gateway
//! of its own, makes some trials, and looks at everything afterwards; its seed decides all that is left to chance.
//!
//! | what | where |
//! |---|---|
//! | the faults | [`rows`], a file each |
//! | what must hold | `check` |
//! | a gateway to do it to, and how it is ended with all that it started | `gateway`, `processes` |
//! | clients that hand in work and remember every answer | `load` |
//! | failpoints, set while processes run | `points`; the program that has them is built by [`Program`] |
//! | disks that can be cut off and frozen | `disk` |
//! | a Redis server, and a slow way to it | `redis` |
//! | a whole machine that can be reset | `vm` |
//! | bugs that the suite must find | [`planted`] |
//!
//! Invariant: it ends only processes that it found by the data directory it made, by descriptor and never by number, and
//! unmounts what it mounted, also when a trial fails.

mod broken;
mod chance;
mod check;
mod clock;
mod disk;
mod gateway;
mod http;
pub mod interrupt;
mod load;
pub mod planted;
mod points;
mod processes;
mod program;
mod redis;
pub mod report;
pub mod rows;
pub mod run;
mod system;
mod view;
mod vm;

pub use broken::{Broken, Held};
pub use program::Program;
