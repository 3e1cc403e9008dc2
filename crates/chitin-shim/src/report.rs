//! How an attempt ended, put together from what was seen; and the exit record for a gateway that is not there.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use chitin_failpoints::{failpoint, planted};
use chitin_proto::shim::{
    Cause, EXIT_RECORD_BYTES, ExitReport, NotStarted, Order, PROTOCOL_VERSION, PidsRefused, ResultReport,
    encode_exit_record, names,
};
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::sys::resource::{UsageWho, getrusage};

use crate::clock;
use crate::groups::Groups;
use crate::limits;
use crate::machine::Why;
use crate::output::Output;
use crate::spool::Spool;

/// How the command itself ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

/// When it ran, and what had run before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) before: Before,
    pub(crate) started_at_ms: i64,
    /// On the clock of deadlines.
    pub(crate) started_ms: u64,
    pub(crate) ended_at_ms: i64,
    pub(crate) ended_ms: u64,
    /// Of that time it was frozen.
    pub(crate) stood_ms: u64,
}

/// What earlier commands of this process used, where the kernel only counts all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    cpu_ms: u64,
    /// The largest process is only known of the first command.
    is_first: bool,
}

impl Before {
    pub(crate) fn now(served: bool) -> Self {
        Self { cpu_ms: if served { waited_for_ms().unwrap_or(0) } else { 0 }, is_first: !served }
    }
}

/// CPU time of all children that were waited for, and of theirs, milliseconds.
fn waited_for_ms() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    let (user, system) = (usage.user_time(), usage.system_time());
    let us = (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
    u64::try_from(us / 1_000).ok()
}

/// Memory of the largest of them, bytes.
fn largest_process_bytes() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    u64::try_from(usage.max_rss()).ok()?.checked_mul(1024)
}

/// The one reason of an end. Whoever began it first is named; the kernel's word on memory counts before the signal
/// that carried it out.
pub(crate) fn cause(why: Why, exit: Option<Exit>, oom_kills: u64, limit_bytes: Option<u64>) -> Cause {
    match (why, limit_bytes) {
        (Why::TimedOut, _) => Cause::TimedOut,
        (Why::Cancelled, _) => Cause::Cancelled,
        (Why::OutOfMemory, limit) => Cause::OomKilled { limit_bytes: limit.unwrap_or(0) },
        (Why::Itself, Some(limit_bytes)) if oom_kills > 0 => Cause::OomKilled { limit_bytes },
        (Why::Itself, _) => match exit {
            Some(Exit::Signal(_)) => Cause::Signalled,
            Some(Exit::Code(_)) | None => Cause::Exited,
        },
    }
}

/// The report of a command that ran.
pub(crate) fn of_run(
    order: &Order,
    run: Run,
    why: Why,
    exit: Option<Exit>,
    spool: &Spool,
    groups: &Groups,
    output: &Output,
) -> ExitReport {
    let (stdout, stderr, interleave_bytes) = output.report();
    let largest_process = || if run.before.is_first { largest_process_bytes() } else { None };
    let waited_for_ms = || Some(waited_for_ms()?.saturating_sub(run.before.cpu_ms));
    let cause = match cause(why, exit, groups.oom_kills(), order.limits.memory_bytes) {
        Cause::OomKilled { .. } if planted!("oom-as-signal") => Cause::Signalled,
        cause => cause,
    };
    ExitReport {
        cause,
        exit_code: exit.and_then(|e| if let Exit::Code(code) = e { Some(code) } else { None }),
        signal: exit.and_then(|e| if let Exit::Signal(number) = e { Some(number) } else { None }),
        started_at_ms: Some(run.started_at_ms),
        ended_at_ms: run.ended_at_ms,
        running_ms: run.ended_ms.saturating_sub(run.started_ms).saturating_sub(run.stood_ms),
        peak_memory_bytes: groups.peak_memory_bytes().or_else(largest_process),
        cpu_ms: groups.cpu_ms().or_else(waited_for_ms).unwrap_or(0),
        pids_refused: pids_refused(order.limits.pids, groups),
        stdout,
        stderr,
        interleave_bytes,
        result: result(spool, order.result_max_bytes).unwrap_or(None),
        ..blank(order, Cause::Exited)
    }
}

