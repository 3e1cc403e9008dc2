//! recover, in safe mode: has the core take up one task after another, and goes on only when the world knows what became
//! of the last one. Whatever ends the gateway meanwhile is seen by the next life, which finds that task written down.

use std::time::Duration;

use chitin_core::Input;

use super::Context;
use crate::clock;
use crate::engine::Trouble;

/// An attempt of which nothing was found out for so long (its tree does not end) is left behind: it is looked for on.
const LOOK_FOR: Duration = Duration::from_secs(10);
/// A disk that hangs for longer is asked again.
const PATIENCE_MS: u64 = 60_000;
/// Between two looks, and between two tries while the store refuses.
const PAUSE: Duration = Duration::from_millis(5);

/// Takes up all that is open, where this life is to be careful; returns when that is done, or the gateway stops.
pub(crate) async fn take_up_one_by_one(context: &Context) {
    if !context.engine.status().is_recovering() {
        return;
    }
    tracing::warn!("safe mode: gateways before this one ended early; open tasks are taken up one by one");
    let began = clock::steady();
    let mut steps: u64 = 0;
    while context.engine.status().is_recovering() {
        match context.engine.ask(PATIENCE_MS, |_| Input::RecoverNext).await {
            Ok(_) => steps += 1,
            Err(Trouble::Stopping) => return,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        let asked = clock::steady();
        while !context.hub.all_are_found() && clock::steady().saturating_sub(asked) < LOOK_FOR {
            tokio::time::sleep(PAUSE).await;
        }
    }
    let took_ms = clock::steady().saturating_sub(began).as_millis();
    tracing::info!(steps, took_ms, "every open task was taken up; safe mode is over");
}
