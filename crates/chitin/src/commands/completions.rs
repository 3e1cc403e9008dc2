//! `chitin completions`: what a shell needs to complete our command line.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::out;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  chitin completions bash > ~/.local/share/bash-completion/completions/chitin
  chitin completions fish > ~/.config/fish/completions/chitin.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Prints completions.
pub(crate) fn completions(completions: &Completions) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Cli::command(), "chitin", &mut script);
    out::bytes(&script)?;
    Ok(0)
}
