//! The bare stack: hyper's HTTP/1.1 and an axum router on the gateway's own kind of runtime, with one route that reads
//! a body and gives an answer of an accepted task's size. What of a gateway's rate is missing here, is ours.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::routing::post;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower_service::Service;

/// An answer as the gateway's, to the byte.
const ANSWER: &str = r#"{"id":"01980000-0000-7000-8000-000000000001","state":"queued"}"#;
const LOCATION: &str = "/v1/tasks/01980000-0000-7000-8000-000000000001";

/// More connections than any measurement opens.
const MAX_CONNECTIONS: usize = 4_096;

/// Serves on a free port of the loopback until the process ends; `ready` is told which.
///
/// # Errors
/// No runtime, or no port.
pub fn echo(ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    let runtime = crate::serve::runtime().map_err(io::Error::other)?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        ready(listener.local_addr()?);
        // On a worker, as the gateway's accept loops are.
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(listener));
        acceptor.join_next().await.map_or(Ok(()), |ended| ended.unwrap_or_else(|error| Err(error.into())))
    })
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    let app = Router::new().route("/v1/tasks", post(answer));
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        while connections.try_join_next().is_some() || connections.len() >= MAX_CONNECTIONS {
            if connections.len() >= MAX_CONNECTIONS {
                _ = connections.join_next().await;
            }
        }
        let app = app.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut app = app.clone();
            async move {
                Ok::<_, Infallible>(
                    app.call(request.map(Body::new)).await.unwrap_or_else(|never| match never {}),
                )
            }
        });
        connections.spawn(async move {
            // Whoever measures closes when it has enough.
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(_body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(ANSWER));
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(LOCATION));
    response
}
