//! What a task may be (R2.3). Each check names the field, what was wrong and what is allowed; a [`TaskSpec`] exists
//! only in valid form.

use crate::Due;
use crate::io::Millis;
use crate::rows::{Payload, Policy};
use crate::time::{Deadline, Now};

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {detail}")]
pub struct Invalid {
    /// The field, as the client wrote it: `retry.backoff_s[2]`.
    pub field: String,
    /// What was wrong and what is allowed.
    pub detail: String,
}

impl Invalid {
    /// A refusal of `field`.
    #[must_use]
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// A valid priority, 0 to 9; 9 goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// If nobody says.
    pub const DEFAULT: Self = Self(5);
    /// The highest.
    pub const MAX: u8 = 9;

    /// # Errors
    /// Anything but 0 to 9.
    pub fn new(value: i64) -> Result<Self, Invalid> {
        u8::try_from(value).ok().filter(|p| *p <= Self::MAX).map(Self).ok_or_else(|| {
            Invalid::new("priority", format!("{value} is not a priority: 0 to 9 are allowed, 9 goes first"))
        })
    }

    /// As a number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

/// A valid queue name: 1 to 64 of `a-z 0-9 _ - .`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(String);

impl QueueName {
    /// The queue that always exists.
    pub const DEFAULT: &'static str = "default";

    /// # Errors
    /// Any other text.
    pub fn new(name: &str) -> Result<Self, Invalid> {
        let ok = (1..=64).contains(&name.len())
            && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'))
            && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if ok {
            Ok(Self(name.to_owned()))
        } else {
            Err(Invalid::new(
                "queue",
                "a queue's name is 1 to 64 characters of a-z, 0-9, `_`, `-` and `.`, and begins with a letter or digit",
            ))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// When a task may start first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Now,
    /// After a wait.
    After(Millis),
    /// At a wall time, milliseconds since the Unix epoch.
    At(i64),
}

impl Start {
    /// The moment, unless it is now.
    #[must_use]
    pub fn due(self, now: &Now) -> Option<Due> {
        match self {
            Self::Now => None,
            Self::After(delay_ms) => Some(Due::After(Deadline::after(now, delay_ms))),
            Self::At(wall_ms) => (wall_ms > now.wall_ms).then_some(Due::At(wall_ms)),
        }
    }
}

/// A task that may be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// Its queue.
    pub queue: QueueName,
    /// Its priority.
    pub priority: Priority,
    /// When it may start.
    pub start: Start,
    /// How it is run.
    pub policy: Policy,
    /// Its labels.
    pub tags: Vec<String>,
    /// What it is.
    pub payload: Payload,
}

/// The longest command line, in bytes: the kernel's bound for one argument is 128 KiB, for all of them and the
/// environment together 2 MiB at the usual stack limit (R2.3).
const MAX_ARGUMENT_BYTES: usize = 131_071;
const MAX_ARGUMENTS: usize = 10_000;
const MAX_TAGS: usize = 16;
const MAX_TAG_BYTES: usize = 128;
const MAX_PATH_BYTES: usize = 4_095;

/// Checks program and arguments.
///
/// # Errors
/// Nothing to run, or what no kernel would take.
pub fn check_command(command: &[String]) -> Result<(), Invalid> {
    if command.is_empty() {
        return Err(Invalid::new(
            "command",
            "the command is empty: give a program and its arguments, [\"program\", …]",
        ));
    }
    if command.first().is_some_and(String::is_empty) {
        return Err(Invalid::new("command[0]", "the program's name is empty"));
    }
    if command.len() > MAX_ARGUMENTS {
        return Err(Invalid::new(
            "command",
            format!("{} arguments; {MAX_ARGUMENTS} are allowed", command.len()),
        ));
    }
    for (at, argument) in command.iter().enumerate() {
        if argument.contains('\0') {
            return Err(Invalid::new(
                format!("command[{at}]"),
                "contains a NUL byte, which no argument can hold",
            ));
        }
        if argument.len() > MAX_ARGUMENT_BYTES {
            return Err(Invalid::new(
                format!("command[{at}]"),
                format!(
                    "{} bytes; the kernel takes {MAX_ARGUMENT_BYTES} for one argument: use `stdin` for data",
                    argument.len()
                ),
            ));
        }
    }
    Ok(())
}

/// Checks environment names and values.
///
/// # Errors
/// Names no environment can hold, and the ones chitin sets itself.
pub fn check_env<'a>(env: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(), Invalid> {
    let mut seen = std::collections::HashSet::new();
    for (name, value) in env {
        let field = || format!("env.{name}");
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Invalid::new(
                "env",
                format!("`{}` is no variable's name: not empty, no `=`, no NUL byte", name.escape_default()),
            ));
        }
        if value.contains('\0') {
            return Err(Invalid::new(field(), "contains a NUL byte, which no variable can hold"));
        }
        if name.len() + value.len() + 2 > MAX_ARGUMENT_BYTES {
            return Err(Invalid::new(
                field(),
                format!("the kernel takes {MAX_ARGUMENT_BYTES} bytes for one variable"),
            ));
        }
        if matches!(name, "CHITIN_TASK_ID" | "CHITIN_ATTEMPT" | "CHITIN_SOCKET" | "CHITIN_RESULT_FILE") {
            return Err(Invalid::new(field(), "is set by chitin itself"));
        }
        if !seen.insert(name) {
            return Err(Invalid::new(field(), "stands twice; each name once is allowed"));
        }
    }
    Ok(())
}

