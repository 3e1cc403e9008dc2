//! From the order to a running command: everything is made ready beforehand, so that the child, which shares the shim's
//! memory until then, only joins its groups, arranges three descriptors and executes, or leaves word which step failed.
//! It allocates nothing.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use chitin_proto::shim::{Isolation, NotStarted, Order, StartStep, names};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, fstatat};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, fchdir, getppid, setpgid, write};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::groups::Groups;
use crate::spool::Spool;
use crate::sys::{Sharing, Strings};
use crate::{limits, sys};

/// A command that runs, and where its output comes from.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: Pid,
    pub(crate) stdout: PipeReader,
    /// Absent if merged.
    pub(crate) stderr: Option<PipeReader>,
}

/// Whether the kernel's preference for victims is the shim's own and must not be inherited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OomScore {
    /// The command starts with the normal one.
    Reset,
    /// There is nothing to undo.
    Keep,
}

/// What `execve` takes.
struct Program {
    name: String,
    candidates: Vec<CString>,
    argv: Strings,
    envp: Strings,
}

/// A step of the start that failed, with the error behind it.
pub(crate) fn failed(step: StartStep, errno: i32, message: String) -> NotStarted {
    NotStarted { step, errno, message }
}

/// Trouble of ours.
pub(crate) fn machinery(what: &str, e: &io::Error) -> NotStarted {
    failed(StartStep::Machinery, e.raw_os_error().unwrap_or(0), format!("{what}: {e}"))
}

/// Starts the order's command with `stdin` as its standard input.
pub(crate) fn start(
    order: &Order,
    spool: &Spool,
    groups: &Groups,
    stdin: &OwnedFd,
    oom_score: OomScore,
) -> Result<Running, NotStarted> {
    let directory = directory(order, spool)?;
    let program = program(order, spool)?;
    let pipe = |e| machinery("cannot make a pipe", &e);
    let (stdout, stdout_end) = io::pipe().map_err(pipe)?;
    let (stderr, stderr_end) = if order.merge {
        (None, stdout_end.try_clone().map_err(pipe)?)
    } else {
        let (reader, end) = io::pipe().map_err(pipe)?;
        (Some(reader), end)
    };
    let shim = Pid::this();
    let autogroup_nice = order.limits.nice.to_string();
    let mut trouble = None;
    let mut child = || {
        let steps = || -> Result<Infallible, Trouble> {
            for mut door in groups.doors() {
                door.write_all(b"0").map_err(|e| Trouble::Join(raw(&e)))?;
            }
            if matches!(order.isolation, Isolation::Rlimit) {
                set_pdeathsig(Signal::SIGKILL).map_err(Trouble::Arrange)?;
                if getppid() != shim {
                    return Err(Trouble::Arrange(Errno::ESRCH));
                }
            }
            if oom_score == OomScore::Reset {
                reset_oom_score();
            }
            setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(Trouble::Arrange)?;
            fchdir(&directory).map_err(Trouble::Directory)?;
            dup2_stdin(stdin).map_err(Trouble::Arrange)?;
            dup2_stdout(&stdout_end).map_err(Trouble::Arrange)?;
            dup2_stderr(&stderr_end).map_err(Trouble::Arrange)?;
            chitin_failpoints::failpoint!("shim.child.exec.before");
            yield_to_others(order.limits.nice, &autogroup_nice);
            sys::cloexec_from_3();
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(Trouble::Arrange)?;
            bound(Resource::Fsize, order.limits.file_bytes)?;
            bound(Resource::Nofile, order.limits.open_files)?;
            Err(Trouble::Exec(execute(&program)))
        };
        trouble = steps().err();
    };
    let started = sys::spawn_sharing(&mut child, limits::EXEC_WAIT_S);
    let explained = |trouble: Trouble| trouble.explain(&program, &directory, order);
    match started.map_err(|e| machinery("cannot start a process", &e.into()))? {
        Sharing::Over(pid) => match trouble {
            None => Ok(Running { pid, stdout, stderr }),
            Some(trouble) => {
                // It is about to end: reaped here, it is never taken for the command's end.
                let _ = waitpid(pid, None);
                Err(explained(trouble))
            }
        },
        Sharing::Killed(pid) => {
            // Not waited for: where a disk hangs it may stay in the kernel for as long. The loop reaps it then.
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            Err(explained(Trouble::Silent(Errno::ETIMEDOUT)))
        }
    }
}

