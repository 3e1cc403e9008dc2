//! Starts shims: reads the payload, makes the folder, writes the order, starts the process. On threads of its own,
//! because all of that blocks.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use chitin_core::{AttemptEnd, Input, Outcome, Payload, Policy, Produced, StartOrder, monitor};
use chitin_failpoints::failpoint;
use chitin_proto::http::EnvVars;
use chitin_proto::shim::{Order, PROTOCOL_VERSION, ResourceLimits};
use chitin_shim::groups::Tier;
use chitin_shim::start::SpawnError;
use chitin_store::{StoreError, Verdict};

use super::{Context, Job, attempt, recover, shortage};
use crate::clock;
use crate::engine::chain;
use crate::spool::FIRST;
use crate::tasks::TaskKind;

/// Threads that start and recover. A start is half a millisecond of system calls; two keep two processors busy.
const WORKERS: usize = 2;

/// What of the gateway's own environment a command sees, unless its task says otherwise.
const PASSED: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"];
/// For a gateway that was started without one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment every command begins with.
#[derive(Debug, Clone)]
pub(crate) struct BaseEnv(Vec<(String, String)>);

impl BaseEnv {
    /// From the gateway's own environment.
    pub(crate) fn of_gateway() -> Self {
        let passed = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut env: Vec<_> =
            passed.filter(|(name, _)| PASSED.contains(&name.as_str()) || name.starts_with("LC_")).collect();
        if !env.iter().any(|(name, _)| name == "PATH") {
            env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        Self(env)
    }

    fn with(&self, own: EnvVars, task: &str, attempt: u32) -> Vec<(String, String)> {
        let mut env = self.0.clone();
        env.retain(|(name, _)| !own.0.iter().any(|(own, _)| own == name));
        env.extend(own.0);
        env.push(("CHITIN_TASK_ID".to_owned(), task.to_owned()));
        env.push(("CHITIN_ATTEMPT".to_owned(), attempt.to_string()));
        env
    }
}

/// Why an attempt could not be started: chitin's own trouble. What passes by itself costs the task nothing; the rest is
/// worth another try by its policy.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the task's payload could not be read")]
    Payload(#[source] Box<StoreError>),
    #[error("the task's payload is gone")]
    NoPayload,
    #[error("the stored {what} is not readable")]
    Malformed { what: &'static str, source: serde_json::Error },
    #[error("the attempt's folder could not be made")]
    Folder(#[source] io::Error),
    #[error("the shim could not be started")]
    Spawn(#[from] SpawnError),
}

impl StartError {
    fn passes(&self) -> bool {
        match self {
            Self::Payload(error) => error.verdict() != Verdict::Corrupt,
            Self::Folder(error) => shortage::is_one(error),
            Self::Spawn(
                SpawnError::Memory(error)
                | SpawnError::Socket(error)
                | SpawnError::Process { source: error, .. },
            ) => shortage::is_one(error),
            Self::Spawn(SpawnError::Order(_)) | Self::NoPayload | Self::Malformed { .. } => false,
        }
    }
}

/// Starts the worker threads.
pub(crate) fn spawn_workers(context: &Arc<Context>) -> io::Result<Vec<JoinHandle<()>>> {
    let worker = |number: usize| {
        let context = Arc::clone(context);
        thread::Builder::new().name(format!("chitin-start-{number}")).spawn(move || {
            while let Some(job) = context.jobs.pop() {
                let work = std::panic::AssertUnwindSafe(|| match job {
                    Job::Start(order) => start(&context, order),
                    Job::Recover { attempt, same_boot } => recover::recover(&context, attempt, same_boot),
                });
                if std::panic::catch_unwind(work).is_err() {
                    // Nobody would take care of that attempt in this life; the next one finds it again.
                    tracing::error!("a start or a recovery panicked; the gateway ends");
                    crate::logs::flush();
                    std::process::exit(70);
                }
            }
        })
    };
    (0..WORKERS).map(worker).collect()
}

fn start(context: &Arc<Context>, order: StartOrder) {
    let key = order.attempt;
    match try_start(context, &order) {
        Ok(socket) => attempt::listen(context, key, socket),
        // No shim was started, so there is nothing to void: the same attempt again, soon.
        Err(error) if error.passes() => {
            let error = chain(&error);
            tracing::warn!(task.id = %key.id, attempt = key.attempt.0, error, "an attempt cannot be started yet");
            let shared = Arc::clone(context);
            context.tasks.spawn(TaskKind::Attempt, async move {
                tokio::time::sleep(shortage::PAUSE).await;
                recover::begin_again(&shared, key).await;
            });
        }
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(task.id = %key.id, attempt = key.attempt.0, error, "an attempt could not be started");
            let why = format!("could not be started: {error}");
            let end = AttemptEnd::unreported(Outcome::Failed, clock::wall_ms(), why);
            let engine = context.engine.clone();
            context.tasks.spawn(TaskKind::Attempt, async move {
                let report = Input::ShimReport { attempt: key, end, produced: Produced::default() };
                _ = engine.insist(0, report).await;
            });
        }
    }
}

fn try_start(context: &Context, order: &StartOrder) -> Result<std::os::unix::net::UnixStream, StartError> {
    let key = order.attempt;
    failpoint!("start.before");
    let payload = context
        .readers
        .with(|reader| reader.payload(key.seq))
        .map_err(|error| StartError::Payload(Box::new(error)))?
        .ok_or(StartError::NoPayload)?;
    let (shim_order, stdin) = write_order(context, order, payload)?;
    let stdin = (!stdin.is_empty()).then_some(stdin.as_slice());
    let resting = if key.attempt == FIRST {
        context.spool.take(key.id, |removal| context.janitor.remove(removal))
    } else {
        None
    };
    failpoint!("start.spawn.before");
    let served = match resting {
        Some((folder, shim)) => shim.start(&folder, &shim_order, stdin)?,
        None => None,
    };
    let spawned = match served {
        Some(spawned) => spawned,
        None => {
            let folder = context.spool.make(key.id, key.attempt).map_err(StartError::Folder)?;
            context.shims.start(&folder, &shim_order, stdin)?
        }
    };
    failpoint!("start.spawn.after");
    tracing::debug!(task.id = %key.id, attempt = key.attempt.0, shim.pid = spawned.pid, "a shim was started");
    Ok(spawned.socket)
}

fn write_order(
    context: &Context,
    order: &StartOrder,
    payload: Payload,
) -> Result<(Order, Vec<u8>), StartError> {
    let StartOrder { attempt: key, policy, paused: _ } = order;
    let task = key.id.to_string();
    let command: Vec<String> = serde_json::from_str(&payload.command)
        .map_err(|source| StartError::Malformed { what: "command", source })?;
    let own: EnvVars = if payload.env.is_empty() {
        EnvVars::default()
    } else {
        serde_json::from_str(&payload.env)
            .map_err(|source| StartError::Malformed { what: "environment", source })?
    };
    let limits = resource_limits(policy, &context.limits, &context.tier);
    let order = Order {
        v: PROTOCOL_VERSION,
        attempt: key.attempt.0,
        token: key.token.to_string(),
        epoch: context.epoch,
        boot_id: context.clock.boot_id().to_owned(),
        command,
        env: context.base_env.with(own, &task, key.attempt.0),
        cwd: payload.cwd.map(Into::into),
        merge: policy.merge,
        timeout_ms: policy.timeout_ms.map(i64::unsigned_abs),
        grace_ms: context.limits.grace_ms,
        isolation: context.tier.isolation(&context.instance, &task, key.attempt.0, &limits),
        limits,
        segment_bytes: context.limits.segment_bytes,
        result_max_bytes: context.limits.result_bytes,
        task,
    };
    Ok((order, payload.stdin))
}

pub(super) fn resource_limits(policy: &Policy, limits: &chitin_core::Limits, tier: &Tier) -> ResourceLimits {
    let unless_none = |limit: u64| (limit > 0).then_some(limit);
    let memory = policy.memory_bytes.map_or(limits.task_memory_bytes, i64::unsigned_abs);
    let memory = memory.min(monitor::most_for_one(limits));
    ResourceLimits {
        memory_bytes: Some(memory),
        pids: Some(policy.pids.map_or(limits.task_pids, i64::unsigned_abs)),
        cpu_millis: policy.cpu_millis.map(i64::unsigned_abs),
        file_bytes: unless_none(limits.task_file_bytes),
        open_files: unless_none(limits.task_open_files),
        nice: tier.nice(limits.task_cpu_weight),
    }
}
