//! `docs/requirements.md`, the code that cites it, and the tests it names stay in step.

use std::collections::BTreeSet;

use super::{File, files, none, root};

const PAGE: &str = "docs/requirements.md";

/// How many clauses each chapter has; the last is a table, cited whole.
const CHAPTERS: &[(u32, u32)] = &[(0, 6), (1, 5), (2, 6), (3, 5), (4, 5), (5, 3), (6, 5)];
const TABLE: &str = "R7";

fn all_labels() -> Vec<String> {
    let clauses =
        CHAPTERS.iter().flat_map(|(chapter, last)| (1..=*last).map(move |at| format!("R{chapter}.{at}")));
    clauses.chain([TABLE.to_owned()]).collect()
}

/// Labels cited in a line: `R`, digits, and perhaps a dot and digits, as a word.
fn labels(line: &str) -> Vec<&str> {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in line.match_indices('R') {
        if line[..at].chars().next_back().is_some_and(part_of_word) {
            continue;
        }
        let digits = |from: usize| line[from..].bytes().take_while(u8::is_ascii_digit).count();
        let chapter = digits(at + 1);
        if chapter == 0 {
            continue;
        }
        let mut end = at + 1 + chapter;
        if line[end..].starts_with('.') {
            let clause = digits(end + 1);
            end += if clause > 0 { 1 + clause } else { 0 };
        }
        if !line[end..].chars().next().is_some_and(part_of_word) {
            found.push(&line[at..end]);
        }
    }
    found
}

/// One clause of the page.
struct Clause<'a> {
    label: &'a str,
    line: usize,
    body: Vec<&'a str>,
}

fn clauses(page: &File) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = Vec::new();
    for (at, line) in page.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            let (label, _) =
                heading.split_once(" — ").unwrap_or_else(|| panic!("{PAGE}:{at}: want `### R1.2 — title`"));
            clauses.push(Clause { label, line: at, body: Vec::new() });
        } else if !line.starts_with('#')
            && let Some(clause) = clauses.last_mut()
        {
            clause.body.push(line);
        }
    }
    clauses
}

#[test]
fn the_page_has_every_clause_once_and_in_order() {
    let page = File::read(PAGE);
    let found: Vec<_> = clauses(&page).iter().map(|clause| clause.label.to_owned()).collect();
    assert_eq!(found, all_labels());
}

#[test]
fn only_clauses_that_exist_are_cited() {
    let known: BTreeSet<_> = all_labels().into_iter().collect();
    let mut complaints = Vec::new();
    for file in files(&["rs", "md", "sql", "toml"]) {
        for (at, line) in file.lines() {
            for label in labels(line).into_iter().filter(|label| !known.contains(*label)) {
                complaints.push(format!("{}:{at}: {label} is no clause of {PAGE}", file.path));
            }
        }
    }
    none(complaints);
}

#[test]
fn every_clause_says_what_shows_it_and_those_tests_exist() {
    let page = File::read(PAGE);
    let mut complaints = Vec::new();
    for clause in clauses(&page) {
        let heads: Vec<_> = clause.body.iter().filter(|line| line.starts_with("Shown by:")).collect();
        let tests: Vec<_> =
            clause.body.iter().filter_map(|line| line.strip_prefix("- `")?.split_once('`')).collect();
        match heads.as_slice() {
            [head] if **head == "Shown by: not yet" && tests.is_empty() => {}
            [head] if **head == "Shown by:" && !tests.is_empty() => {}
            _ => complaints.push(format!(
                "{PAGE}:{}: {} wants `Shown by:` and a list of `path::test`, or `Shown by: not yet`",
                clause.line, clause.label
            )),
        }
        for (test, _) in tests {
            if !exists(test) {
                complaints.push(format!(
                    "{PAGE}:{}: {} names {test}, which is not there",
                    clause.line, clause.label
                ));
            }
        }
    }
    none(complaints);
}

/// `path/to/file.rs::name`, a function in that file.
fn exists(test: &str) -> bool {
    let Some((path, name)) = test.split_once("::") else { return false };
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
    text.contains(&format!("fn {name}(")) || text.contains(&format!("def {name}("))
}

#[test]
fn a_label_is_a_word() {
    // In pieces, so that this file cites nothing that does not exist.
    let line = concat!("(R", "1.2) and R", "7, R", "2.1. `R", "99` but R", "x, SR", "1, R", "2D2, R", "3_a");
    assert_eq!(labels(line), ["R1.2", "R7", "R2.1", concat!("R", "99")]);
}
