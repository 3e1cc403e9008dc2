//! Seeds in, verdicts out: `chitin-sim --seeds 10000`. A failing seed is printed with what was not kept, the last of
//! what happened, and the command that does it again.

use std::io::{self, Write};
use std::process::ExitCode;

use chitin_sim::{Bug, Failure, Fault, Options, Run, StoreKind, Tally, run};
use clap::Parser;
use serde_json::json;

/// Runs chitin's own loop through made-up disasters, and looks whether it keeps its promises.
#[derive(Debug, Parser)]
#[command(name = "chitin-sim", version)]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    from: u64,
    /// One seed alone, with all that happens
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// What it runs on
    #[arg(long, value_enum, default_value_t)]
    store: StoreKind,
    /// Events with faults before the calm
    #[arg(long, default_value_t = Options::default().steps, value_name = "N")]
    steps: u64,
    /// Faults to leave out
    #[arg(long, value_delimiter = ',', value_name = "KIND", value_parser = fault)]
    without: Vec<Fault>,
    /// A bug to plant, to see it found
    #[arg(long, value_enum, value_name = "BUG")]
    bug: Option<Bug>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

fn fault(name: &str) -> Result<Fault, String> {
    let names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
    let found = Fault::ALL.iter().find(|fault| fault.name() == name).copied();
    found.ok_or_else(|| format!("one of {}", names.join(", ")))
}

fn main() -> ExitCode {
    let args = Args::parse();
    match simulate(&args) {
        Ok(true) => ExitCode::SUCCESS,
        // A closed output is somebody's wish to see no more; a failed seed is not.
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// Whether every seed kept every promise.
fn simulate(args: &Args) -> io::Result<bool> {
    let options = Options {
        store: args.store,
        steps: args.steps,
        without: args.without.clone(),
        bug: args.bug,
        keep_trace: args.seed.is_some() && !args.json,
    };
    let seeds = args.seed.map_or(args.from..args.from.saturating_add(args.seeds), |seed| seed..seed + 1);
    let mut tally = Tally::default();
    let mut ran: u64 = 0;
    for seed in seeds {
        let done = run(seed, &options);
        ran += 1;
        tally.add(&done.tally);
        if let Some(failure) = &done.failure {
            if args.json {
                writeln!(io::stdout(), "{}", failed_json(args, seed, failure, &done))?;
            } else {
                failed(args, seed, failure, &done)?;
            }
            return Ok(false);
        }
        if options.keep_trace {
            done.trace.iter().try_for_each(|line| writeln!(io::stdout(), "{line}"))?;
            writeln!(io::stdout(), "trace {:016x}", done.trace_hash)?;
        }
    }
    if args.json {
        writeln!(io::stdout(), "{}", passed_json(ran, &tally))?;
    } else {
        passed(ran, &tally)?;
    }
    Ok(true)
}

fn passed(ran: u64, tally: &Tally) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{ran} seeds, none failed")?;
    writeln!(
        out,
        "{} events, {} commits, {} outputs, {} gateway lives",
        tally.events, tally.commits, tally.outputs, tally.lives
    )?;
    for (fault, count) in &tally.faults {
        writeln!(out, "  {:<12} {count:>10}", fault.name())?;
    }
    Ok(())
}

fn failed(args: &Args, seed: u64, failure: &Failure, done: &Run) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in &done.trace {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "seed {seed} failed: {}", failure.invariant)?;
    writeln!(out, "  {}", failure.detail)?;
    writeln!(out, "again: {}", command(args, seed))
}

/// What does it again.
fn command(args: &Args, seed: u64) -> String {
    let mut command = format!("cargo run --release -p chitin-sim -- --seed {seed} --steps {}", args.steps);
    let store = match args.store {
        StoreKind::Model => "",
        StoreKind::Sqlite => " --store sqlite",
        StoreKind::Both => " --store both",
    };
    command.push_str(store);
    if !args.without.is_empty() {
        let names: Vec<_> = args.without.iter().map(|fault| fault.name()).collect();
        command.push_str(&format!(" --without {}", names.join(",")));
    }
    if let Some(bug) = args.bug.as_ref().and_then(clap::ValueEnum::to_possible_value) {
        command.push_str(&format!(" --bug {}", bug.get_name()));
    }
    command
}

fn counts(tally: &Tally) -> serde_json::Value {
    let faults: serde_json::Map<_, _> =
        tally.faults.iter().map(|(fault, count)| (fault.name().to_owned(), json!(count))).collect();
    json!({
        "events": tally.events,
        "commits": tally.commits,
        "outputs": tally.outputs,
        "lives": tally.lives,
        "faults": faults,
    })
}

fn passed_json(ran: u64, tally: &Tally) -> serde_json::Value {
    json!({ "seeds": ran, "failed": null, "tally": counts(tally) })
}

fn failed_json(args: &Args, seed: u64, failure: &Failure, done: &Run) -> serde_json::Value {
    json!({
        "failed": seed,
        "invariant": failure.invariant,
        "detail": failure.detail,
        "trace": done.trace,
        "again": command(args, seed),
        "tally": counts(&done.tally),
    })
}
