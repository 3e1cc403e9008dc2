//! `chitin config check`: reads the configuration as a gateway would, and shows what would be in force.

use std::path::PathBuf;

use crate::cli::Globals;
use crate::failure::{Failure, chain};
use crate::out;
use crate::paths;

/// Check the configuration
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  chitin config check --config ./chitin.toml")]
pub(crate) struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    Check(Check),
}

/// Check the configuration and print what would be in force, defaults included
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  chitin config check
  chitin config check --config ./chitin.toml")]
struct Check {
    /// The configuration [default: $CHITIN_CONFIG, else chitin.toml in the data directory]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Checks the configuration.
pub(crate) fn config(config: &Config, globals: &Globals) -> Result<u8, Failure> {
    let ConfigCommand::Check(check) = &config.command;
    let path = paths::config(check.config.as_deref())?;
    let effective = chitin_gateway::config::load(path.as_deref(), globals.data_dir()?.path())
        .map_err(|error| Failure::usage(chain(&error)))?;
    out::line("ok")?;
    out::line(effective.to_string().trim_end())?;
    Ok(0)
}
