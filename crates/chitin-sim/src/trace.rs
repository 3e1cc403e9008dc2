//! What happened, in order: a hash of all of it, so that two runs can be compared, and the last of it for people.

use std::collections::VecDeque;

/// Enough to see how it came to that, and to fit on a few screens.
const KEPT: usize = 80;

#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    kept: usize,
}

impl Trace {
    pub(crate) fn new(keep_all: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: VecDeque::new(),
            kept: if keep_all { usize::MAX } else { KEPT },
        }
    }

    /// FNV-1a over the line.
    pub(crate) fn note(&mut self, line: String) {
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.lines.len() >= self.kept {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn lines(self) -> Vec<String> {
        self.lines.into()
    }
}
