//! The open connections of the listener, and which of them is closed when there are too many.
//!
//! A client that connects and sends nothing, or that does not read its responses, occupies a place. When all places are
//! taken, the place of such a client is given to the new connection. Connections on which a valid token was seen are
//! closed last. If every connection is being served, new ones get one of a few reserved places, which serve only the
//! health endpoints and callers with a token.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long a connection may be silent, or not read, before it gives up its place to a new connection. A client that
/// works normally sends its request at once, so under a flood of connections its own is never the oldest silent one.
const GRACE: Duration = Duration::from_secs(1);

/// The number of evicted connections whose sockets may still be open, on top of all places.
const MAX_CLOSING: usize = 64;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for a complete request head.
    Silent,
    /// A handler is working on a request.
    Working,
    /// A response is being written. The instant is when the client stopped reading, if it did.
    Answering(Option<Instant>),
}

/// One open connection.
pub struct ClientConnection {
    id: u64,
    /// The address of the client.
    pub peer: IpAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// True if the connection has one of the reserved places.
    pub reserved: bool,
    authenticated: AtomicBool,
    /// True while a response is sent that ends only when the client or the server wants it.
    streaming: AtomicBool,
    phase: Mutex<(Phase, Instant)>,
    evicted: Notify,
    table: Arc<ConnectionTable>,
}

/// All open connections of one listener.
pub struct ConnectionTable {
    /// The number of ordinary places.
    places: usize,
    /// The number of reserved places.
    reserve: usize,
    open: Mutex<OpenConnections>,
    /// Signals that a connection was closed or became silent.
    changed: Notify,
    /// Limits how many reserved places serve other endpoints than health.
    operators: Arc<Semaphore>,
}

#[derive(Default)]
struct OpenConnections {
    next_id: u64,
    live: HashMap<u64, Arc<ClientConnection>>,
    /// The number of evicted connections whose sockets are not closed yet.
    closing: usize,
}

impl ConnectionTable {
    /// Creates a table with `places` ordinary and `reserve` reserved places. A quarter of the reserve, but at least one
    /// place, is for the health endpoints only.
    #[must_use]
    pub fn new(places: usize, reserve: usize) -> Arc<ConnectionTable> {
        Arc::new(ConnectionTable {
            places,
            reserve,
            open: Mutex::default(),
            changed: Notify::new(),
            operators: Arc::new(Semaphore::new(reserve.saturating_sub((reserve / 4).max(1)))),
        })
    }

    /// Waits until a new connection can get a place.
    pub async fn vacancy(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let vacant = {
                let open = self.lock();
                let free = open.live.len() < self.places + self.reserve || victim(&open).is_some();
                free && open.closing < MAX_CLOSING
            };
            if vacant {
                return;
            }
            // A client that does not read becomes evictable with time, without any signal.
            let _ = tokio::time::timeout(GRACE, changed).await;
        }
    }

    /// Gives a place to a new connection. If all ordinary places are taken, another connection is evicted, or else the new
    /// one gets a reserved place. Returns `None` if the reserve is full too.
    pub fn admit(self: &Arc<Self>, peer: IpAddr, local: SocketAddr) -> Option<Arc<ClientConnection>> {
        let mut open = self.lock();
        if open.ordinary() >= self.places {
            self.evict(&mut open);
        }
        if open.live.len() >= self.places + self.reserve {
            return None;
        }
        open.next_id += 1;
        let connection = Arc::new(ClientConnection {
            id: open.next_id,
            peer,
            local,
            reserved: open.ordinary() >= self.places,
            authenticated: AtomicBool::new(false),
            streaming: AtomicBool::new(false),
            phase: Mutex::new((Phase::Silent, Instant::now())),
            evicted: Notify::new(),
            table: Arc::clone(self),
        });
        open.live.insert(connection.id, Arc::clone(&connection));
        Some(connection)
    }

    /// Closes one connection that is not being served, if there is one, to free its file descriptor.
    pub fn evict_one(&self) -> bool {
        self.evict(&mut self.lock())
    }

    fn evict(&self, open: &mut OpenConnections) -> bool {
        let Some(evicted) = victim(open).and_then(|id| open.live.remove(&id)) else {
            return false;
        };
        open.closing += 1;
        evicted.evicted.notify_one();
        true
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    /// The number of connections on ordinary places.
    fn ordinary(&self) -> usize {
        self.live.values().filter(|connection| !connection.reserved).count()
    }
}

/// Returns the connection that gives up its place first.
fn victim(open: &OpenConnections) -> Option<u64> {
    let now = Instant::now();
    let ranked = open.live.values().filter_map(|connection| {
        let (rank, since) = connection.eviction_rank(now)?;
        Some((rank, since, connection.id))
    });
    ranked.min().map(|(_, _, id)| id)
}

impl ClientConnection {
    /// Returns how soon this connection is evicted, lowest first, and since when it has been in its phase. Returns `None`
    /// while it is being served.
    fn eviction_rank(&self, now: Instant) -> Option<(u8, Instant)> {
        let (phase, since) = *self.phase();
        let authenticated = self.is_authenticated();
        match phase {
            Phase::Working | Phase::Answering(None) => None,
            Phase::Silent => {
                let recent = now.saturating_duration_since(since) < GRACE;
                let rank = match (authenticated, recent) {
                    (false, false) => 0,
                    (true, false) => 2,
                    // Its request may be on the way.
                    (false, true) => 4,
                    (true, true) => 5,
                };
                Some((rank, since))
            }
            Phase::Answering(Some(stalled)) => {
                let rank = if authenticated { 3 } else { 1 };
                (now.saturating_duration_since(stalled) >= GRACE).then_some((rank, stalled))
            }
        }
    }

