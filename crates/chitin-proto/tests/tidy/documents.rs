//! Documents that repeat what the code says are compared with it.

use std::collections::BTreeSet;

use chitin_proto::http::CODES;

use super::{File, files, none, root};

#[test]
fn every_error_code_has_a_page_and_no_other_page_is_there() {
    let mut complaints = Vec::new();
    for code in CODES {
        let path = format!("docs/errors/{}.md", code.as_str());
        let text = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
        let opening = format!("# {}\n\n**{} {}.**", code.as_str(), code.status(), code.title());
        if !text.starts_with(&opening) {
            complaints.push(format!("{path}: must open with\n{opening}"));
        }
        for part in ["## Causes", "## What to do", "## Example"] {
            if !text.contains(part) {
                complaints.push(format!("{path}: has no `{part}`"));
            }
        }
        if !text.contains(&format!("\"code\": \"{}\"", code.as_str())) {
            complaints.push(format!("{path}: its example shows another code"));
        }
    }
    let known: BTreeSet<_> = CODES.iter().map(|code| format!("{}.md", code.as_str())).collect();
    for entry in std::fs::read_dir(root().join("docs/errors")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !known.contains(&name) {
            complaints.push(format!("docs/errors/{name}: no such code"));
        }
    }
    none(complaints);
}

#[test]
fn the_table_of_limits_is_the_codes() {
    let mut right = String::from(
        "| key | unit | default | from | to | serves | why |\n|---|---|---:|---:|---:|---|---|\n",
    );
    for bound in chitin_core::bounds() {
        let (default, min, max) = (grouped(bound.default), grouped(bound.min), grouped(bound.max));
        right.push_str(&format!(
            "| `{}` | {} | {default} | {min} | {max} | {} | {} |\n",
            bound.key, bound.unit, bound.label, bound.why
        ));
    }
    let page = File::read("docs/configuration.md");
    let (begin, end) = ("<!-- limits: begin -->\n", "<!-- limits: end -->");
    let table =
        page.text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map(|(table, _)| table);
    assert!(
        table == Some(right.as_str()),
        "docs/configuration.md: between `{}` and `{end}` must stand\n\n{right}",
        begin.trim()
    );
}

#[test]
fn the_table_of_events_is_the_codes() {
    let mut right = String::from("| name | what |\n|---|---|\n");
    for (name, what) in chitin_core::EventName::ALL {
        right.push_str(&format!("| `{}` | {what} |\n", name.as_str()));
    }
    let page = File::read("docs/events.md");
    let (begin, end) = ("<!-- events: begin -->\n", "<!-- events: end -->");
    let table =
        page.text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map(|(table, _)| table);
    assert!(
        table == Some(right.as_str()),
        "docs/events.md: between `{}` and `{end}` must stand\n\n{right}",
        begin.trim()
    );
}

/// `1_000_000`, as a configuration file may write it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

/// The variants of the core's `Output` with the sentence that says what happens when one is lost.
fn effects() -> Vec<(String, String)> {
    let source = File::read("crates/chitin-core/src/io.rs");
    let (_, rest) = source.text.split_once("\npub enum Output {\n").expect("the core's effects");
    let (body, _) = rest.split_once("\n}\n").expect("the end of the core's effects");
    let mut effects = Vec::new();
    let mut lost = String::new();
    for line in body.lines() {
        if let Some(sentence) = line.strip_prefix("    /// Lost: ") {
            lost = sentence.to_owned();
        } else if line.starts_with("    ") && line.as_bytes().get(4).is_some_and(u8::is_ascii_uppercase) {
            let name: String = line.trim().chars().take_while(|c| c.is_alphanumeric()).collect();
            effects.push((name, std::mem::take(&mut lost)));
        }
    }
    assert!(effects.len() > 1, "the core's effects are not found where they were");
    effects
}

#[test]
fn every_effect_is_listed_with_its_recovery() {
    let page = File::read("docs/effects.md");
    let mut complaints = Vec::new();
    for (name, lost) in effects() {
        if lost.is_empty() {
            complaints
                .push(format!("Output::{name}: its comment wants a line `Lost: …`: who makes up for it"));
        }
        let section = page.text.split_once(&format!("\n## {name}\n")).map_or("", |(_, rest)| rest);
        let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
        let sentence = format!("Lost: {lost}\n");
        if !section.contains(&sentence) {
            complaints.push(format!("{}: `## {name}` must contain the line\n{sentence}", page.path));
        }
    }
    let known: BTreeSet<_> = effects().into_iter().map(|(name, _)| name).collect();
    for name in page.text.lines().filter_map(|line| line.strip_prefix("## ")) {
        if !known.contains(name) {
            complaints.push(format!("{}: `{name}` is no effect of the core", page.path));
        }
    }
    none(complaints);
}

