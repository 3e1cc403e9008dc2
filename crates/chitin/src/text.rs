//! Text that came from somebody else, made fit for a terminal: no control character reaches it, and commands read as
//! they would be typed.

use std::fmt::Write as _;

/// Everything a terminal would act on instead of showing it, written out. Includes the characters that reorder a line,
/// which can make a command look like another.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if acts_on_a_terminal(c) => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// JSON with the same characters as JSON escapes; what serde_json escapes by itself is only a part of them.
pub(crate) fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && acts_on_a_terminal(c) {
            // All of them lie in the basic plane: four digits are enough.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn acts_on_a_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A command as one would type it in a shell, escaped.
pub(crate) fn command_line(command: &[String]) -> String {
    let words: Vec<String> = command.iter().map(|word| quote(word)).collect();
    escape(&words.join(" "))
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// At most `width` characters, the last one an ellipsis if something was cut off.
pub(crate) fn truncate(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// `1 task`, `3 tasks`.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_is_left() {
        let nasty = "a\x1b[31mred\u{9b}2J\r\n\t\x07\u{202e}gpj.exe\x7f";
        assert_eq!(escape(nasty), r"a\u{1b}[31mred\u{9b}2J\r\n\t\u{7}\u{202e}gpj.exe\u{7f}");
        let json = serde_json::to_string(nasty).unwrap();
        let shown = escape_json(&json);
        assert!(!shown.chars().any(acts_on_a_terminal), "{shown:?}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), nasty);
    }

    #[test]
    fn a_command_reads_as_it_would_be_typed() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(command_line(&words(&["tar", "czf", "/tmp/a.tgz", "."])), "tar czf /tmp/a.tgz .");
        assert_eq!(command_line(&words(&["sh", "-c", "echo 'a'; ls", ""])), r"sh -c 'echo '\''a'\''; ls' ''");
        assert_eq!(command_line(&words(&["printf", "a\nb"])), r"printf 'a\nb'");
    }

    #[test]
    fn cutting_counts_characters() {
        assert_eq!(truncate("abcdef", 6), "abcdef");
        assert_eq!(truncate("äöüß", 3), "äö…");
        assert_eq!(truncate("abc", 0), "…");
        assert_eq!(count(1, "task"), "1 task");
        assert_eq!(count(0, "task"), "0 tasks");
    }
}
