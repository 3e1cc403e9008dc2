//! This process's own memory, for a gateway that has to refuse work before it has too much of it.

use std::path::Path;

use crate::{proc, sys};

/// Bytes that are this process's alone, as the kernel counts them: what files share does not count. `None`: the kernel
/// does not say. Costs some microseconds.
#[must_use]
pub fn own_bytes() -> Option<u64> {
    let text = String::from_utf8(proc::read_bounded(Path::new("/proc/self/statm"))?).ok()?;
    let mut pages = text.split(' ').skip(1).map(|field| field.parse::<u64>().ok());
    let (resident, shared) = (pages.next()??, pages.next()??);
    let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
    resident.saturating_sub(shared).checked_mul(page_bytes)
}

/// Gives what is free of it back to the system. Some milliseconds, the more memory the longer.
pub fn trim() {
    sys::trim_heap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_counts() {
        let before = own_bytes().unwrap();
        let taken = vec![1_u8; 50_000_000];
        let during = own_bytes().unwrap();
        assert!(during >= before + 40_000_000, "{before} {during}");
        drop(taken);
        trim();
    }
}
