//! Bodies: bounded before they are read, in bytes and in time, and counted against what is in flight (R1.3, R2.2).

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use bytes::{Bytes, BytesMut};
use chitin_failpoints::planted;
use chitin_proto::http::Code;
use http_body_util::BodyExt;

use super::budget::Share;
use super::guard::Caller;
use super::places::{ClientNo, Place};
use super::problem::Oops;
use super::refusals::Bound;
use super::{Shared, guard};

/// A client that sends too much without asking first is heard out for so long and so far, unheeded, so that it can
/// read why it was refused: most clients read the answer only once they have sent everything.
const HEAR_OUT: Duration = Duration::from_secs(2);
const HEAR_OUT_BYTES: u64 = 20_000_000;

/// A body up to this size is a small one: nearly all are.
const SMALL_BYTES: u64 = 65_536;

/// A body with the budget it takes and its request's place among those in flight; given back when it is dropped.
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    budget: Option<Share>,
    _place: Place,
}

impl Whole {
    /// Lets go of the bytes once all is made of them that will be; the budget goes along with that, the place stays. The bytes
    /// are a piece of the connection's own buffer: held while an answer is waited for, they would have it take another.
    pub(crate) fn release(&mut self) -> Option<Share> {
        self.bytes = Bytes::new();
        self.budget.take()
    }
}

/// Reads a JSON body of at most `most` bytes.
pub(crate) async fn read_json(
    face: &Shared,
    caller: &Caller,
    request: Request<Body>,
    most: u64,
) -> Result<Whole, Oops> {
    let client = caller.1;
    check_content_type(request.headers())?;
    let asks_first = request.headers().contains_key(header::EXPECT);
    let said = match request.headers().get(header::CONTENT_LENGTH) {
        None => None,
        Some(value) => value.to_str().ok().and_then(|value| value.parse::<u64>().ok()),
    };
    let mut body = request.into_body();
    if said.is_some_and(|said| said > most) {
        if !asks_first {
            hear_out(&mut body).await;
        }
        return Err(too_large(most));
    }
    let budget = budget(face, client, said.unwrap_or(most))?;
    let patience = Duration::from_millis(face.limits.body_timeout_ms);
    let read = within(patience, read_bounded(&mut body, said, most)).await;
    match read {
        // Only now: a thousand slow senders must not take the places of everybody else.
        Some(Ok(bytes)) => {
            Ok(Whole { bytes, budget: Some(budget), _place: guard::place(face, client).await? })
        }
        Some(Err(oops)) => {
            if oops.is_none() {
                hear_out(&mut body).await;
            }
            Err(oops.unwrap_or_else(|| too_large(most)))
        }
        None => Err(Oops::new(
            Code::RequestTimeout,
            format!("the body did not arrive within {} s", patience.as_secs_f64()),
        )),
    }
}

/// What `work` comes to, if it does so in time. Whatever is there at once, as nearly every body is, costs no timer.
async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
        Poll::Ready(done) => Some(done),
        Poll::Pending => tokio::time::timeout(patience, work).await.ok(),
    }
}

/// Room for a body of so many bytes, before it is read.
fn budget(face: &Shared, client: ClientNo, bytes: u64) -> Result<Share, Oops> {
    let kib = if planted!("no-byte-budget") { 0 } else { bytes / 1_024 + 1 };
    let budgets = &face.budgets;
    let small = (bytes <= SMALL_BYTES).then_some(&budgets.small_body_kib);
    let mut rooms = small.into_iter().chain([&budgets.body_kib]);
    rooms
        .find_map(|room| room.take(client, kib))
        .ok_or_else(|| Oops::refused(Bound::Bodies, "too many bytes are in flight; try again"))
}

/// `Err(None)`: more than allowed.
async fn read_bounded(body: &mut Body, said: Option<u64>, most: u64) -> Result<Bytes, Option<Oops>> {
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Some(Oops::new(Code::InvalidRequest, "the body ended early")))?;
        let Ok(data) = frame.into_data() else { continue };
        let so_far = whole.len() + first.as_ref().map_or(0, Bytes::len);
        if u64::try_from(so_far + data.len()).unwrap_or(u64::MAX) > most {
            return Err(None);
        }
        // Nearly every body comes in one piece, which needs no copy.
        if so_far == 0 {
            first = Some(data);
            continue;
        }
        if let Some(first) = first.take() {
            whole.reserve(
                said.and_then(|said| usize::try_from(said).ok()).unwrap_or(first.len() + data.len()),
            );
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&data);
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

fn too_large(most: u64) -> Oops {
    Oops::new(
        Code::TooLarge,
        format!("a body of at most {most} bytes is allowed here; put large data into a file"),
    )
}

async fn hear_out(body: &mut Body) {
    let mut heard = 0;
    let listen = async {
        while let Some(Ok(frame)) = body.frame().await {
            heard += frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(0));
            if heard > HEAR_OUT_BYTES {
                return;
            }
        }
    };
    _ = tokio::time::timeout(HEAR_OUT, listen).await;
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Oops> {
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or("").trim());
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Oops::new(
            Code::UnsupportedMediaType,
            "a Content-Encoding is not supported; send the JSON as it is",
        ));
    }
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(Oops::new(Code::UnsupportedMediaType, "send the header `Content-Type: application/json`")),
    }
}