fn pids_refused(limit: Option<u64>, groups: &Groups) -> Option<PidsRefused> {
    let refused = |limit| PidsRefused { limit, times: groups.pids_refused() };
    limit.map(refused).filter(|refused| refused.times > 0)
}

/// The report of a command that never ran.
pub(crate) fn not_started(order: &Order, why: NotStarted) -> ExitReport {
    ExitReport { ended_at_ms: clock::wall_ms(), ..blank(order, Cause::NotStarted(why)) }
}

fn blank(order: &Order, cause: Cause) -> ExitReport {
    ExitReport {
        v: PROTOCOL_VERSION,
        task: order.task.clone(),
        attempt: order.attempt,
        token: order.token.clone(),
        cause,
        exit_code: None,
        signal: None,
        started_at_ms: None,
        ended_at_ms: 0,
        running_ms: 0,
        peak_memory_bytes: None,
        cpu_ms: 0,
        pids_refused: None,
        stdout: Default::default(),
        stderr: Default::default(),
        interleave_bytes: 0,
        result: None,
    }
}

/// The result file, if the command made one: a regular file, not a link to somebody else's, and never waited for.
fn result(spool: &Spool, max_bytes: u64) -> io::Result<Option<ResultReport>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = match spool.open_file(names::RESULT, flags) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let mut crc = crc32fast::Hasher::new();
    let mut len: u64 = 0;
    let mut kept = file.take(max_bytes);
    let mut buffer = vec![0; limits::READ_BUFFER_BYTES];
    loop {
        let read = match kept.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if read == 0 {
            break;
        }
        crc.update(buffer.get(..read).unwrap_or_default());
        len = len.saturating_add(u64::try_from(read).unwrap_or(0));
    }
    Ok(Some(ResultReport { len, crc32: crc.finalize(), truncated: metadata.len() > len }))
}

/// The exit record's place, allocated before the command starts: a full disk cannot keep an attempt from ending. A folder
/// that served before brings one along.
pub(crate) fn reserve(spool: &Spool) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW;
    let file = spool.open_file(names::EXIT_RECORD_DRAFT, flags)?;
    let bytes = i64::try_from(EXIT_RECORD_BYTES).unwrap_or(i64::MAX);
    fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
    Ok(file)
}

/// Makes everything durable, then the record, then its name: a record that is there is true.
pub(crate) fn record(spool: &Spool, draft: &File, output: &Output, report: &ExitReport) -> io::Result<()> {
    failpoint!("shim.record.before");
    output.sync(spool)?;
    if report.result.is_some() {
        spool.open_file(names::RESULT, OFlag::O_RDONLY | OFlag::O_NOFOLLOW)?.sync_all()?;
    }
    spool.sync()?;
    spool.sync_way()?;
    let record = encode_exit_record(report).map_err(io::Error::other)?;
    failpoint!("shim.record.write.before");
    draft.write_all_at(&record, 0)?;
    failpoint!("shim.record.sync.before");
    if !planted!("record-without-sync") {
        draft.sync_all()?;
    }
    failpoint!("shim.record.rename.before");
    fs::rename(spool.at(names::EXIT_RECORD_DRAFT), spool.at(names::EXIT_RECORD))?;
    failpoint!("shim.record.rename.after");
    if planted!("record-without-sync") { Ok(()) } else { spool.sync() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_is_the_one_that_is_told() {
        let killed = Some(Exit::Signal(9));
        for (why, exit, oom_kills, limit, told) in [
            (Why::Itself, Some(Exit::Code(0)), 0, None, Cause::Exited),
            (Why::Itself, killed, 0, Some(7), Cause::Signalled),
            (Why::Itself, killed, 1, Some(7), Cause::OomKilled { limit_bytes: 7 }),
            (Why::Itself, killed, 1, None, Cause::Signalled),
            (Why::OutOfMemory, killed, 0, Some(7), Cause::OomKilled { limit_bytes: 7 }),
            (Why::TimedOut, killed, 1, Some(7), Cause::TimedOut),
            (Why::TimedOut, Some(Exit::Code(0)), 0, None, Cause::TimedOut),
            (Why::Cancelled, killed, 0, None, Cause::Cancelled),
        ] {
            assert_eq!(cause(why, exit, oom_kills, limit), told, "{why:?} {exit:?} {oom_kills} {limit:?}");
        }
    }
}
