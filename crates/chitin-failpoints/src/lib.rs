//! Failpoints: named places between two steps, where a test build can be made to die, fail or wait.
//!
//! Not of the seven verbs: it stands between them, so that "`kill -9` here" is a line of a test and not luck. Without the
//! feature `failpoints` every macro expands to nothing or to its constant, and not even the name is in the binary; only
//! the chaos suite builds with it.
//!
//! A process is armed by `CHITIN_FAILPOINTS`, the path of a folder. What stands in it may change while processes run:
//!
//! | file | meaning |
//! |---|---|
//! | `NAME` | what [`failpoint!`] does at its n-th hit over all processes: `kill@3`, `panic@1`, `sleep:50@2`, `error@*` (`*`: each) |
//! | `NAME.hits` | written here: one byte for each hit, so that counting goes on over lives and processes |
//! | `planted.NAME` | [`planted!`] is true: the process has this bug |
//! | `value.NAME` | [`value!`] is what the file says |
//!
//! Invariant: it depends on none of ours, and every crate may use it.

#[cfg(feature = "failpoints")]
mod armed;

#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub use armed::{act, is_planted, said};

/// The environment variable that names the folder.
#[cfg(feature = "failpoints")]
pub const FOLDER: &str = "CHITIN_FAILPOINTS";

/// A place where a test build may die or wait.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        _ = $crate::act($name)
    };
}

/// A place where a test build may die or wait.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {};
}

/// A place where a test build may fail: true if the step is to report an error.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! fails {
    ($name:literal) => {
        $crate::act($name)
    };
}

/// A place where a test build may fail: true if the step is to report an error.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! fails {
    ($name:literal) => {
        false
    };
}

/// True if a test build is to have this bug, so that the chaos suite can show that it would find it.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::is_planted($name)
    };
}

/// True if a test build is to have this bug, so that the chaos suite can show that it would find it.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        false
    };
}

/// What a test says instead of the machine, if it does: `Option<String>`.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! value {
    ($name:literal) => {
        $crate::said($name)
    };
}

/// What a test says instead of the machine, if it does: `Option<String>`.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! value {
    ($name:literal) => {
        None::<String>
    };
}
