//! The async runtime of the commands that talk to the gateway: one thread, made when it is needed, because most of what
//! `chitin run` takes before the task is submitted is starting up.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

use crate::failure::Failure;

/// A runtime on this thread.
pub(crate) fn build() -> Result<Runtime, Failure> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start the async runtime: {error}")))
}

/// Runs one future to its end. A write that nobody takes must not keep the process: what then still blocks is left.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = build()?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}
