//! `chitin result`: a task's result, byte for byte.

use crate::cli::Globals;
use crate::client::{Client, LOOK, Request, check_id};
use crate::failure::Failure;
use crate::out;
use crate::runtime;

/// Print a task's result, byte for byte
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The result is the file CHITIN_RESULT_FILE if the command wrote one, else its standard output.

Examples:
  chitin result 0198c2f1
  chitin result 0198c2f1 > out.bin")]
pub(crate) struct ResultOf {
    /// The task; the beginning of an id is enough
    id: String,
}

/// Writes a result to standard output.
pub(crate) fn result(result: &ResultOf, globals: &Globals) -> Result<u8, Failure> {
    let id = check_id(&result.id)?;
    let client = Client::new(&globals.data_dir()?);
    runtime::block_on(async {
        let mut answer = client.call(&Request::get(format!("/v1/tasks/{id}/result")), &LOOK).await?;
        while let Some(chunk) = answer.chunk().await? {
            out::bytes(&chunk)?;
        }
        if answer.is_cut() {
            out::remark("this is the result's beginning: it was longer than what is kept");
        }
        Ok(0)
    })
}
