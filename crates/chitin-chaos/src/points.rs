//! The folder that arms a test build: failpoints, planted bugs and told values, set and read while processes run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Held;
use crate::broken::During;
use crate::clock::until;

/// The folder's name in the environment of a test build.
pub(crate) const FOLDER: &str = "CHITIN_FAILPOINTS";

#[derive(Debug)]
pub(crate) struct Points {
    folder: PathBuf,
}

impl Points {
    pub(crate) fn new(folder: PathBuf) -> Held<Self> {
        fs::create_dir(&folder).during("make the folder of failpoints")?;
        Ok(Self { folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Sets what a point does, as `kill@1`; it counts from here on.
    pub(crate) fn arm(&self, point: &str, action: &str) -> Held {
        _ = fs::remove_file(self.folder.join(format!("{point}.hits")));
        self.write(point, action)
    }

    pub(crate) fn disarm(&self, point: &str) {
        _ = fs::remove_file(self.folder.join(point));
    }

    /// How often an armed point was met.
    pub(crate) fn hits(&self, point: &str) -> u64 {
        fs::metadata(self.folder.join(format!("{point}.hits"))).map_or(0, |meta| meta.len())
    }

    pub(crate) fn until_hit(&self, point: &str, times: u64) -> Held {
        until(&format!("the point {point} is met"), || Ok((self.hits(point) >= times).then_some(())))
    }

    pub(crate) fn plant(&self, bug: &str) -> Held {
        self.write(&format!("planted.{bug}"), "")
    }

    pub(crate) fn say(&self, name: &str, value: &str) -> Held {
        self.write(&format!("value.{name}"), value)
    }

    /// Whole or not at all: processes read at any instant.
    fn write(&self, name: &str, text: &str) -> Held {
        let draft = self.folder.join(".draft");
        fs::write(&draft, text).during("write a failpoint")?;
        fs::rename(&draft, self.folder.join(name)).during("set a failpoint")
    }
}
