//! A gateway's life, from the lock to the last answer.
//!
//! Start: data directory and lock → sockets, handed over or its own → database (its log worked off first) → take-over
//! commit → writer, workers, routes → ready. Stop: no new connections → answers under a deadline → writer's last commit →
//! database closed → pid file gone, and socket if it is its own → lock released. Shims are not told: they go on.

mod stopping;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chitin_core::{EventName, Pace};
use chitin_shim::groups::{self, Tier, TierKind};
use chitin_shim::start::ForkServer;
use chitin_store::{
    Commit, Left, NoReason, Reader, SpoolVerdict, StoreError, StoreOptions, TokenRow, Verdict, Writer,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::backup;
use crate::clock::Clock;
use crate::data_dir::{DataDir, Purpose, names};
use crate::effects::World;
use crate::engine::{self, Checkpoints, Engine, chain};
use crate::entrance::Doors;
use crate::events::{Events, publish};
use crate::http::{
    Access, Budgets, Caller, ClientNo, Connections, Face, Isolation, Listeners, Memory, Refusals,
};
use crate::monitor::{self, Pressure};
use crate::readers::Readers;
use crate::runner::{BaseEnv, Context, Hub, Jobs, leftover, spawn_workers, take_up_one_by_one};
use crate::spool::{Janitor, Removal, Spool};
use crate::stop::{Mode, Stop};
use crate::supervised::{self, Inherited, Successor, Supervised};
use crate::tasks::{TaskKind, Tasks};
use crate::waiters::Waiters;
use crate::{Config, GatewayError, Options, Ready, cache, chance, entrance, logs};
use stopping::{Signals, wait_for_stop};

/// Answers under way when the gateway stops get this long.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// Leftover folders are looked for this often.
const SWEEP_FOLDERS: Duration = Duration::from_secs(600);

/// Runs a gateway until it is told to stop; `ready` is called once it answers.
///
/// # Errors
/// See [`GatewayError`]; nothing is left behind.
pub fn run(
    options: Options,
    mut inherited: Inherited,
    ready: impl FnOnce(&Ready) + Send + 'static,
) -> Result<(), GatewayError> {
    chitin_shim::heap::bound_free();
    let executor = Executor::start(&inherited)?;
    let config = entrance::configuration(&options)?;
    let shim_binary = entrance::find_shim()?;
    let data = DataDir::open(&options.data_dir)?;
    let _lock = data.lock(names::GATEWAY_LOCK, Purpose::Serve)?;
    data.furnish()?;
    logs::start(&data.join(names::LOG)).map_err(system("open the log"))?;
    let handed_over = inherited.take_doors().filter(|_| !chitin_failpoints::planted!("own-sockets"));
    let mut left: &[&str] = &[names::GATEWAY_PID];
    let doors = match handed_over {
        Some(doors) => Ok(doors),
        None => {
            left = &[names::GATEWAY_PID, names::SOCKET];
            Doors::open(&data, config.listen, options.listen_optional)
        }
    };
    let result = doors
        .and_then(|doors| Life::begin(&options, config, shim_binary, &data, doors, inherited, executor))
        .map_err(|error| error.or_damaged(data.path()))
        .and_then(|life| life.live(&data, ready));
    if let Err(error) = &result {
        tracing::error!(error = %chain(error), "the gateway ends");
    }
    logs::flush();
    data.remove(left);
    result
}

/// What turns before anything else: its signs of life say so, however long the disk takes to start on.
struct Executor {
    runtime: Runtime,
    tasks: Tasks,
    stop_sender: watch::Sender<bool>,
}

impl Executor {
    fn start(inherited: &Inherited) -> Result<Self, GatewayError> {
        let runtime = runtime()?;
        let (stop_sender, stop_receiver) = watch::channel(false);
        let tasks = Tasks::new(runtime.handle().clone(), stop_receiver);
        supervised::begin_signs(inherited, &tasks);
        Ok(Self { runtime, tasks, stop_sender })
    }
}

/// Everything that stands before the first answer.
struct Life {
    runtime: Runtime,
    engine: Engine,
    writer_loop: engine::WriterLoop,
    checkpoints: Checkpoints,
    context: Arc<Context>,
    world: World,
    face: Arc<Face>,
    listeners: Listeners,
    addresses: Ready,
    supervised: Arc<Supervised>,
    stop_sender: watch::Sender<bool>,
}

impl Life {
    fn begin(
        options: &Options,
        config: Config,
        shim_binary: PathBuf,
        data: &DataDir,
        doors: Doors,
        inherited: Inherited,
        executor: Executor,
    ) -> Result<Self, GatewayError> {
        let limits = config.limits.clone();
        let clock = Clock::new().map_err(system("read the boot id"))?;
        let Executor { runtime, tasks, stop_sender } = executor;
        let pace = if inherited.is_safe_mode() { Pace::OneByOne } else { Pace::AtOnce };
        let supervised = Arc::new(Supervised::new(inherited, successor(options, data, &doors)?));
        supervised.log_lives();

        let database = data.join(names::DATABASE);
        let mut store_options = StoreOptions::new(store_id(), &limits);
        if supervised.lives().was_killed {
            // The one before it, in this same boot, had looked through the database or lived with it, and met nothing.
            store_options.left = Left::Killed;
        }
        let ballast = data.ballast();
        let mut writer = match Writer::open(&database, &store_options) {
            // A full disk: what was kept back makes room to begin.
            Err(error) if error.verdict() == Verdict::No(NoReason::Full) => {
                ballast.release()?;
                Writer::open(&database, &store_options)?
            }
            other => other?,
        };
        let store_id = writer.store_id();
        let instance: String = store_id.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let tokens = admit_token(&mut writer, data)?;
        if let Err(error) = ballast.ensure() {
            tracing::warn!(error = %chain(&error), "there is no room for the ballast");
        }

        let addresses = doors.addresses(data);
        let listeners = listeners(&runtime, doors).map_err(system("listen"))?;
        let (engine, writer_loop) =
            engine::prepare(writer, database.clone(), Some(ballast), limits.clone(), clock.clone(), pace)
                .map_err(GatewayError::TakeOver)?;
        let epoch = u64::try_from(writer_loop.epoch()).unwrap_or(0);
        let checkpoints = Checkpoints::spawn(
            database.clone(),
            &store_options,
            limits.wal_cap_bytes,
            Arc::clone(engine.status()),
        )?;

        data.write_instance(&instance).map_err(system("write down the instance's name"))?;
        let tier = tier(&instance, config.isolation, limits.task_cpu_weight)?;
        let status = Arc::clone(engine.status());
        let readers =
            Readers::new(database, store_options.clone(), limits.readers, status, runtime.handle().clone());
        let spool = Spool::new(data.join(names::SPOOL));
        let hub = Arc::new(Hub::new(limits.clone()));
        let jobs = Arc::new(Jobs::default());
        let waiters = Arc::new(Waiters::default());
        let events = Arc::new(Events::default());
        let cache = cache::begin(store_id, config.redis, &limits, &tasks, &events);
        let janitor = Janitor::spawn(spool.clone()).map_err(system("start the janitor"))?;
        let world = World {
            hub: Arc::clone(&hub),
            jobs: Arc::clone(&jobs),
            janitor: janitor.clone(),
            waiters: Arc::clone(&waiters),
            events: Arc::clone(&events),
            cache: Arc::clone(&cache),
            answers: Arc::default(),
        };
        engine.carry(&tasks);
        world.answers.deliver(&tasks);
        let (connections, memory) = (Arc::new(Connections::of_process(&limits)), Memory::new(&limits));
        // Tokens, and the users that the socket lets in: the owner and root.
        let clients = tokens.len() + 2;
        let face = Arc::new(Face {
            engine: engine.clone(),
            readers: readers.clone(),
            cache,
            waiters,
            hub: Arc::clone(&hub),
            spool: spool.clone(),
            tasks: tasks.clone(),
            clock: clock.clone(),
            limits: limits.clone(),
            access: Access {
                tokens,
                uid: nix::unistd::getuid().as_raw(),
                port: addresses.tcp.map(|address| address.port()),
            },
            stop: Stop::default(),
            isolation: Isolation { tier: tier.name(), not_enforced: tier.not_enforced() },
            budgets: Budgets::new(&limits, clients, &connections, &memory),
            connections,
            memory,
            refusals: Refusals::default(),
            supervised: Arc::clone(&supervised),
            backups: backup::Source { data_dir: data.path().to_owned(), options: store_options },
            events: Arc::clone(&events),
            pressure: Pressure::default(),
            store_tag: instance.clone(),
        });
        let shims = ForkServer::new(shim_binary, spool.longest_attempt());
        let context = Arc::new(Context {
            engine: engine.clone(),
            hub,
            jobs,
            readers,
            spool,
            janitor,
            tasks,
            clock,
            tier,
            instance,
            shims,
            base_env: BaseEnv::of_gateway(),
            limits,
            epoch,
        });
        Ok(Self {
            runtime,
            engine,
            writer_loop,
            checkpoints,
            context,
            world,
            face,
            listeners,
            addresses,
            supervised,
            stop_sender,
        })
    }

    fn live(self, data: &DataDir, ready: impl FnOnce(&Ready)) -> Result<(), GatewayError> {
        let Self {
            runtime,
            engine,
            writer_loop,
            checkpoints,
            context,
            world,
            face,
            listeners,
            addresses,
            supervised,
            stop_sender,
        } = self;
        let janitor = world.janitor.clone();
        let signals = runtime.block_on(async { Signals::new() }).map_err(system("listen to signals"))?;
        let writer = writer_loop.spawn(world).map_err(system("start the writer"))?;
        let workers = spawn_workers(&context).map_err(system("start the workers"))?;
        data.write_pid(names::GATEWAY_PID).map_err(system("write the pid file"))?;
        let monitor = monitor::Watch::spawn(Arc::clone(&context), Arc::clone(&face), data.path().to_owned())
            .map_err(system("start the monitor"))?;
        let watch = supervised::begin_watch(&supervised).map_err(system("watch the supervisor"))?;
        runtime.block_on(async {
            // Said before the first answer: who connects is heard by the sockets already, and whoever was answered knows
            // that this life served.
            supervised.ready();
            listeners.serve(&face);
            upkeep(&context);
            publish::begin(&face, context.epoch);
            tracing::info!(
                pid = std::process::id(),
                epoch = context.epoch,
                isolation = context.tier.name(),
                instance = context.instance,
                "ready"
            );
            ready(&addresses);
            wait_for_stop(&face, &engine, signals).await;
            let mode = face.stop.wish().map(Mode::as_str);
            face.events.tell_last(&engine, EventName::GatewayStopping, json!({ "mode": mode })).await;
            supervised.stopping();
            drop(watch);
            if face.stop.wish() != Some(Mode::Leave) {
                // Everything is settled; its shims are told so, and go: nothing of it is left when we are gone.
                _ = context.tasks.drained(TaskKind::Attempt, LAST_ANSWERS).await;
            }
            // No new connections; answers under way are given.
            _ = stop_sender.send(true);
            let left = context.tasks.drained(TaskKind::Connection, LAST_ANSWERS).await;
            if left > 0 {
                tracing::warn!(connections = left, "connections were cut");
            }
        });
        drop(monitor);
        context.jobs.stop();
        engine.stop();
        _ = writer.join();
        for worker in workers {
            _ = worker.join();
        }
        context.shims.close();
        drop(checkpoints);
        // A shim that was just started makes its group inside the instance's in a moment: it must find that one.
        if context.hub.len() == 0 {
            // Some had processes that were still dying when they were swept.
            context.tier.sweep(&context.instance, &|_| false);
            context.tier.remove(&context.instance);
        }
        drop((engine, face, context));
        runtime.shutdown_timeout(Duration::from_secs(1));
        if let Some(thread) = janitor.into_thread() {
            _ = thread.join();
        }
        tracing::info!("stopped");
        Ok(())
    }
}

fn system(step: &'static str) -> impl Fn(io::Error) -> GatewayError {
    move |source| GatewayError::System { step, source }
}

/// Of so many turns of an async thread one at least is for whoever was woken by another thread: by the writer, because their
/// commit is done. The library's own choice is one of some sixty while there is anything else to do, such as turning others
/// away: under too much load what was done would wait for what is not going to be.
const FINISH_FIRST: u32 = 2;

/// One async thread for each two processors: the writer and what runs need the others.
pub(crate) fn runtime() -> Result<Runtime, GatewayError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors / 2).clamp(1, 8))
        .max_blocking_threads(32)
        .global_queue_interval(FINISH_FIRST)
        .thread_name("chitin-async")
        .enable_all()
        .build()
        .map_err(system("start the async runtime"))
}

