//! Finds out what became of an attempt: by its claim, its lock, its socket or its record. Never by a pid.
//!
//! | found | means | done |
//! |---|---|---|
//! | no claim, same boot | never started | a void claim is linked; the same attempt starts under a new token |
//! | lock held | the shim lives | attach to its socket; wait for its word. One that is hung is killed (`heartbeat`) |
//! | lock free, record | it ended while nobody listened | settled by the record |
//! | lock free, no record | the shim was killed | its tree is ended, then `worker_lost` |
//! | another boot, record | it ended before the machine did | settled by the record |
//! | another boot, no record or no claim | the machine went down under it | `host_lost` |

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use chitin_core::{AttemptEnd, AttemptKey, Beat, Input, Outcome, Produced};
use chitin_failpoints::{failpoint, planted};
use chitin_proto::shim::{Claim, ExitReport, ResourceLimits};
use chitin_shim::recover::{Found, Voided, connect, probe, void};

use super::{Context, Wishes, attempt, heartbeat, salvage};
use crate::clock;
use crate::engine::chain;
use crate::tasks::TaskKind;

/// Between two looks at a shim that lives and does not answer: it is on its way out, or not yet listening.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// So long it is looked before the attempt is handed to the end of the line: one stuck shim, or a tree that does not
/// end, holds up no other.
const LOOK_FOR: Duration = Duration::from_secs(1);

/// One more of these for each void of the same attempt in this gateway's life, up to so many voids: nine seconds in all.
const VOID_PAUSE: Duration = Duration::from_millis(250);
const MOST_VOIDS: u32 = 8;

pub(super) fn recover(context: &Arc<Context>, key: AttemptKey, same_boot: bool) {
    failpoint!("recover.before");
    let began = clock::steady();
    while clock::steady().saturating_sub(began) < LOOK_FOR {
        let Some(wishes) = context.hub.get(key).filter(|_| !context.jobs.is_stopped()) else { return };
        match look(context, &wishes, same_boot) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(task.id = %key.id, attempt = key.attempt.0, %error, "an attempt's folder cannot be read");
            }
        }
        thread::sleep(LOOK_AGAIN);
    }
    context.jobs.push(super::Job::Recover { attempt: key, same_boot });
}

/// True when the attempt is in good hands.
fn look(context: &Arc<Context>, wishes: &Wishes, same_boot: bool) -> std::io::Result<bool> {
    let key = wishes.key;
    let folder = context.spool.make(key.id, key.attempt)?;
    let token = key.token.to_string();
    match probe(&folder, &token, context.clock.boot_id())? {
        // Claims are not made durable: after a reboot a missing one may have been there.
        Found::NoClaim if !same_boot => host_lost(context, key),
        Found::NoClaim => match void(&folder, &token, context.clock.boot_id())? {
            Voided::Voided => {
                failpoint!("recover.voided");
                heartbeat::give_up_unclaimed(context, wishes);
                voided(context, key);
            }
            Voided::LostToClaim => return Ok(false),
        },
        Found::Void => voided(context, key),
        Found::Alive if planted!("no-reattach") => voided(context, key),
        Found::Alive => match connect(&folder) {
            Ok(socket) => attempt::attach(context, key, socket),
            Err(_) => {
                if wishes.beat() == Beat::GiveUp {
                    heartbeat::give_up(context, wishes);
                }
                return Ok(false);
            }
        },
        Found::Dead { record: Some(report), .. } | Found::OtherBoot { record: Some(report), .. } => {
            recorded(context, key, report);
        }
        Found::Dead { record: None, claim } => {
            if !end_tree(context, key, &claim) {
                return Ok(false);
            }
            failpoint!("recover.tree.ended");
            let (produced, bytes) = salvage::salvage(&folder, &context.limits)?;
            let (outcome, why) = wishes.end_of_killed();
            let end = AttemptEnd::unreported(outcome, clock::wall_ms(), why);
            report(context, bytes, Input::ShimReport { attempt: key, end, produced });
        }
        Found::OtherBoot { record: None, .. } => host_lost(context, key),
    }
    Ok(true)
}

/// No shim will ever start this attempt under its token. The first time it begins anew at once: nothing was wrong but
/// that a gateway ended. Shims that end again and again before they can claim are chitin's own trouble: each start waits
/// longer, and after some the attempt has failed, visibly, and its task's policy decides.
fn voided(context: &Arc<Context>, key: AttemptKey) {
    let before = context.hub.voided_before(key);
    if before >= MOST_VOIDS && !context.hub.is_end_wanted(key) {
        let error =
            "its shim ended before it could claim the attempt, again and again; is chitin-shim whole?";
        tracing::error!(task.id = %key.id, attempt = key.attempt.0, voids = before, "shims end before they claim");
        return lost(context, key, Outcome::Failed, error);
    }
    if before > 0 {
        tracing::warn!(task.id = %key.id, attempt = key.attempt.0, voids = before, "an attempt was voided again");
    }
    let shared = Arc::clone(context);
    context.tasks.spawn(TaskKind::Attempt, async move {
        if !shared.hub.is_end_wanted(key) {
            tokio::time::sleep(VOID_PAUSE.saturating_mul(before)).await;
        }
        begin_again(&shared, key).await;
    });
}

/// The same attempt under a new token, unless its end is wanted meanwhile: then that is its end.
pub(super) async fn begin_again(context: &Context, key: AttemptKey) {
    let input = if context.hub.is_end_wanted(key) {
        // Cancelled if somebody asked for that; else put back, as the gateway goes.
        let end = AttemptEnd::unreported(Outcome::Cancelled, clock::wall_ms(), "ended before it began");
        Input::ShimReport { attempt: key, end, produced: Produced::default() }
    } else {
        Input::Voided { attempt: key }
    };
    _ = context.engine.insist(0, input).await;
}

fn recorded(context: &Arc<Context>, key: AttemptKey, report: ExitReport) {
    let Some(wishes) = context.hub.get(key) else { return };
    let shared = Arc::clone(context);
    context.tasks.spawn(TaskKind::Attempt, async move {
        _ = attempt::settle(&shared, &wishes, report).await;
    });
}

/// Whatever the killed shim had started must be gone before the task may run again. Where that is, its claim says: this
/// gateway may make its groups elsewhere.
fn end_tree(context: &Context, key: AttemptKey, claim: &Claim) -> bool {
    let task = key.id.to_string();
    let limits = ResourceLimits { memory_bytes: Some(1), pids: Some(1), ..ResourceLimits::default() };
    let isolation = match &claim.shim {
        Some(shim) => shim.isolation.clone(),
        None => context.tier.isolation(&context.instance, &task, key.attempt.0, &limits),
    };
    match chitin_shim::tree::end(&isolation, &task, key.attempt.0) {
        Ok(_) => true,
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(task.id = %key.id, attempt = key.attempt.0, error, "a dead shim's tree does not end yet");
            false
        }
    }
}

fn host_lost(context: &Arc<Context>, key: AttemptKey) {
    lost(
        context,
        key,
        Outcome::HostLost,
        "the machine was restarted while it ran, or a backup was restored that was taken while it ran",
    );
}

fn lost(context: &Arc<Context>, key: AttemptKey, outcome: Outcome, error: &str) {
    let end = AttemptEnd::unreported(outcome, clock::wall_ms(), error);
    report(context, 0, Input::ShimReport { attempt: key, end, produced: Produced::default() });
}

fn report(context: &Arc<Context>, bytes: u64, input: Input) {
    let engine = context.engine.clone();
    context.tasks.spawn(TaskKind::Attempt, async move {
        _ = engine.insist(bytes, input).await;
    });
}
