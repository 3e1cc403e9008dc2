//! The time in which a gateway serves: children are reaped, and it ends with a signal or when somebody asks.

use std::io;
use std::time::Duration;

use chitin_core::{Dispatch, Input};
use tokio::signal::unix::{SignalKind, signal};

use crate::engine::{Engine, Pending};
use crate::http::Face;
use crate::stop::Mode;

/// How often a stopping gateway looks whether all has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The signals a gateway heeds.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    child: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            child: signal(SignalKind::child())?,
        })
    }
}

/// Reaps, and returns when the gateway is to go.
pub(super) async fn wait_for_stop(face: &Face, engine: &Engine, mut signals: Signals) {
    let mut pause = Pause::default();
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => face.stop.ask(Mode::Leave),
            _ = signals.interrupt.recv() => face.stop.ask(Mode::Leave),
            _ = signals.child.recv() => { chitin_shim::start::reap_children(); }
            () = face.stop.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY), if face.stop.wish().is_some() => {}
        }
        match face.stop.wish() {
            None => {}
            Some(Mode::Leave) => return,
            Some(mode @ (Mode::Drain | Mode::Kill)) => {
                let paused = pause.is_in_force(engine);
                if mode == Mode::Kill {
                    face.hub.end_all();
                }
                if paused && face.hub.len() == 0 && engine.status().figures().running == 0 {
                    return;
                }
            }
        }
    }
}

/// The wish that nothing new starts, until the writer has heard it: a commit that was under way may still give attempts
/// out, and they are to be seen before it is said that nothing runs.
#[derive(Default)]
struct Pause {
    heard: Option<Pending>,
    in_force: bool,
}

impl Pause {
    fn is_in_force(&mut self, engine: &Engine) -> bool {
        engine.dispatch(Dispatch::Paused);
        if self.in_force {
            return true;
        }
        // A command that changes nothing, in the same line behind the wish.
        let heard = self.heard.take().or_else(|| engine.send(0, None, |_| Input::Tick).ok());
        let Some(mut heard) = heard else { return false };
        // Refused by the disk, it was heard all the same.
        self.in_force = heard.is_answered();
        if !self.in_force {
            self.heard = Some(heard);
        }
        self.in_force
    }
}
