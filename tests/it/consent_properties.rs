//! No sequence of attempts, failures of the vendor, crashes and clock jumps uses an access token after its end or sends a
//! refresh token that was used.

use crate::support::consents::{Consents, proven};
use crate::support::oauth_vendor::OnRefresh;
use aam::model::Class;
use proptest::prelude::*;
use std::sync::mpsc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

#[derive(Clone, Debug)]
enum Event {
    /// An attempt calls the API.
    Call,
    /// Two processes call at the same time.
    Race,
    Advance(u64),
    /// The clock of the machine is set, forward or back.
    Jump(i64),
    Vendor(OnRefresh),
    /// The process ends and another one starts.
    Restart,
    /// The process dies when the vendor has got its refresh.
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Call),
        2 => Just(Event::Race),
        4 => (0u64..8000).prop_map(Event::Advance),
        1 => (-8_000_000i64..8_000_000).prop_map(Event::Jump),
        3 => proptest::sample::select(vec![
            OnRefresh::Answer, OnRefresh::Answer, OnRefresh::UseAndLose, OnRefresh::Unavailable, OnRefresh::Refuse
        ]).prop_map(Event::Vendor),
        2 => Just(Event::Restart),
        2 => Just(Event::Crash),
    ]
}

/// The runtime of one process.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// Calls the API; gives consent first if that is what the attempt asks for.
async fn call(consents: &Consents) {
    if let Err(failure) = consents.call().await
        && failure.class == Class::CredentialMissing
        && failure.fix.contains("/consent/")
    {
        let query = consents.click().await;
        consents.complete(&query, proven()).await.unwrap_or_else(|problem| panic!("{problem:?}"));
        // The vendor's answer decides whether this works.
        let _ = consents.call().await;
    }
}

/// Lets the process call, and ends it at once when the vendor has got a refresh.
fn crash(process: Runtime, consents: &Consents) {
    let (arrived, arrival) = mpsc::channel();
    consents.vendor.state().hook = Some(Box::new(move || {
        let _ = arrived.send(());
    }));
    let running = consents.clone();
    let (ended, end) = mpsc::channel();
    process.spawn(async move {
        let _ = running.call().await;
        let _ = ended.send(());
    });
    // A call that needs no refresh ends without one.
    while arrival.try_recv().is_err() && end.try_recv() == Err(mpsc::TryRecvError::Empty) {
        std::thread::yield_now();
    }
    process.shutdown_timeout(Duration::from_secs(10));
    consents.vendor.state().hook = None;
}

fn run(vendor_runtime: &Runtime, rotates: bool, events: Vec<Event>) {
    let mut consents = vendor_runtime.block_on(Consents::new());
    consents.vendor.state().rotates = rotates;
    let mut process = runtime();
    process.block_on(consents.give());
    for event in events {
        match event {
            Event::Call => process.block_on(call(&consents)),
            Event::Race => {
                let other = consents.restarted();
                let _ = process.block_on(async { tokio::join!(consents.call(), other.call(), consents.call()) });
            }
            Event::Advance(seconds) => consents.clock.advance(Duration::from_secs(seconds)),
            Event::Jump(ms) => consents.clock.jump(ms),
            Event::Vendor(mode) => consents.vendor.state().on_refresh = mode,
            Event::Restart => {
                consents = consents.restarted();
                process = runtime();
            }
            Event::Crash => {
                crash(process, &consents);
                consents = consents.restarted();
                process = runtime();
            }
        }
        consents.assert_no_misuse();
    }
    // Whatever happened, the grant works again, after a new consent at the worst.
    consents.vendor.state().on_refresh = OnRefresh::Answer;
    process.block_on(call(&consents));
    assert_eq!(process.block_on(consents.call()).expect("a token"), 200);
    consents.assert_no_misuse();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_token_is_used_after_its_end_and_no_refresh_token_twice(
        rotates in proptest::bool::weighted(0.8),
        events in proptest::collection::vec(event(), 1..25),
    ) {
        run(&runtime(), rotates, events);
    }
}
