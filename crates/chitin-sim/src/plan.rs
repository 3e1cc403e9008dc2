//! What a seed is like. Faults are drawn before the run: each kind is there or not, rare or frequent, so that seeds
//! differ in kind and some combinations meet that would drown in the noise of all faults at once.

use chitin_core::Limits;

use crate::rng::Rng;

macro_rules! faults {
    ($($kind:ident $name:literal: $most:literal, $what:literal;)*) => {
        /// What may go wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $(#[doc = $what] $kind,)* }

        impl Fault {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// In one word, for the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// In thousandths of its occasions, at most.
            fn most_permille(self) -> u64 {
                match self { $(Self::$kind => $most,)* }
            }
        }
    };
}

faults! {
    GatewayKilled "kill": 60, "The gateway is killed between two events.";
    KilledBetweenOutputs "release": 120, "The gateway is killed after a commit, between two of its outputs.";
    StepRefused "step": 60, "The store refuses an operation inside a transaction.";
    CommitRefused "refuse": 150, "The store refuses a commit: nothing of it is there.";
    CommitUnknown "unknown": 60, "Nobody knows how a commit ended: it happened, or it did not.";
    PowerCut "power": 25, "The machine goes down: another boot, what was not durable may be gone.";
    ShimKilled "shim": 40, "A shim is killed; what it had started goes on.";
    Straggler "straggler": 400, "A shim takes seconds to come to its claim.";
    StartFails "start": 200, "A shim cannot be started, or not yet, or ends before its claim.";
    ConnectionLost "connection": 100, "A connection between gateway and shim breaks, with what was under way on it.";
    Delay "delay": 200, "A message, a commit or a thread takes much longer than others.";
    Duplicate "duplicate": 80, "What was reported before is reported again, however late.";
    StaleGateway "stale": 80, "A gateway of an earlier life still speaks to a shim.";
    ClockStep "clock": 60, "The wall clock steps, backwards or forwards.";
    ReplyLost "reply": 200, "An answer does not reach its client, who asks again.";
    DeadlyRow "deadly": 15, "An open task's row goes bad: whatever gateway takes it up dies.";
    CarefulStart "careful": 400, "A gateway starts in safe mode though none before it ended early.";
    MemoryTight "memory": 60, "Memory runs short: nothing is given out until it does not any more.";
    Eviction "evict": 60, "Memory runs out for all: an attempt is ended, and runs again at no cost.";
    GatewayStops "stop": 15, "The gateway ends everything that runs and goes: that work is put back.";
}

/// One seed's world.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    permille: Vec<(Fault, u64)>,
    pub(crate) limits: Limits,
    /// Between two acts of clients, on average.
    pub(crate) client_pause_ms: i64,
    pub(crate) longest_command_ms: i64,
    /// Commands that fail, in thousandths.
    pub(crate) fails_permille: u64,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng, without: &[Fault]) -> Self {
        let mut permille: Vec<_> = Fault::ALL
            .iter()
            .map(|fault| (*fault, rng.coin(), rng.below(fault.most_permille()) + 1))
            .map(|(fault, is_there, permille)| (fault, if is_there { permille } else { 0 }))
            .collect();
        for (fault, permille) in &mut permille {
            if without.contains(fault) {
                *permille = 0;
            }
        }
        Self {
            permille,
            limits: limits(rng),
            client_pause_ms: rng.between(50, 800),
            longest_command_ms: rng.between(50, 6_000),
            fails_permille: rng.below(600),
        }
    }

    /// How often, in thousandths of its occasions.
    pub(crate) fn permille(&self, fault: Fault) -> u64 {
        self.permille.iter().find(|(kind, _)| *kind == fault).map_or(0, |(_, permille)| *permille)
    }

    /// The faults stop.
    pub(crate) fn calm(&mut self) {
        self.permille.clear();
        self.fails_permille = 0;
    }
}

/// Small enough that bounds are met all the time.
fn limits(rng: &mut Rng) -> Limits {
    let mut draw = |least, most| rng.between(least, most).unsigned_abs();
    Limits {
        waiting_tasks: draw(3, 12),
        waiting_bytes: draw(60, 600),
        queues: 2,
        running_tasks: draw(1, 4),
        poison_attempts: draw(1, 3),
        retention_s: draw(20, 120),
        retention_bytes: draw(200, 2_000),
        key_retention_s: draw(15, 90),
        sweep_s: draw(1, 4),
        grace_ms: draw(0, 3_000),
        batch_commands: draw(1, 6),
        submit_timeout_ms: draw(100, 1_000),
        ..Limits::default()
    }
}
