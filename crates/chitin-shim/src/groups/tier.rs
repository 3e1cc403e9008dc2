//! The means this machine offers for keeping process trees together, and an instance's own place in them.
//!
//! Each tier holds the folder under which an instance makes `chitin-<instance>`; attempts are leaves inside it, named
//! `<task>.<attempt>`. An instance touches nothing but its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chitin_proto::shim::{Isolation, ResourceLimits};

use super::files;

/// Which means, wherever they are to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TierKind {
    /// Version 2.
    Cgroup2,
    /// Version 1.
    Cgroup1,
    /// No groups.
    Rlimit,
}

impl TierKind {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Cgroup2, Self::Cgroup1, Self::Rlimit];

    /// As the configuration names it and `chitin status` shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroup2 => "cgroup2",
            Self::Cgroup1 => "cgroup1",
            Self::Rlimit => "rlimit",
        }
    }
}

/// Means that there are; see [`super::detect`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tier {
    /// Version 2 with memory and pids delegated.
    Cgroup2 {
        /// The group that instances make theirs in.
        base: PathBuf,
        /// The group the calling process sits in must be left first: no group with controllers for its children holds
        /// processes. `prepare` moves the caller (and its parent, if both are there) to a leaf beside the instance's.
        leave: bool,
        /// The cpu controller is delegated too.
        cpu: bool,
    },
    /// Version 1 controllers, each with its own tree; a version 2 leaf where it is mounted.
    Cgroup1 {
        /// In the memory controller's tree.
        memory: PathBuf,
        /// In the pids controller's tree.
        pids: Option<PathBuf>,
        /// In the cpu controller's tree.
        cpu: Option<PathBuf>,
        /// In the version 2 tree.
        unified: Option<PathBuf>,
    },
    /// No groups.
    Rlimit,
}

/// The leaf in which supervisor, gateway and shims sit where they may not sit in the base itself. Under systemd say
/// `Delegate=yes` and `DelegateSubgroup=chitin-own`, or a restart finds tasks in the way of the unit's own group.
pub(super) const OWN_LEAF: &str = "chitin-own";

/// What no group holds a tree to where there is none for CPU time.
const NO_CPU: &[&str] = &["cpus", "cpu weight (by niceness)"];

/// The greatest niceness there is.
const NICEST: u8 = 19;

