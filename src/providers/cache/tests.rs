use super::*;
use crate::families;
use crate::model::Locator;
use crate::policy::parse::parse;
use futures_util::future::join_all;
use proptest::prelude::*;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Two clocks that a test sets.
#[derive(Default)]
struct TwoClocks {
    monotonic_ms: AtomicU64,
    wall_ms: AtomicI64,
}

impl Clock for TwoClocks {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall_ms.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
    }
}

fn request(connection: u8, reading: Reading) -> CredentialRequest {
    let policy = parse("version: 1\nallowlist: [github]\n", "p").unwrap();
    CredentialRequest {
        locator: Locator::parse("vault:secret/a").unwrap(),
        connection: ConnectionId::derive("autonomy", "github", &[connection.to_string()]),
        namespace: "autonomy".to_string(),
        owner: "owner@acme.example".to_string(),
        family: Arc::clone(families::find("github").unwrap()),
        resource_ids: vec![connection.to_string()].into(),
        policy: Arc::new(policy),
        reading,
    }
}

/// A secret with its own truth about when it was fetched and when it ends.
#[derive(Debug)]
struct Token {
    number: u64,
    end: Option<(Duration, Timestamp)>,
}

#[derive(Clone, Debug)]
enum Step {
    /// The connection asks; the fetch, if there is one, succeeds after some time with this lifetime in milliseconds.
    Ask { connection: u8, anew: bool, valid_ms: Option<u64>, took_ms: u64 },
    /// The connection asks; the fetch, if there is one, fails with this class.
    Fail { connection: u8, anew: bool, class: Class },
    /// Time passes; the clock of the machine may be set.
    Time { elapsed_ms: u64, set_ms: i64 },
    /// The process ends and starts again.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let classes = proptest::sample::select(vec![Class::Network, Class::Remote, Class::Throttled, Class::CredentialMissing]);
    let valid = proptest::option::of(1_u64..400_000);
    prop_oneof![
        4 => (0_u8..4, any::<bool>(), valid, prop_oneof![3 => Just(0_u64), 1 => 1_u64..400_000])
            .prop_map(|(connection, anew, valid_ms, took_ms)| Step::Ask { connection, anew, valid_ms, took_ms }),
        2 => (0_u8..4, any::<bool>(), classes).prop_map(|(connection, anew, class)| Step::Fail { connection, anew, class }),
        3 => (0_u64..300_000, prop_oneof![Just(0_i64), -400_000_i64..400_000]).prop_map(|(elapsed_ms, set_ms)| Step::Time { elapsed_ms, set_ms }),
        1 => Just(Step::Restart),
    ]
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is renewed, fails, crashes or is set: no value is used after its end by either clock, none is used again
    /// after the source rejected it, and no connection uses an old reading of a secret that has no lease.
    #[test]
    fn no_sequence_uses_a_value_after_its_end(steps in proptest::collection::vec(step(), 1..60), lease in any::<bool>()) {
        let clocks = Arc::new(TwoClocks::default());
        clocks.wall_ms.store(1_000_000_000, Ordering::SeqCst);
        let clock: Arc<dyn Clock> = Arc::clone(&clocks) as _;
        let reuse = if lease { Reuse::UntilEnd } else { Reuse::OncePerConnection };
        let (mut cache, mut fetched) = (Cache::<Token>::new(&clock), 0_u64);
        let mut used: HashMap<u8, u64> = HashMap::new();
        for step in steps {
            let (connection, anew, outcome, took_ms) = match step {
                Step::Time { elapsed_ms, set_ms } => {
                    clocks.monotonic_ms.fetch_add(elapsed_ms, Ordering::SeqCst);
                    clocks.wall_ms.fetch_add(i64::try_from(elapsed_ms).unwrap() + set_ms, Ordering::SeqCst);
                    continue;
                }
                Step::Restart => {
                    cache = Cache::new(&clock);
                    continue;
                }
                Step::Ask { connection, anew, valid_ms, took_ms } => (connection, anew, Ok(valid_ms), took_ms),
                Step::Fail { connection, anew, class } => (connection, anew, Err(class), 0),
            };
            let request = request(connection, if anew { Reading::Anew } else { Reading::Cached });
            let fetch = || {
                let result = outcome.map_err(|class| Failure::new(class, "no", "")).map(|valid_ms: Option<u64>| {
                    fetched += 1;
                    let valid = valid_ms.map(Duration::from_millis);
                    let end = valid.map(|valid| (clocks.monotonic() + valid, clocks.now().plus(valid)));
                    Fetched { value: Token { number: fetched, end }, valid_for: valid }
                });
                clocks.monotonic_ms.fetch_add(took_ms, Ordering::SeqCst);
                clocks.wall_ms.fetch_add(i64::try_from(took_ms).unwrap(), Ordering::SeqCst);
                std::future::ready(result)
            };
            let before = used.get(&connection).copied().unwrap_or(0);
            if let Ok(cached) = block_on(cache.get("key", &request, reuse, fetch)) {
                let token = &cached.value;
                // A secret without a lease has no end; its time only says for how long others may share the reading.
                if let Some((monotonic, wall)) = token.end.filter(|_| lease || cached.hit) {
                    prop_assert!(clocks.monotonic() < monotonic, "{token:?} has ended by the monotonic clock");
                    prop_assert!(clocks.now() < wall, "{token:?} has ended by the clock of the machine");
                }
                if anew || (!lease && cached.stale.is_none()) {
                    prop_assert!(token.number > before, "{token:?} was used before by {connection}");
                }
                used.insert(connection, token.number);
            }
        }
    }
}

