//! The memory that the control groups around this process leave it, whoever made them: a container's bound, or a unit's.
//! Beyond it the kernel kills, so a gateway has to refuse before.

use std::path::{Path, PathBuf};

use super::detect::{Mount, mounts, own_group};
use super::files;

/// Where none is set, version 1 says a number near 2^63.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// The tightest bound around this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryCap {
    group: PathBuf,
    is_version_2: bool,
    /// The bound.
    pub limit_bytes: u64,
}

impl MemoryCap {
    /// The tightest there is; `None`: none is set.
    #[must_use]
    pub fn find() -> Option<Self> {
        let own = files::read(Path::new("/proc/self"), "cgroup")?;
        let mounts = mounts(&files::read(Path::new("/proc/self"), "mountinfo")?);
        let caps = mounts.iter().flat_map(|mount| Self::of_mount(mount, &own));
        caps.min_by_key(|cap| cap.limit_bytes)
    }

    fn of_mount(mount: &Mount, own: &str) -> Vec<Self> {
        let (file, is_version_2) = match &mount.controllers {
            None => ("memory.max", true),
            Some(controllers) if controllers.iter().any(|name| name == "memory") => {
                ("memory.limit_in_bytes", false)
            }
            Some(_) => return Vec::new(),
        };
        let Some(group) = own_group(mount, own) else { return Vec::new() };
        let around = group.ancestors().take_while(|group| group.starts_with(&mount.point));
        around
            .filter_map(|group| {
                let limit_bytes = files::number(&files::read(group, file)?)?;
                (limit_bytes < NO_LIMIT_BYTES).then(|| Self {
                    group: group.to_owned(),
                    is_version_2,
                    limit_bytes,
                })
            })
            .collect()
    }

    /// What the group's processes hold that only their end would free.
    #[must_use]
    pub fn used_bytes(&self) -> Option<u64> {
        let name = if self.is_version_2 { "anon" } else { "total_rss" };
        files::keyed(&files::read(&self.group, "memory.stat")?, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(folder: &Path, files: &[(&str, &str)]) {
        std::fs::create_dir_all(folder).unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
    }

    #[test]
    fn the_tightest_bound_of_all_groups_around_counts() {
        let root = tempfile::tempdir().unwrap();
        group(
            &root.path().join("a"),
            &[("memory.max", "64000000\n"), ("memory.stat", "file 7\nanon 5000\n")],
        );
        group(&root.path().join("a/b"), &[("memory.max", "max\n")]);
        let mount = Mount { point: root.path().to_owned(), root: "/".to_owned(), controllers: None };
        let caps = MemoryCap::of_mount(&mount, "0::/a/b\n");
        assert_eq!(caps.len(), 1, "{caps:?}");
        assert_eq!((caps[0].limit_bytes, caps[0].used_bytes()), (64_000_000, Some(5_000)));
    }

    #[test]
    fn version_1_says_a_huge_number_for_none() {
        let root = tempfile::tempdir().unwrap();
        let stat = ("memory.stat", "rss 1\ntotal_rss 9000\n");
        group(root.path(), &[("memory.limit_in_bytes", "9223372036854771712\n")]);
        group(&root.path().join("g"), &[("memory.limit_in_bytes", "50000000\n"), stat]);
        let controllers = Some(vec!["memory".to_owned()]);
        let mount = Mount { point: root.path().to_owned(), root: "/".to_owned(), controllers };
        let caps = MemoryCap::of_mount(&mount, "4:memory:/g\n0::/\n");
        assert_eq!(caps.len(), 1, "{caps:?}");
        assert_eq!(caps[0].used_bytes(), Some(9_000));
    }
}
