//! What an emulated machine said: short things on its console, one line each, and long ones on a second line.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::Held;
use crate::broken::During;

/// What the lives' scripts begin their lines with; in front of it stands the kernel's time.
const MARK: &str = "chitin: ";

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Said {
    short: Vec<String>,
    long: Vec<(String, String)>,
    /// The end of the console, for whoever reads of a failure.
    pub(crate) tail: String,
}

impl Said {
    pub(super) fn read(console: &Path, long: &Path) -> Self {
        let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).replace('\r', "");
        Self::of(&text(console), &text(long))
    }

    fn of(console: &str, long: &str) -> Self {
        let lines: Vec<&str> = console.lines().collect();
        let short = lines.iter().filter_map(|line| Some(line.split_once(MARK)?.1.to_owned()));
        // A line that was cut off by the reset has no end.
        let whole = long.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let named = whole.lines().filter_map(|line| line.split_once(' '));
        Self {
            short: short.collect(),
            long: named.map(|(name, text)| (name.to_owned(), text.trim_end().to_owned())).collect(),
            tail: lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n"),
        }
    }

    /// What follows this word, each time it was said.
    pub(crate) fn all<'s>(&'s self, word: &str) -> impl Iterator<Item = &'s str> {
        let follows = move |line: &'s String| line.strip_prefix(word).filter(|rest| starts_anew(rest));
        self.short.iter().filter_map(follows).map(str::trim)
    }

    /// What follows this word.
    pub(crate) fn one(&self, word: &str) -> Held<&str> {
        self.all(word).next().during(format!("it did not say `{word}`, but\n{}", self.tail))
    }

    pub(crate) fn has(&self, word: &str) -> bool {
        self.all(word).next().is_some()
    }

    /// Every long line of this name.
    pub(crate) fn told<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s str> {
        self.long.iter().filter(move |(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// The only long line of this name, as JSON.
    pub(crate) fn json(&self, name: &str) -> Held<Value> {
        let text = self.told(name).next().during(format!("it did not tell `{name}`, but\n{}", self.tail))?;
        serde_json::from_str(text).during(format!("{name}: {text}"))
    }
}

fn starts_anew(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_count() {
        let console =
            "boot\n[    2.1] chitin: ack a-1 x\r\n[ 2.2] chitin: acknowledged\n[    2.3] chitin: reset";
        let said = Said::of(&console.replace('\r', ""), "tasks {\"a\":1}\nruns a 1,\ntasks {\"b\":");
        assert_eq!(said.all("ack").collect::<Vec<_>>(), ["a-1 x"]);
        assert!(said.has("reset") && !said.has("rese"));
        assert_eq!(said.told("tasks").count(), 1);
        assert_eq!(said.json("tasks").unwrap(), serde_json::json!({"a": 1}));
        assert!(said.one("over").unwrap_err().to_string().contains("chitin: reset"));
    }
}
