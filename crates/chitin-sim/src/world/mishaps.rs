//! What goes wrong by itself, looked at ten times a second: kills, power cuts, clocks, what comes twice.

use chitin_core::{AttemptEnd, CommandId, Input, Outcome, Produced};
use chitin_proto::shim::{PROTOCOL_VERSION, ToShim};

use super::engine::{Asker, Command};
use super::{Event, World};
use crate::check::{EVICTED, Seen};
use crate::plan::Fault;

const LOOK_EVERY_MS: i64 = 100;

impl World {
    pub(super) fn mishap(&mut self) {
        if self.calm {
            self.press(false);
            // A queue or a task may have been paused by a command that was still under way.
            self.resume_all();
            self.after(1_000, Event::Mishap);
            return;
        }
        if self.strikes(Fault::GatewayKilled) {
            self.gateway_dies("killed");
        }
        if self.strikes(Fault::PowerCut) {
            self.power_cut();
        }
        if self.strikes(Fault::ShimKilled) {
            self.kill_a_shim();
        }
        if self.strikes(Fault::ConnectionLost) {
            let conns: Vec<_> = self.conns.keys().copied().collect();
            if let Some(conn) = self.rng.pick(&conns).copied() {
                self.breaks(conn);
            }
        }
        if self.strikes(Fault::Duplicate) {
            self.report_again();
        }
        if self.strikes(Fault::StaleGateway) {
            self.stale_gateway_speaks();
        }
        if self.strikes(Fault::ClockStep) {
            let ms = self.rng.between(-600_000, 600_000);
            self.clock.step_wall(ms);
            self.note(|| format!("the wall clock steps by {ms} ms"));
        }
        if self.strikes(Fault::DeadlyRow) {
            self.row_goes_bad();
        }
        if self.strikes(Fault::MemoryTight) {
            self.press(true);
        } else if self.rng.permille(200) {
            self.press(false);
        }
        if self.strikes(Fault::Eviction) {
            self.evict_one();
        }
        if self.strikes(Fault::GatewayStops) {
            self.stop_with_all();
        }
        self.after(LOOK_EVERY_MS, Event::Mishap);
    }

    /// Everything that lives goes; of the disk, what was durable stays.
    fn power_cut(&mut self) {
        self.note(|| "power cut".to_owned());
        self.gateway_dies("power cut");
        self.see(&Seen::PowerCut);
        self.trees.clear();
        self.shims.clear();
        self.conns.clear();
        self.disk.power_cut(&mut self.rng);
        self.clock.reboot();
        if self.rng.permille(300) && self.plan.permille(Fault::ClockStep) > 0 {
            let ms = self.rng.between(-600_000, 600_000);
            self.clock.step_wall(ms);
        }
    }

    fn kill_a_shim(&mut self) {
        let shims: Vec<_> = self.shims.keys().copied().collect();
        let Some(shim) = self.rng.pick(&shims).copied() else { return };
        if let Some(key) = self.shims.get(&shim).map(|shim| shim.key) {
            self.note(|| format!("shim {shim} is killed"));
            self.see(&Seen::ShimKilled(key));
        }
        self.shim_leaves(shim);
    }

    /// What was reported is reported again, to whoever listens now.
    fn report_again(&mut self) {
        let Some(input) = self.rng.pick(&self.sent).cloned() else { return };
        let input = match input {
            // Or somebody reports under a token that was voided, as if that had begun all the same.
            // Not while it is the attempt's own: who reports under that one has claimed it.
            Input::Voided { attempt }
                if self.rng.coin() && self.current_token(attempt) != Some(attempt.token) =>
            {
                let end =
                    AttemptEnd::unreported(Outcome::TimedOut, self.clock.wall_ms(), "under a void token");
                Input::ShimReport { attempt, end, produced: Produced::default() }
            }
            other => other,
        };
        self.insist(input, super::Then::Nothing);
    }

    /// A gateway that should be dead attaches and wants the end.
    fn stale_gateway_speaks(&mut self) {
        let shims: Vec<_> =
            self.shims.iter().filter_map(|(no, shim)| Some((*no, shim.next_conn()?))).collect();
        let Some((no, id)) = self.rng.pick(&shims).copied() else { return };
        let newest = self.epoch().0.unsigned_abs();
        let epoch = self.rng.below(newest);
        let Some(key) = self.shims.get(&no).map(|shim| shim.key) else { return };
        let conn = self.new_conn(key, no, id);
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.stale_epoch = Some(epoch);
        }
        let at = self.reaches_shim_at(conn);
        self.at(at, Event::Accepted(conn));
        self.send_to_shim(conn, ToShim::Attach { v: PROTOCOL_VERSION, epoch });
        self.send_to_shim(conn, ToShim::Cancel);
        self.after(LOOK_EVERY_MS, Event::LostByGateway(conn));
    }

    /// As the monitor does it: the writer is told, and woken, so that it notices without waiting for work.
    fn press(&mut self, is_pressed: bool) {
        let Some(gateway) = &mut self.gateway else { return };
        if gateway.is_pressed != is_pressed {
            gateway.is_pressed = is_pressed;
            self.ask_once(Input::Tick);
        }
    }

    fn ask_once(&mut self, input: Input) {
        self.next += 1;
        self.send(Command { to: CommandId(self.next), input, asker: Asker::Client });
    }

    /// As the monitor does it: of those whose end nobody wishes yet, the largest one, which may be any. It is not insisted
    /// on: if memory is still short at the next reading, it is asked for again.
    fn evict_one(&mut self) {
        let Some(gateway) = &self.gateway else { return };
        let goes_on = gateway.hub.values().filter(|wishes| !wishes.end);
        let keys: Vec<_> = goes_on.map(|wishes| wishes.key).collect();
        let Some(attempt) = self.rng.pick(&keys).copied() else { return };
        self.note(|| format!("{:?}.{} is to be evicted", attempt.seq, attempt.attempt.0));
        let input = Input::Evict { attempt, why: EVICTED.to_owned(), detail: "{}".to_owned() };
        self.see(&Seen::Asked(&input));
        self.ask_once(input);
    }

    /// As `down --kill`: all that runs is to end, and the gateway goes when it has, or sooner.
    fn stop_with_all(&mut self) {
        let Some(gateway) = &self.gateway else { return };
        let keys: Vec<_> = gateway.hub.values().map(|wishes| wishes.key).collect();
        self.note(|| "the gateway stops and ends all".to_owned());
        keys.into_iter().for_each(|key| self.ask_end(key));
    }
}
