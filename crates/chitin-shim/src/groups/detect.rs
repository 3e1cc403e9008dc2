//! Finding out what this machine offers, by its mount table and by trying: a group that can be made is worth more
//! than a permission that says so.

use std::fs;
use std::path::{Path, PathBuf};

use super::files;
use super::tier::{OWN_LEAF, Tier};

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The part of the hierarchy that is visible here.
    pub(super) root: String,
    pub(super) point: PathBuf,
    /// `None`: version 2.
    pub(super) controllers: Option<Vec<String>>,
}

/// The best tier that works here; see [`all`].
#[must_use]
pub fn detect() -> Tier {
    all().into_iter().next().unwrap_or(Tier::Rlimit)
}

/// The tiers that work here, the best first. Makes and removes a group in each tree it tries; some file accesses, once at
/// start.
#[must_use]
pub fn all() -> Vec<Tier> {
    let mounts = mounts(&files::read(Path::new("/proc/self"), "mountinfo").unwrap_or_default());
    let own = files::read(Path::new("/proc/self"), "cgroup").unwrap_or_default();
    let groups = [cgroup2(&mounts, &own), cgroup1(&mounts, &own)];
    groups.into_iter().flatten().chain([Tier::Rlimit]).collect()
}

pub(super) fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(mount).collect()
}

/// `31 23 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu`
fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (left.next()?.to_owned(), unescaped(left.next()?));
    let mut right = right.split(' ');
    let controllers = match right.next()? {
        "cgroup2" => None,
        "cgroup" => Some(right.nth(1)?.split(',').map(str::to_owned).collect()),
        _ => return None,
    };
    Some(Mount { root, point: point.into(), controllers })
}

/// The mount table writes a space in a path as `\040`.
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ")
}

/// This process's group in a mounted hierarchy; `cgroup` is `/proc/self/cgroup`.
pub(super) fn own_group(mount: &Mount, cgroup: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let here = match &mount.controllers {
            None => controllers.is_empty(),
            Some(of_mount) => controllers.split(',').any(|c| of_mount.iter().any(|m| m == c)),
        };
        here.then_some(path)
    })?;
    // Both as absolute paths of the hierarchy; a group outside the visible part is none.
    let inside = Path::new(path).strip_prefix(&mount.root).ok()?;
    Some(mount.point.join(inside))
}

/// Our own group if groups can be made in it, else the tree's top.
fn base(mount: &Mount, cgroup: &str, works: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let own = own_group(mount, cgroup);
    own.into_iter().chain([mount.point.clone()]).find(|group| {
        let probe = group.join(format!("chitin-probe-{}", std::process::id()));
        let made = fs::create_dir(&probe).is_ok();
        let good = made && works(&probe);
        let removed = !made || files::remove(&probe).is_ok();
        good && removed
    })
}

fn writable(group: &Path, file: &str) -> bool {
    fs::File::options().write(true).open(group.join(file)).is_ok()
}

fn cgroup1(mounts: &[Mount], cgroup: &str) -> Option<Tier> {
    let of = |controller: &str, file: &'static str| {
        let has = |m: &&Mount| m.controllers.as_ref().is_some_and(|c| c.iter().any(|c| c == controller));
        base(mounts.iter().find(has)?, cgroup, move |probe| writable(probe, file))
    };
    let memory = of("memory", "memory.limit_in_bytes")?;
    let unified = mounts.iter().find(|m| m.controllers.is_none());
    Some(Tier::Cgroup1 {
        memory,
        pids: of("pids", "pids.max"),
        cpu: of("cpu", "cpu.cfs_quota_us"),
        unified: unified.and_then(|m| base(m, cgroup, |probe| writable(probe, "cgroup.kill"))),
    })
}

fn cgroup2(mounts: &[Mount], cgroup: &str) -> Option<Tier> {
    let mount = mounts.iter().find(|m| m.controllers.is_none())?;
    let own = own_group(mount, cgroup)?;
    // Started again by a supervisor that already sits in the leaf beside the instance's groups.
    let in_leaf = own.file_name().is_some_and(|name| name == OWN_LEAF);
    let own = if in_leaf { own.parent()?.to_owned() } else { own };
    let is_top = own == mount.point && mount.root == "/";
    let here = delegated(&own).filter(|_| is_top || in_leaf || only_us(&own));
    if let Some(cpu) = here {
        return Some(Tier::Cgroup2 { base: own, leave: !is_top && !in_leaf, cpu });
    }
    // The top of the whole tree may hold processes and controllers at once.
    let cpu = delegated(&mount.point).filter(|_| mount.root == "/")?;
    Some(Tier::Cgroup2 { base: mount.point.clone(), leave: false, cpu })
}

/// Memory and pids may be handed on from this group, by us; whether cpu too.
fn delegated(group: &Path) -> Option<bool> {
    let controllers = files::read(group, "cgroup.controllers")?;
    let has = |name: &str| controllers.split_ascii_whitespace().any(|c| c == name);
    let probe = group.join(format!("chitin-probe-{}", std::process::id()));
    let usable = has("memory")
        && has("pids")
        && writable(group, "cgroup.subtree_control")
        && writable(group, "cgroup.procs")
        && fs::create_dir(&probe).is_ok()
        && files::remove(&probe).is_ok();
    usable.then(|| has("cpu"))
}

/// Nobody sits in the group but this process and its supervisor: they may move.
fn only_us(group: &Path) -> bool {
    let us = [std::process::id(), std::os::unix::process::parent_id()];
    let members = files::read(group, "cgroup.procs").unwrap_or_default();
    members.lines().all(|pid| pid.parse().is_ok_and(|pid: u32| us.contains(&pid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/ab /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/a\\040b rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";
    const OWN: &str = "4:memory:/docker/ab/c\n1:cpuacct,cpu:/x\n0::/y/z\n";

    #[test]
    fn the_mount_table_is_understood() {
        let mounts = mounts(TABLE);
        assert_eq!(mounts.len(), 3);
        let groups: Vec<_> = mounts.iter().map(|m| own_group(m, OWN).unwrap()).collect();
        let expected = ["/sys/fs/cgroup/cpu,cpuacct/x", "/sys/fs/cgroup/memory/c", "/sys/fs/a b/y/z"];
        assert_eq!(groups, expected.map(PathBuf::from));
    }

    #[test]
    fn a_group_that_is_not_visible_is_none() {
        let mounts = mounts(TABLE);
        assert_eq!(own_group(&mounts[1], "4:memory:/elsewhere\n"), None);
    }

    #[test]
    fn detection_leaves_no_group_behind() {
        let tier = detect();
        let left = match &tier {
            Tier::Cgroup2 { base, .. } | Tier::Cgroup1 { memory: base, .. } => files::inside(base),
            Tier::Rlimit => Vec::new(),
        };
        let probe = format!("chitin-probe-{}", std::process::id());
        assert!(!left.iter().any(|g| g.ends_with(&probe)), "{tier:?}");
    }
}
