//! What every source file keeps to.

use super::{File, files, none};

/// Where one thing stops being one thing.
const MOST_LINES: usize = 500;

/// The one file that may.
const UNSAFE_FILE: &str = "crates/chitin-shim/src/sys.rs";

/// Unit tests that moved to a sibling: their module's own comment speaks for them.
fn is_test_module(file: &File) -> bool {
    file.name() == "tests.rs" || file.name().ends_with("_tests.rs")
}

#[test]
fn every_file_says_what_it_is() {
    let mut complaints = Vec::new();
    for file in files(&["rs"]).iter().filter(|file| file.name().ends_with(".rs")) {
        if !file.text.starts_with("//!") && !is_test_module(file) {
            complaints.push(format!(
                "{}: open with `//!`: what it owns, why it exists, where it stands",
                file.path
            ));
        }
    }
    none(complaints);
}

#[test]
fn no_file_is_too_long() {
    let mut complaints = Vec::new();
    for file in files(&["rs", "sql"]) {
        let lines = file.text.lines().count();
        if lines > MOST_LINES {
            complaints.push(format!(
                "{}: {lines} lines; past {MOST_LINES} something wants a name of its own",
                file.path
            ));
        }
    }
    none(complaints);
}

#[test]
fn unsafe_code_stands_in_one_file() {
    // In pieces, so that this file does not accuse itself.
    let word = concat!("un", "safe");
    let permission = format!("({word}_code");
    let mut complaints = Vec::new();
    for file in files(&["rs"]).iter().filter(|file| file.path != UNSAFE_FILE) {
        for (at, line) in file.lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let code = ["{", "fn", "impl", "extern", "trait"].iter().any(|next| {
                let phrase = format!("{word} {next}");
                line.split_once(&phrase).is_some_and(|(before, _)| !before.ends_with(['"', '`', '_']))
            });
            if code || line.contains(&permission) {
                complaints.push(format!("{}:{at}: only {UNSAFE_FILE} may hold {word} code", file.path));
            }
        }
    }
    none(complaints);
    assert!(File::read(UNSAFE_FILE).text.contains("// SAFETY"), "the rule names a file that exists");
}

#[test]
fn nothing_is_put_off_and_no_machine_is_named() {
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let folders = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];
    let mut complaints = Vec::new();
    for file in files(&["rs", "md", "sql", "toml", "py", "sh", "snap"]) {
        for (at, line) in file.lines() {
            for note in notes.iter().filter(|note| line.contains(**note)) {
                complaints.push(format!(
                    "{}:{at}: `{note}`: do it, or write down in the documents that it is not done",
                    file.path
                ));
            }
            // What a unit test makes up is a value, not a place.
            let places = folders.iter().filter(|_| !is_test_module(&file));
            for folder in places.filter(|folder| names_folder(line, folder)) {
                complaints.push(format!("{}:{at}: `{folder}` is a place on one machine", file.path));
            }
        }
    }
    none(complaints);
}

/// The folder as the beginning of a path, not as a part of another.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '>' | '}' | ']' | '*'))
    })
}

/// A limit that nothing asks for is a promise in the configuration that nobody keeps.
#[test]
fn every_limit_is_kept_by_somebody() {
    let sources = files(&["rs"]);
    let code: Vec<_> = sources
        .iter()
        .filter(|file| {
            file.path.contains("/src/") && !file.path.ends_with("/limits.rs") && !is_test_module(file)
        })
        .collect();
    let mut complaints = Vec::new();
    for bound in chitin_core::bounds() {
        let used = format!(".{}", bound.key);
        let is_used = code.iter().any(|file| {
            file.text.match_indices(&used).any(|(at, _)| {
                let after = file.text.get(at + used.len()..).and_then(|rest| rest.chars().next());
                !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
            })
        });
        if !is_used {
            complaints.push(format!("the limit `{}` is set and nowhere kept", bound.key));
        }
    }
    none(complaints);
}
