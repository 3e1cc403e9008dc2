//! `chitin bench memory`: what a gateway and a shim hold for themselves alone.

use std::fs;

use crate::failure::Failure;

/// Bytes of a process that nobody shares.
pub(super) fn private_bytes(pid: u32) -> Result<u64, Failure> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text =
        fs::read_to_string(&path).map_err(|error| Failure::other(format!("cannot read {path}: {error}")))?;
    Ok(private(&text))
}

fn private(rollup: &str) -> u64 {
    let kilobytes = |line: &str| {
        let value = line.strip_prefix("Private_Clean:").or_else(|| line.strip_prefix("Private_Dirty:"))?;
        value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    rollup.lines().filter_map(kilobytes).sum::<u64>().saturating_mul(1_024)
}
