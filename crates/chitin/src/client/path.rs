//! Parts of a request's target. What people type becomes a part of a path only here.

use std::fmt::Write as _;

use crate::failure::Failure;

/// The length of a whole id.
const ID_CHARS: usize = 36;

/// An id or the beginning of one; refused here if it can be neither.
pub(crate) fn check_id(id: &str) -> Result<String, Failure> {
    let hexadecimal = id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if id.is_empty() || id.len() > ID_CHARS || !hexadecimal {
        return Err(Failure::usage(format!(
            "`{id}` is not a task's id; allowed: an id as `chitin ps` shows it"
        )));
    }
    Ok(id.to_ascii_lowercase())
}

/// One segment of a path, or one value of a query, percent-encoded.
pub(crate) fn escape_segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'~')
            || (byte == b'.' && text.len() > 2)
        {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// A target with a query.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    target: String,
    empty: bool,
}

impl Query {
    /// A path without a query.
    pub(crate) fn new(path: impl Into<String>) -> Self {
        Self { target: path.into(), empty: true }
    }

    /// With one more parameter.
    #[must_use]
    pub(crate) fn and(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.target.push(if self.empty { '?' } else { '&' });
        self.target.push_str(name);
        self.target.push('=');
        self.target.push_str(&escape_segment(value.as_ref()));
        self.empty = false;
        self
    }

    /// With one more parameter, if there is a value.
    #[must_use]
    pub(crate) fn and_maybe(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.and(name, value),
            None => self,
        }
    }

    /// The whole target.
    pub(crate) fn target(self) -> String {
        self.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_become_paths() {
        assert_eq!(check_id("0198ABcd-1").unwrap(), "0198abcd-1");
        for wrong in ["", "..", "../x", "0198 ", "0198g", "0198?x=1", &"0".repeat(37)] {
            let failure = check_id(wrong).unwrap_err();
            assert_eq!(failure.exit, 64);
            assert!(
                failure
                    .message
                    .unwrap()
                    .ends_with("is not a task's id; allowed: an id as `chitin ps` shows it")
            );
        }
    }

    #[test]
    fn values_cannot_leave_their_place() {
        assert_eq!(escape_segment("a/b?c&d=e f.g"), "a%2Fb%3Fc%26d%3De%20f.g");
        assert_eq!(escape_segment(".."), "%2E%2E");
        let query =
            Query::new("/v1/tasks").and("tag", "a&b").and_maybe("queue", None::<&str>).and("limit", "1");
        assert_eq!(query.target(), "/v1/tasks?tag=a%26b&limit=1");
    }
}
