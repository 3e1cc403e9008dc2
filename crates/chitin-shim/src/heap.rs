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

/// A block of this size is the system's again once it is freed: a result or a large body, which come and go. Smaller ones are
/// used again, as nearly all are, and asking the system for each would cost more than they do.
const LARGE_BYTES: i32 = 1 << 20;

/// From now on little that is free stays with this process. To be called when it begins.
pub fn bound_free() {
    sys::bound_free_heap(LARGE_BYTES);
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

        // On another thread than the first, which has a part of the heap of its own, and with others that were freed before.
        bound_free();
        let left = std::thread::spawn(|| {
            drop(vec![1_u8; 20_000_000]);
            let before = own_bytes().unwrap();
            let blocks: Vec<Vec<u8>> = (0..4).map(|_| vec![1_u8; 8_000_000]).collect();
            assert!(own_bytes().unwrap() >= before + 30_000_000);
            drop(blocks);
            trim();
            own_bytes().unwrap().saturating_sub(before)
        });
        let left = left.join().unwrap();
        assert!(left < 5_000_000, "{left} bytes stay");
    }
}
