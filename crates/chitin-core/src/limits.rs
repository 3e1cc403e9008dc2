//! Every limit of the gateway, in one place: its unit, its default, the range it may be set to, why, and the
//! requirement it serves. Nothing else in the project knows a default.

/// A limit's description, for `config check`, documents and error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The key in the configuration's `[limits]`.
    pub key: &'static str,
    /// What a value of 1 means.
    pub unit: &'static str,
    /// If nobody sets it.
    pub default: u64,
    /// The least value allowed.
    pub min: u64,
    /// The greatest value allowed.
    pub max: u64,
    /// The requirement it serves.
    pub label: &'static str,
    /// Why not more, and why not less.
    pub why: &'static str,
}

/// Why a set of limits is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// No limit has this name.
    #[error("no limit is called `{key}`")]
    Unknown {
        /// The name.
        key: String,
    },
    /// Outside its range.
    #[error("`{key}` is {value}; allowed are {min} to {max} {unit}")]
    OutOfRange {
        /// The limit's name.
        key: &'static str,
        /// What it was set to.
        value: u64,
        /// The least value allowed.
        min: u64,
        /// The greatest value allowed.
        max: u64,
        /// What a value of 1 means.
        unit: &'static str,
    },
}

macro_rules! limits {
    ($($name:ident: $unit:literal, $default:literal in $min:literal..=$max:literal, $label:literal, $why:literal;)*) => {
        /// The limits in force.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $(
                #[doc = $why]
                #[doc = ""]
                #[doc = concat!("In ", $unit, "; ", $default, " by default, ", $min, " to ", $max, " (", $label, ").")]
                pub $name: u64,
            )*
        }

        const BOUNDS: &[Bound] = &[$(Bound {
            key: stringify!($name), unit: $unit, default: $default, min: $min, max: $max, label: $label, why: $why,
        },)*];

        impl Default for Limits {
            fn default() -> Self { Self { $($name: $default,)* } }
        }

        impl Limits {
            /// Sets one limit by its name.
            ///
            /// # Errors
            /// An unknown name, or a value outside the range.
            pub fn set(&mut self, key: &str, value: u64) -> Result<(), LimitsError> {
                match key {
                    $(stringify!($name) => {
                        if !($min..=$max).contains(&value) {
                            return Err(LimitsError::OutOfRange {
                                key: stringify!($name), value, min: $min, max: $max, unit: $unit,
                            });
                        }
                        self.$name = value;
                    })*
                    _ => return Err(LimitsError::Unknown { key: key.to_owned() }),
                }
                Ok(())
            }

            /// Every limit with its value, in the order of this file.
            #[must_use]
            pub fn values(&self) -> Vec<(&'static Bound, u64)> {
                BOUNDS.iter().zip([$(self.$name,)*]).collect()
            }
        }

        $(const _: () = {
            let (min, default, max): (u64, u64, u64) = ($min, $default, $max);
            assert!(min <= default && default <= max, stringify!($name));
        };)*
    };
}

