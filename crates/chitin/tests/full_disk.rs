//! A disk that is really full (R5.3): new work is refused, what has begun is recorded, and when space returns nobody has
//! to do anything. On a small file system of its own, for which it takes the right to mount.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use common::http::Request;
use common::{Gateway, finish, program, until};
use serde_json::json;

/// A small file system for as long as it lives.
struct Disk(PathBuf);

impl Disk {
    /// None: this user may not mount.
    fn at(place: &Path) -> Option<Self> {
        let mut mount = program("mount");
        mount.args(["-t", "tmpfs", "-o", "size=80m", "tmpfs"]).arg(place);
        (finish(mount, None).code == 0).then(|| Self(place.to_owned()))
    }

    /// Not a byte is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("fill")).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while file.write(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let mut unmount = program("umount");
        unmount.arg("-l").arg(&self.0);
        finish(unmount, None);
    }
}

#[test]
fn a_full_disk_refuses_new_work_and_records_what_has_begun() {
    let gateway = Gateway::prepare();
    fs::create_dir(&gateway.data).unwrap();
    let Some(disk) = Disk::at(&gateway.data) else {
        println!("skipped: no right to mount a file system");
        return;
    };
    // Bound anew, so that it is gone before its disk is.
    let mut gateway = gateway;
    gateway.up();
    let go = gateway.home.path().join("go");
    let script = format!("echo recorded; while [ ! -e '{}' ]; do sleep 0.05; done", go.display());
    let id = gateway.submit(&["sh", "-c", &script]);
    until("its output", || (gateway.cli(&["logs", &id]).out() == "recorded\n").then_some(()));
    disk.fill();

    let large = json!({ "command": ["true"], "stdin": "x".repeat(1_000_000) });
    let refused = until("a refusal", || {
        let answer = gateway.post("/v1/tasks", &large);
        (answer.status != 202).then_some(answer)
    });
    assert_eq!(refused.with(507).problem().code, "storage-full");
    assert_eq!(gateway.unix(&Request::get("/readyz")).status, 503);
    assert_eq!(gateway.unix(&Request::get("/healthz")).status, 200);

    fs::write(&go, "").unwrap();
    assert_eq!(gateway.ended(&id)["state"], "succeeded");
    assert_eq!(gateway.cli(&["result", &id]).with(0).out(), "recorded\n");
    let small = json!({ "command": ["true"] });
    gateway.post("/v1/tasks", &small).with(507);

    disk.free();
    until("readiness", || (gateway.unix(&Request::get("/readyz")).status == 200).then_some(()));
    assert_eq!(fs::metadata(gateway.data.join("chitin.ballast")).unwrap().len(), 32_000_000, "taken back");
    gateway.post("/v1/tasks", &small).with(202);
}
