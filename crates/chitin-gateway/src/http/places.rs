//! Places among the requests in flight, fairly between clients (R1.2, R2.6).
//!
//! Intuition: alone, a client may have every place. As soon as another one asks, each has a share, so that what is ahead
//! of anybody is a short line and not a flood; and a place that becomes free goes to whoever has fewest. Waiting is
//! bounded in time and number: a burst passes, an overload is told.
//!
//! Nobody is told before their time is up: to be told costs the gateway nearly what being served does, and whoever is told may
//! be back at once. While lines were only as long as there are places, ten times as many clients as got the most done left a
//! sixth of it; with lines as long as there are connections, most of them are served.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chitin_failpoints::planted;
use tokio::sync::oneshot;

/// Of all places, the part that is one client's share while there are others: the batches that so many make are nearly as
/// good as larger ones, and whoever comes next has no more of them before its own.
const SHARE_PART: u64 = 16;
/// A client that has asked for something within this time is there.
const THERE_MS: i64 = 1_000;

/// A client by its number: who asks, for fairness. Few there are, and none is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientNo(pub(crate) usize);

/// The places.
#[derive(Debug)]
pub(crate) struct Places {
    most: u64,
    /// How many of one client may wait: as many as there are connections.
    line: u64,
    wait: Duration,
    now_ms: AtomicI64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: u64,
    waiting: u64,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    taken: u64,
    waiting: VecDeque<oneshot::Sender<Place>>,
    asked_ms: i64,
}

/// A place that is held.
#[derive(Debug)]
pub(crate) struct Place {
    places: Option<Arc<Places>>,
    client: ClientNo,
}

impl Places {
    pub(crate) fn new(most: u64, line: u64, wait: Duration) -> Self {
        Self { most, line: line.max(most), wait, now_ms: AtomicI64::new(0), state: Mutex::default() }
    }

