//! The backups that a data directory knows of: `backups.json` beside the database, because a damaged database is when
//! they are asked for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Backup;
use crate::data_dir::names;

/// So many are remembered, the newest first: a nightly backup for most of a month.
const MOST: usize = 24;

/// A backup that was taken once. The file may be gone since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The file.
    pub path: PathBuf,
    /// When it was taken, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Its size.
    pub bytes: u64,
    /// Tasks in it.
    pub tasks: u64,
}

impl Known {
    /// When it was taken, for people.
    #[must_use]
    pub fn taken_at(&self) -> String {
        let at = jiff::Timestamp::from_millisecond(self.at_ms).unwrap_or_default();
        format!("{at:.0}")
    }
}

#[derive(Default, Serialize, Deserialize)]
struct List {
    backups: Vec<Known>,
}

/// Puts a backup at the top of the list, whole or not at all.
pub(crate) fn remember(data_dir: &Path, taken: &Backup, at_ms: i64) -> io::Result<()> {
    let mut list = read(data_dir);
    list.backups.retain(|known| known.path != taken.path);
    let Backup { path, bytes, tasks, .. } = taken.clone();
    list.backups.insert(0, Known { path, at_ms, bytes, tasks });
    list.backups.truncate(MOST);
    let draft = data_dir.join(format!("{}.draft", names::BACKUPS));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
    serde_json::to_writer_pretty(&mut file, &list)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&draft, data_dir.join(names::BACKUPS))?;
    File::open(data_dir)?.sync_all()
}

/// The newest one whose file is still as large as it was.
pub(crate) fn newest(data_dir: &Path) -> Option<Known> {
    let there = |known: &Known| fs::metadata(&known.path).is_ok_and(|found| found.len() == known.bytes);
    read(data_dir).backups.into_iter().find(there)
}

/// A list that cannot be read is no list: it only informs.
fn read(data_dir: &Path) -> List {
    let text = fs::read(data_dir.join(names::BACKUPS)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_is_still_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        assert_eq!(newest(data), None);
        let take = |name: &str, at_ms| {
            let path = data.join(name);
            fs::write(&path, name).unwrap();
            let bytes = u64::try_from(name.len()).unwrap();
            remember(data, &Backup { path, bytes, tasks: 1, logs_in_files: 0 }, at_ms).unwrap();
        };
        (0..30).for_each(|n| take(&format!("b{n}"), n));
        assert_eq!(read(data).backups.len(), MOST);
        assert_eq!(newest(data).unwrap().path, data.join("b29"));
        fs::remove_file(data.join("b29")).unwrap();
        fs::write(data.join("b28"), "something else").unwrap();
        assert_eq!(newest(data).unwrap().at_ms, 27);
        take("b20", 99);
        assert_eq!(newest(data).unwrap().at_ms, 99);
        assert_eq!(read(data).backups.iter().filter(|known| known.path.ends_with("b20")).count(), 1);
        fs::write(data.join(names::BACKUPS), "{").unwrap();
        assert_eq!(newest(data), None, "torn");
    }
}
