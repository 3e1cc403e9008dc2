//! The reference for running: `/bin/true` started and waited for by two threads, with nothing around it.

use std::thread;

use hdrhistogram::Histogram;

use super::Plan;
use super::child::spawn_true;
use super::figures::{Latency, Sample, ratio};
use super::load::{count, histogram, nanos};
use crate::clock;
use crate::failure::Failure;

/// As many as commands are run at a time.
const THREADS: usize = 2;

/// Processes a second.
pub(super) fn rate(plan: &Plan) -> Result<Sample, Failure> {
    let begun = clock::now();
    let one = || -> Result<Histogram<u64>, Failure> {
        let mut latency = histogram()?;
        while begun.elapsed() < plan.short() {
            plan.stop.check()?;
            let one = clock::now();
            spawn_true()?;
            latency.saturating_record(nanos(one.elapsed()));
        }
        Ok(latency)
    };
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let elapsed = begun.elapsed().as_secs_f64();
    let mut all = histogram()?;
    for result in results {
        let latency = result.map_err(|_| Failure::other("a thread of the measurement broke off"))??;
        all.add(latency).map_err(|error| Failure::other(format!("no histogram: {error}")))?;
    }
    Ok(Sample { rate: ratio(count(all.len()), elapsed), p50_ms: Some(Latency::of(&all).p50_ms) })
}
