//! The command line as clap reads it, and what becomes of its refusals: exit code 64, and our name in front.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::commands::{
    backup, bench, cancel, completions, config, doctor, down, events, gateway, logs, pause, ps, queues,
    restore, result, resume, retry, run, show, status, submit, token, up, wait,
};
use crate::failure::Failure;
use crate::paths::DataDir;
use crate::{exit, out};

/// A crash-proof task gateway: it says "accepted" only when the work is on disk, and runs it for as long as it takes.
#[derive(Debug, Parser)]
#[command(name = "chitin", version, max_term_width = 110, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  chitin run -- make test         run a command here; it goes on if this shell ends
  chitin submit -- ./nightly.sh   hand it in and go; prints its id
  chitin ps                       what waits and runs
  chitin logs -f ID               follow its output
  chitin down                     stop the gateway; what runs goes on running

Exit codes of run and wait: the command's own; 124 timed out; 125 chitin's own
trouble; 126 and 127 as a shell; 128+n signal n; 130 cancelled; 137 out of memory.
Others: 64 bad usage, 69 gateway unreachable, 75 refused for now, 1 anything else.";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Globals {
    /// Where the gateway lives [default: $CHITIN_DATA_DIR, else $XDG_STATE_HOME/chitin, else ~/.local/state/chitin]
    #[arg(long, global = true, value_name = "DIR", display_order = 900)]
    data_dir: Option<PathBuf>,
}

impl Globals {
    /// The data directory to use.
    pub(crate) fn data_dir(&self) -> Result<DataDir, Failure> {
        DataDir::find(self.data_dir.as_deref())
    }

    /// A command for the person to type, with the data directory if it was given.
    pub(crate) fn hint(&self, command: &str) -> String {
        match &self.data_dir {
            Some(dir) => format!("chitin {command} --data-dir {}", dir.display()),
            None => format!("chitin {command}"),
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(up::Up),
    Down(down::Down),
    Gateway(gateway::Gateway),
    Run(run::Run),
    Submit(submit::Submit),
    Ps(ps::Ps),
    Show(show::Show),
    Wait(wait::Wait),
    Result(result::ResultOf),
    Logs(logs::Logs),
    Events(events::Events),
    Cancel(cancel::Cancel),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Retry(retry::Retry),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Status(status::Status),
    Token(token::Token),
    Queues(queues::Queues),
    Doctor(doctor::Doctor),
    Config(config::Config),
    Bench(bench::Bench),
    Completions(completions::Completions),
}

/// Reads the command line of this process.
pub(crate) fn parse() -> Result<Cli, Failure> {
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Ok(()) => Failure::silent(0),
            Err(error) => out::closed(&error),
        },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            out::error_bytes(error.render().to_string().as_bytes());
            Failure::silent(exit::USAGE)
        }
        _ => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            out::error_bytes(format!("chitin: {text}").as_bytes());
            Failure::silent(exit::USAGE)
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("xample"), "`{}` has no examples", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