/// The kernel's normal preference. That it may not be had is no reason not to run.
fn reset_oom_score() {
    if let Ok(file) = open(c"/proc/self/oom_score_adj", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        let _ = write(&file, b"0");
    }
}

/// Lowers the weight of the CPU time of this process and of all it starts. Where the kernel groups processes by session,
/// niceness counts among those of a session alone, and the session has one of its own: this is the shim's, too, which
/// still goes before its command. That neither may be had is no reason not to run.
fn yield_to_others(nice: u8, autogroup_nice: &str) {
    if nice == 0 {
        return;
    }
    let _ = rustix::process::nice(nice.into());
    if let Ok(file) = open(c"/proc/self/autogroup", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        let _ = write(&file, autogroup_nice.as_bytes());
    }
}

/// Sets a limit that each process of the tree inherits and none can raise. The last steps before the command: nothing of
/// ours is held to them. What this process may not have itself stays as it is.
fn bound(resource: Resource, most: Option<u64>) -> Result<(), Trouble> {
    let Some(most) = most else { return Ok(()) };
    let most = getrlimit(resource).maximum.map_or(most, |own| own.min(most));
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(resource, limit).map_err(|e| Trouble::Arrange(Errno::from_raw(e.raw_os_error())))
}

/// Opens the directory to run in.
fn directory(order: &Order, spool: &Spool) -> Result<OwnedFd, NotStarted> {
    let path = match &order.cwd {
        Some(path) => path.clone(),
        None => {
            let made = spool.make_scratch();
            made.map_err(|e| machinery("cannot make a scratch directory", &e))?;
            spool.at(names::SCRATCH)
        }
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(&path, flags, Mode::empty()).map_err(|e| no_directory(&path, e))
}

fn no_directory(path: &std::path::Path, e: Errno) -> NotStarted {
    let why = match e {
        Errno::ENOENT => "no such directory",
        Errno::ENOTDIR => "not a directory",
        other => other.desc(),
    };
    failed(StartStep::Directory, e as i32, format!("cannot run in `{}`: {why}", path.display()))
}

fn program(order: &Order, spool: &Spool) -> Result<Program, NotStarted> {
    let nul = |what: &str| {
        let message = format!("{what} contains a NUL byte, which no program can be given");
        failed(StartStep::NotExecutable, Errno::EINVAL as i32, message)
    };
    let c = |s: String, what: &str| CString::new(s).map_err(|_| nul(what));
    let name = order.command.first().cloned().unwrap_or_default();
    let mut argv = Vec::with_capacity(order.command.len());
    for argument in &order.command {
        argv.push(c(argument.clone(), "an argument")?);
    }
    let mut envp = Vec::with_capacity(order.env.len().saturating_add(2));
    for (key, value) in &order.env {
        envp.push(c(format!("{key}={value}"), "the environment")?);
    }
    for (key, file) in [("CHITIN_SOCKET", names::SOCKET), ("CHITIN_RESULT_FILE", names::RESULT)] {
        let path: PathBuf = spool.told(file);
        envp.push(c(format!("{key}={}", path.display()), "the spool's path")?);
    }
    let path = order.env.iter().rev().find(|(key, _)| key == "PATH").map(|(_, v)| v.as_str());
    let candidates = candidates(&name, path.unwrap_or(limits::DEFAULT_PATH));
    let candidates = candidates.into_iter().map(|p| c(p, "PATH")).collect::<Result<_, _>>()?;
    Ok(Program { name, candidates, argv: Strings::new(argv), envp: Strings::new(envp) })
}

/// Where a program may be, in the order of `PATH`; an empty entry is the working directory, as for a shell.
fn candidates(name: &str, path: &str) -> Vec<String> {
    if name.contains('/') || name.is_empty() {
        return vec![name.to_owned()];
    }
    let places = path.split(':');
    places.map(|dir| if dir.is_empty() { format!("./{name}") } else { format!("{dir}/{name}") }).collect()
}

/// Tries every candidate, as `execvp` does but for its fallback to a shell: a file without an interpreter is a
/// mistake that should be told.
fn execute(program: &Program) -> Errno {
    let mut worst = Errno::ENOENT;
    for candidate in &program.candidates {
        match sys::execute(candidate, &program.argv, &program.envp) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => worst = Errno::EACCES,
            other => return other,
        }
    }
    worst
}

