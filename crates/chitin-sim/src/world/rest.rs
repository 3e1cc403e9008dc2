//! Shims that rest in their emptied folders and serve the next first attempt: asked after an ordinary life, given another
//! order with the folder under its new name, told to leave when none comes. A shim that serves again has another number
//! here, since it is of another attempt: what was decided about the one before concerns it no more.

use std::collections::BTreeMap;

use chitin_core::{AttemptKey, AttemptNo, StartOrder, TaskId};
use chitin_shim::machine::BORN_WITH;

use super::net::{ConnNo, FromShim};
use super::shims::{Shim, ShimNo};
use super::{Event, World};
use crate::planted::Bug;

/// The attempt whose folder may serve another task.
pub(super) const FIRST: AttemptNo = AttemptNo(1);
/// So long a shim waits for another order.
const REST_MS: i64 = 100;
/// The product's bound, made small enough to be met.
const MOST: usize = 3;

/// Folders that nobody else removes, as one gateway knows them.
#[derive(Debug, Default)]
pub(super) struct RestingShims {
    /// By the task each is of: the shim was asked to rest, or rests at the end of this connection.
    held: BTreeMap<TaskId, Option<ConnNo>>,
    /// Those that rest, the last one last.
    line: Vec<TaskId>,
}

impl RestingShims {
    fn hold(&mut self, id: TaskId) -> bool {
        let free = self.held.len() < MOST && !self.held.contains_key(&id);
        if free {
            self.held.insert(id, None);
        }
        free
    }

    pub(super) fn is_held(&self, id: TaskId) -> bool {
        self.held.contains_key(&id)
    }

    fn rests(&mut self, id: TaskId, conn: ConnNo) {
        if let Some(place) = self.held.get_mut(&id) {
            *place = Some(conn);
            self.line.push(id);
        }
    }

    fn give(&mut self) -> Option<(TaskId, ConnNo)> {
        let id = self.line.pop()?;
        Some((id, self.held.remove(&id)??))
    }

    /// `None`: it was given away.
    fn let_go(&mut self, id: TaskId) -> Option<Option<ConnNo>> {
        self.line.retain(|other| *other != id);
        self.held.remove(&id)
    }
}

impl World {
    /// Whether the shim at the end of this conversation is asked to rest.
    pub(super) fn asks_to_rest(&mut self, no: ConnNo) -> bool {
        let Some(conn) = self.conns.get(&no) else { return false };
        let (key, is_ordinary) = (conn.key, !conn.is_attached && !conn.keep_logs);
        let Some(gateway) = &mut self.gateway else { return false };
        is_ordinary && key.attempt == FIRST && gateway.resting.hold(key.id)
    }

    /// The end is committed and the shim was told: it rests if it can, else it leaves.
    pub(super) fn shim_rests(&mut self, no: ShimNo) {
        // Else its groups did not measure all of it, or the command left what is not so easily removed.
        let is_ordinary = self.rng.permille(850);
        let among_others = self.planted(Bug::RestsBesideClaims);
        let Some(shim) = self.shims.get_mut(&no) else { return };
        let (key, gateway) = (shim.key, shim.born_with());
        let may_rest = is_ordinary && shim.is_alone();
        let folder = self.disk.get((key.id, key.attempt));
        let is_emptied = may_rest && folder.is_some_and(|folder| folder.empty(key.token, among_others));
        let Some(conn) = gateway.filter(|_| is_emptied) else { return self.shim_leaves(no) };
        shim.rests();
        self.note(|| format!("shim {no} rests"));
        if !self.send_to_gateway(conn, FromShim::Resting) {
            self.shim_leaves(no);
        }
    }

    pub(super) fn hears_that_it_rests(&mut self, no: ConnNo) {
        let Some(conn) = self.conns.get_mut(&no).filter(|conn| conn.is_settled && conn.is_asked_to_rest)
        else {
            return;
        };
        conn.rests = true;
        let id = conn.key.id;
        if let Some(gateway) = &mut self.gateway {
            gateway.resting.rests(id, no);
        }
        let life = self.life();
        let late = self.wait_ms(REST_MS);
        self.after(REST_MS.saturating_add(late), Event::RestIsOver { life, conn: no });
    }

    /// Nobody needed it. What was given away meanwhile has another connection by now.
    pub(super) fn rest_is_over(&mut self, no: ConnNo) {
        let Some(key) = self.conns.get(&no).map(|conn| conn.key) else { return };
        self.gateway_closes(no);
        self.forget_closed(no);
        self.parted(key, false);
    }

    /// After the last word, or when it is not waited for: the folder is seen to.
    pub(super) fn parted(&mut self, key: AttemptKey, keep_logs: bool) {
        if let Some(gateway) = &mut self.gateway
            && key.attempt == FIRST
        {
            gateway.resting.let_go(key.id);
        }
        self.remove_attempt(key.id, key.attempt, keep_logs);
    }

    /// What is held is removed by whoever holds it.
    pub(super) fn remove_attempt(&mut self, id: TaskId, attempt: AttemptNo, keep_logs: bool) {
        let is_held = self.gateway.as_ref().is_some_and(|gateway| gateway.resting.is_held(id));
        if is_held && attempt == FIRST {
            return;
        }
        self.disk.remove((id, attempt), keep_logs);
        if self.planted(Bug::VoidClaimSwept)
            && let Some(folder) = self.disk.get((id, attempt))
        {
            folder.forget_claims();
        }
    }

    /// Has a shim that rests serve this attempt. False: there is none, and a fresh one is to be started.
    pub(super) fn is_served_by_one_that_rests(&mut self, order: &StartOrder) -> bool {
        let key = order.attempt;
        if key.attempt != FIRST {
            return false;
        }
        let beside_others = self.planted(Bug::GivenWithAnother);
        while let Some((from, old)) = self.gateway.as_mut().and_then(|gateway| gateway.resting.give()) {
            if self.disk.give(from, key.id, beside_others) {
                return self.orders(old, order);
            }
            self.gateway_closes(old);
            self.forget_closed(old);
            self.remove_attempt(from, FIRST, false);
        }
        false
    }

    /// Over the connection it rests at. False: it is gone.
    fn orders(&mut self, old: ConnNo, order: &StartOrder) -> bool {
        let old = self.conns.remove(&old).filter(|conn| conn.shim_open);
        let (key, Some(no)) = (order.attempt, old.map(|conn| conn.shim)) else { return false };
        let conn = self.new_conn(key, no, BORN_WITH);
        self.shim_is_born_with(no, conn);
        let epoch = self.epoch().0.unsigned_abs();
        let at = self.reaches_shim_at(conn);
        self.at(at, Event::Ordered { conn, epoch, order: order.clone() });
        self.note(|| format!("shim {no} is to serve {:?}.{} {:?}", key.seq, key.attempt.0, key.token));
        self.listens(conn);
        true
    }

    /// An order reached a shim that rests: it is another one from now on.
    pub(super) fn ordered(&mut self, conn: ConnNo, epoch: u64, order: &StartOrder) {
        let Some(old) = self.conns.get(&conn).filter(|conn| conn.shim_open).map(|conn| conn.shim) else {
            return;
        };
        if !self.shims.get(&old).is_some_and(Shim::is_resting) {
            return;
        }
        let Some(shim) = self.shims.remove(&old) else { return };
        self.next += 1;
        let no = self.next;
        for conn in self.conns.values_mut().filter(|conn| conn.shim == old) {
            conn.shim = no;
        }
        self.shims.insert(no, shim.serves(order, epoch));
        self.comes_to_claim(no);
    }
}
