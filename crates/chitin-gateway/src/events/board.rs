//! The board: the newest events, ready to be sent. One task fills it from the store while anybody follows; each follower
//! takes from it at their own pace, and whoever falls behind it reads the store until they have caught up. So a slow
//! follower costs neither memory nor anybody's time, and a thousand cost hardly more than one.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chitin_store::{EventPlace, StoredEvent};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::render::{self, Mark, Rendered};

/// What the board holds at most: some seconds of a busy gateway.
const MOST_ENTRIES: usize = 4_096;
const MOST_BYTES: usize = 4_000_000;
/// Between two looks into the store: nobody notices, and a burst of commits is read in one.
pub(crate) const PACE: Duration = Duration::from_millis(20);
/// Events read at once.
pub(crate) const PAGE: usize = 500;

/// The board.
#[derive(Debug, Default)]
pub(crate) struct Board {
    state: Mutex<State>,
    followers: AtomicUsize,
    stirred: Notify,
    posted: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The place before its first entry; `None` while nobody follows.
    start: Option<EventPlace>,
    entries: VecDeque<Entry>,
    /// How many entries there were before the first.
    gone: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    place: EventPlace,
    rendered: Rendered,
    /// It was told before it was stored: the number of that entry, and what is sent instead to whoever read it.
    repeats: Option<(u64, Bytes)>,
}

/// What a follower finds.
#[derive(Debug)]
pub(crate) enum Found {
    /// These, and where they lead to.
    Frames(Vec<Bytes>, Reading),
    /// Nothing new.
    Nothing(Reading),
    /// What is wanted stands in the store, if anywhere; the board begins here, if it has begun.
    Behind(Option<EventPlace>),
}

/// How far a follower has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) place: EventPlace,
    /// The number of the next entry, and of the first that was read.
    on_board: Option<(u64, u64)>,
}

impl Reading {
    /// From behind this place on.
    pub(crate) fn from(place: EventPlace) -> Self {
        Self { place, on_board: None }
    }
}

/// Somebody follows, until this is dropped.
pub(crate) struct Following<'b>(&'b Board);

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Board {
    pub(crate) fn follow(&self) -> Following<'_> {
        self.followers.fetch_add(1, Ordering::SeqCst);
        self.stirred.notify_one();
        Following(self)
    }

    /// Something was committed: there may be events.
    pub(crate) fn stir(&self) {
        if self.followers.load(Ordering::SeqCst) > 0 {
            self.stirred.notify_one();
        }
    }

    /// Resolves when it was stirred.
    pub(crate) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// Resolves when something was posted after this call.
    pub(crate) fn posted(&self) -> Notified<'_> {
        self.posted.notified()
    }

    /// Where the board ends, if it has begun. With nobody following it is wiped.
    pub(crate) fn end(&self) -> Option<Option<EventPlace>> {
        let mut state = self.state.lock().ok()?;
        if self.followers.load(Ordering::SeqCst) == 0 {
            state.wipe();
            return None;
        }
        Some(state.end())
    }

    /// The board begins behind this place.
    pub(crate) fn begin(&self, place: EventPlace) {
        if let Ok(mut state) = self.state.lock() {
            state.wipe();
            state.start = Some(place);
        }
        self.posted.notify_waiters();
    }

    /// What was read behind its end.
    pub(crate) fn post(&self, store: &str, page: &[StoredEvent]) {
        if let Ok(mut state) = self.state.lock() {
            for event in page {
                let rendered = render::stored(store, event);
                let told = rendered.mark.as_ref().and_then(|mark| state.told_before(mark));
                let repeats = told.map(|number| (number, render::id_only(store, event.place)));
                state.push(Entry { place: event.place, rendered, repeats });
            }
        }
        self.posted.notify_waiters();
    }

    /// What the store has not taken yet: told where the board ends, as if nothing had happened in the order.
    pub(crate) fn post_unstored(&self, rendered: &Rendered) {
        if let Ok(mut state) = self.state.lock()
            && let Some(place) = state.end()
        {
            state.push(Entry { place, rendered: rendered.clone(), repeats: None });
        }
        self.posted.notify_waiters();
    }

    /// At most `most` frames of what comes next.
    pub(crate) fn read(&self, reading: Reading, most: usize) -> Found {
        let Ok(state) = self.state.lock() else { return Found::Behind(None) };
        let Some(start) = state.start else { return Found::Behind(None) };
        let (next, began) = match reading.on_board {
            Some((next, began)) if next >= state.gone => (next, began),
            Some(_) => return Found::Behind(Some(start)),
            None if reading.place.distance() < start.distance() => return Found::Behind(Some(start)),
            // Read in the store, which is ahead of the board: what comes on it up to there is known already.
            None if state.end().is_some_and(|end| end.distance() < reading.place.distance()) => {
                return Found::Nothing(reading);
            }
            None => {
                let is_new = |entry: &&Entry| entry.place.distance() > reading.place.distance();
                let known = state.entries.iter().take_while(|entry| !is_new(entry)).count();
                let next = state.gone.saturating_add(number(known));
                (next, next)
            }
        };
        let skip = usize::try_from(next.saturating_sub(state.gone)).unwrap_or(usize::MAX);
        let taken: Vec<&Entry> = state.entries.iter().skip(skip).take(most).collect();
        let place = taken.last().map_or(reading.place, |last| last.place);
        let on_board = Some((next.saturating_add(number(taken.len())), began));
        let frame = |entry: &&Entry| match &entry.repeats {
            Some((number, id_only)) if *number >= began => id_only.clone(),
            _ => entry.rendered.frame.clone(),
        };
        let frames: Vec<Bytes> = taken.iter().map(frame).collect();
        let reading = Reading { place, on_board };
        if frames.is_empty() { Found::Nothing(reading) } else { Found::Frames(frames, reading) }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl State {
    fn end(&self) -> Option<EventPlace> {
        self.entries.back().map(|entry| entry.place).or(self.start)
    }

    fn wipe(&mut self) {
        self.gone = self.gone.saturating_add(number(self.entries.len()));
        (self.start, self.bytes) = (None, 0);
        self.entries.clear();
    }

    fn push(&mut self, entry: Entry) {
        self.bytes = self.bytes.saturating_add(entry.rendered.frame.len());
        self.entries.push_back(entry);
        while self.entries.len() > MOST_ENTRIES || self.bytes > MOST_BYTES {
            let Some(first) = self.entries.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(first.rendered.frame.len());
            self.gone = self.gone.saturating_add(1);
            self.start = Some(first.place);
        }
    }

    fn told_before(&self, mark: &Mark) -> Option<u64> {
        let at = self.entries.iter().position(|entry| entry.rendered.mark.as_ref() == Some(mark))?;
        Some(self.gone.saturating_add(number(at)))
    }
}

#[cfg(test)]
mod tests;
