//! Sockets between gateways and shims: what is sent arrives in order and late, or the connection breaks and nothing
//! more arrives. The end of one side is seen by the other after everything it had sent.

use chitin_core::AttemptKey;
use chitin_proto::shim::ToShim;
use chitin_shim::machine::ConnId;

use super::report::Report;
use super::shims::ShimNo;
use super::{Event, Fault, World};

pub(super) type ConnNo = u64;

/// What a shim says.
#[derive(Debug, Clone)]
pub(crate) enum FromShim {
    Void,
    Started,
    Resting,
    Ended(Box<Report>),
}

/// A connection, with what the gateway's side of the conversation knows.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) key: AttemptKey,
    pub(super) shim: ShimNo,
    pub(super) shim_id: ConnId,
    pub(super) life: u64,
    /// Of a gateway that should be dead.
    pub(super) stale_epoch: Option<u64>,
    /// The gateway found the shim again, it did not start it.
    pub(super) is_attached: bool,
    pub(super) gateway_open: bool,
    pub(super) shim_open: bool,
    pub(super) is_accepted: bool,
    pub(super) end_wanted: bool,
    pub(super) end_sent: bool,
    pub(super) pause_wanted: bool,
    /// What the shim was told last of a pause; `None`: nobody on this side knows.
    pub(super) pause_heard: Option<bool>,
    /// It has said that it runs, and in which version.
    pub(super) has_spoken: bool,
    pub(super) is_settling: bool,
    pub(super) is_settled: bool,
    pub(super) keep_logs: bool,
    /// The last word was said, and what it was.
    pub(super) has_parted: bool,
    pub(super) is_asked_to_rest: bool,
    /// Its shim rests: nobody listens until it is given an order.
    pub(super) rests: bool,
    to_shim_at: i64,
    to_gateway_at: i64,
}

/// A local socket is quick.
const FRAME_MS: i64 = 4;

impl World {
    pub(super) fn new_conn(&mut self, key: AttemptKey, shim: ShimNo, shim_id: ConnId) -> ConnNo {
        self.next += 1;
        let conn = Conn {
            key,
            shim,
            shim_id,
            life: self.lives,
            stale_epoch: None,
            is_attached: shim_id != chitin_shim::machine::BORN_WITH,
            gateway_open: true,
            shim_open: true,
            is_accepted: shim_id == chitin_shim::machine::BORN_WITH,
            end_wanted: false,
            end_sent: false,
            pause_wanted: false,
            pause_heard: (shim_id == chitin_shim::machine::BORN_WITH).then_some(false),
            has_spoken: false,
            is_settling: false,
            is_settled: false,
            keep_logs: false,
            has_parted: false,
            is_asked_to_rest: false,
            rests: false,
            to_shim_at: 0,
            to_gateway_at: 0,
        };
        self.conns.insert(self.next, conn);
        self.next
    }

    /// When what is sent to the shim now arrives there: after all that was sent before.
    pub(super) fn reaches_shim_at(&mut self, conn: ConnNo) -> i64 {
        let at = self.clock.true_ms().saturating_add(self.wait_ms(FRAME_MS));
        let Some(conn) = self.conns.get_mut(&conn) else { return at };
        conn.to_shim_at = conn.to_shim_at.max(at);
        conn.to_shim_at
    }

    fn reaches_gateway_at(&mut self, conn: ConnNo) -> i64 {
        let at = self.clock.true_ms().saturating_add(self.wait_ms(FRAME_MS));
        let Some(conn) = self.conns.get_mut(&conn) else { return at };
        conn.to_gateway_at = conn.to_gateway_at.max(at);
        conn.to_gateway_at
    }

    pub(super) fn send_to_shim(&mut self, conn: ConnNo, frame: ToShim) {
        if self.strikes(Fault::ConnectionLost) {
            return self.breaks(conn);
        }
        let at = self.reaches_shim_at(conn);
        self.at(at, Event::ToShim(conn, frame));
    }

    /// False: the other side has closed it, or it is broken.
    pub(super) fn send_to_gateway(&mut self, conn: ConnNo, frame: FromShim) -> bool {
        let open = self.conns.get(&conn).is_some_and(|conn| conn.gateway_open && conn.shim_open);
        if open && self.strikes(Fault::ConnectionLost) {
            self.breaks(conn);
        } else if open {
            let at = self.reaches_gateway_at(conn);
            self.at(at, Event::ToGateway(conn, frame));
        }
        open
    }

    /// Both sides see the end at once; what was on its way does not arrive.
    pub(super) fn breaks(&mut self, conn: ConnNo) {
        self.note(|| format!("connection {conn} breaks"));
        let lost = |event: &Event| match event {
            Event::ToShim(of, _) | Event::ToGateway(of, _) | Event::Ordered { conn: of, .. } => *of == conn,
            _ => false,
        };
        self.queue.retain(|_, event| !lost(event));
        self.after(0, Event::LostByShim(conn));
        self.after(0, Event::LostByGateway(conn));
    }

    /// The gateway's side ends; the shim sees that after what was sent.
    pub(super) fn gateway_closes(&mut self, no: ConnNo) {
        let Some(conn) = self.conns.get_mut(&no) else { return };
        conn.gateway_open = false;
        let at = self.reaches_shim_at(no);
        self.at(at, Event::LostByShim(no));
    }

    /// The shim's side ends.
    pub(super) fn shim_closes(&mut self, no: ConnNo) {
        let Some(conn) = self.conns.get_mut(&no) else { return };
        conn.shim_open = false;
        let at = self.reaches_gateway_at(no);
        self.at(at, Event::LostByGateway(no));
    }

    /// Nobody holds it any more.
    pub(super) fn forget_closed(&mut self, no: ConnNo) {
        if self.conns.get(&no).is_some_and(|conn| !conn.gateway_open && !conn.shim_open) {
            self.conns.remove(&no);
        }
    }
}
