//! The breaker as a table, and random sequences of calls beside a model that is slow and plain.

use proptest::collection::vec;
use proptest::prelude::*;

use super::Called::{Failed, SaysNothing, Succeeded};
use super::*;

const POLICY: BreakerPolicy = BreakerPolicy { failures: 5, probe_after_ms: 60_000, probe_deadline_ms: 1_000 };

fn fail(breaker: &mut Breaker, now_ms: i64) -> Option<Change> {
    let ticket = breaker.call(now_ms).expect("it is closed");
    breaker.report(now_ms, ticket, Failed)
}

fn opened(at_ms: i64) -> Breaker {
    let mut breaker = Breaker::new(POLICY);
    for _ in 0..4 {
        assert_eq!(fail(&mut breaker, at_ms), None);
    }
    assert_eq!(fail(&mut breaker, at_ms), Some(Change::Opened));
    breaker
}

#[test]
fn five_failures_in_a_row_open_it_and_nothing_less() {
    let cases: &[(&[Called], &str)] = &[
        (&[Failed; 4], "closed"),
        (&[Failed; 5], "open"),
        (&[Failed, Failed, Failed, Failed, Succeeded, Failed, Failed, Failed, Failed], "closed"),
        (&[Failed, Failed, Succeeded, Failed, Failed, Failed, Failed, Failed], "open"),
        // Refusals for the caller's own fault neither count nor begin the count anew.
        (&[SaysNothing; 100], "closed"),
        (&[Failed, Failed, SaysNothing, Failed, Failed, SaysNothing, Failed], "open"),
    ];
    for (calls, state) in cases {
        let mut breaker = Breaker::new(POLICY);
        for called in *calls {
            let ticket = breaker.call(0).expect("it is closed");
            _ = breaker.report(0, ticket, *called);
        }
        assert_eq!(breaker.view(0).state, *state, "{calls:?}");
    }
}

#[test]
fn an_open_one_lets_one_probe_through_and_not_before_its_time() {
    let mut breaker = opened(7);
    assert_eq!(breaker.call(8), None);
    assert_eq!(breaker.probe(60_006), None);
    assert_eq!(breaker.next_probe_ms(60_006), Some(1));
    let probe = breaker.probe(60_007).expect("its time has come");
    assert_eq!(breaker.view(60_008).state, "half_open");
    assert_eq!((breaker.probe(60_008), breaker.call(60_008)), (None, None), "exactly one");
    assert_eq!(breaker.report(60_009, probe, Succeeded), Some(Change::Closed));
    assert_eq!(breaker.view(60_009).failures, 0, "the count begins anew");
    assert!(breaker.call(60_009).is_some());
}

#[test]
fn a_probe_that_fails_or_is_lost_is_followed_by_another_after_the_whole_wait() {
    let mut breaker = opened(0);
    let probe = breaker.probe(60_000).expect("its time has come");
    assert_eq!(breaker.report(60_500, probe, Failed), Some(Change::StaysOpen));
    assert_eq!(breaker.probe(120_499), None);
    let lost = breaker.probe(120_500).expect("its time has come");
    assert_eq!(breaker.view(121_499).state, "half_open");
    assert_eq!(breaker.view(121_500).state, "open", "its deadline has passed");
    assert_eq!(breaker.probe(181_499), None);
    let next = breaker.probe(181_500).expect("its time has come");
    assert_eq!(breaker.report(181_501, lost, Succeeded), None, "a lost one comes too late");
    assert_eq!(breaker.view(181_501).state, "half_open");
    assert_eq!(breaker.report(181_502, next, Succeeded), Some(Change::Closed));
    assert_eq!(breaker.view(181_502).opened, 1, "it has never closed in between");
}

#[test]
fn a_probe_that_says_nothing_may_be_repeated_at_once() {
    let mut breaker = opened(0);
    let probe = breaker.probe(60_000).expect("its time has come");
    assert_eq!(breaker.report(60_001, probe, SaysNothing), None);
    assert_eq!(breaker.call(60_001), None);
    assert!(breaker.probe(60_001).is_some());
}

