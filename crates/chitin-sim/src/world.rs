//! The made-up world: one queue of events in the order of their time, clocks, a disk, a network, a gateway that may be
//! there, shims and their trees, clients. Everything that happens is an event; whatever is not decided by the core or
//! the shim's machine is decided by the seed.
//!
//! | what | where | as in the product |
//! |---|---|---|
//! | the engine: batches, commits, release | `engine` | `chitin-gateway/src/engine/` |
//! | starts, conversations with shims | `runner` | `chitin-gateway/src/runner/` |
//! | safe mode | `careful` | `chitin/src/supervisor/restarts.rs`, `chitin-gateway/src/runner/careful.rs` |
//! | what became of an attempt | `recover` | `chitin-gateway/src/runner/recover.rs`, `chitin-shim/src/recover.rs` |
//! | a shim around its machine | `shims` | `chitin-shim/src/{attempt,run}.rs` |
//! | shims that rest and serve again | `rest` | `chitin-shim/src/rest.rs`, `chitin-gateway/src/{spool/resting,runner/part}.rs` |
//! | the tree it started | `trees` | the kernel, `chitin-shim/src/tree.rs` |
//! | claims, records, folders | `disk` | the spool |
//! | who asks | `clients` | |
//! | what goes wrong | `mishaps` | |

mod careful;
mod clients;
mod clock;
mod disk;
mod engine;
mod mishaps;
mod net;
mod recover;
mod report;
mod rest;
mod runner;
mod shims;
mod trees;

use std::collections::{BTreeMap, BTreeSet};

use chitin_core::{AttemptKey, Input, Seq, StartOrder};
use chitin_proto::shim::ToShim;

use crate::check::{Checkers, Scene, Seen};
use crate::plan::{Fault, Plan};
use crate::planted::Bug;
use crate::rng::Rng;
use crate::store::{Store, Trouble};
use crate::trace::Trace;
use crate::view::{Change, View};
use crate::{Failure, Options, Tally};

use clients::Clients;
use clock::Clock;
use disk::Disk;
use engine::Gateway;
use net::{Conn, ConnNo, FromShim};
use runner::Then;
use shims::{Shim, ShimNo};
use trees::Tree;

/// So many events may happen in the calm until all is quiet: some ten times what it takes.
const CALM_EVENTS: u64 = 60_000;

/// What can happen.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    GatewayStarts,
    Turn { life: u64, at: i64 },
    Release { life: u64 },
    Start { life: u64, order: StartOrder },
    Look { life: u64, key: AttemptKey, same_boot: bool },
    BeginAgain { life: u64, key: AttemptKey },
    Insist { life: u64, input: Box<Input>, then: Then },
    SweepFolders { life: u64 },
    Strike { life: u64, conn: ConnNo },
    RestIsOver { life: u64, conn: ConnNo },
    TakeUp { life: u64 },
    Ordered { conn: ConnNo, epoch: u64, order: StartOrder },
    Accepted(ConnNo),
    ToShim(ConnNo, ToShim),
    ToGateway(ConnNo, FromShim),
    LostByShim(ConnNo),
    LostByGateway(ConnNo),
    Claims(ShimNo),
    Begins(ShimNo),
    ShimTick { shim: ShimNo, at: i64 },
    OutOfMemory(ShimNo),
    Recorded(ShimNo),
    CommandExits { tree: ShimNo, turn: u32 },
    OthersGo { tree: ShimNo, turn: u32 },
    ClientActs,
    AsksAgain(usize),
    Answered { to: chitin_core::CommandId, answer: clients::Heard },
    Mishap,
}

/// One seed's run.
pub(crate) struct World {
    pub(crate) plan: Plan,
    rng: Rng,
    dice: Rng,
    clock: Clock,
    queue: BTreeMap<(i64, u64), Event>,
    next: u64,
    store: Store,
    pub(crate) view: View,
    disk: Disk,
    gateway: Option<Gateway>,
    lives: u64,
    /// Lives in a row that ended before all was taken up.
    early_ends: u32,
    /// Whatever takes these up dies.
    deadly: BTreeSet<Seq>,
    /// The epoch of each life, for those who speak after their end.
    shims: BTreeMap<ShimNo, Shim>,
    trees: BTreeMap<ShimNo, Tree>,
    conns: BTreeMap<ConnNo, Conn>,
    clients: Clients,
    sent: Vec<Input>,
    calm: bool,
    bug: Option<Bug>,
    checkers: Checkers,
    pub(crate) trace: Trace,
    pub(crate) tally: Tally,
    pub(crate) failure: Option<Failure>,
}

