//! The clients of the run: they push intents to any replica, try again as clients do, edit and withdraw, and remember what was
//! accepted.

use super::checks::Accepted;
use super::replica::{Address, Answer};
use super::vendor::Source;
use crate::support::daemon::intent_with_locator;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a request is tried before a client gives up.
const TRIES: usize = 8;

/// What the clients know.
#[derive(Default)]
pub struct Record {
    pub accepted: Vec<Accepted>,
    /// The name of each connection, by its id.
    pub names: BTreeMap<String, String>,
    /// The last thing that was accepted for a connection: the marker of its intent, or `None` if it was withdrawn. Missing if a
    /// request was left without an answer, because it may be handled after a later one.
    pub last: BTreeMap<String, Option<String>>,
    unsure: std::collections::BTreeSet<String>,
    pub requests: usize,
    pub given_up: usize,
    /// Answers that a client does not expect, whatever the faults.
    pub unexpected: Vec<String>,
}

/// What all clients share.
#[derive(Clone)]
pub struct Clients {
    pub http: reqwest::Client,
    pub addresses: Arc<Vec<Address>>,
    pub record: Arc<Mutex<Record>>,
    pub is_over: Arc<AtomicBool>,
}

impl Clients {
    pub fn new(addresses: Vec<Address>) -> Clients {
        Clients {
            http: crate::harness::http_client(),
            addresses: Arc::new(addresses),
            record: Arc::default(),
            is_over: Arc::default(),
        }
    }

    pub fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pushes, edits, checks and withdraws the given connections until the run is over.
    pub async fn work(self, sources: Vec<Source>, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        let mut serial = 0;
        let mut pace = tokio::time::interval(Duration::from_millis(400));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.is_over.load(Ordering::Relaxed) {
            pace.tick().await;
            let source = &sources[random.usize(..sources.len())];
            let id = ids.get(&source.name).cloned();
            match (random.u8(..100), id) {
                (0..=6, Some(id)) => {
                    self.withdraw(source, &id, &mut random).await;
                    // A second withdrawal would be accepted without an entry.
                    ids.remove(&source.name);
                }
                (7..=49, Some(id)) => self.check(&id, &mut random).await,
                _ => {
                    serial += 1;
                    let marker = format!("{}-{seed:x}-{serial}@acme.example", source.name.to_lowercase());
                    if let Some(id) = self.push(source, &marker, &mut random).await {
                        ids.insert(source.name.clone(), id);
                    }
                }
            }
        }
    }

    /// Pushes an intent whose owner is the marker; returns the id of the connection if it was accepted.
    async fn push(&self, source: &Source, marker: &str, random: &mut fastrand::Rng) -> Option<String> {
        let document = document(source, marker);
        let answer = self.tries(Method::POST, "/connections/onboard", Some(&document), &source.name, random).await?;
        self.accept(source, marker, &answer)
    }

    /// Remembers an intent that was accepted; returns the id of its connection.
    pub fn accept(&self, source: &Source, marker: &str, answer: &Value) -> Option<String> {
        let id = answer["connection_id"].as_str().map(str::to_owned);
        let mut record = self.record();
        let Some(id) = id else {
            record.unexpected.push(format!("an accepted push does not have an id: {answer}"));
            return None;
        };
        record.names.insert(id.clone(), source.name.clone());
        record.accepted.push(Accepted { connection: source.name.clone(), marker: Some(marker.to_string()) });
        record.settle(&source.name, Some(marker.to_string()));
        Some(id)
    }

    async fn withdraw(&self, source: &Source, id: &str, random: &mut fastrand::Rng) {
        let path = format!("/connections/{id}");
        if self.tries(Method::DELETE, &path, None, &source.name, random).await.is_some() {
            let mut record = self.record();
            record.accepted.push(Accepted { connection: source.name.clone(), marker: None });
            record.settle(&source.name, None);
        }
    }

    /// Asks for a check now, so that there are attempts all the time. That it was asked for is not a fact that must survive.
    async fn check(&self, id: &str, random: &mut fastrand::Rng) {
        let address = &self.addresses[random.usize(..self.addresses.len())];
        let _ = address.send(&self.http, Method::POST, "/connections/heal", Some(&json!({"ids": [id]}))).await;
    }

    /// Sends the request to one replica after the other, until one accepts it; returns its answer.
    async fn tries(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        name: &str,
        random: &mut fastrand::Rng,
    ) -> Option<Value> {
        for turn in 0..TRIES {
            let address = &self.addresses[random.usize(..self.addresses.len())];
            let answer = address.send(&self.http, method.clone(), path, body).await;
            match self.record().judge(address.index, name, method == Method::DELETE, answer) {
                Verdict::Accepted(body) => return Some(body),
                Verdict::Refused => return None,
                Verdict::Again => {}
            }
            // As clients do: they wait longer each time.
            let mut pause = tokio::time::interval(Duration::from_millis(100 << turn.min(4)));
            pause.tick().await;
            pause.tick().await;
        }
        self.record().given_up += 1;
        None
    }
}

/// The intent of a connection, with the marker as its owner.
pub fn document(source: &Source, marker: &str) -> Value {
    let mut document = intent_with_locator(source.family, &source.account, &format!("env:{}", source.name));
    document["namespace"] = json!(source.namespace);
    document["owner"]["user"] = json!(marker);
    document
}

enum Verdict {
    Accepted(Value),
    Refused,
    Again,
}

impl Record {
    fn settle(&mut self, name: &str, marker: Option<String>) {
        if !self.unsure.contains(name) {
            self.last.insert(name.to_string(), marker);
        }
    }

    fn judge(&mut self, replica: usize, name: &str, is_withdrawal: bool, answer: Answer) -> Verdict {
        self.requests += 1;
        match answer {
            Ok((200..=204, body)) => Verdict::Accepted(body),
            // It was withdrawn by an earlier try, or an earlier push that was left without an answer was accepted meanwhile.
            Ok((404 | 409 | 410, _)) if is_withdrawal => Verdict::Refused,
            Ok((429 | 500..=599, _)) => Verdict::Again,
            // A replica that was never reached before does not have a token.
            Ok((401, _)) => Verdict::Again,
            Ok((status, body)) => {
                self.unexpected.push(format!("replica {replica} answered {status} for {name}: {body}"));
                Verdict::Refused
            }
            Err(_) => {
                self.unsure.insert(name.to_string());
                self.last.remove(name);
                Verdict::Again
            }
        }
    }
}