#[test]
fn calls_of_an_earlier_phase_say_nothing() {
    let mut breaker = Breaker::new(POLICY);
    let (slow, slower) = (breaker.call(0).expect("closed"), breaker.call(0).expect("closed"));
    for _ in 0..5 {
        _ = fail(&mut breaker, 1);
    }
    assert_eq!(breaker.report(2, slow, Succeeded), None);
    assert_eq!(breaker.view(2).state, "open", "a late success does not close it");
    let probe = breaker.probe(60_001).expect("its time has come");
    assert_eq!(breaker.report(60_002, slower, Failed), None);
    assert_eq!(breaker.view(60_002).state, "half_open", "nor does a late failure pass for the probe's");
    assert_eq!(breaker.report(60_003, probe, Succeeded), Some(Change::Closed));
}

/// What happens to a breaker.
#[derive(Debug, Clone)]
enum Act {
    Wait(i64),
    Call,
    Probe,
    /// The n-th of the tickets that are out comes back.
    Report(usize, Called),
    /// The n-th is never heard of again.
    Lose(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let called = prop_oneof![Just(Failed), Just(Failed), Just(Succeeded), Just(SaysNothing)];
    prop_oneof![
        2 => (0_i64..400).prop_map(Act::Wait),
        4 => Just(Act::Call),
        2 => Just(Act::Probe),
        6 => (0_usize..4, called).prop_map(|(at, called)| Act::Report(at, called)),
        1 => (0_usize..4).prop_map(Act::Lose),
    ]
}

/// The same in other words: a list of what was heard since the phase began.
#[derive(Debug, Default)]
struct Model {
    row: u32,
    /// Since when it is open; and the probe that is out, by its time.
    open_since: Option<i64>,
    probe: Option<i64>,
    era: u32,
}

impl Model {
    fn pass(&mut self, now: i64) {
        if let Some(begun) = self.probe.filter(|begun| begun + 50 <= now) {
            (self.probe, self.open_since) = (None, Some(begun + 50));
            self.era += 1;
        }
    }
}

proptest! {
    #[test]
    fn any_sequence_goes_as_the_model_says(acts in vec(act(), 1..200)) {
        let policy = BreakerPolicy { failures: 3, probe_after_ms: 100, probe_deadline_ms: 50 };
        let (mut breaker, mut model, mut now) = (Breaker::new(policy), Model::default(), 0_i64);
        let mut out: Vec<(Ticket, u32)> = Vec::new();
        for act in acts {
            model.pass(now);
            match act {
                Act::Wait(ms) => now += ms,
                Act::Call => {
                    let ticket = breaker.call(now);
                    prop_assert_eq!(ticket.is_some(), model.open_since.is_none() && model.probe.is_none());
                    out.extend(ticket.map(|ticket| (ticket, model.era)));
                }
                Act::Probe => {
                    let due = model.probe.is_none() && model.open_since.is_some_and(|at| at + 100 <= now);
                    let ticket = breaker.probe(now);
                    prop_assert_eq!(ticket.is_some(), due);
                    if let Some(ticket) = ticket {
                        model.probe = Some(now);
                        model.era += 1;
                        out.push((ticket, model.era));
                    }
                }
                Act::Lose(at) if at < out.len() => drop(out.remove(at)),
                Act::Report(at, called) if at < out.len() => {
                    let (ticket, era) = out.remove(at);
                    _ = breaker.report(now, ticket, called);
                    if era == model.era {
                        match (called, model.probe.take()) {
                            (Succeeded, probe) => {
                                model.row = 0;
                                model.era += u32::from(probe.is_some());
                                model.open_since = None;
                            }
                            (Failed, None) => {
                                model.row += 1;
                                if model.row == 3 {
                                    model.open_since = Some(now);
                                    model.era += 1;
                                }
                            }
                            (Failed, Some(_)) => {
                                model.open_since = Some(now);
                                model.era += 1;
                            }
                            (SaysNothing, None) => {}
                            (SaysNothing, Some(_)) => {
                                model.open_since = Some(now - 100);
                                model.era += 1;
                            }
                        }
                    }
                }
                Act::Lose(_) | Act::Report(..) => {}
            }
            model.pass(now);
            let expected = match (model.probe, model.open_since) {
                (Some(_), _) => "half_open",
                (None, Some(_)) => "open",
                (None, None) => "closed",
            };
            prop_assert_eq!(breaker.view(now).state, expected);
        }
    }
}
