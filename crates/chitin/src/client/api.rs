//! The calls that several commands make, by name.

use std::time::Duration;

use chitin_proto::http::{MAX_WAIT_S, Submitted, TaskView};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{CallError, Client, FOLLOW, LOOK, Patience, Query, Request, SUBMIT, backoff};
use crate::exit;
use crate::failure::Failure;

/// How often in a row an answer may break off in its body. Each time the gateway was there and went away.
const MAX_BROKEN_BODIES: u32 = 10;

impl Client {
    /// JSON, as it was answered. Asked for again if the body breaks: every call here may be repeated.
    pub(crate) async fn read(&self, request: &Request, patience: &Patience) -> Result<Value, Failure> {
        let mut losses = 0_u32;
        loop {
            match self.try_call(request, patience).await?.json().await {
                Err(CallError::Lost { .. }) if losses < MAX_BROKEN_BODIES => losses += 1,
                result => return Ok(result?),
            }
            tokio::time::sleep(backoff(losses)).await;
        }
    }

    /// Hands in a task. A lost answer is asked for again with the same key, so there is one task however often it is sent.
    pub(crate) async fn submit(&self, body: Vec<u8>, key: String) -> Result<Submitted, Failure> {
        Ok(shape(self.read(&Request::post("/v1/tasks", body).key(key), &SUBMIT).await?)?)
    }

    /// A task as it is.
    pub(crate) async fn task(&self, id: &str) -> Result<Value, Failure> {
        self.read(&Request::get(format!("/v1/tasks/{id}")), &LOOK).await
    }

    /// Waits for a task's end, however long it takes. The gateway may restart meanwhile.
    pub(crate) async fn ended(&self, id: &str) -> Result<(Value, TaskView), Failure> {
        let target = Query::new(format!("/v1/tasks/{id}")).and("wait_s", MAX_WAIT_S.to_string()).target();
        let request = Request::get(target).waits(Duration::from_secs(MAX_WAIT_S));
        loop {
            let json = self.read(&request, &FOLLOW).await?;
            let task: TaskView = shape(json.clone())?;
            if exit::of_task(&task).is_some() {
                return Ok((json, task));
            }
            // An answer that came early (a gateway that stops) must not become a busy loop.
            tokio::time::sleep(backoff(1)).await;
        }
    }
}

/// JSON as what it should be.
pub(crate) fn shape<T: DeserializeOwned>(json: Value) -> Result<T, CallError> {
    serde_json::from_value(json).map_err(|error| CallError::Garbled { what: error.to_string() })
}
