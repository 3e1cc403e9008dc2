//! The one place that rolls dice and makes ids.

use chitin_core::{Dice, TaskId};

/// The operating system's randomness, a page at a time: tokens must not be guessable.
#[derive(Debug)]
pub(crate) struct OsDice {
    pool: Box<[u8; 1024]>,
    used: usize,
}

impl OsDice {
    pub(crate) fn new() -> Self {
        Self { pool: Box::new([0; 1024]), used: usize::MAX }
    }
}

impl Dice for OsDice {
    fn roll(&mut self) -> u64 {
        if self.used.saturating_add(8) > self.pool.len() {
            fill(self.pool.as_mut_slice());
            self.used = 0;
        }
        let mut word = [0_u8; 8];
        if let Some(bytes) = self.pool.get_mut(self.used..self.used + 8) {
            word.copy_from_slice(bytes);
            bytes.fill(0);
        }
        self.used += 8;
        u64::from_le_bytes(word)
    }
}

/// 256 random bits.
pub(crate) fn secret() -> [u8; 32] {
    let mut bytes = [0; 32];
    fill(&mut bytes);
    bytes
}

/// A new task id: time-ordered, so that the store's index grows at one end.
pub(crate) fn new_task_id() -> TaskId {
    TaskId(uuid::Uuid::now_v7().into_bytes())
}

/// Without randomness tokens could be guessed: there is no way to go on.
fn fill(bytes: &mut [u8]) {
    if getrandom::fill(bytes).is_err() {
        std::process::abort();
    }
}
