//! The names of things. Each is a type of its own, so that no number is taken for another.

use std::fmt;

/// A task's public id: a UUIDv7, made where the request is read, so that the core needs no clock.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub [u8; 16]);

/// A fencing token: 128 random bits for each lease. Whoever reports with another token reports too late.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub [u8; 16]);

/// The admission sequence: grows by one for every accepted task. Order, age and cursors use it, never an id or a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(pub i64);

/// An attempt's number within its task, from 1; it goes on over rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptNo(pub u32);

/// Counts gateway lives. A gateway of a lower epoch may write nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub i64);

/// A queue, as the store numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub i64);

/// Who submitted: a token or a local user, as the store numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrincipalId(pub i64);

/// Ties an answer to the command it answers; meaningless outside one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u64);

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id: 32 hexadecimal digits, with or without hyphens")]
pub struct IdError;

impl TaskId {
    /// Reads the hyphenated or the plain form.
    ///
    /// # Errors
    /// Anything but 32 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        parse_hex(text.bytes().filter(|b| *b != b'-')).map(Self)
    }
}

impl Token {
    /// Reads 32 hexadecimal digits.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        parse_hex(text.bytes()).map(Self)
    }
}

fn parse_hex(mut digits: impl Iterator<Item = u8>) -> Result<[u8; 16], IdError> {
    let mut bytes = [0_u8; 16];
    for byte in &mut bytes {
        let (Some(high), Some(low)) = (digits.next().and_then(hex_value), digits.next().and_then(hex_value))
        else {
            return Err(IdError);
        };
        *byte = high << 4 | low;
    }
    if digits.next().is_some() { Err(IdError) } else { Ok(bytes) }
}

fn hex_digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Where each byte's two digits stand in an id's text; between them, hyphens.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'-'; 36];
        for (byte, at) in self.0.iter().zip(PLACES) {
            if let Some(digits) = text.get_mut(at..at + 2) {
                digits.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
            }
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Token {
    /// A token is a capability: its first digits are enough to tell two apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(3).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…")
    }
}

impl AttemptNo {
    /// The one after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Seq {
    /// The one after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_from_its_text() {
        let id = TaskId(*b"\x01\x90\xab\xcd\xef\x01\x72\x34\x89\xab\xcd\xef\x01\x23\x45\x67");
        assert_eq!(id.to_string(), "0190abcd-ef01-7234-89ab-cdef01234567");
        assert_eq!(TaskId::parse(&id.to_string()), Ok(id));
        assert_eq!(TaskId::parse(&id.to_string().replace('-', "")), Ok(id));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in
            ["", "0190", "0190abcd-ef01-7234-89ab-cdef0123456g", "0190abcd-ef01-7234-89ab-cdef012345678"]
        {
            assert_eq!(TaskId::parse(text), Err(IdError), "{text}");
        }
    }
}
