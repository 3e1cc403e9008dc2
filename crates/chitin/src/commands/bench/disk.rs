//! The reference for durability: how fast this disk takes 4 KiB at a time. And what disk that is.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::figures::{Latency, Sample, ratio};
use super::load::{count, histogram, nanos};
use super::own::Folder;
use super::stop::Stop;
use crate::clock;
use crate::failure::Failure;

/// Appends and syncs, one after the other.
pub(super) fn fdatasync(parent: &Path, span: Duration, stop: &Stop) -> Result<Sample, Failure> {
    let folder = Folder::make(parent, "disk")?;
    let failed =
        |error: std::io::Error| Failure::other(format!("cannot write to {}: {error}", parent.display()));
    let mut file = File::create(folder.path().join("appended")).map_err(failed)?;
    let mut latency = histogram()?;
    let block = [0x5a; 4_096];
    let begun = clock::now();
    while begun.elapsed() < span {
        stop.check()?;
        let one = clock::now();
        file.write_all(&block).and_then(|()| file.sync_data()).map_err(failed)?;
        latency.saturating_record(nanos(one.elapsed()));
    }
    let rate = ratio(count(latency.len()), begun.elapsed().as_secs_f64());
    Ok(Sample { rate, p50_ms: Some(Latency::of(&latency).p50_ms) })
}

/// The file system that holds this, by its type; what syncs are worth depends on it.
pub(super) fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    kind(&mounts, &path).unwrap_or("unknown").to_owned()
}

fn kind<'m>(mounts: &'m str, path: &Path) -> Option<&'m str> {
    let entries = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    // The longest is the innermost; of two at the same place the later one covers the earlier.
    let holding = entries.filter(|(mount, _)| path.starts_with(mount));
    holding.max_by_key(|(mount, _)| mount.components().count()).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/deep xfs rw 0 0\n";
        assert_eq!(kind(mounts, Path::new("/srv")), Some("ext4"));
        assert_eq!(kind(mounts, Path::new("/tmp/x")), Some("tmpfs"));
        assert_eq!(kind(mounts, Path::new("/tmp/deep/x")), Some("xfs"));
        assert_eq!(kind(mounts, Path::new("/tmpx")), Some("ext4"));
        assert_eq!(kind("", Path::new("/")), None);
    }
}
