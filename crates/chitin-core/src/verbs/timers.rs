//! What time brings: scheduled tasks become due, waiting ones expire. A few hundred at a time, so that a backlog of
//! timers after a long stop never holds up the commits of a busy gateway.

use crate::{Core, Event, Now, Tx};

/// Per batch and kind.
const MOST: usize = 256;

impl Core {
    pub(crate) fn due_and_expired<T: Tx>(&mut self, now: &Now, tx: &mut T) -> Result<(), T::Error> {
        for seq in self.hot.expired(now, MOST) {
            let mut row = self.indexed(seq, tx)?;
            self.transition(now, &mut row, Event::Expired, tx)?;
        }
        for seq in self.hot.due(now, MOST) {
            let mut row = self.indexed(seq, tx)?;
            self.transition(now, &mut row, Event::Due, tx)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "timers_tests.rs"]
mod tests;
