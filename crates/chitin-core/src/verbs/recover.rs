//! recover: a gateway's life begins by taking over the store and asking what became of everything that ran.
//!
//! Nothing that runs is started again because the gateway was: each running attempt is looked for by its claim, and
//! reported as void, ended or still running. kill -9 at any point: the next life begins the same way.

use super::submit::BEFORE_ALL;
use crate::core::Staged;
use crate::hot::{Hot, OpenTask};
use crate::{AttemptKey, Core, Now, Output, Tx};

/// Open tasks read at once.
const PAGE: usize = 1_000;

impl Core {
    pub(crate) fn boot<T: Tx>(&mut self, now: &Now, boot_id: &str, tx: &mut T) -> Result<(), T::Error> {
        let (epoch, boot) = tx.begin_epoch(boot_id)?;
        let now = Now { boot, ..*now };
        self.epoch = epoch;
        self.boot = boot;
        self.hot = Hot::default();
        self.names = Staged::default();
        self.names.change().queues = tx.queues()?;
        self.names.change().principals = tx.principals()?.into_iter().map(|(id, name)| (name, id)).collect();
        self.next_seq.set(tx.last_seq()?.next());
        self.kept_bytes = Staged::default();
        self.kept_bytes.set(tx.kept_bytes()?);
        self.next_sweep_ms = Staged::default();

        let mut after = BEFORE_ALL;
        loop {
            let page = tx.open_tasks(after, PAGE)?;
            for row in &page {
                after = row.seq;
                self.hot.put(row.seq, OpenTask::of_open(row, &now));
                if let Some((attempt, token, boot)) = row.running {
                    let attempt = AttemptKey { seq: row.seq, id: row.id, attempt, token };
                    self.out(Output::Recover {
                        attempt,
                        cancel_requested: row.cancel_requested,
                        same_boot: boot == self.boot,
                    });
                }
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