/// Why an instance has no place.
#[derive(Debug, thiserror::Error)]
pub enum TierError {
    /// A group cannot be made.
    #[error("cannot make the group {}", group.display())]
    Make {
        /// Which.
        group: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The processes of the base cannot be moved out of it.
    #[error("cannot leave the group {}", group.display())]
    Leave {
        /// Which.
        group: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The share of CPU time cannot be set.
    #[error("cannot set {file} of the group {}", group.display())]
    Weigh {
        /// Which.
        group: PathBuf,
        /// The control file.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The controllers are not handed on.
    #[error("cannot enable controllers in {}", group.display())]
    Controllers {
        /// Which.
        group: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn place(base: &Path, instance: &str) -> PathBuf {
    base.join(format!("chitin-{instance}"))
}

impl Tier {
    /// Which it is.
    #[must_use]
    pub fn kind(&self) -> TierKind {
        match self {
            Self::Cgroup2 { .. } => TierKind::Cgroup2,
            Self::Cgroup1 { .. } => TierKind::Cgroup1,
            Self::Rlimit => TierKind::Rlimit,
        }
    }

    /// See [`TierKind::name`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// What is not enforced here, or only as well as can be, in words for `chitin status`.
    #[must_use]
    pub fn not_enforced(&self) -> Vec<&'static str> {
        match self {
            Self::Cgroup2 { cpu: true, .. } => Vec::new(),
            Self::Cgroup2 { cpu: false, .. } => NO_CPU.to_vec(),
            Self::Cgroup1 { pids, cpu, .. } => {
                let pids = pids.is_none().then_some("pids");
                let cpu = if cpu.is_none() { NO_CPU } else { &[] };
                pids.into_iter().chain(cpu.iter().copied()).collect()
            }
            Self::Rlimit => [
                &["memory (looked at twice a second)", "pids"],
                NO_CPU,
                &["trees of a killed shim (found by their environment)"],
            ]
            .concat(),
        }
    }

    /// What a command's niceness is raised by, where no group gives all of them together their weight of CPU time
    /// (100: that of anybody else). A step of niceness is a fifth of a process's weight (`sched(7)`).
    #[must_use]
    pub fn nice(&self, cpu_weight: u64) -> u8 {
        match self {
            Self::Cgroup2 { cpu: true, .. } | Self::Cgroup1 { cpu: Some(_), .. } => 0,
            Self::Cgroup2 { cpu: false, .. } | Self::Cgroup1 { cpu: None, .. } | Self::Rlimit => {
                let wanted = cpu_weight.saturating_mul(1_000);
                let weights = std::iter::successors(Some(80_000_u64), |weight| Some(weight / 5 * 4));
                let steps = weights.take(NICEST.into()).take_while(|weight| *weight >= wanted).count();
                u8::try_from(steps).unwrap_or(NICEST)
            }
        }
    }

    /// Where an attempt's tree is to be kept. Of version 1 the pids group is named only if it is needed; the one for cpu
    /// is always, since what is outside has a weight of its own.
    #[must_use]
    pub fn isolation(&self, instance: &str, task: &str, attempt: u32, limits: &ResourceLimits) -> Isolation {
        let leaf = |base: &PathBuf| place(base, instance).join(format!("{task}.{attempt}"));
        match self {
            Self::Cgroup2 { base, .. } => Isolation::Cgroup2 { group: leaf(base) },
            Self::Cgroup1 { memory, pids, cpu, unified } => Isolation::Cgroup1 {
                memory: Some(leaf(memory)),
                pids: pids.as_ref().filter(|_| limits.pids.is_some()).map(leaf),
                cpu: cpu.as_ref().map(leaf),
                unified: unified.as_ref().map(leaf),
            },
            Self::Rlimit => Isolation::Rlimit,
        }
    }

    /// The file that tells how long whoever is in the group around all instances' groups waited for memory.
    #[must_use]
    pub fn memory_pressure(&self) -> Option<PathBuf> {
        let base = match self {
            Self::Cgroup2 { base, .. } => Some(base),
            Self::Cgroup1 { unified, .. } => unified.as_ref(),
            Self::Rlimit => None,
        };
        base.map(|base| base.join("memory.pressure"))
    }

    fn bases(&self) -> Vec<&PathBuf> {
        match self {
            Self::Cgroup2 { base, .. } => vec![base],
            Self::Cgroup1 { memory, pids, cpu, unified } => {
                std::iter::once(memory).chain([pids, cpu, unified].into_iter().flatten()).collect()
            }
            Self::Rlimit => Vec::new(),
        }
    }

    /// The instance's own groups, one in each tree.
    fn places(&self, instance: &str) -> Vec<PathBuf> {
        self.bases().into_iter().map(|base| place(base, instance)).collect()
    }

    /// Those of earlier gateways too: one that was started from another session had its groups elsewhere.
    fn all_places(&self, instance: &str) -> Vec<PathBuf> {
        let name = format!("chitin-{instance}");
        let mut places = self.places(instance);
        places.extend(self.bases().into_iter().flat_map(|base| files::named(base, &name)));
        places.sort();
        places.dedup();
        places
    }

    /// Makes the instance's groups; doing it again is the same. To be called before the first attempt. All attempts together
    /// have this weight of the CPU time, 100 being that of the groups beside them: the gateway's, for one.
    ///
    /// # Errors
    /// See [`TierError`]: use [`Tier::Rlimit`] then, and say so.
    pub fn prepare(&self, instance: &str, cpu_weight: u64) -> Result<(), TierError> {
        if let Self::Cgroup2 { base, leave, cpu } = self {
            if *leave {
                leave_base(base)?;
            }
            hand_on(base, *cpu)?;
        }
        for group in self.places(instance) {
            match fs::create_dir(&group) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(|source| TierError::Make { group: group.clone(), source })?,
            }
            if let Self::Cgroup2 { cpu, .. } = self {
                hand_on(&group, *cpu)?;
            }
        }
        self.weigh(instance, cpu_weight)
    }

    fn weigh(&self, instance: &str, cpu_weight: u64) -> Result<(), TierError> {
        let (base, file, weight) = match self {
            Self::Cgroup2 { base, cpu: true, .. } => (base, "cpu.weight", cpu_weight),
            // What has a weight of 100 has 1,024 shares.
            Self::Cgroup1 { cpu: Some(base), .. } => {
                (base, "cpu.shares", cpu_weight.saturating_mul(1_024) / 100)
            }
            Self::Cgroup2 { cpu: false, .. } | Self::Cgroup1 { cpu: None, .. } | Self::Rlimit => {
                return Ok(());
            }
        };
        let group = place(base, instance);
        files::write(&group, file, &weight.to_string()).map_err(|source| TierError::Weigh {
            group,
            file,
            source,
        })
    }

    /// Removes groups of this instance's attempts, but those whose name (`<task>.<attempt>`) is to be kept, wherever
    /// an earlier gateway made them. A group that still has processes stays: end its tree first
    /// ([`crate::tree::end`]). How many were removed.
    pub fn sweep(&self, instance: &str, keep: &dyn Fn(&str) -> bool) -> usize {
        let own = self.places(instance);
        let mut removed: usize = 0;
        for place in self.all_places(instance) {
            for leaf in files::inside(&place) {
                let name = leaf.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                let leftover = !keep(name) && files::processes(&leaf).is_empty();
                if leftover && files::remove(&leaf).is_ok() {
                    removed = removed.saturating_add(1);
                }
            }
            if !own.contains(&place) {
                // Not empty: an attempt of an earlier gateway still runs in it.
                let _ = fs::remove_dir(&place);
            }
        }
        removed
    }

    /// Removes the instance's groups at shutdown, if no attempt is left in them.
    pub fn remove(&self, instance: &str) {
        for group in self.all_places(instance) {
            // Not empty: tasks go on without a gateway, and need it.
            let _ = fs::remove_dir(&group);
        }
    }
}

/// Moves every process of the base (the caller and its supervisor, as `detect` made sure) to a leaf in it.
fn leave_base(base: &Path) -> Result<(), TierError> {
    let leaf = base.join(OWN_LEAF);
    let failed = |source| TierError::Leave { group: base.to_owned(), source };
    match fs::create_dir(&leaf) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.map_err(failed)?,
    }
    for pid in files::read(base, "cgroup.procs").unwrap_or_default().lines() {
        files::write(&leaf, "cgroup.procs", pid).map_err(failed)?;
    }
    Ok(())
}

fn hand_on(group: &Path, cpu: bool) -> Result<(), TierError> {
    let controllers = if cpu { "+memory +pids +cpu" } else { "+memory +pids" };
    files::write(group, "cgroup.subtree_control", controllers)
        .map_err(|source| TierError::Controllers { group: group.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_groups_are_named_as_needed() {
        let tier = Tier::Cgroup1 {
            memory: "/m".into(),
            pids: Some("/p".into()),
            cpu: Some("/c".into()),
            unified: Some("/u".into()),
        };
        let limits = ResourceLimits { pids: Some(3), ..ResourceLimits::default() };
        let expected = Isolation::Cgroup1 {
            memory: Some("/m/chitin-i/t.2".into()),
            pids: Some("/p/chitin-i/t.2".into()),
            cpu: Some("/c/chitin-i/t.2".into()),
            unified: Some("/u/chitin-i/t.2".into()),
        };
        assert_eq!(tier.isolation("i", "t", 2, &limits), expected);
    }

    #[test]
    fn where_no_group_weighs_niceness_does() {
        let nice = |weight| Tier::Rlimit.nice(weight);
        // By the kernel's own table 3 steps are 526 of 1,024, 10 are 110.
        assert_eq!([10_000, 100, 80, 50, 10, 1].map(nice), [0, 0, 1, 3, 10, 19]);
        let groups = Tier::Cgroup2 { base: "/b".into(), leave: false, cpu: true };
        assert_eq!(groups.nice(1), 0);
    }

    #[test]
    fn an_instance_sweeps_only_its_own_and_keeps_what_it_is_told() {
        // Plain folders stand in for groups: the sweep removes folders.
        let dir = tempfile::tempdir().unwrap();
        let tier = Tier::Cgroup1 { memory: dir.path().into(), pids: None, cpu: None, unified: None };
        tier.prepare("a", 50).unwrap();
        tier.prepare("a", 50).unwrap();
        for leaf in ["chitin-a/t.1", "chitin-a/t.2", "chitin-b/t.1"] {
            fs::create_dir_all(dir.path().join(leaf)).unwrap();
        }
        assert_eq!(tier.sweep("a", &|name| name == "t.2"), 1);
        assert!(!dir.path().join("chitin-a/t.1").exists());
        assert!(dir.path().join("chitin-a/t.2").exists() && dir.path().join("chitin-b/t.1").exists());
        tier.remove("a");
        assert!(dir.path().join("chitin-a").exists(), "an attempt is left in it");
        tier.sweep("a", &|_| false);
        tier.remove("a");
        assert!(!dir.path().join("chitin-a").exists());
    }
}
