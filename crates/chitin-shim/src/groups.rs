//! Control groups: what this machine offers ([`detect`], [`Tier`], for the gateway), and the groups of one attempt
//! (for its shim). Control files are written directly.

mod cap;
mod detect;
pub(crate) mod files;
mod leaf;
mod made;
mod tier;

pub use cap::MemoryCap;
pub use detect::{all, detect};
pub(crate) use made::Groups;
pub use tier::{Tier, TierError, TierKind};