/// Checks the directory to run in. Whether it exists is seen when the attempt starts: it may be made until then.
///
/// # Errors
/// What is no absolute path.
pub fn check_cwd(cwd: &str) -> Result<(), Invalid> {
    if !cwd.starts_with('/') {
        return Err(Invalid::new("cwd", "an absolute path is needed, beginning with `/`"));
    }
    if cwd.contains('\0') {
        return Err(Invalid::new("cwd", "contains a NUL byte, which no path can hold"));
    }
    if cwd.len() > MAX_PATH_BYTES {
        return Err(Invalid::new("cwd", format!("{} bytes; a path has at most {MAX_PATH_BYTES}", cwd.len())));
    }
    Ok(())
}

/// Checks labels.
///
/// # Errors
/// Too many, too long, empty or double ones.
pub fn check_tags(tags: &[String]) -> Result<(), Invalid> {
    if tags.len() > MAX_TAGS {
        return Err(Invalid::new("tags", format!("{} tags; {MAX_TAGS} are allowed", tags.len())));
    }
    for (at, tag) in tags.iter().enumerate() {
        if tag.is_empty() || tag.len() > MAX_TAG_BYTES || tag.chars().any(char::is_control) {
            return Err(Invalid::new(
                format!("tags[{at}]"),
                format!("a tag is 1 to {MAX_TAG_BYTES} bytes of text without control characters"),
            ));
        }
        if tags.iter().take(at).any(|earlier| earlier == tag) {
            return Err(Invalid::new(format!("tags[{at}]"), "stands twice; each tag once is allowed"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn each_refusal_names_its_field() {
        let field = |checked: Result<(), Invalid>| checked.unwrap_err().field;
        assert_eq!(field(check_command(&[])), "command");
        assert_eq!(field(check_command(&strings(&[""]))), "command[0]");
        assert_eq!(field(check_command(&strings(&["a", "b\0"]))), "command[1]");
        assert_eq!(field(check_command(&["x".repeat(MAX_ARGUMENT_BYTES + 1)])), "command[0]");
        assert_eq!(field(check_env([("A", "1"), ("A", "2")])), "env.A");
        assert_eq!(field(check_env([("A=B", "1")])), "env");
        assert_eq!(field(check_env([("CHITIN_TASK_ID", "1")])), "env.CHITIN_TASK_ID");
        assert_eq!(field(check_cwd("here")), "cwd");
        assert_eq!(field(check_tags(&strings(&["a", "a"]))), "tags[1]");
        assert_eq!(field(check_tags(&strings(&["a\n"]))), "tags[0]");
        assert_eq!(Priority::new(10).unwrap_err().field, "priority");
        assert_eq!(Priority::new(-1).unwrap_err().field, "priority");
    }

    #[test]
    fn queue_names_are_plain() {
        for good in ["default", "a", "gpu-2", "x_y.z", &"q".repeat(64)] {
            assert!(QueueName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "ü", "a/b", &"q".repeat(65)] {
            assert!(QueueName::new(bad).is_err(), "{bad}");
        }
    }
}