/// The text between two marks of a source file.
fn part<'a>(file: &'a File, begin: &str, end: &str) -> &'a str {
    let rest = file.text.split_once(begin).map(|(_, rest)| rest);
    let part = rest.and_then(|rest| rest.split_once(end)).map(|(part, _)| part);
    part.unwrap_or_else(|| panic!("{}: `{begin}` … `{end}` is not where it was", file.path))
}

#[test]
fn every_route_and_every_field_of_a_task_is_documented() {
    let page = File::read("docs/api.md");
    let mut complaints = Vec::new();
    let router = File::read("crates/chitin-gateway/src/http.rs");
    let routes: Vec<_> =
        router.text.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(routes.len() > 5, "the routes are not found where they were");
    for route in routes {
        if !page.text.contains(&format!(" {route}` |")) {
            complaints.push(format!("{}: the route `{route}` is missing", page.path));
        }
    }
    let request = File::read("crates/chitin-proto/src/http/request.rs");
    for line in part(&request, "pub struct TaskRequest {", "\n}\n").lines() {
        let name = line.trim().strip_prefix("pub ").and_then(|line| line.split(':').next());
        if let Some(name) = name.filter(|name| !page.text.contains(&format!("`{name}`"))) {
            complaints.push(format!("{}: the field `{name}` of a task is missing", page.path));
        }
    }
    none(complaints);
}

#[test]
fn every_command_is_documented() {
    let page = File::read("docs/cli.md");
    let cli = File::read("crates/chitin/src/cli.rs");
    let rows: Vec<_> = page.text.lines().filter(|line| line.starts_with("| `")).collect();
    let mut complaints = Vec::new();
    for line in part(&cli, "pub(crate) enum Command {", "\n}\n").lines() {
        let variant = line.trim().split(['(', ',', ' ']).next().unwrap_or_default();
        let name = variant.to_lowercase();
        let has_row =
            rows.iter().any(|row| [" ", "`"].iter().any(|end| row.contains(&format!("`{name}{end}"))));
        if variant.starts_with(|c: char| c.is_ascii_uppercase()) && !has_row {
            complaints.push(format!("{}: the command `{name}` has no row", page.path));
        }
    }
    none(complaints);
}

#[test]
fn records_of_decisions_are_whole() {
    let mut complaints = Vec::new();
    let records = files(&["md"]).into_iter().filter(|file| file.path.starts_with("docs/adr/"));
    for (at, record) in records.enumerate() {
        if !record.name().starts_with(&format!("{:04}-", at + 1)) {
            complaints.push(format!("{}: the numbers have a gap or a double before it", record.path));
        }
        for part in ["\n## Status\n", "\n## Context\n", "\n## Decision\n", "\n## Consequences\n"] {
            if !record.text.contains(part) {
                complaints.push(format!("{}: has no `{}`", record.path, part.trim()));
            }
        }
    }
    none(complaints);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut complaints = Vec::new();
    for file in files(&["md"]).iter().filter(|file| file.has_extension(&["md"])) {
        let folder = root().join(&file.path).parent().unwrap().to_path_buf();
        for (at, line) in file.lines() {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let target = target.split('#').next().unwrap_or_default();
                if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                    complaints.push(format!("{}:{at}: the link `{target}` leads nowhere", file.path));
                }
            }
        }
    }
    none(complaints);
}

#[test]
fn ci_runs_the_very_test_command_of_the_readme() {
    let readme = File::read("README.md");
    let commands: Vec<_> = readme.text.lines().filter(|line| line.starts_with("cargo test ")).collect();
    assert_eq!(commands.len(), 1, "README.md names one command that passes all tests: {commands:?}");
    let script = File::read(".ci/run");
    assert!(
        script.text.lines().any(|line| line.trim() == commands[0]),
        ".ci/run does not run `{}`",
        commands[0]
    );
}