    /// Whether a valid token was seen on this connection.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// Records that a valid token was seen on this connection.
    pub fn set_authenticated(&self) {
        self.authenticated.store(true, Ordering::Relaxed);
    }

    /// Reserves the right to serve a caller with a token on a reserved place. Returns `None` if too many are being served.
    #[must_use]
    pub fn operator_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.table.operators).try_acquire_owned().ok()
    }

    /// Whether the connection waits for a request.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.phase().0 == Phase::Silent
    }

    /// Records that a handler begins to work on a request.
    pub fn begin_request(&self) {
        self.enter(Phase::Working);
    }

    /// Records that a response is ready to be written.
    pub fn begin_response(&self) {
        self.enter(Phase::Answering(None));
    }

    /// Records that the client took some of the response.
    pub fn wrote(&self) {
        if self.phase().0 != Phase::Answering(None) {
            self.enter(Phase::Answering(None));
        }
    }

    /// Records that the client does not take any more of the response at the moment.
    pub fn stalled(&self) {
        if !matches!(self.phase().0, Phase::Answering(Some(_))) {
            self.enter(Phase::Answering(Some(Instant::now())));
        }
    }

    /// Records that the response is a stream: between its parts, the connection is being served.
    pub fn set_streaming(&self, streaming: bool) {
        self.streaming.store(streaming, Ordering::Relaxed);
    }

    /// Records that everything was written so far. Unless the response is a stream, the connection is silent then, unless a handler is at work.
    pub fn flushed(&self) {
        if self.streaming.load(Ordering::Relaxed) {
            self.enter(Phase::Answering(None));
        } else if matches!(self.phase().0, Phase::Answering(_)) {
            self.enter(Phase::Silent);
            self.table.changed.notify_waiters();
        }
    }

    /// Completes when the connection has lost its place and must be closed.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Records that the socket is closed.
    pub fn closed(&self) {
        let mut open = self.table.lock();
        if open.live.remove(&self.id).is_none() {
            open.closing = open.closing.saturating_sub(1);
        }
        drop(open);
        self.table.changed.notify_waiters();
    }

    fn enter(&self, phase: Phase) {
        *self.phase() = (phase, Instant::now());
    }

    fn phase(&self) -> MutexGuard<'_, (Phase, Instant)> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn admit(table: &Arc<ConnectionTable>) -> Option<Arc<ClientConnection>> {
        table.admit(IpAddr::V4(Ipv4Addr::LOCALHOST), SocketAddr::from((Ipv4Addr::LOCALHOST, 5000)))
    }

    fn is_live(connection: &Arc<ClientConnection>) -> bool {
        connection.table.lock().live.contains_key(&connection.id)
    }

    #[test]
    fn the_oldest_silent_connection_gives_its_place_to_a_new_one() {
        let table = ConnectionTable::new(3, 2);
        let all: Vec<_> = (0..3).filter_map(|_| admit(&table)).collect();
        all[0].begin_request();
        let fourth = admit(&table).expect("a place");
        assert!(!fourth.reserved && is_live(&all[0]) && !is_live(&all[1]) && is_live(&all[2]));
        all[2].set_authenticated();
        let fifth = admit(&table).expect("a place");
        assert!(!is_live(&fourth) && is_live(&all[2]) && is_live(&fifth), "a connection with a token stays longer");
    }

    #[test]
    fn connections_that_are_served_keep_their_places_and_the_reserve_is_used() {
        let table = ConnectionTable::new(2, 2);
        let all: Vec<_> = (0..4)
            .map(|_| {
                let connection = admit(&table).expect("a place");
                connection.begin_request();
                connection
            })
            .collect();
        assert_eq!(all.iter().map(|one| one.reserved).collect::<Vec<_>>(), [false, false, true, true]);
        assert!(admit(&table).is_none(), "every place is being served");
        let permit = all[2].operator_permit();
        assert!(permit.is_some() && all[3].operator_permit().is_none(), "one reserved place is for health only");
        all[0].begin_response();
        all[0].wrote();
        assert!(admit(&table).is_none(), "a response that is being read is not cut off");
        all[0].flushed();
        assert!(admit(&table).is_some(), "the client of a finished response gives up its place");
        all[1].closed();
        assert!(admit(&table).is_some(), "a closed connection frees its place");
    }

    #[test]
    fn a_client_that_does_not_read_is_evicted_after_the_grace_period_only() {
        let table = ConnectionTable::new(1, 0);
        let only = admit(&table).expect("a place");
        only.begin_request();
        only.begin_response();
        only.stalled();
        assert!(only.eviction_rank(Instant::now()).is_none());
        assert_eq!(only.eviction_rank(Instant::now() + GRACE).map(|(rank, _)| rank), Some(1));
        only.set_authenticated();
        assert_eq!(only.eviction_rank(Instant::now() + GRACE).map(|(rank, _)| rank), Some(3));
        only.wrote();
        assert!(only.eviction_rank(Instant::now() + GRACE).is_none(), "it reads again");
    }
}
