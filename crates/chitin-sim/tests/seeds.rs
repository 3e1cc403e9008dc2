//! The simulator's fixed set: seeds that keep every promise, on the model and on SQLite beside it; a seed that is the
//! same run twice; and planted bugs that are found.

use chitin_sim::{Bug, Options, StoreKind, run};

fn keep_every_promise(seeds: std::ops::Range<u64>, store: StoreKind) {
    let options = Options { store, steps: 600, ..Options::default() };
    for seed in seeds {
        let done = run(seed, &options);
        assert_eq!(done.failure, None, "seed {seed}, 600 steps: {:#?}", done.trace);
    }
}

#[test]
fn every_promise_is_kept_on_the_model() {
    keep_every_promise(0..300, StoreKind::Model);
}

#[test]
fn the_model_and_sqlite_answer_the_same() {
    keep_every_promise(0..25, StoreKind::Both);
}

#[test]
fn a_seed_is_the_same_run_on_any_store() {
    for seed in 0..5 {
        let hash = |store| run(seed, &Options { store, steps: 600, ..Options::default() }).trace_hash;
        let first = hash(StoreKind::Model);
        assert_eq!([first; 2], [hash(StoreKind::Model), hash(StoreKind::Sqlite)], "seed {seed}");
    }
    assert_ne!(run(0, &Options::default()).trace_hash, run(1, &Options::default()).trace_hash);
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        let options = Options { bug: Some(*bug), steps: 800, ..Options::default() };
        let is_found = |seed| run(seed, &options).failure.is_some();
        assert!((0..600).any(is_found), "{bug:?} is not found in 600 seeds");
    }
}
