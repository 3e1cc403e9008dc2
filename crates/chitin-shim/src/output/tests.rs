//! Segments and interleave on a real folder.

use super::*;
use chitin_proto::shim::names;
use tempfile::TempDir;

fn spool() -> (TempDir, Spool) {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    (dir, spool)
}

fn read(dir: &TempDir, name: &str) -> Vec<u8> {
    std::fs::read(dir.path().join(name)).unwrap()
}

fn entries(dir: &TempDir) -> Vec<(u64, u64)> {
    read(dir, names::INTERLEAVE)
        .chunks(8)
        .map(|c| u64::from_le_bytes(c.try_into().unwrap()))
        .map(|e| (e & 1, e >> 1))
        .collect()
}

#[test]
fn head_and_tail_are_kept_exactly() {
    let (dir, spool) = spool();
    let mut output = Output::new(10);
    let all: Vec<u8> = (0..57).collect();
    for chunk in all.chunks(7) {
        output.take(&spool, 0, Which::Stdout, chunk);
    }
    let (stdout, _, _) = output.report();
    assert_eq!(stdout.total_bytes, 57);
    let places: Vec<_> = stdout.segments.iter().map(|s| (s.start, s.len)).collect();
    assert_eq!(places, [(0, 10), (40, 10), (50, 7)]);
    for s in &stdout.segments {
        let bytes = read(&dir, &names::segment("stdout", s.start));
        let from = usize::try_from(s.start).unwrap();
        assert_eq!(bytes, all[from..from + bytes.len()]);
        assert_eq!(s.crc32, crc32fast::hash(&bytes));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "the middle is gone");
}

#[test]
fn nothing_is_made_before_the_first_byte() {
    let (dir, spool) = spool();
    let mut output = Output::new(10);
    output.take(&spool, 0, Which::Stderr, b"");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_disk_that_refuses_costs_only_what_it_refused() {
    let (dir, spool) = spool();
    let mut output = Output::new(100);
    output.take(&spool, 0, Which::Stdout, b"before");
    // A segment cannot be made where something else has its name; the next one is due after the pause.
    let mut blocked = Segments::new("stderr", 4);
    std::fs::create_dir(dir.path().join("stderr.4")).unwrap();
    assert_eq!(blocked.take(&spool, 0, b"headlost"), 4);
    assert_eq!(blocked.take(&spool, limits_retry() - 1, b"lost"), 0, "not before the pause is over");
    assert_eq!(blocked.take(&spool, limits_retry(), b"back"), 0);
    let report = blocked.report();
    assert_eq!(report.total_bytes, 16);
    let places: Vec<_> = report.segments.iter().map(|s| (s.start, s.len)).collect();
    assert_eq!(places, [(0, 4), (12, 4)]);
    assert_eq!(read(&dir, "stderr.12"), b"back");
}

fn limits_retry() -> u64 {
    crate::limits::WRITE_RETRY_MS
}

#[test]
fn one_stream_alone_makes_no_interleave_file() {
    let (dir, spool) = spool();
    let mut output = Output::new(100);
    output.take(&spool, 0, Which::Stderr, b"abc");
    output.take(&spool, 0, Which::Stderr, b"def");
    assert_eq!(output.report().2, 0);
    assert!(!dir.path().join(names::INTERLEAVE).exists());
}

#[test]
fn the_order_of_receipt_is_coalesced() {
    let (dir, spool) = spool();
    let mut output = Output::new(100);
    for (which, bytes) in [
        (Which::Stderr, "ab"),
        (Which::Stderr, "c"),
        (Which::Stdout, "de"),
        (Which::Stdout, "f"),
        (Which::Stderr, "g"),
    ] {
        output.take(&spool, 0, which, bytes.as_bytes());
    }
    assert_eq!(entries(&dir), [(1, 3), (0, 3), (1, 1)]);
    assert_eq!(output.report().2, 24);
}

#[test]
fn the_order_is_recorded_for_the_heads_only() {
    let (dir, spool) = spool();
    let mut output = Output::new(4);
    output.take(&spool, 0, Which::Stdout, b"ab");
    output.take(&spool, 0, Which::Stderr, b"cd");
    output.take(&spool, 0, Which::Stdout, b"efgh");
    output.take(&spool, 0, Which::Stderr, b"i");
    assert_eq!(entries(&dir), [(0, 2), (1, 2), (0, 2)]);
}

#[test]
fn the_interleave_file_is_bounded() {
    let (_dir, spool) = spool();
    let mut output = Output::new(u64::MAX);
    for _ in 0..=crate::limits::INTERLEAVE_MAX_BYTES / 16 {
        output.take(&spool, 0, Which::Stdout, b"a");
        output.take(&spool, 0, Which::Stderr, b"b");
    }
    assert_eq!(output.report().2, crate::limits::INTERLEAVE_MAX_BYTES);
}
