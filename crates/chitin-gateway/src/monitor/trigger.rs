//! What wakes the monitor before its interval is over: the kernel, as soon as somebody waits for memory (R5.1), and whoever
//! stops it.
//!
//! A trigger is a line written to a pressure file, which then becomes readable out of band each time the line is crossed,
//! once in a window at most. Without special rights windows are multiples of two seconds. Where no file can be written to,
//! the monitor looks at its interval alone.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// All of the machine's pressure, whatever group it arises in.
const MACHINE: &str = "/proc/pressure/memory";
/// Somebody waited for memory for 150 ms of two seconds: less than any use of a swap, and more than reading files brings.
const LINE: &str = "some 150000 2000000\0";
/// In that time the kernel tells it once.
pub(super) const WINDOW: Duration = Duration::from_secs(2);
/// Between two looks, however often it is told: they must not be a load of their own.
pub(super) const LEAST_PAUSE: Duration = Duration::from_millis(50);

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// It was long enough.
    Interval,
    /// The kernel saw somebody wait for memory.
    Pressure,
    /// The other end of the bell is gone.
    Stop,
}

/// What can wake the monitor.
#[derive(Debug)]
pub(super) struct Alarm {
    bell: PipeReader,
    trigger: Option<(&'static str, File)>,
}

impl Alarm {
    /// `group`: the pressure file of the group around gateway and tasks, for where the machine's cannot be written to.
    pub(super) fn new(bell: PipeReader, group: Option<PathBuf>) -> Self {
        let trigger = set(group);
        if let Err(error) = &trigger {
            tracing::debug!(%error, "the kernel does not tell when memory is waited for");
        }
        Self { bell, trigger: trigger.ok() }
    }

    /// Whose pressure wakes; `None`: nobody's.
    pub(super) fn of_whom(&self) -> Option<&'static str> {
        self.trigger.as_ref().map(|(whose, _)| *whose)
    }

    /// Waits so long at most.
    pub(super) fn wait(&mut self, pause: Duration) -> Woken {
        let least = pause.min(LEAST_PAUSE);
        match self.poll(least, false) {
            Woken::Interval => self.poll(pause.saturating_sub(least), true),
            woken => woken,
        }
    }

    fn poll(&mut self, most: Duration, by_pressure: bool) -> Woken {
        let bell = PollFd::new(&self.bell, PollFlags::IN);
        let mut fds = vec![bell];
        if let Some((_, trigger)) = self.trigger.as_ref().filter(|_| by_pressure) {
            fds.push(PollFd::new(trigger, PollFlags::PRI));
        }
        let woken = match poll(&mut fds, Timespec::try_from(most).ok().as_ref()) {
            Err(Errno::INTR) => return Woken::Interval,
            // Out of kernel memory for a moment: to look again at once would not help.
            Err(_) => {
                thread::sleep(LEAST_PAUSE);
                return Woken::Interval;
            }
            Ok(_) => fds.iter().map(PollFd::revents).collect::<Vec<_>>(),
        };
        let [bell, trigger] = [0, 1].map(|at| woken.get(at).copied().unwrap_or(PollFlags::empty()));
        if !bell.is_empty() {
            return Woken::Stop;
        }
        if trigger.intersects(PollFlags::ERR | PollFlags::NVAL) {
            // Its group is gone; it would be ready for ever.
            self.trigger = None;
            return Woken::Interval;
        }
        if trigger.is_empty() { Woken::Interval } else { Woken::Pressure }
    }
}

/// Sets a trigger where one can be set: whose, and its file, with which it goes.
pub(super) fn set(group: Option<PathBuf>) -> io::Result<(&'static str, File)> {
    let machine = arm(Path::new(MACHINE)).map(|file| ("machine", file));
    machine.or_else(|error| match group {
        Some(group) => arm(&group).map(|file| ("group", file)),
        None => Err(error),
    })
}

/// Opens a pressure file and writes the line to it.
fn arm(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    file.write_all(LINE.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use rustix::net::{SendFlags, send};

    use super::*;
    use crate::clock;

    /// Out of band data of a connection is what a pressure file's line is: ready until it is read.
    fn out_of_band() -> (TcpStream, File) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sends = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (hears, _) = listener.accept().unwrap();
        (sends, File::from(OwnedFd::from(hears)))
    }

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn the_kernels_word_ends_a_wait_and_nothing_else_does() {
        let (bell, _ringer) = io::pipe().unwrap();
        let (sends, hears) = out_of_band();
        let mut alarm = Alarm { bell, trigger: Some(("machine", hears)) };
        send(&sends, b"what is read in order", SendFlags::empty()).unwrap();
        assert_eq!(alarm.wait(Duration::from_millis(60)), Woken::Interval);
        send(&sends, b"!", SendFlags::OOB).unwrap();
        assert_eq!(alarm.wait(LONG), Woken::Pressure);
    }

    #[test]
    fn what_is_told_without_end_is_looked_at_now_and_then() {
        let (bell, _ringer) = io::pipe().unwrap();
        let (sends, hears) = out_of_band();
        send(&sends, b"!", SendFlags::OOB).unwrap();
        let mut alarm = Alarm { bell, trigger: Some(("machine", hears)) };
        let begin_ms = clock::boottime_ms();
        assert!((0..4).all(|_| alarm.wait(LONG) == Woken::Pressure));
        assert!(clock::boottime_ms() - begin_ms >= 190);
    }

    #[test]
    fn the_bell_stops_it_also_where_nothing_can_be_told() {
        let (bell, ringer) = io::pipe().unwrap();
        let mut alarm = Alarm { bell, trigger: None };
        drop(ringer);
        assert_eq!(alarm.wait(LONG), Woken::Stop);
    }

    #[test]
    fn a_trigger_that_is_broken_is_given_up() {
        let (bell, _ringer) = io::pipe().unwrap();
        // The writing end of a pipe that nobody reads any more is in error for ever.
        let (reads, writes) = io::pipe().unwrap();
        drop(reads);
        let mut alarm = Alarm { bell, trigger: Some(("group", File::from(OwnedFd::from(writes)))) };
        assert_eq!(alarm.wait(LONG), Woken::Interval);
        assert_eq!(alarm.of_whom(), None);
    }
}
