//! `chitin doctor`: looks at everything a gateway needs from this machine, and says what to do about what is wrong. It
//! changes nothing, and works with and without a gateway.

mod checks;
mod watched;

use chitin_gateway::Config;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::exit;
use crate::failure::Failure;
use crate::out;
use crate::runtime;
use crate::style::{Colour, Style};
use crate::table::{self, Cell};

/// Check what a gateway needs from this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It exits with 1 if something is wrong, and with 0 if there are only warnings.

Examples:
  chitin doctor
  chitin doctor --json")]
pub(crate) struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    Warning,
    Wrong,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }

    fn colour(self) -> Colour {
        match self {
            Self::Ok => Colour::Green,
            Self::Warning => Colour::Yellow,
            Self::Wrong => Colour::Red,
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    verdict: Verdict,
    detail: String,
}

impl Finding {
    fn ok(detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, detail: detail.into() }
    }

    fn warning(detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, detail: detail.into() }
    }

    fn wrong(detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Wrong, detail: detail.into() }
    }
}

/// Runs all checks.
pub(crate) fn doctor(doctor: &Doctor, globals: &Globals) -> Result<u8, Failure> {
    let data_dir = globals.data_dir()?;
    let config = checks::config(&data_dir);
    let configured = config.as_ref().ok();
    // Where the configuration is not valid, by the defaults.
    let outlook =
        chitin_gateway::outlook(configured.unwrap_or(&Config::default()), checks::existing(data_dir.path()));
    let findings = [
        ("data directory", checks::data_dir(&data_dir)),
        ("file system", checks::file_system(&data_dir)),
        ("token", checks::token(&data_dir)),
        ("shim", checks::shim()),
        ("configuration", checks::configuration(&config)),
        ("isolation", checks::isolation(configured)),
        ("memory", watched::memory(&outlook)),
        ("free space", watched::disk(&outlook)),
        ("pressure", watched::pressure(&outlook)),
        ("descriptors", watched::descriptors(&outlook)),
        ("cache", runtime::block_on(async { Ok(checks::cache(configured).await) })?),
        ("gateway", runtime::block_on(async { Ok(checks::gateway(&data_dir).await) })?),
    ];
    if doctor.json {
        let checks: Vec<Value> = findings
            .iter()
            .map(|(check, finding)| {
                json!({ "check": check, "verdict": finding.verdict.word(), "detail": finding.detail })
            })
            .collect();
        out::json(&json!({ "checks": checks }))?;
    } else {
        let rows: Vec<Vec<Cell>> = findings
            .iter()
            .map(|(check, finding)| {
                let verdict = finding.verdict;
                vec![
                    Cell::new(check),
                    Cell::coloured(verdict.word(), Some(verdict.colour())),
                    Cell::new(&finding.detail),
                ]
            })
            .collect();
        // Not cut to the terminal's width: what to do stands at the end.
        let table = table::render(&["CHECK", "VERDICT", "DETAIL"], &rows, None, Style::of_stdout());
        out::bytes(table.as_bytes())?;
    }
    let worst = findings.iter().map(|(_, finding)| finding.verdict).max();
    Ok(if worst == Some(Verdict::Wrong) { exit::OTHER } else { 0 })
}