/// The means of keeping process trees together: those that are wanted, or else the best that work here.
fn tier(instance: &str, wanted: Option<TierKind>, cpu_weight: u64) -> Result<Tier, GatewayError> {
    let here = groups::all();
    let names = here.iter().map(Tier::name).collect::<Vec<_>>().join(", ");
    let (others, fit): (Vec<Tier>, Vec<Tier>) =
        here.into_iter().partition(|tier| wanted.is_some_and(|kind| kind != tier.kind()));
    let Some(tier) = fit.into_iter().next() else {
        let wanted = wanted.map_or("", TierKind::name);
        return Err(GatewayError::NoTier { wanted, here: names });
    };
    // An earlier gateway may have had another one: what still runs there has groups, which its shims remove.
    others.iter().for_each(|other| other.remove(instance));
    match tier.prepare(instance, cpu_weight) {
        Ok(()) => Ok(tier),
        Err(source) if wanted.is_some() => Err(GatewayError::Tier { wanted: tier.name(), source }),
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(
                error,
                tier = tier.name(),
                "control groups cannot be made; limits are best effort"
            );
            Ok(Tier::Rlimit)
        }
    }
}

fn store_id() -> [u8; 16] {
    let mut id = [0; 16];
    id.iter_mut().zip(chance::secret()).for_each(|(to, from)| *to = from);
    id
}

