//! Short ids: from a prefix to the task, and from a task to the shortest prefix that is its own.

use chitin_core::TaskId;
use rusqlite::{Connection, params};

use super::Reader;
use crate::StoreError;
use crate::error::sql;
use crate::write::{all, one};

/// No prefix is shown shorter: it would soon not be unique any more.
const SHORTEST: usize = 8;

/// So many candidates are named.
const CANDIDATES: usize = 5;

/// What a prefix stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// One task.
    One(TaskId),
    /// No task, or it is no prefix of an id.
    None,
    /// Several; the first few of them.
    Many(Vec<TaskId>),
}

const IN_RANGE: &str = "SELECT id FROM task WHERE id >= ?1 AND id <= ?2 ORDER BY id LIMIT 6";
const BEFORE: &str = "SELECT id FROM task WHERE id < ?1 ORDER BY id DESC LIMIT 1";
const AFTER: &str = "SELECT id FROM task WHERE id > ?1 ORDER BY id LIMIT 1";

impl Reader {
    /// The task whose id begins with `prefix`: 1 to 32 hexadecimal digits, hyphens or not.
    ///
    /// # Errors
    /// SQLite's.
    pub fn resolve_prefix(&self, prefix: &str) -> Result<Resolved, StoreError> {
        const STEP: &str = "resolve_prefix";
        let Some((first, last)) = range(prefix) else { return Ok(Resolved::None) };
        let mut found = all(&self.conn, IN_RANGE, STEP, params![first.0, last.0], |row| {
            row.get(0).map(TaskId).map_err(sql(STEP))
        })?;
        Ok(match found.as_slice() {
            [] => Resolved::None,
            [id] => Resolved::One(*id),
            _ => {
                found.truncate(CANDIDATES);
                Resolved::Many(found)
            }
        })
    }
}

/// The lowest and the highest id with the prefix.
fn range(prefix: &str) -> Option<(TaskId, TaskId)> {
    let digits: String = prefix.chars().filter(|digit| *digit != '-').collect();
    if !(1..=32).contains(&digits.len()) {
        return None;
    }
    let bound = |fill: &str| {
        let rest = fill.repeat(32_usize.saturating_sub(digits.len()));
        TaskId::parse(&format!("{digits}{rest}")).ok()
    };
    Some((bound("0")?, bound("f")?))
}

/// The digits of the shortest prefix that no other task shares, by its neighbours among all ids.
pub(super) fn short_prefix_len(conn: &Connection, id: TaskId) -> Result<usize, StoreError> {
    const STEP: &str = "short_prefix_len";
    let mut digits = SHORTEST;
    for text in [BEFORE, AFTER] {
        let neighbour: Option<[u8; 16]> = one(conn, text, STEP, [id.0], |row| row.get(0).map_err(sql(STEP)))?;
        if let Some(neighbour) = neighbour {
            digits = digits.max(common_digits(&id.0, &neighbour).saturating_add(1));
        }
    }
    Ok(digits.min(32))
}

fn common_digits(a: &[u8; 16], b: &[u8; 16]) -> usize {
    let mut same = 0;
    for (a, b) in a.iter().zip(b) {
        if a != b {
            return same + usize::from(a >> 4 == b >> 4);
        }
        same += 2;
    }
    same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_halves_of_bytes() {
        let id = |first: u8, second: u8| {
            let mut id = [0; 16];
            (id[0], id[1]) = (first, second);
            id
        };
        assert_eq!(common_digits(&id(0x12, 0), &id(0x22, 0)), 0);
        assert_eq!(common_digits(&id(0x12, 0), &id(0x13, 0)), 1);
        assert_eq!(common_digits(&id(0x12, 0x40), &id(0x12, 0x50)), 2);
        assert_eq!(common_digits(&id(0x12, 0x40), &id(0x12, 0x41)), 3);
        assert_eq!(common_digits(&[7; 16], &[7; 16]), 32);
    }

    #[test]
    fn a_prefix_spans_the_ids_that_begin_with_it() {
        let (first, last) = range("0190abC").unwrap();
        assert_eq!(first.to_string(), "0190abc0-0000-0000-0000-000000000000");
        assert_eq!(last.to_string(), "0190abcf-ffff-ffff-ffff-ffffffffffff");
        let whole = "0190abcd-ef01-7234-89ab-cdef01234567";
        assert_eq!(range(whole), Some((TaskId::parse(whole).unwrap(), TaskId::parse(whole).unwrap())));
        for bad in ["", "-", "xyz", "0190abcd-ef01-7234-89ab-cdef012345678", "ü"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}
