//! Style as a test: what a reviewer would otherwise have to say again and again. These tests read the tree and run
//! none of it; they stand with the wire types because they need only this crate and the core.
//!
//! Each complaint names the place and what to do about it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test helpers, which clippy does not know as such"
)]

mod crates;
mod documents;
mod requirements;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/<name> below the root")
        .to_path_buf()
}

/// A text file of the repository.
struct File {
    /// From the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    fn has_extension(&self, extensions: &[&str]) -> bool {
        self.name().rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
    }

    /// Lines with their numbers, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }
}

/// Every file with one of these extensions, and `.ci/run`; not what is built, and not what git keeps.
fn files(extensions: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().expect("a file name in UTF-8");
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                if !matches!(name.as_str(), "target" | ".git") {
                    folders.push(path);
                }
                continue;
            }
            let from_root = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            let file = File { path: from_root, text: String::new() };
            if file.has_extension(extensions) || file.path == ".ci/run" {
                found.push(File::read(&file.path));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "nothing was read: these tests would hold for any tree");
    found
}

/// Fails with all complaints at once.
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
