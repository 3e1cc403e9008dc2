//! What every request passes before its route: Host and Origin, the token or the peer's user, and a place among the
//! requests in flight. Also where a panic ends: as an error answer for that request alone (R1.5).

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use axum::response::IntoResponse;
use chitin_proto::http::Code;
use http_body::Body as _;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tower_service::Service;

use super::Shared;
use super::budget::Share;
use super::line::{Answer, LARGE_ANSWER_BYTES, Line, Phase, ROOM_WAIT, Room};
use super::places::{ClientNo, Place};
use super::problem::{Answered, Oops, in_our_form};
use super::refusals::Bound;

/// The largest head of a request: nobody needs half of it.
pub(super) const MAX_HEAD_BYTES: usize = 32 * 1_024;
/// The most headers of a request.
pub(super) const MAX_HEADERS: usize = 64;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Over TCP: nobody yet, a token has to say.
    Tcp,
    /// Over the Unix socket: this user.
    Local {
        /// The user's id.
        uid: u32,
    },
}

/// Who asks, once known; fairness and idempotency are by this name, and bounds by its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller(pub(crate) Arc<str>, pub(crate) ClientNo);

impl Caller {
    /// Whoever has this token.
    pub(crate) fn token(name: &str, number: ClientNo) -> Self {
        Self(format!("token:{name}").into(), number)
    }

    /// The user the gateway runs as, or the administrator's token: for what is done to the gateway itself.
    pub(crate) fn must_own(&self, what: &str) -> Result<(), Oops> {
        if self.0.starts_with("uid:") || &*self.0 == "token:admin" {
            return Ok(());
        }
        Err(Oops::new(Code::Forbidden, format!("only the owner may {what}")))
    }
}

/// Who may ask.
#[derive(Debug)]
pub(crate) struct Access {
    /// Who has each token, and its SHA-256.
    pub(crate) tokens: Vec<(Caller, [u8; 32])>,
    /// The user the gateway runs as.
    pub(crate) uid: u32,
    /// The TCP port, for the Host header.
    pub(crate) port: Option<u16>,
}

impl Access {
    fn caller(&self, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Oops> {
        match peer {
            Peer::Local { uid } if *uid == self.uid || *uid == 0 => {
                let number = ClientNo(self.tokens.len() + usize::from(*uid != self.uid));
                Ok(Caller(format!("uid:{uid}").into(), number))
            }
            Peer::Local { uid } => Err(Oops::new(
                Code::Forbidden,
                format!("the socket is for user {} alone; you are user {uid}", self.uid),
            )),
            Peer::Tcp => self.by_token(headers),
        }
    }

    fn by_token(&self, headers: &HeaderMap) -> Result<Caller, Oops> {
        let refuse = |detail: &str| {
            Oops::new(Code::Unauthorized, detail)
                .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"chitin\""))
        };
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(refuse("send `Authorization: Bearer TOKEN`; `chitin token` prints the token"));
        };
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(token) = token else {
            return Err(refuse("the header Authorization is not `Bearer TOKEN`"));
        };
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        // Every token is compared, and each in constant time: the time tells nothing.
        let mut found = None;
        for (caller, sha256) in &self.tokens {
            if bool::from(sha256.ct_eq(&digest)) {
                found = Some(caller);
            }
        }
        found.cloned().ok_or_else(|| refuse("the token is not valid here"))
    }

    /// A browser that was tricked into asking names another host, or comes from another origin.
    fn check_origin(&self, peer: &Peer, uri: &Uri, headers: &HeaderMap) -> Result<(), Oops> {
        if *peer == Peer::Tcp {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            let host = host.or_else(|| uri.authority().map(|authority| authority.as_str()));
            if !host.is_some_and(|host| self.is_ours(host)) {
                return Err(Oops::new(Code::Forbidden, "the header Host does not name this gateway"));
            }
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let host = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
            if !host.is_some_and(|host| self.is_ours(host)) {
                return Err(Oops::new(Code::Forbidden, "the header Origin names another site"));
            }
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (host, Some(80)),
        };
        matches!(name, "127.0.0.1" | "localhost" | "[::1]") && port.is_some() && port == self.port
    }
}

/// The routes behind the guard, as a service for one connection.
#[derive(Clone)]
pub(crate) struct Guarded {
    face: Shared,
    routes: axum::Router,
    peer: Peer,
}

/// The same on the line it is reached by.
#[derive(Clone)]
pub(super) struct OnLine {
    guarded: Guarded,
    line: Arc<Line>,
}

impl Guarded {
    pub(super) fn on(self, line: Arc<Line>) -> OnLine {
        OnLine { guarded: self, line }
    }

    pub(crate) fn new(face: Shared, routes: axum::Router, peer: Peer) -> Self {
        Self { face, routes, peer }
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let face = Arc::clone(&self.face);
        let response = self.routed(request).await.unwrap_or_else(IntoResponse::into_response);
        in_our_form(response, &face.refusals)
    }

