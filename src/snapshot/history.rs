//! Generates arbitrary histories for the property tests of all folds.

use crate::model::ledger::{Entry, Fact, Finished, Why};
use crate::model::{Class, ConnectionId, Digest, Origin, Scope, Step, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

pub const NAMESPACES: [&str; 2] = ["autonomy", "other"];

/// An event of one of six connections, of which the last two are in the second namespace.
#[derive(Clone, Debug)]
pub enum Event {
    Accept { origin: u8, spec: u8 },
    Withdraw { origin: u8 },
    Begun,
    Finished(Box<Finished>),
    Catalog(u8),
    Retire,
    Policy(u8),
    Seal,
}

pub fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

pub fn id(connection: u8) -> ConnectionId {
    ConnectionId(Uuid::from_u128(u128::from(connection) + 1))
}

pub fn namespace(connection: u8) -> &'static str {
    NAMESPACES[usize::from(connection >= 4)]
}

pub fn origin(number: u8) -> Origin {
    Origin::folder(&format!("{number}.json"))
}

/// Facts that the pipeline can produce: the steps before the failed one have passed.
pub fn finished() -> impl Strategy<Value = Finished> {
    let class = proptest::option::weighted(0.6, proptest::sample::select(Class::ALL.to_vec()));
    let step = proptest::sample::select(Step::ALL.to_vec());
    (class, step, any::<bool>(), 1..4_u32, 0..2_u8, 0..500_u64).prop_map(|(class, step, full, generation, slice, latency)| {
        let passed = |what: Step| class.is_none() || step > what;
        Finished {
            credential_ends_at: None,
            ending_secret: None,
            calls: None,
            begun_at: Timestamp(0),
            generation,
            scope: if full { Scope::Full } else { Scope::Health },
            policy: digest(slice),
            slice: digest(slice),
            class,
            failed_step: class.map(|_| step),
            retry_after_ms: class.map(|_| latency * 1000),
            upserted: passed(Step::Upsert),
            healthy: passed(Step::Health),
            rows: class.is_none().then_some(latency % 21),
            latency_ms: class.is_none().then_some(latency),
            outcome: Digest::from_bytes(format!("{class:?}{step:?}{latency}").as_bytes()),
            title: class.map_or("", |class| class.as_str()).into(),
            fix: "".into(),
            warnings: Box::default(),
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3_u8, 0..3_u8).prop_map(|(origin, spec)| Event::Accept { origin, spec }),
        3 => (0..3_u8).prop_map(|origin| Event::Withdraw { origin }),
        2 => Just(Event::Begun),
        8 => finished().prop_map(|finished| Event::Finished(Box::new(finished))),
        1 => (0..4_u8).prop_map(Event::Catalog),
        1 => Just(Event::Retire),
        1 => (0..3_u8).prop_map(Event::Policy),
        1 => Just(Event::Seal),
    ]
}

/// A ledger of up to eighty entries.
pub fn history() -> impl Strategy<Value = Vec<Entry>> {
    proptest::collection::vec((0..6_u8, 0..100_000_i64, event()), 0..80).prop_map(|events| {
        let (mut entries, mut at) = (Vec::new(), 1_000_000);
        for (seq, (connection, later, event)) in (1..).zip(events) {
            at += later;
            entries.push(entry(seq, at, connection, event));
        }
        entries
    })
}

fn entry(seq: u64, at: i64, connection: u8, event: Event) -> Entry {
    let mut entry = Entry {
        seq,
        at: Timestamp(at),
        namespace: namespace(connection).to_string(),
        connection: Some(id(connection)),
        fact: Fact::ConnectionRetired,
    };
    entry.fact = match event {
        Event::Accept { origin: from, spec } => Fact::IntentAccepted {
            origin: origin(from),
            spec: digest(spec),
            source_type: if connection.is_multiple_of(2) { "jdbc" } else { "openapi" }.to_string(),
            locator: (!spec.is_multiple_of(3)).then(|| format!("env:SECRET_{spec}")),
        },
        Event::Withdraw { origin: from } => Fact::IntentWithdrawn { origin: origin(from), reason: String::new() },
        Event::Begun => Fact::AttemptBegun { generation: 1, scope: Scope::Full, why: Why::New, policy: digest(0) },
        Event::Finished(finished) => Fact::AttemptFinished(*finished),
        Event::Catalog(version) => Fact::CatalogRegistered {
            version: u32::from(version) + 1,
            digest: digest(version),
            streams: 1,
            breaking: Vec::new(),
            additive: Vec::new(),
        },
        Event::Retire => Fact::ConnectionRetired,
        Event::Policy(policy) => {
            entry.connection = None;
            entry.namespace = String::new();
            Fact::PolicyAccepted { policy: digest(policy) }
        }
        Event::Seal => {
            entry.connection = None;
            Fact::NamespaceSealed { documents: 0 }
        }
    };
    entry
}
