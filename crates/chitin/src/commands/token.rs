//! `chitin token`: the token that TCP clients need, from the data directory; no gateway has to run.

use std::io;

use crate::cli::Globals;
use crate::failure::Failure;
use crate::out;

/// Print the token for HTTP clients
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  curl -H \"Authorization: Bearer $(chitin token)\" http://127.0.0.1:7411/v1/status")]
pub(crate) struct Token {}

/// Prints the token.
pub(crate) fn token(_: &Token, globals: &Globals) -> Result<u8, Failure> {
    let path = globals.data_dir()?.admin_token();
    match std::fs::read_to_string(&path) {
        Ok(token) => out::line(token.trim())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::other(format!("there is no token yet at {}", path.display()))
                .hint(format!("the first start makes it: {}", globals.hint("up --detach"))));
        }
        Err(error) => return Err(Failure::other(format!("cannot read {}: {error}", path.display()))),
    }
    Ok(0)
}
