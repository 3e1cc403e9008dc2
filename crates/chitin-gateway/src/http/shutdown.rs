//! `POST /v1/shutdown`: how `chitin down` ends the gateway.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use chitin_core::Dispatch;
use serde::Deserialize;

use super::guard::Caller;
use super::problem::Answered;
use super::submit::json;
use super::{Shared, accept, body};
use crate::stop::Mode;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "{\"mode\": \"leave\", \"drain\" or \"kill\"}")]
struct Shutdown {
    mode: Mode,
}

pub(crate) async fn post(
    State(face): State<Shared>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Answered {
    let body = body::read_json(&face, &caller, request, 1_000).await?;
    let Shutdown { mode } = accept::parse(&body.bytes)?;
    caller.must_own("stop the gateway")?;
    let running = face.hub.len();
    tracing::info!(?mode, running, "asked to stop");
    if mode != Mode::Leave {
        // Whoever sees from now on that it drains sees nothing begin that was not under way.
        face.engine.dispatch(Dispatch::Paused);
    }
    face.stop.ask(mode);
    Ok(json(StatusCode::OK, format!("{{\"mode\":\"{}\",\"running\":{running}}}", mode.as_str())))
}