impl World {
    pub(crate) fn new(seed: u64, options: &Options) -> Result<Self, Failure> {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng.fork(), &options.without);
        let store = Store::new(options.store, &plan.limits)
            .map_err(|trouble| Failure { invariant: "the harness", detail: trouble.chain() })?;
        let (dice, clock) = (rng.fork(), Clock::new(&mut rng));
        let mut world = Self {
            plan,
            dice,
            clock,
            rng,
            queue: BTreeMap::new(),
            next: 0,
            store,
            view: View::default(),
            disk: Disk::default(),
            gateway: None,
            lives: 0,
            early_ends: 0,
            deadly: BTreeSet::new(),
            shims: BTreeMap::new(),
            trees: BTreeMap::new(),
            conns: BTreeMap::new(),
            clients: Clients::default(),
            sent: Vec::new(),
            calm: false,
            bug: options.bug,
            checkers: Checkers::new(),
            trace: Trace::new(options.keep_trace),
            tally: Tally::default(),
            failure: None,
        };
        world.start_view();
        world.after(0, Event::GatewayStarts);
        world.after(5, Event::ClientActs);
        world.after(20, Event::Mishap);
        Ok(world)
    }

    /// What a new store holds.
    fn start_view(&mut self) {
        let id = chitin_core::QueueId(1);
        let name = chitin_core::QueueName::DEFAULT.to_owned();
        self.view.apply(Change::InsertQueue(chitin_core::QueueRow { id, name, paused: false }));
    }

    /// Runs `steps` events with faults, then on until everything has come to its end.
    pub(crate) fn run(&mut self, steps: u64) {
        while self.failure.is_none() && self.tally.events < steps {
            self.turn();
        }
        if self.failure.is_some() {
            return;
        }
        self.calm_down();
        let until = self.tally.events.saturating_add(CALM_EVENTS);
        while self.failure.is_none() && !self.is_quiet() {
            if self.tally.events >= until {
                return self.does_not_end();
            }
            self.turn();
        }
        if self.failure.is_none() {
            self.see(&Seen::End { folders: self.disk.leftovers() });
            let compared = self.store.compare_contents(&self.view);
            self.hold("the store", compared);
        }
    }

    fn turn(&mut self) {
        let Some(((at, _), event)) = self.queue.pop_first() else {
            return self.fail("liveness", "nothing will ever happen again".to_owned());
        };
        self.clock.advance_to(at);
        self.tally.events += 1;
        self.happens(event);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::GatewayStarts => self.gateway_starts(),
            Event::Turn { life, at } if self.lives_as(life) => self.engine_turn(at),
            Event::Release { life } if self.lives_as(life) => self.release(),
            Event::Start { life, order } if self.lives_as(life) => self.start(order),
            Event::Look { life, key, same_boot } if self.lives_as(life) => self.look(key, same_boot),
            Event::BeginAgain { life, key } if self.lives_as(life) => self.begin_again(key),
            Event::Insist { life, input, then } if self.lives_as(life) => self.insist(*input, then),
            Event::SweepFolders { life } if self.lives_as(life) => self.sweep_folders(),
            Event::TakeUp { life } if self.lives_as(life) => self.take_up_next(),
            Event::Strike { life, conn } if self.lives_as(life) => self.strike(conn),
            Event::RestIsOver { life, conn } if self.lives_as(life) => self.rest_is_over(conn),
            Event::Turn { .. }
            | Event::Release { .. }
            | Event::Start { .. }
            | Event::Look { .. }
            | Event::BeginAgain { .. }
            | Event::Insist { .. }
            | Event::SweepFolders { .. }
            | Event::TakeUp { .. }
            | Event::Strike { .. }
            | Event::RestIsOver { .. } => {}
            Event::Ordered { conn, epoch, order } => self.ordered(conn, epoch, &order),
            Event::Accepted(conn) => self.accepted(conn),
            Event::ToShim(conn, frame) => self.shim_hears(conn, frame),
            Event::ToGateway(conn, frame) => self.gateway_hears(conn, frame),
            Event::LostByShim(conn) => self.lost_by_shim(conn),
            Event::LostByGateway(conn) => self.lost_by_gateway(conn),
            Event::Claims(shim) => self.claims(shim),
            Event::Begins(shim) => self.begins(shim),
            Event::ShimTick { shim, at } => self.shim_tick(shim, at),
            Event::OutOfMemory(shim) => self.out_of_memory(shim),
            Event::Recorded(shim) => self.recorded(shim),
            Event::CommandExits { tree, turn } => self.command_exits(tree, turn),
            Event::OthersGo { tree, turn } => self.others_go(tree, turn),
            Event::ClientActs => self.client_acts(),
            Event::AsksAgain(client) => self.asks_again(client),
            Event::Answered { to, answer } => self.answered(to, answer),
            Event::Mishap => self.mishap(),
        }
    }

    /// Faults stop, nobody asks for anything new, and whoever is owed an answer asks until there is one.
    fn calm_down(&mut self) {
        self.note(|| "calm".to_owned());
        self.calm = true;
        self.plan.calm();
        self.resume_all();
    }

    fn is_quiet(&self) -> bool {
        let idle = self.gateway.as_ref().is_some_and(Gateway::is_idle);
        idle && self.shims.is_empty()
            && self.trees.is_empty()
            && self.clients.is_served()
            && self.view.open().next().is_none()
            && self.disk.is_swept(&self.view)
    }

    fn does_not_end(&mut self) {
        let open: Vec<_> = self.view.open().map(|row| (row.seq, row.state, row.attempt, row.due)).collect();
        let detail = format!(
            "after {CALM_EVENTS} calm events: open {open:?}, {} shims, {} trees, unanswered {:?}, folders {:?}",
            self.shims.len(),
            self.trees.len(),
            self.clients.unserved(),
            self.disk.leftovers(),
        );
        self.fail("liveness", detail);
    }

    fn after(&mut self, ms: i64, event: Event) {
        let at = self.clock.true_ms().saturating_add(ms.max(0));
        self.at(at, event);
    }

    fn at(&mut self, at: i64, event: Event) {
        self.next += 1;
        self.queue.insert((at, self.next), event);
    }

    /// A usual wait, or, if the fault strikes, an unusual one.
    fn wait_ms(&mut self, most: i64) -> i64 {
        let most = if self.strikes(Fault::Delay) { most.saturating_mul(40) } else { most };
        self.rng.between(0, most)
    }

    /// Whether the fault happens on this occasion.
    fn strikes(&mut self, fault: Fault) -> bool {
        let permille = self.plan.permille(fault);
        // Asked in any case, so that leaving a kind out changes as little as possible of the rest.
        let strikes = self.rng.permille(permille);
        if strikes {
            self.tally.count(fault);
        }
        strikes
    }

    fn planted(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{:>7} {}", self.clock.true_ms(), line());
        self.trace.note(line);
    }

    fn see(&mut self, seen: &Seen<'_>) {
        let scene = Scene { view: &self.view, limits: &self.plan.limits, now: self.clock.moment() };
        if let Err(failure) = self.checkers.see(seen, &scene) {
            self.failure.get_or_insert(failure);
        }
    }

    fn fail(&mut self, invariant: &'static str, detail: String) {
        self.failure.get_or_insert(Failure { invariant, detail });
    }

    fn hold<T>(&mut self, invariant: &'static str, held: Result<T, Trouble>) -> Option<T> {
        held.inspect_err(|trouble| self.fail(invariant, trouble.chain())).ok()
    }

    /// Rows become true, one by one and in order.
    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.see(&Seen::Change(&change));
            self.view.apply(change);
        }
    }
}