    /// What time it is, told as often as somebody looks at the clock.
    pub(super) fn tell_time(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    pub(crate) fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// A place at once, or after a wait; `None`: there was none in time, or too many wait already.
    pub(crate) async fn take(self: &Arc<Self>, client: ClientNo) -> Option<Place> {
        if planted!("no-places") {
            self.lock().take(client);
            return Some(self.place(client));
        }
        let turn = {
            let mut state = self.lock();
            let now_ms = self.now_ms.load(Ordering::Relaxed);
            state.ask(client, now_ms);
            // Whoever waits goes first.
            if state.waits(client) == 0 && state.may_take(client, self.most, now_ms) {
                state.take(client);
                return Some(self.place(client));
            }
            // Each client's line has its own end: a flood's keeps nobody else from waiting.
            if u64::try_from(state.waits(client)).unwrap_or(u64::MAX) >= self.line {
                return None;
            }
            state.wait(client)
        };
        tokio::time::timeout(self.wait, turn).await.ok()?.ok()
    }

    fn place(self: &Arc<Self>, client: ClientNo) -> Place {
        Place { places: Some(Arc::clone(self)), client }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(self: &Arc<Self>, client: ClientNo) {
        let mut state = self.lock();
        state.give_back(client);
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        while state.waiting > 0
            && let Some((next, turn)) = state.next(self.most, now_ms)
        {
            if let Err(mut unwanted) = turn.send(self.place(next)) {
                // Whoever waited has gone: it was never taken.
                unwanted.places = None;
                continue;
            }
            state.take(next);
        }
    }
}

impl State {
    fn client(&mut self, ClientNo(number): ClientNo) -> Option<&mut Client> {
        while self.clients.len() <= number {
            // Never here before.
            self.clients.push(Client { taken: 0, waiting: VecDeque::new(), asked_ms: i64::MIN });
        }
        self.clients.get_mut(number)
    }

    fn ask(&mut self, client: ClientNo, now_ms: i64) {
        if let Some(client) = self.client(client) {
            client.asked_ms = now_ms;
        }
    }

    fn waits(&self, ClientNo(number): ClientNo) -> usize {
        self.clients.get(number).map_or(0, |client| client.waiting.len())
    }

    /// What one client may have at most: all, while it is alone.
    fn share(&self, most: u64, now_ms: i64) -> u64 {
        let there = |client: &&Client| now_ms.saturating_sub(client.asked_ms) <= THERE_MS;
        let alone = self.clients.iter().filter(there).count() < 2;
        if alone { most } else { (most / SHARE_PART).max(1) }
    }

    fn may_take(&self, ClientNo(number): ClientNo, most: u64, now_ms: i64) -> bool {
        let share = self.share(most, now_ms);
        self.taken < most && self.clients.get(number).is_some_and(|client| client.taken < share)
    }

    fn take(&mut self, client: ClientNo) {
        self.taken = self.taken.saturating_add(1);
        if let Some(client) = self.client(client) {
            client.taken = client.taken.saturating_add(1);
        }
    }

    fn give_back(&mut self, client: ClientNo) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(client) = self.client(client) {
            client.taken = client.taken.saturating_sub(1);
        }
    }

    fn wait(&mut self, client: ClientNo) -> oneshot::Receiver<Place> {
        let (sender, turn) = oneshot::channel();
        self.waiting = self.waiting.saturating_add(1);
        if let Some(client) = self.client(client) {
            client.waiting.push_back(sender);
        }
        turn
    }

    /// Whose turn it is: of those who wait and may, the one with the fewest.
    fn next(&mut self, most: u64, now_ms: i64) -> Option<(ClientNo, oneshot::Sender<Place>)> {
        if self.taken >= most {
            return None;
        }
        let share = self.share(most, now_ms);
        let waiting = self.clients.iter_mut().enumerate();
        let (number, client) = waiting
            .filter(|(_, client)| !client.waiting.is_empty() && client.taken < share)
            .min_by_key(|(_, client)| client.taken)?;
        let turn = client.waiting.pop_front()?;
        self.waiting = self.waiting.saturating_sub(1);
        Some((ClientNo(number), turn))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = self.places.take() {
            places.give_back(self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: ClientNo = ClientNo(0);
    const TRICKLE: ClientNo = ClientNo(1);

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(work)
    }

    fn places(most: u64) -> Arc<Places> {
        Arc::new(Places::new(most, most, Duration::from_secs(60)))
    }

    /// So many waits that have begun.
    fn waits(places: &Arc<Places>, client: ClientNo, many: u64) -> Vec<oneshot::Receiver<Place>> {
        (0..many).map(|_| places.lock().wait(client)).collect()
    }

    #[test]
    fn alone_a_client_may_have_every_place_and_then_each_has_a_share() {
        block_on(async {
            let places = places(32);
            let mut held = Vec::new();
            for _ in 0..32 {
                held.push(places.take(FLOOD).await.unwrap());
            }
            let mut flood = waits(&places, FLOOD, 40);
            let mut trickle = waits(&places, TRICKLE, 1);
            places.lock().ask(TRICKLE, 0);
            held.pop();
            assert!(trickle[0].try_recv().is_ok(), "the first place that is free goes to who has fewest");
            held.truncate(3);
            assert!(flood.iter_mut().all(|turn| turn.try_recv().is_err()), "over its share");
            held.clear();
            assert_eq!(flood.iter_mut().filter_map(|turn| turn.try_recv().ok()).count(), 40, "one by one");
            assert_eq!(places.taken(), 0);
        });
    }

    #[test]
    fn whoever_has_not_asked_for_a_while_is_not_there() {
        block_on(async {
            let places = places(32);
            drop(places.take(TRICKLE).await);
            let (one, two) = (places.take(FLOOD).await, places.take(FLOOD).await);
            assert!(one.is_some() && two.is_some());
            assert!(!places.lock().may_take(FLOOD, 32, THERE_MS), "its share is two");
            assert!(places.lock().may_take(FLOOD, 32, THERE_MS + 1), "alone, it may have all");
        });
    }

    #[test]
    fn nobody_is_told_before_their_time_is_up() {
        block_on(async {
            let places = Arc::new(Places::new(1, 8, Duration::from_secs(60)));
            let _held = places.take(FLOOD).await;
            let _line = waits(&places, FLOOD, 7);
            let soon = Duration::from_millis(20);
            assert!(tokio::time::timeout(soon, places.take(FLOOD)).await.is_err(), "it waits on");
            let told = tokio::time::timeout(Duration::from_secs(30), places.take(FLOOD)).await;
            assert!(matches!(told, Ok(None)), "but for the one beyond the line's end");
        });
    }

    #[test]
    fn a_wait_has_an_end_and_so_has_the_line() {
        block_on(async {
            let places = Arc::new(Places::new(2, 2, Duration::from_millis(5)));
            let held = [places.take(FLOOD).await, places.take(FLOOD).await];
            assert!(places.take(FLOOD).await.is_none(), "in time");
            let line = waits(&places, FLOOD, 1);
            assert_eq!(places.lock().waiting, 2, "whoever gave up is found when it is their turn");
            assert!(places.take(FLOOD).await.is_none(), "too many wait");
            drop((held, line));
            assert_eq!(places.taken(), 0, "whoever gave up waiting holds nothing");
        });
    }
}
