//! All of this crate's unsafe code: what the standard library and `nix` rightly do not offer as safe. Each function
//! here is safe to call under the condition it states, and that condition is the shim's shape: one thread.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::thread::futex;
use rustix::time::Timespec;

use crate::proc;

/// More listening sockets than anybody hands over.
const MOST_INHERITED: u32 = 16;

/// Runs `child` in a new process, a copy of this one, which ends at once with what `child` returns: no destructor or
/// exit handler of the parent runs there.
pub(crate) fn fork_copy(child: impl FnOnce() -> u8) -> nix::Result<Pid> {
    // SAFETY: no thread is ever started here, so the copy is whole: no lock can be held by a thread that does not
    // exist there. Unavoidable: that the copy goes on without executing anything is what it is made for.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = child();
            // SAFETY: `_exit` has no precondition. Unavoidable: `std::process::exit` would run the parent's handlers.
            unsafe { libc::_exit(code.into()) }
        }
    }
}

/// What became of a child that shares this process's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// It has left it: it executed a program, or ended.
    Over(Pid),
    /// It was still there when the time was up, and was killed: it never runs another instruction, and ran no program.
    Killed(Pid),
}

/// The child's own stack, bytes: some twenty plain calls deep at most, without recursion and without a buffer.
const CHILD_STACK_BYTES: usize = 64 * 1024;
/// After its time was up it is looked for once more: the time may have passed while everything stood still.
const LOOK_AGAIN_S: u32 = 1;

/// Runs `child` in a new process that shares this one's memory until it executes a program; if it returns, the child
/// ends with 127. As with `posix_spawn` nothing is copied, however large this process is. `child` may not allocate nor
/// panic; what it writes is seen here afterwards.
pub(crate) fn spawn_sharing(mut child: &mut dyn FnMut(), patience_s: u32) -> nix::Result<Sharing> {
    extern "C" fn begin(child: *mut c_void) -> c_int {
        // SAFETY: it is the pointer given to `clone` below, to a reference that outlives the sharing.
        let child = unsafe { &mut *child.cast::<&mut dyn FnMut()>() };
        child();
        127
    }
    let mut stack = Box::<[u8]>::new_uninit_slice(CHILD_STACK_BYTES);
    // Cleared, and woken at, by the kernel when the child leaves this memory.
    let inside = Box::new(AtomicU32::new(1));
    let flags = libc::CLONE_VM | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    // SAFETY: the stack is as large as said and aligned by whole pages off its end. It and `inside` stay until the child
    // has left them, if need be for ever (below); `child` stays until it has, or was killed and runs no more. Descriptors and signal actions are the child's own
    // copies, all signals are blocked, and meanwhile this thread does nothing but wait, by a system call that does not
    // touch the thread-local error number they share.
    // Unavoidable: the child has to join its groups before it executes, which posix_spawn cannot do.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end.cast::<c_void>();
        let top = top.wrapping_byte_sub(top.addr() % 16);
        libc::clone(
            begin,
            top,
            flags,
            (&raw mut child).cast(),
            inside.as_ptr(),
            std::ptr::null_mut::<c_void>(),
            inside.as_ptr(),
        )
    };
    let pid = Pid::from_raw(Errno::result(pid)?);
    if wait_until_zero(&inside, patience_s) || wait_until_zero(&inside, LOOK_AGAIN_S) {
        return Ok(Sharing::Over(pid));
    }
    let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    // One that runs is gone in a moment. One that sleeps in the kernel runs no more of our code, but the kernel writes
    // to `inside` when it leaves, whenever that may be: that place must never be anything else.
    if !wait_until_zero(&inside, LOOK_AGAIN_S) {
        std::mem::forget((inside, stack));
    }
    Ok(killed(pid))
}

/// What was killed may have executed its program in the very instant before: then it ran, however short.
fn killed(pid: Pid) -> Sharing {
    if proc::has_executed(pid.as_raw().unsigned_abs()) { Sharing::Over(pid) } else { Sharing::Killed(pid) }
}

/// Waits for the kernel to clear a number; false: it did not in this time.
fn wait_until_zero(number: &AtomicU32, patience_s: u32) -> bool {
    let patience = Timespec { tv_sec: i64::from(patience_s), tv_nsec: 0 };
    loop {
        let now = number.load(Ordering::Acquire);
        if now == 0 {
            return true;
        }
        // The kernel's own wake is not a private one.
        let waited = futex::wait(number, futex::Flags::empty(), now, Some(&patience));
        if waited == Err(rustix::io::Errno::TIMEDOUT) {
            return number.load(Ordering::Acquire) == 0;
        }
    }
}

/// Strings as `execve` takes them, made ready where allocating is still allowed.
#[derive(Debug)]
pub(crate) struct Strings {
    pointers: Vec<*const c_char>,
    _owned: Vec<CString>,
}

impl Strings {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Self { pointers, _owned: strings }
    }
}

/// Executes a program; returns only if that fails.
pub(crate) fn execute(path: &CStr, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: both are arrays of pointers to strings that live as long, and end with a null pointer.
    // Unavoidable: `nix` makes these arrays at the call, and a child that shares memory may not allocate.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Errno::last()
}

