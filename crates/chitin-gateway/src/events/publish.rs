//! Writes down what was told, and fills the board that followers read, for as long as the gateway lives.

use std::sync::Arc;

use chitin_core::EventName;
use chitin_store::Reader;
use serde_json::json;

use super::board::{PACE, PAGE};
use crate::http::Face;
use crate::tasks::TaskKind;

/// Begins to, and tells of the life that has begun.
pub(crate) fn begin(face: &Arc<Face>, epoch: u64) {
    let shared = Arc::clone(face);
    face.tasks.spawn(TaskKind::Upkeep, async move {
        tokio::select! {
            () = shared.events.write_down(&shared.engine) => {}
            () = shared.tasks.stopped() => {}
        }
    });
    let shared = Arc::clone(face);
    face.tasks.spawn(TaskKind::Upkeep, async move {
        loop {
            tokio::select! {
                () = shared.events.board.stirred() => {}
                () = shared.tasks.stopped() => return,
            }
            // What cannot be read now is read when something happens again.
            while fill_board(&shared).await {}
            tokio::time::sleep(PACE).await;
        }
    });
    tell_of_the_start(face, epoch);
}

/// True if there may be more.
async fn fill_board(face: &Face) -> bool {
    let board = &face.events.board;
    match board.end() {
        None => false,
        Some(None) => {
            if let Some(Ok(bounds)) = face.readers.read(&face.tasks, Reader::event_bounds).await {
                board.begin(bounds.end);
            }
            false
        }
        Some(Some(end)) => {
            let page = face.readers.read(&face.tasks, move |reader| reader.events(end, PAGE)).await;
            let Some(Ok(page)) = page else { return false };
            board.post(&face.store_tag, &page);
            page.len() >= PAGE
        }
    }
}

fn tell_of_the_start(face: &Face, epoch: u64) {
    let lives = face.supervised.lives();
    face.events.tell(
        EventName::GatewayStarted,
        json!({
            "pid": std::process::id(),
            "epoch": epoch,
            "version": env!("CARGO_PKG_VERSION"),
            "restarts": lives.restarts,
            "last_end": lives.last_end,
        }),
    );
    if lives.safe_mode {
        face.events.tell(EventName::SafeMode, json!({ "last_end": lives.last_end }));
    }
}
