//! A file system that has become read-only: told by trying, and waited out.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;

use super::post::{Inbox, Message};
use super::{PROBE_EVERY, Trouble};
use crate::clock;

/// Made and removed again to see whether anything can be.
const PROBE: &str = "chitin.probe";

/// Whether nothing can be written in this folder because its file system is read-only.
pub(super) fn is_read_only(folder: &Path) -> bool {
    let probe = folder.join(PROBE);
    let made = OpenOptions::new().create(true).write(true).truncate(true).open(&probe);
    if made.is_ok() {
        // One that stays is made over the next time, and swept by nobody: it is empty.
        _ = fs::remove_file(&probe);
    }
    made.is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
}

/// Refuses whatever is asked of the writer until something can be written again, or the gateway is to stop.
pub(super) fn wait(folder: &Path, inbox: &mut Inbox) {
    let mut looked = clock::steady();
    loop {
        match inbox.receive(PROBE_EVERY) {
            Ok(Message::Command(command)) => command.answer(Err(Trouble::Unavailable)),
            Ok(Message::Dispatch(_)) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
        // However much is asked for meanwhile.
        if clock::steady().saturating_sub(looked) >= PROBE_EVERY {
            if !is_read_only(folder) {
                return;
            }
            looked = clock::steady();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_be_written_to_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_read_only(folder.path()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(!is_read_only(&folder.path().join("missing")), "another trouble");
    }
}
