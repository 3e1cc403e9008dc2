//! `chitin-chaos`: runs rows of faults against the real program and prints what came out; see the library.

use std::process::ExitCode;
use std::time::Duration;

use chitin_chaos::interrupt::{self, InCharge};
use chitin_chaos::planted::{self, BUGS, Found};
use chitin_chaos::report::{self, Outcome};
use chitin_chaos::rows::{self, Row};
use chitin_chaos::run::{self, Options};
use chitin_chaos::{Broken, Held, Program};
use clap::Parser;

/// Real binaries, real faults, counted trials.
#[derive(Debug, Parser)]
#[command(name = "chitin-chaos", version, max_term_width = 110)]
struct Args {
    /// Rows to run, as 1,2,10a [default: all]
    #[arg(long, value_delimiter = ',', value_name = "ROWS")]
    rows: Vec<String>,
    /// Trials of each row [default: a few]
    #[arg(long, value_name = "N")]
    trials: Option<u32>,
    /// The first session's seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The longest outage that is no failure, in milliseconds
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    outage: u64,
    /// How long a reader holds its transaction, in seconds
    #[arg(long, default_value_t = 60, value_name = "S")]
    hold: u64,
    /// How much a command says that says too much, in megabytes; 10000 takes a minute
    #[arg(long, default_value_t = 200, value_name = "MB", value_parser = clap::value_parser!(u64).range(50..=100_000))]
    flood: u64,
    /// Keep the folders of all gateways
    #[arg(long)]
    keep: bool,
    /// Show that planted bugs are found: all, or those named
    #[arg(long, value_delimiter = ',', num_args = 0.., value_name = "BUGS", conflicts_with_all = ["rows", "trials"])]
    planted: Option<Vec<String>>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // The trials run in a second process, which ends in good order when this one is interrupted.
    match interrupt::in_charge() {
        Ok(InCharge::Parent(code)) => return code,
        Ok(InCharge::Child) => {}
        Err(error) => {
            say(&format!("chitin-chaos: {error}\n"));
            return ExitCode::FAILURE;
        }
    }
    match chaos(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("chitin-chaos: {error}\n"));
            ExitCode::from(64)
        }
    }
}

#[expect(clippy::print_stdout, reason = "what a command line is for")]
fn say(text: &str) {
    print!("{text}");
}

/// A long run is watched: each row as it ends.
#[expect(clippy::print_stderr, reason = "what a command line is for")]
fn progress(line: &str) {
    eprint!("{line}");
}

fn chaos(args: &Args) -> Held<bool> {
    let rows = selected(&args.rows)?;
    let program = Program::build()?;
    let options = Options {
        trials: args.trials,
        seed: args.seed,
        outage_bound: Duration::from_millis(args.outage),
        hold: Duration::from_secs(args.hold),
        flood_bytes: args.flood * 1_000_000,
        keep: args.keep,
        ..Options::default()
    };
    if let Some(names) = &args.planted {
        return look_for_planted(names, &program, &options);
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    for row in rows {
        let outcome = run::row(row, &program, &options);
        progress(&report::line(&outcome));
        outcomes.push(outcome);
    }
    say(&if args.json { format!("{:#}\n", report::json(&outcomes)) } else { report::table(&outcomes) });
    Ok(outcomes.iter().all(|outcome| outcome.failures.is_empty()))
}

fn look_for_planted(names: &[String], program: &Program, options: &Options) -> Held<bool> {
    if let Some(unknown) = names.iter().find(|name| !BUGS.iter().any(|bug| bug.name == **name)) {
        return Err(Broken::new(format!("no planted bug is called {unknown}")));
    }
    let wanted = BUGS.iter().filter(|bug| names.is_empty() || names.iter().any(|name| name == bug.name));
    let found: Vec<Found> = wanted.map(|bug| planted::look_for(bug, program, options)).collect();
    say(&planted::table(&found));
    Ok(found.iter().all(Found::is_good))
}

fn selected(names: &[String]) -> Held<Vec<&'static Row>> {
    if names.is_empty() {
        return Ok(rows::ROWS.iter().collect());
    }
    names
        .iter()
        .map(|name| rows::find(name).ok_or_else(|| Broken::new(format!("no row is called {name}"))))
        .collect()
}