#[tokio::test]
async fn ten_thousand_connections_cost_one_fetch_and_share_its_failure() {
    let clock: Arc<dyn Clock> = Arc::new(TwoClocks::default());
    let cache = Cache::<u64>::new(&clock);
    let fetches = AtomicU64::new(0);
    let base = request(0, Reading::Cached);
    let requests: Vec<CredentialRequest> = (0..10_000_u32)
        .map(|at| CredentialRequest { connection: ConnectionId::derive("autonomy", "github", &[at.to_string()]), ..base.clone() })
        .collect();
    let all = |fails: bool| {
        let (cache, fetches) = (&cache, &fetches);
        let ask = move |request| async move {
            let fetch = || async move {
                let number = fetches.fetch_add(1, Ordering::SeqCst);
                // Gives the others the time to ask, too.
                tokio::task::yield_now().await;
                match fails {
                    true => Err(Failure::new(Class::Network, "down", "")),
                    false => Ok(Fetched { value: number, valid_for: Some(Duration::from_secs(3600)) }),
                }
            };
            cache.get("key", request, Reuse::OncePerConnection, fetch).await
        };
        join_all(requests.iter().map(ask))
    };
    let failed = all(true).await;
    assert!(failed.iter().all(|result| result.as_ref().is_err_and(|failure| failure.title == "down")));
    assert_eq!(fetches.load(Ordering::SeqCst), 1, "the requests share one failure");
    let first = all(false).await;
    assert!(first.iter().all(Result::is_ok));
    assert_eq!(fetches.load(Ordering::SeqCst), 2, "the requests share one reading");
    let second = all(false).await;
    assert!(
        second.iter().all(|result| result.as_ref().is_ok_and(|cached| *cached.value == 2)),
        "the next attempts share a new one"
    );
    assert_eq!(fetches.load(Ordering::SeqCst), 3);
    let stale = all(true).await;
    assert!(stale.iter().all(|result| result.as_ref().is_ok_and(|cached| cached.stale.is_some() && *cached.value == 2)));
}

#[tokio::test]
async fn a_token_that_is_never_valid_is_the_fault_of_its_issuer() {
    let clock: Arc<dyn Clock> = Arc::new(TwoClocks::default());
    let cache = Cache::<u64>::new(&clock);
    let fetch = || std::future::ready(Ok(Fetched { value: 1, valid_for: Some(Duration::ZERO) }));
    let failure = cache.get("key", &request(0, Reading::Cached), Reuse::UntilEnd, fetch).await.err().expect("a failure");
    assert_eq!(failure.class, Class::Remote);
    assert!(cache.get("key", &request(0, Reading::Cached), Reuse::OncePerConnection, fetch).await.is_ok());
}
