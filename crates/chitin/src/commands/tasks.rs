//! What commands that take several ids share: each is tried, and the first failure decides the exit code.

use serde_json::Value;

use crate::cli::Globals;
use crate::client::{Client, LOOK, Request, check_id};
use crate::exit;
use crate::failure::Failure;
use crate::out;
use crate::runtime;

/// Posts an action for every id, and prints what became of it.
pub(super) fn act(
    ids: &[String],
    action: &str,
    globals: &Globals,
    said: impl Fn(&Value) -> String,
) -> Result<u8, Failure> {
    let ids = ids.iter().map(|id| check_id(id)).collect::<Result<Vec<_>, _>>()?;
    let client = Client::new(&globals.data_dir()?);
    runtime::block_on(async {
        let mut first = None;
        for id in ids {
            match client.read(&Request::post(format!("/v1/tasks/{id}/{action}"), ""), &LOOK).await {
                Ok(task) => out::line(&said(&task))?,
                // Without a gateway every one of them would fail alike.
                Err(failure) if failure.exit == exit::UNREACHABLE => return Err(failure),
                Err(failure) => {
                    let failure =
                        Failure { message: failure.message.map(|text| format!("{id}: {text}")), ..failure };
                    out::failure(&failure);
                    first = first.or(Some(failure.exit));
                }
            }
        }
        Ok(first.unwrap_or(0))
    })
}

/// A field that is text.
pub(super) fn field<'a>(task: &'a Value, name: &str) -> &'a str {
    task.get(name).and_then(Value::as_str).unwrap_or("?")
}