    async fn routed(self, mut request: Request<Body>) -> Answered {
        let Self { face, mut routes, peer } = self;
        check_head(request.uri(), request.headers())?;
        let open = matches!(request.uri().path(), "/healthz" | "/readyz");
        face.access.check_origin(&peer, request.uri(), request.headers())?;
        let mut held = None;
        if !open {
            let caller = face.access.caller(&peer, request.headers())?;
            // Whoever watches has a budget of their own, and whoever sends a body takes a place when it has arrived: both
            // by the route.
            if !watches(request.method(), request.uri()) && !sends(&request) {
                held = Some(place(&face, caller.1).await?);
            }
            request.extensions_mut().insert(caller);
        }
        let response = match Caught(AssertUnwindSafe(routes.call(request))).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(()) => return Err(Oops::internal("a route panicked")),
        };
        let response = room(&face, response).await;
        drop(held);
        response
    }
}

/// A large answer takes room until its reader has it; one whose room was taken before it was read is let through.
async fn room(face: &Shared, mut response: Response<Body>) -> Answered {
    let bytes = response.body().size_hint().exact().unwrap_or(0);
    if bytes > LARGE_ANSWER_BYTES && response.extensions().get::<Room>().is_none() {
        let room = Room::take(face, bytes, ROOM_WAIT).await?;
        response.extensions_mut().insert(room);
    }
    Ok(response)
}

fn check_head(uri: &Uri, headers: &HeaderMap) -> Result<(), Oops> {
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    if headers.len() <= MAX_HEADERS && target + lines.sum::<usize>() <= MAX_HEAD_BYTES {
        return Ok(());
    }
    Err(Oops::new(
        Code::HeadersTooLarge,
        format!(
            "a path and headers of at most {MAX_HEAD_BYTES} bytes together, and {MAX_HEADERS} headers, are allowed"
        ),
    ))
}

/// A place among the requests in flight.
pub(super) async fn place(face: &Shared, client: ClientNo) -> Result<Place, Oops> {
    let places = &face.budgets.requests;
    places.take(client).await.ok_or_else(|| {
        let most = places.most();
        Oops::refused(
            Bound::Requests,
            format!("{most} requests are in flight, or your share of them; try again"),
        )
    })
}

/// A place among those that wait or stream.
pub(super) fn watcher(face: &Shared, caller: &Caller) -> Result<Share, Oops> {
    face.budgets.watchers.take(caller.1, 1).ok_or_else(|| {
        let most = face.budgets.watchers.most();
        Oops::refused(
            Bound::Watchers,
            format!("{most} requests wait or stream already, or your share of them; try again"),
        )
    })
}

/// The request will wait for something to happen: the routes that do, and no other with their parameters.
fn watches(method: &Method, uri: &Uri) -> bool {
    if uri.path() == "/v1/events" {
        return method == Method::GET;
    }
    let Some(path) = uri.path().strip_prefix("/v1/tasks/") else { return false };
    let query = uri.query().unwrap_or_default();
    let (wait, follow) = (query.contains("wait_s="), query.contains("follow="));
    method == Method::GET
        && match path.split_once('/') {
            None => wait,
            Some((_, rest)) => rest == "events" || (follow && rest == "logs"),
        }
}

/// The request goes to a route that reads its body.
fn sends(request: &Request<Body>) -> bool {
    request.method() == Method::POST
        && matches!(request.uri().path(), "/v1/tasks" | "/v1/tasks/bulk" | "/v1/shutdown" | "/v1/backup")
}

impl hyper::service::Service<Request<Incoming>> for OnLine {
    type Response = Response<Answer>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Self { guarded, line } = self.clone();
        line.enter(Phase::Answer);
        Box::pin(async move {
            let mut response = guarded.answer(request.map(Body::new)).await;
            let room = response.extensions_mut().remove::<Room>();
            Ok(response.map(|body| Answer::new(body, line, room)))
        })
    }
}

/// A future whose panic is an error.
struct Caught<F>(AssertUnwindSafe<F>);

impl<F: Future + Unpin> Future for Caught<F> {
    type Output = Result<F::Output, ()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = &mut self.0.0;
        match std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll(context))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(Err(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_routes_that_wait_are_spared_a_place() {
        let spared = |method, uri: &'static str| watches(&method, &Uri::from_static(uri));
        assert!(spared(Method::GET, "/v1/tasks/0190abcd?wait_s=60"));
        assert!(spared(Method::GET, "/v1/tasks/0190abcd/logs?stream=stdout&follow=true"));
        for uri in [
            "/v1/tasks/0190abcd",
            "/v1/tasks?wait_s=60",
            "/v1/tasks/0190abcd/result?follow=true",
            "/v1/tasks/0190abcd/logs?wait_s=1",
            "/v1/status?wait_s=1",
        ] {
            assert!(!spared(Method::GET, uri), "{uri}");
        }
        assert!(!spared(Method::POST, "/v1/tasks/0190abcd?wait_s=60"));
    }

    #[test]
    fn only_our_own_names_are_ours() {
        let access = Access { tokens: vec![], uid: 0, port: Some(7411) };
        for ours in ["127.0.0.1:7411", "localhost:7411", "[::1]:7411"] {
            assert!(access.is_ours(ours), "{ours}");
        }
        for foreign in [
            "evil.example:7411",
            "127.0.0.1",
            "localhost:80",
            "localhost:7411.evil.example",
            "[::1]",
            "",
            ":7411",
        ] {
            assert!(!access.is_ours(foreign), "{foreign}");
        }
    }
}
