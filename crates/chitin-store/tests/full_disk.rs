//! A disk that is really full: a no, room from the ballast, and a start on a disk that still is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod rows;

use chitin_core::{Limits, NewTask, Payload, Seq, Tx};
use chitin_store::{Ballast, Commit, NoReason, StoreError, StoreOptions, Verdict, Writer};
use rows::*;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

fn add(writer: &mut Writer, seq: i64, payload: &Payload) -> Result<(), StoreError> {
    let mut tx = writer.begin()?;
    tx.insert_task(NewTask { row: &queued(seq), payload })?;
    match tx.commit() {
        Commit::Ok => Ok(()),
        Commit::No(error) => Err(error),
        Commit::Unknown(error) => panic!("{error:?}"),
    }
}

fn tasks(writer: &mut Writer) -> usize {
    writer.begin().unwrap().open_tasks(Seq(0), 100_000).unwrap().len()
}

/// A small disk for as long as it lives.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of_three_megabytes() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), Some(c"size=3m")).unwrap();
        Self(folder)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
#[ignore = "mounts a small file system: needs root"]
fn a_full_disk_says_no_and_a_gateway_can_still_start_on_it() {
    let disk = Disk::of_three_megabytes();
    let path = disk.0.path().join("chitin.db");
    let options = StoreOptions::new([1; 16], &Limits::default());
    let ballast = Ballast::new(&disk.0.path().join("chitin.ballast"), 500_000);
    let mut writer = Writer::open(&path, &options).unwrap();
    ballast.ensure().unwrap();

    let big = Payload { stdin: vec![7; 20_000], ..payload() };
    let mut stored = 0;
    let error = (1..).find_map(|seq| add(&mut writer, seq, &big).map(|()| stored += 1).err()).unwrap();
    assert_eq!(error.verdict(), Verdict::No(NoReason::Full), "{error:?}");
    assert!(stored > 20, "{stored}");
    assert_eq!(tasks(&mut writer), stored);

    ballast.release().unwrap();
    add(&mut writer, 10_000, &payload()).unwrap();
    // The log's pages do not fit into the file a second time, and the next life finds them as they are.
    drop(writer);
    let mut writer = Writer::open(&path, &options).unwrap();
    assert_eq!(tasks(&mut writer), stored + 1);
    if let Err(error) = add(&mut writer, 10_001, &payload()) {
        assert_eq!(error.verdict(), Verdict::No(NoReason::Full), "{error:?}");
    }
}