/// Every signal back to its default action: what a parent ignored stays ignored over `exec`, and the runtime ignores
/// SIGPIPE.
pub(crate) fn default_signals() {
    // Real-time signals too, which `nix` does not name. SIGKILL, SIGSTOP and the C library's own two refuse.
    for number in 1..=64 {
        // SAFETY: the default action is no handler, so no code of ours can run in signal context.
        // Unavoidable: `signal` is unsafe for every action alike.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// SIGCHLD as it must be for `waitpid` to see every child.
pub(crate) fn default_sigchld() {
    // SAFETY: as in `default_signals`.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

/// SIGCHLD ignored: the kernel reaps, and nobody is told.
pub(crate) fn ignore_sigchld() {
    // SAFETY: as in `default_signals`.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) };
}

/// Closes every descriptor from 3 on: leaks of whoever started us. To be called before anything is opened.
pub(crate) fn close_inherited() {
    // SAFETY: called first in `main`, when no object of ours owns a descriptor above 2, so none is closed behind its
    // owner's back. Unavoidable: no safe interface can know that.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Descriptors from 3 on as objects of ours, marked close-on-exec; at most as many as a process may be handed.
pub(crate) fn take_inherited(count: u32) -> Vec<OwnedFd> {
    let last = count.min(MOST_INHERITED).cast_signed() + 3;
    let open = (3..last).filter(|fd| {
        // SAFETY: setting a flag of a descriptor that may not be open has no effect but an error.
        // Unavoidable: a descriptor that nobody owns yet has no safe type.
        unsafe { libc::fcntl(*fd, libc::F_SETFD, libc::FD_CLOEXEC) == 0 }
    });
    // SAFETY: called first in `main` and once, when no object of ours owns a descriptor above 2; each is open, as just
    // seen. Unavoidable: no safe interface can know that.
    open.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Marks every descriptor from 3 on close-on-exec: only 0, 1 and 2 reach the command, whatever was forgotten.
pub(crate) fn cloexec_from_3() {
    // SAFETY: marking closes nothing in this process; owners keep what they own.
    // Unavoidable: `nix` has no wrapper.
    unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
}

/// Where parts of this process lie in its memory, as `prctl(PR_SET_MM_MAP)` takes them.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MemoryMap {
    pub(crate) start_code: u64,
    pub(crate) end_code: u64,
    pub(crate) start_data: u64,
    pub(crate) end_data: u64,
    pub(crate) start_brk: u64,
    pub(crate) brk: u64,
    pub(crate) start_stack: u64,
    pub(crate) arg_start: u64,
    pub(crate) arg_end: u64,
    pub(crate) env_start: u64,
    pub(crate) env_end: u64,
    pub(crate) auxv: u64,
    pub(crate) auxv_bytes: u32,
    pub(crate) exe_fd: u32,
}

/// Writes over the arguments this process was started with, and tells the kernel that they end where the new ones do.
/// `map` is what the kernel says of this very process. A kernel that does not take that shows zeros behind them; what
/// does not fit is left undone.
pub(crate) fn replace_arguments(map: &MemoryMap, arguments: &[u8]) {
    let (Ok(start), Ok(end)) = (usize::try_from(map.arg_start), usize::try_from(map.arg_end)) else { return };
    let Some(rest) = end.saturating_sub(start).checked_sub(arguments.len()) else { return };
    // SAFETY: the kernel put the arguments there when this process was executed, on its own writable stack, and nobody
    // holds a reference: the runtime copies them at each look, and finds strings that end with a zero, as before.
    // Unavoidable: a process that was not executed anew can get other arguments in no other way.
    unsafe {
        let place = std::ptr::with_exposed_provenance_mut::<u8>(start);
        place.copy_from_nonoverlapping(arguments.as_ptr(), arguments.len());
        place.add(arguments.len()).write_bytes(0, rest);
    }
    // SAFETY: it asks where the heap ends and changes nothing.
    let brk = unsafe { libc::sbrk(0) }.addr();
    let (Ok(arg_end), Ok(brk)) = (u64::try_from(end.saturating_sub(rest)), u64::try_from(brk)) else {
        return;
    };
    let map = MemoryMap { arg_end, brk, auxv: 0, auxv_bytes: 0, exe_fd: u32::MAX, ..*map };
    // SAFETY: the kernel reads a structure of this size and checks every address in it; all but the arguments' end are
    // its own. Unavoidable: `nix` has no wrapper.
    unsafe {
        libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size_of::<MemoryMap>(), 0);
    }
}

/// Gives the heap's free pages back to the system, where the C library can.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and locks what it works on; any thread may call it. Unavoidable: freed memory otherwise
    // stays with the process, and one that was full once would count as full for ever.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has the heap give blocks of this size and more back as soon as they are freed, and keep no more than that at the end of each
/// of its parts.
pub(crate) fn bound_free_heap(bytes: i32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer and locks what it works on; any thread may call it. Unavoidable: otherwise the C library raises
    // both bounds by itself to what was once freed, up to 64 MB for each part, and the parts of other threads than the first are
    // not even trimmed when it is asked to.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, bytes);
        libc::mallopt(libc::M_TRIM_THRESHOLD, bytes);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = bytes;
}

#[cfg(test)]
mod tests;
