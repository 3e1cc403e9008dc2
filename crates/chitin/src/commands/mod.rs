//! The commands, one file each. Each has its arguments, with examples for `--help`, and one function that does it and
//! gives the exit code.

pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod events;
pub(crate) mod gateway;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod ps;
pub(crate) mod queues;
pub(crate) mod restore;
pub(crate) mod result;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod wait;

mod tasks;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

/// Does what was asked for; gives the exit code.
pub(crate) fn dispatch(cli: Cli) -> Result<u8, Failure> {
    let globals = &cli.globals;
    match cli.command {
        Command::Up(command) => up::up(&command, globals),
        Command::Down(command) => down::down(&command, globals),
        Command::Gateway(command) => gateway::gateway(&command, globals),
        Command::Run(command) => run::run(&command, globals).map_err(Failure::beside_a_command),
        Command::Submit(command) => submit::submit(&command, globals),
        Command::Ps(command) => ps::ps(&command, globals),
        Command::Show(command) => show::show(&command, globals),
        Command::Wait(command) => wait::wait(&command, globals).map_err(Failure::beside_a_command),
        Command::Result(command) => result::result(&command, globals),
        Command::Logs(command) => logs::logs(&command, globals),
        Command::Events(command) => events::events(&command, globals),
        Command::Cancel(command) => cancel::cancel(&command, globals),
        Command::Pause(command) => pause::pause(&command, globals),
        Command::Resume(command) => resume::resume(&command, globals),
        Command::Retry(command) => retry::retry(&command, globals),
        Command::Backup(command) => backup::backup(&command, globals),
        Command::Restore(command) => restore::restore(&command, globals),
        Command::Status(command) => status::status(&command, globals),
        Command::Token(command) => token::token(&command, globals),
        Command::Queues(command) => queues::queues(&command, globals),
        Command::Doctor(command) => doctor::doctor(&command, globals),
        Command::Config(command) => config::config(&command, globals),
        Command::Bench(command) => bench::bench(&command),
        Command::Completions(command) => completions::completions(&command),
    }
}