/// The administrator's token: made at the first start, known to the database by its hash alone.
fn admit_token(writer: &mut Writer, data: &DataDir) -> Result<Vec<(Caller, [u8; 32])>, GatewayError> {
    let token = data.admin_token().map_err(system("make the administrator's token"))?;
    let sha256: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    let known = writer.tokens()?;
    if !known.iter().any(|row| row.name == "admin" && row.sha256 == sha256) {
        let row = TokenRow {
            name: "admin".to_owned(),
            sha256,
            scopes: "admin".to_owned(),
            created_at_ms: crate::clock::wall_ms(),
        };
        match writer.insert_token(&row) {
            Commit::Ok => {}
            Commit::No(error) | Commit::Unknown(error) => return Err(error.into()),
        }
    }
    let others = known.into_iter().filter(|row| row.name != "admin");
    let all = others.map(|row| (row.name, row.sha256)).chain([("admin".to_owned(), sha256)]).enumerate();
    Ok(all.map(|(number, (name, sha256))| (Caller::token(&name, ClientNo(number)), sha256)).collect())
}

/// The sockets, as the runtime takes them.
fn listeners(runtime: &Runtime, doors: Doors) -> io::Result<Listeners> {
    let _inside = runtime.enter();
    let tcp = doors.tcp.map(|tcp| tcp.set_nonblocking(true).and_then(|()| TcpListener::from_std(tcp)));
    doors.unix.set_nonblocking(true)?;
    Ok(Listeners { tcp: tcp.transpose()?, unix: UnixListener::from_std(doors.unix)? })
}