fn raw(e: &io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(0))
}

/// The child's step that failed.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Join(Errno),
    Directory(Errno),
    Arrange(Errno),
    Exec(Errno),
    /// It did not get on.
    Silent(Errno),
}

impl Trouble {
    fn explain(self, program: &Program, directory: &impl AsFd, order: &Order) -> NotStarted {
        match self {
            Self::Join(e) => machinery("the command cannot join its group", &e.into()),
            Self::Directory(e) => no_directory(order.cwd.as_deref().unwrap_or(names::SCRATCH.as_ref()), e),
            Self::Arrange(e) => machinery("cannot arrange the command's process", &e.into()),
            Self::Silent(e) => machinery("the command's process ended before it ran", &e.into()),
            Self::Exec(e) => not_executed(program, directory, e),
        }
    }
}

/// Names what was not found: the program, or what is needed to run it.
fn not_executed(program: &Program, directory: &impl AsFd, e: Errno) -> NotStarted {
    let name = &program.name;
    let (step, message) = match e {
        Errno::ENOENT => {
            let exists = |c: &&CString| fstatat(directory, c.as_c_str(), AtFlags::empty()).is_ok();
            match program.candidates.iter().find(exists) {
                None => (StartStep::NotFound, format!("command not found: `{name}`")),
                Some(found) => {
                    let needs = interpreter(found, directory).map_or_else(
                        || "the loader or interpreter it needs does not exist".to_owned(),
                        |interpreter| format!("its interpreter `{interpreter}` does not exist"),
                    );
                    (StartStep::NotFound, format!("cannot execute `{}`: {needs}", found.to_string_lossy()))
                }
            }
        }
        Errno::E2BIG => (StartStep::NotExecutable, "argument list too long".to_owned()),
        Errno::EACCES => (StartStep::NotExecutable, format!("cannot execute `{name}`: permission denied")),
        Errno::ENOEXEC => {
            let hint = "not a program (a script needs a first line such as `#!/bin/sh`)";
            (StartStep::NotExecutable, format!("cannot execute `{name}`: {hint}"))
        }
        Errno::EISDIR
        | Errno::EPERM
        | Errno::ELOOP
        | Errno::EINVAL
        | Errno::ELIBBAD
        | Errno::ETXTBSY
        | Errno::ENAMETOOLONG => (StartStep::NotExecutable, format!("cannot execute `{name}`: {}", e.desc())),
        other => (StartStep::Machinery, format!("cannot execute `{name}`: {}", other.desc())),
    };
    failed(step, e as i32, message)
}

/// The interpreter a script names in its first line.
fn interpreter(script: &CString, directory: &impl AsFd) -> Option<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = nix::fcntl::openat(directory, script.as_c_str(), flags, Mode::empty()).ok()?;
    let mut start = Vec::new();
    // The kernel reads no more than this either (BINPRM_BUF_SIZE).
    File::from(file).take(256).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    line.split_ascii_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_searched_as_a_shell_does() {
        assert_eq!(candidates("ls", "/bin::/usr/bin"), ["/bin/ls", "./ls", "/usr/bin/ls"]);
        assert_eq!(candidates("./ls", "/bin"), ["./ls"]);
        assert_eq!(candidates("a/b", "/bin"), ["a/b"]);
        assert_eq!(candidates("", "/bin"), [""]);
    }
}
