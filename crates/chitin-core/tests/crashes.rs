//! Random lives: whatever order things happen in, and whenever the gateway or the machine dies, what was promised
//! holds at every moment, and everything comes to its end once the faults stop.
//!
//! A failure prints its shortest sequence of steps and is kept beside this file, to be run first from then on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::enum_variant_names,
    reason = "a test may; the lints only know the functions marked as tests"
)]

mod world;

use chitin_core::*;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use world::{Fate, World};

#[derive(Debug, Clone)]
enum Step {
    NewClient { keyed: bool, tasks: u8, kind: u8 },
    AskAgain(u8),
    Cancel(u8),
    Retry(u8),
    Delete(u8),
    PauseQueue(bool),
    PauseTask(u8, bool),
    Claims(u8),
    StartFails(u8),
    Ends { shim: u8, outcome: usize, put_back: bool },
    Reports(u8),
    ReportsAgain(u8),
    Recovers(u8),
    Commit(Fate),
    Crash { reboot: bool },
    Pass(i64),
    StepWall(i64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Fine),
        2 => (0..6_u8, any::<bool>()).prop_map(|(outputs, reboot)| Fate::DiesAfter { outputs, reboot }),
        1 => Just(Fate::RolledBack),
        1 => any::<(bool, bool)>().prop_map(|(happened, reboot)| Fate::Unknown { happened, reboot }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<u8>;
    prop_oneof![
        6 => (any::<bool>(), 1..4_u8, at()).prop_map(|(keyed, tasks, kind)| Step::NewClient { keyed, tasks, kind }),
        2 => at().prop_map(Step::AskAgain),
        2 => at().prop_map(Step::Cancel),
        2 => at().prop_map(Step::Retry),
        1 => at().prop_map(Step::Delete),
        1 => any::<bool>().prop_map(Step::PauseQueue),
        3 => (at(), any::<bool>()).prop_map(|(at, paused)| Step::PauseTask(at, paused)),
        8 => at().prop_map(Step::Claims),
        1 => at().prop_map(Step::StartFails),
        8 => (at(), 0..Outcome::ALL.len(), prop::bool::weighted(0.1))
            .prop_map(|(shim, outcome, put_back)| Step::Ends { shim, outcome, put_back }),
        8 => at().prop_map(Step::Reports),
        2 => at().prop_map(Step::ReportsAgain),
        4 => at().prop_map(Step::Recovers),
        16 => fate().prop_map(Step::Commit),
        1 => any::<bool>().prop_map(|reboot| Step::Crash { reboot }),
        4 => (0..3_000_i64).prop_map(Step::Pass),
        1 => (-300_000..300_000_i64).prop_map(Step::StepWall),
    ]
}

fn spec(kind: u8) -> TaskSpec {
    TaskSpec {
        queue: QueueName::new(if kind & 1 == 0 { "default" } else { "other" }).unwrap(),
        priority: Priority::new(i64::from(kind >> 1 & 7)).unwrap(),
        start: match kind >> 4 & 3 {
            0 => Start::After(700),
            _ => Start::Now,
        },
        policy: Policy {
            timeout_ms: None,
            ttl_ms: if kind >> 6 & 1 == 0 { 1_000_000_000 } else { 2_000 },
            retry: RetryPolicy {
                max: 2 * u32::from(kind >> 7),
                backoff_ms: vec![100, 400],
                jitter: Jitter::NONE,
            },
            memory_bytes: None,
            cpu_millis: None,
            pids: None,
            merge: false,
        },
        tags: Vec::new(),
        payload: Payload { command: r#"["true"]"#.to_owned(), ..Payload::default() },
    }
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::NewClient { keyed, tasks, kind } => {
            world.new_client(
                keyed,
                (0..tasks).map(|at| spec(kind.wrapping_add(at.wrapping_mul(37)))).collect(),
            );
        }
        Step::AskAgain(at) => world.ask_again(at),
        Step::Cancel(at) => world.by_hand(at, |to, id| Input::Cancel { to, id }),
        Step::Retry(at) => world.by_hand(at, |to, id| Input::Retry { to, id }),
        Step::Delete(at) => world.by_hand(at, |to, id| Input::Delete { to, id }),
        Step::PauseQueue(paused) => world.pause_queue(paused),
        Step::PauseTask(at, true) => world.by_hand(at, |to, id| Input::PauseTask { to, id, paused: true }),
        Step::PauseTask(at, false) => world.by_hand(at, |to, id| Input::PauseTask { to, id, paused: false }),
        Step::Claims(at) => world.shim_claims(at),
        Step::StartFails(at) => world.start_fails(at),
        Step::Ends { shim, outcome, put_back } => world.command_ends(shim, Outcome::ALL[outcome], put_back),
        Step::Reports(at) => world.shim_reports(at),
        Step::ReportsAgain(at) => world.send_again(at),
        Step::Recovers(at) => world.recovers(at),
        Step::Commit(fate) => world.commit(fate),
        Step::Crash { reboot } => world.crash(reboot),
        Step::Pass(ms) => world.pass_ms(ms),
        Step::StepWall(ms) => world.step_wall_ms(ms),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        // A thousand; PROPTEST_CASES asks for four times as many as it says.
        cases: 4 * ProptestConfig::default().cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_promise_survives_every_crash(steps in prop::collection::vec(step(), 1..160)) {
        let mut world = World::new();
        for step in steps {
            take(&mut world, step);
            world.check();
        }
        world.goes_on_to_the_end();
    }
}