/// What a supervisor needs that has to be started after the one that started us.
fn successor(options: &Options, data: &DataDir, doors: &Doors) -> Result<Successor, GatewayError> {
    Ok(Successor {
        program: entrance::own_program().map_err(system("find this program's own path"))?,
        data_dir: data.path().to_owned(),
        config: options.config.clone(),
        background: options.background,
        sockets: doors.spare().map_err(system("keep the sockets"))?,
    })
}

/// Looks for folders and groups that a lost removal left, now and then.
fn upkeep(context: &Arc<Context>) {
    let shared = Arc::clone(context);
    context.tasks.spawn(TaskKind::Upkeep, async move {
        // Before that, groups of attempts that were not taken up yet would look like leftovers.
        take_up_one_by_one(&shared).await;
        loop {
            let context = Arc::clone(&shared);
            let swept = shared.tasks.blocking(move || sweep_folders(&context)).await;
            if let Some(Err(error)) = swept {
                tracing::warn!(error, "leftover folders could not be swept");
            }
            tokio::select! {
                () = tokio::time::sleep(SWEEP_FOLDERS) => {}
                () = shared.tasks.stopped() => return,
            }
        }
    });
}

fn sweep_folders(context: &Context) -> Result<(), String> {
    let place = leftover::Place {
        spool: &context.spool,
        boot_id: context.clock.boot_id(),
        is_stopping: &|| context.jobs.is_stopped(),
    };
    let folders = context.spool.folders().map_err(|error| error.to_string())?;
    for (id, attempt) in folders {
        if context.spool.is_held(id) {
            continue;
        }
        let verdict = |reader: &Reader| reader.spool_verdict(id, attempt);
        let keep_logs = match context.readers.with(verdict).map_err(|error: StoreError| chain(&error))? {
            SpoolVerdict::Running => continue,
            SpoolVerdict::EndedKeepLogs => true,
            // Of this attempt alone: another one of the same task may run.
            SpoolVerdict::EndedRemove | SpoolVerdict::Unknown => false,
        };
        if leftover::has_left(&place, id, attempt) {
            context.janitor.remove(Removal::Attempt { id, attempt, keep_logs });
        }
    }
    // A group of an attempt that is not under way was left by a shim that was killed.
    let swept = context.tier.sweep(&context.instance, &|name| context.hub.is_under_way(name));
    if swept > 0 {
        tracing::info!(groups = swept, "leftover control groups were removed");
    }
    Ok(())
}