limits! {
    waiting_tasks: "tasks", 10_000 in 1..=10_000_000, "R2.1",
        "Scheduled, queued and held tasks. More only hides that work arrives faster than it is done; fewer turns bursts away.";
    waiting_bytes: "bytes", 1_000_000_000 in 1_000_000..=1_000_000_000_000, "R2.1",
        "Payloads of waiting tasks. A hundred of the largest tasks, and far below the disk's reserve.";
    queues: "queues", 100 in 1..=1_000, "R0.4",
        "Queues come into being with their first task; a bound keeps a client's typing errors from growing for ever.";
    running_tasks: "attempts", 20 in 1..=1_000, "R3.1",
        "Process trees at once.";
    retry_max: "retries", 3 in 0..=1_000, "R6.2",
        "After the first attempt, for tasks that name no policy of their own.";
    poison_attempts: "attempts", 3 in 1..=100, "R6.4",
        "Attempts that took their worker down before the task is set aside.";
    ttl_s: "seconds", 604_800 in 1..=31_536_000, "R2.5",
        "A task that has not started after a week is rarely wanted any more.";
    retention_s: "seconds", 604_800 in 3_600..=31_536_000, "R0.4",
        "How long ended tasks are kept. Not under an hour, so that whoever waits can still read.";
    retention_bytes: "bytes", 10_000_000_000 in 10_000_000..=10_000_000_000_000, "R0.4",
        "Results and kept logs of ended tasks; the oldest go first, and none that ended within the last hour.";
    key_retention_s: "seconds", 86_400 in 3_600..=2_592_000, "R0.5",
        "How long an idempotency key is remembered after its task's end: longer than any client retries.";
    events: "events", 100_000 in 1_000..=10_000_000, "R0.4",
        "Events that are kept for whoever comes later; some ten megabytes.";
    event_retention_s: "seconds", 604_800 in 3_600..=31_536_000, "R0.4",
        "How long events are kept, if there are not too many of them. As long as ended tasks.";
    sweep_s: "seconds", 60 in 1..=3_600, "R2.5",
        "Between two sweeps of what is past its retention. At least hourly.";
    task_memory_bytes: "bytes", 500_000_000 in 1_000_000..=1_000_000_000_000, "R3.3",
        "A process tree's memory if its task names none. A ceiling, not a reservation.";
    task_pids: "processes", 2_048 in 1..=4_194_304, "R0.2",
        "A tree's processes and threads if its task names no number. More than honest work starts, and too few of a fork bomb to take the machine's own.";
    task_cpu_weight: "weight", 50 in 1..=10_000, "R0.2",
        "CPU time of all tasks together where it is short; the gateway has 100, whatever they do. Nothing is held back while there is enough.";
    task_file_bytes: "bytes", 0 in 0..=1_000_000_000_000_000, "R0.4",
        "The largest file that a task's process may write; 0: any. Honest work writes large files, and a disk that fills up is met by its own limits.";
    task_open_files: "descriptors", 0 in 0..=1_000_000_000, "R0.4",
        "Of one of a task's processes; 0: as many as the gateway was started with, since programs may count on that number.";
    grace_ms: "milliseconds", 10_000 in 0..=600_000, "R3.5",
        "From SIGTERM to SIGKILL: time to put things away, not to go on.";
    heartbeat_s: "seconds", 300 in 1..=86_400, "R3.2",
        "A shim that answers nothing for so long is hung: it is killed with what it started, and its task runs again. Less takes a slow disk for a dead worker.";
    inline_log_bytes: "bytes", 262_144 in 0..=1_000_000, "R0.4",
        "Logs of an attempt up to this size move into the database and free their files; larger ones stay files.";
    result_bytes: "bytes", 10_000_000 in 1_000..=100_000_000, "R2.2",
        "A longer result is cut and marked as cut.";
    segment_bytes: "bytes", 10_000_000 in 4_096..=1_000_000_000, "R0.4",
        "A stream keeps one segment of head and one to two of tail.";
    batch_commands: "commands", 1_024 in 1..=10_000, "R1.1",
        "In one commit. More adds latency and no throughput: a commit of a thousand rows already hides its fsync.";
    batch_bytes: "bytes", 1_048_576 in 65_536..=16_777_216, "R1.1",
        "In one commit; a larger value commits alone.";
    submit_timeout_ms: "milliseconds", 1_000 in 50..=60_000, "R1.1",
        "A submission, or another change, that waited this long for its commit is refused.";
    requests: "requests", 1_000 in 1..=100_000, "R1.2",
        "Requests in flight, long polls and streams not counted.";
    request_wait_ms: "milliseconds", 40 in 0..=1_000, "R1.2",
        "How long a request waits for a place among those in flight. A burst has passed by then; an overload is told while the client still listens.";
    watchers: "requests", 1_000 in 1..=100_000, "R1.2",
        "Long polls and streams in flight, a budget of their own.";
    connections: "connections", 4_096 in 1..=100_000, "R0.4",
        "Open connections. Each may cost a few KiB; there are always fewer than half of the descriptors the system grants.";
    body_bytes_in_flight: "bytes", 200_000_000 in 16_000_000..=10_000_000_000, "R1.3",
        "Bodies being read or waiting for their commit, taken before they are read.";
    answer_bytes_in_flight: "bytes", 64_000_000 in 16_000_000..=10_000_000_000, "R1.3",
        "Answers of more than 64 KiB until their readers have taken them. A dozen of the largest pages of tasks.";
    gateway_memory_bytes: "bytes", 500_000_000 in 50_000_000..=100_000_000_000, "R1.3",
        "The gateway's own memory; a control group's bound if that is less. New work is refused at 92 % of it; bodies in flight take two fifths at most.";
    readers: "connections", 10 in 1..=100, "R4.4",
        "Read-only database connections.";
    busy_timeout_ms: "milliseconds", 5_000 in 0..=60_000, "R4.4",
        "How long a busy database is waited for.";
    cache_memory_bytes: "bytes", 50_000_000 in 0..=10_000_000_000, "R4.1",
        "Results kept in memory where no Redis is. They save little, and are a tenth of what the gateway may use; 0: none.";
    cache_value_bytes: "bytes", 1_000_000 in 0..=100_000_000, "R4.1",
        "A larger result is not cached: it would push many small ones out, and streams from the disk as fast as it is taken.";
    cache_fill_bytes: "bytes", 10_000_000 in 0..=1_000_000_000, "R1.3",
        "Results on their way into the cache; what more there is, is dropped, and costs a look at the database later.";
    cache_loan_bytes: "bytes", 25_000_000 in 0..=1_000_000_000, "R1.3",
        "Cached results that slow readers hold though each is over 128 KiB; what more there is, streams from the disk.";
    cache_ttl_s: "seconds", 86_400 in 1..=2_592_000, "R4.1",
        "How long a result is kept in the cache.";
    cache_read_ms: "milliseconds", 50 in 1..=1_000, "R4.2",
        "How long a read waits for Redis before it takes the bytes from SQLite, which is faster than that.";
    cache_timeout_ms: "milliseconds", 1_000 in 10..=60_000, "R4.1",
        "For a connection to Redis, and for each of its answers, where nobody waits for it.";
    cache_tries: "tries", 3 in 1..=10, "R4.1",
        "To put one result into Redis.";
    cache_connections: "connections", 8 in 1..=256, "R0.4",
        "To Redis, for reads; one more fills it. Each carries one request at a time.";
    breaker_failures: "failures", 5 in 1..=1_000, "R1.4",
        "In a row, until a dependency is not asked any more. Fewer open for a hiccup.";
    breaker_probe_s: "seconds", 60 in 1..=86_400, "R1.4",
        "From opening, or a failed probe, until a dependency is probed.";
    wal_restart_bytes: "bytes", 16_000_000 in 1_000_000..=1_000_000_000, "R0.4",
        "The write-ahead log is worked off in the background and begun anew above this size.";
    wal_cap_bytes: "bytes", 256_000_000 in 4_000_000..=10_000_000_000, "R0.4",
        "Above this size of the write-ahead log, submissions are refused until it could be worked off.";
    memory_bytes: "bytes", 2_000_000_000 in 100_000_000..=10_000_000_000_000, "R5.1",
        "Memory of gateway and tasks together, as measured. No attempt is given more than three quarters of it.";
    cpu_percent: "percent", 80 in 1..=100, "R5.1",
        "Of the machine's processors. Busier than that for 10 s is told; nothing is held back, since the kernel shares them out.";
    disk_used_percent: "percent", 90 in 1..=100, "R5.1",
        "Of the data directory's file system, or of its inodes: above it, and with less left than the next limit, submissions are refused.";
    disk_free_bytes: "bytes", 1_000_000_000 in 1_000_000..=1_000_000_000_000, "R5.1",
        "A tenth of a large disk is much; what matters there is what is left.";
    monitor_interval_ms: "milliseconds", 1_000 in 50..=60_000, "R5.1",
        "Between two looks at the machine's resources; four times as often near a line. A look costs some tenths of a millisecond.";
    monitor_hold_ms: "milliseconds", 2_000 in 0..=600_000, "R5.2",
        "So long things must be better before a step is taken back: less flaps, more refuses for longer than it must.";
    header_timeout_ms: "milliseconds", 10_000 in 100..=600_000, "R1.2",
        "For a request's head to arrive. Slow senders hold a descriptor, so not for ever.";
    body_timeout_ms: "milliseconds", 30_000 in 100..=600_000, "R1.2",
        "For a request's body to arrive: 10 MB over a slow line.";
    idle_timeout_ms: "milliseconds", 60_000 in 100..=3_600_000, "R0.4",
        "A connection on which nothing is asked for. After a minute a new one costs less than the descriptor kept open.";
    answer_timeout_ms: "milliseconds", 30_000 in 100..=600_000, "R1.3",
        "A reader that takes nothing of its answer. It holds memory, so not for long; a slow line moves a little in that time.";
}

/// Every limit's description.
#[must_use]
pub fn bounds() -> &'static [Bound] {
    BOUNDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_outside_its_range_is_refused_with_the_range() {
        let mut limits = Limits::default();
        let error = limits.set("running_tasks", 0).unwrap_err();
        assert_eq!(error.to_string(), "`running_tasks` is 0; allowed are 1 to 1000 attempts");
        assert_eq!(limits, Limits::default());
        assert_eq!(limits.set("nonsense", 1), Err(LimitsError::Unknown { key: "nonsense".into() }));
    }

    #[test]
    fn every_limit_can_be_set_and_is_listed() {
        let mut limits = Limits::default();
        for bound in bounds() {
            limits.set(bound.key, bound.min).unwrap();
        }
        assert!(limits.values().iter().all(|(bound, value)| bound.min == *value));
    }
}
