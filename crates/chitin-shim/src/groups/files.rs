//! Control files of groups, both versions: written whole, read bounded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits;
use crate::proc;

/// Writes a control file.
pub(crate) fn write(group: &Path, file: &str, value: &str) -> io::Result<()> {
    use std::io::Write;
    fs::File::options().write(true).open(group.join(file))?.write_all(value.as_bytes())
}

/// Reads a control file; `None` if it does not exist.
pub(crate) fn read(group: &Path, file: &str) -> Option<String> {
    String::from_utf8(proc::read_bounded(&group.join(file))?).ok()
}

/// The text of a file that holds one number.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A number in a text of lines `key number`.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The groups right inside a group.
pub(crate) fn inside(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let dirs = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    dirs.map(|e| e.path()).take(limits::WALK_PROCESSES).collect()
}

/// Every group of this name in the tree that `group` is part of.
pub(crate) fn named(group: &Path, name: &str) -> Vec<PathBuf> {
    fn collect(group: &Path, name: &str, depth: u32, found: &mut Vec<PathBuf>) {
        for inner in inside(group) {
            if inner.file_name().is_some_and(|n| n == name) {
                found.push(inner);
            } else if depth > 0 {
                collect(&inner, name, depth.saturating_sub(1), found);
            }
        }
    }
    let is_group = |dir: &&Path| dir.join("cgroup.procs").exists();
    let mut found = Vec::new();
    if let Some(top) = group.ancestors().take_while(is_group).last() {
        collect(top, name, limits::GROUP_DEPTH, &mut found);
    }
    found
}

/// The processes of a group and of the groups inside it.
pub(crate) fn processes(group: &Path) -> Vec<u32> {
    fn collect(group: &Path, depth: u32, found: &mut Vec<u32>) {
        let text = read(group, "cgroup.procs").unwrap_or_default();
        found.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()));
        if depth > 0 {
            inside(group).iter().for_each(|g| collect(g, depth.saturating_sub(1), found));
        }
    }
    let mut found = Vec::new();
    collect(group, limits::GROUP_DEPTH, &mut found);
    found
}

/// Removes a group and those inside it. A group that just lost its last process may be busy for a moment.
pub(crate) fn remove(group: &Path) -> io::Result<()> {
    remove_to(group, limits::GROUP_DEPTH)
}

fn remove_to(group: &Path, depth: u32) -> io::Result<()> {
    let mut last = Ok(());
    for attempt in 0..20_u64 {
        last = match fs::remove_dir(group) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(()) => return Ok(()),
            Err(e) => Err(e),
        };
        if attempt == 0 && depth > 0 {
            for inner in inside(group) {
                remove_to(&inner, depth.saturating_sub(1))?;
            }
        } else {
            std::thread::sleep(Duration::from_millis(attempt.min(5)));
        }
    }
    last
}
