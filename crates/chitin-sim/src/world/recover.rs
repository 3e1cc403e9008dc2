//! What became of an attempt: by its claim, its lock, its socket or its record, in this order, as the product asks.

use chitin_core::{AttemptEnd, AttemptKey, Input, Outcome, Produced};

use super::disk::Claim;
use super::runner::Then;
use super::{Event, World};
use crate::planted::Bug;

const LOOK_AGAIN_MS: i64 = 20;
const VOID_PAUSE_MS: i64 = 250;
const MOST_VOIDS: u32 = 8;

impl World {
    pub(super) fn look(&mut self, key: AttemptKey, same_boot: bool) {
        if self.wishes(key).is_some() && !self.is_in_good_hands(key, same_boot) {
            let life = self.life();
            let at = self.wait_ms(LOOK_AGAIN_MS).saturating_add(1);
            self.after(at, Event::Look { life, key, same_boot });
        }
    }

    fn is_in_good_hands(&mut self, key: AttemptKey, same_boot: bool) -> bool {
        let boot = self.clock.boot();
        let folder = self.disk.make((key.id, key.attempt));
        let claim = folder.claim(key.token);
        let record = folder.record(key.token).cloned();
        self.note(|| format!("look {:?}.{} {:?}: {claim:?}", key.seq, key.attempt.0, key.token));
        match claim {
            None if !same_boot => self.host_lost(key),
            None => {
                self.disk.make((key.id, key.attempt)).link(key.token, Claim::Void);
                self.voided(key);
            }
            Some(Claim::Void) => self.voided(key),
            Some(Claim::Shim { shim, boot: of }) if of == boot && self.shims.contains_key(&shim) => {
                return self.attach(key, shim);
            }
            Some(Claim::Shim { .. } | Claim::Torn) if record.is_some() => {
                if let Some(report) = record {
                    self.settle_by(key, &report, Then::Nothing);
                }
            }
            Some(Claim::Shim { shim, boot: of }) if of == boot => {
                // Whatever the killed shim had started must be gone first.
                if !self.planted(Bug::TreeLeft) && self.trees.contains_key(&shim) {
                    if self.rng.coin() {
                        self.end_tree(shim);
                    }
                    return false;
                }
                self.lost(key, Outcome::WorkerLost);
            }
            Some(Claim::Shim { .. } | Claim::Torn) => self.host_lost(key),
        }
        true
    }

    fn attach(&mut self, key: AttemptKey, shim: super::ShimNo) -> bool {
        let Some(id) = self.shims.get(&shim).and_then(super::Shim::next_conn) else { return false };
        self.converse(key, shim, id);
        true
    }

    /// No shim will ever start this attempt under its token.
    fn voided(&mut self, key: AttemptKey) {
        let end_wanted = self.wishes(key).is_some_and(|wishes| wishes.end);
        let Some(gateway) = &mut self.gateway else { return };
        let voids = gateway.voids.entry((key.seq, key.attempt)).or_default();
        let before = *voids;
        *voids = voids.saturating_add(1);
        if before >= MOST_VOIDS && !end_wanted {
            return self.lost(key, Outcome::Failed);
        }
        let pause = if end_wanted { 0 } else { VOID_PAUSE_MS.saturating_mul(i64::from(before)) };
        let life = self.life();
        self.after(pause, Event::BeginAgain { life, key });
    }

    /// The same attempt under a new token, unless its end is wanted meanwhile.
    pub(super) fn begin_again(&mut self, key: AttemptKey) {
        if self.wishes(key).is_some_and(|wishes| wishes.end) {
            return self.lost(key, Outcome::Cancelled);
        }
        let input = Input::Voided { attempt: key };
        self.sent.push(input.clone());
        self.insist(input, Then::Nothing);
    }

    fn host_lost(&mut self, key: AttemptKey) {
        self.lost(key, Outcome::HostLost);
    }

    fn lost(&mut self, key: AttemptKey, outcome: Outcome) {
        let end = AttemptEnd::unreported(outcome, self.clock.wall_ms(), "as found");
        self.report(key, end, Produced::default(), Then::Nothing);
    }
}
