//! `GET /v1/tasks/{id}/result`: the bytes, with their media type.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, header};
use chitin_proto::http::Code;

use super::problem::{Answered, Oops, say};
use super::{Shared, lookup};

pub(crate) async fn get(State(face): State<Shared>, Path(id): Path<String>) -> Answered {
    let task = lookup::resolve(&face, &id).await?;
    let end = lookup::read(&face, move |reader| reader.result(task))
        .await?
        .ok_or_else(|| Oops::no_such_task(&id))?;
    let Some(result) = end.result else {
        return Err(if end.state.has_ended() {
            Oops::new(
                Code::Conflict,
                format!("the task has ended without a result: it is {}", say(end.state)),
            )
        } else {
            let detail =
                format!("the task is {}; wait for its end with ?wait_s= on the task", say(end.state));
            Oops::new(Code::NotFinished, detail)
        });
    };
    let mut response = Response::new(Body::from(result.body));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_str(&result.content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if result.truncated {
        headers.insert("chitin-result-truncated", HeaderValue::from_static("true"));
    }
    Ok(response)
}
