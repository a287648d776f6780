//! Sends events to the webhooks of the policy (`notify`).
//!
//! Each webhook has a task of its own, so one that is slow or down delays no other. A task collects events for a moment, so
//! that a burst of changes is one message, and repeats the message with growing waits until the webhook accepts it. What a
//! webhook has received is a row of the ledger; the message that it is sent at the moment is working state beside the
//! ledger. After a crash, the same message is therefore sent again with the same id, and no event is lost.

mod delivery;
mod message;
mod signature;

use crate::event_log::{EventReader, Page};
use crate::events::{Event, EventFilter, EventId};
use crate::fault;
use crate::model::{Class, Failure, Timestamp};
use crate::pipeline::Env;
use crate::policy::{Policy, Webhook};
use crate::reconcile::Handle;
use crate::reconcile::handle::WebhookStatus;
use crate::registry::{Notice, RegistryError, WebhookMessage};
use delivery::Delivered;
use message::Bundle;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long there must be no further event before the collected ones are sent.
const QUIET: Duration = Duration::from_secs(1);
/// How long events are collected at most.
const MAX_COLLECTING: Duration = Duration::from_secs(10);
/// The number of events from which no further ones are collected.
const MAX_EVENTS: usize = 1000;
/// How often the policy is compared with the one that the tasks were started for.
const POLICY_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a task waits after the registry could not be read or written.
const REGISTRY_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Notifies the webhooks of the policy in force until the process stops. Of several replicas, the leader does.
pub async fn run(handle: Arc<Handle>, env: Arc<Env>) {
    let mut stopping = handle.stopping.subscribe();
    let mut tasks = JoinSet::new();
    let mut started: Option<Arc<Policy>> = None;
    while !*stopping.borrow() {
        let policy = handle.policy();
        if !handle.registry.is_leader() {
            tasks.shutdown().await;
            started = None;
        } else if !started.as_ref().is_some_and(|started| Arc::ptr_eq(started, &policy)) {
            // A message on its way is sent again with the same id.
            tasks.shutdown().await;
            handle.webhooks.store(Arc::new(policy.notify.iter().map(|webhook| new_status(&handle, webhook)).collect()));
            for webhook in &policy.notify {
                let (handle, env, policy, webhook) =
                    (Arc::clone(&handle), Arc::clone(&env), Arc::clone(&policy), webhook.clone());
                tasks.spawn(async move { Sender { handle, env, policy, webhook }.run().await });
            }
            started = Some(policy);
        }
        tokio::select! {
            _ = stopping.changed() => {}
            () = tokio::time::sleep(POLICY_CHECK_INTERVAL) => {}
        }
    }
    tasks.shutdown().await;
}

/// The status of a webhook before its task runs. Its counters go on.
fn new_status(handle: &Handle, webhook: &Webhook) -> WebhookStatus {
    let before = handle.webhooks.load().iter().find(|known| known.name == webhook.name).cloned();
    let (delivered, failed) = before.map_or((0, 0), |before| (before.delivered, before.failed));
    WebhookStatus {
        name: webhook.name.clone(),
        host: webhook.address.host(),
        problem: String::new(),
        fix: String::new(),
        tries: 0,
        next_at: None,
        delivered,
        failed,
        up_to: handle.events.head(),
    }
}

/// The task of one webhook.
struct Sender {
    handle: Arc<Handle>,
    env: Arc<Env>,
    policy: Arc<Policy>,
    webhook: Webhook,
}

/// Why the task of a webhook ends although the policy names it.
enum End {
    /// The webhook asked for it.
    Stopped,
    Registry(RegistryError),
}

impl From<RegistryError> for End {
    fn from(error: RegistryError) -> End {
        End::Registry(error)
    }
}

impl Sender {
    async fn run(self) {
        loop {
            match self.send_all().await {
                End::Stopped => return,
                End::Registry(RegistryError::Closed) => return,
                End::Registry(error) => {
                    tracing::error!(target: "aam::notify", webhook = %self.webhook.name, %error, "the registry cannot be used; messages wait");
                    tokio::time::sleep(REGISTRY_RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Sends message after message. It ends only for a reason.
    async fn send_all(&self) -> End {
        match self.try_send_all().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn try_send_all(&self) -> Result<std::convert::Infallible, End> {
        let cursor = self.cursor().await?;
        let mut reader = self.handle.events.read_after(EventId::after_entry(cursor));
        let mut stored = self.stored_message().await?;
        loop {
            let (events, mut message) = match stored.take() {
                Some(message) => (self.collect_again(&mut reader, message.up_to).await?, message),
                None => {
                    let events = self.collect(&mut reader).await?;
                    let message = self.new_message(reader.position().seq);
                    self.handle.registry.store_message(message.clone()).await?;
                    (events, message)
                }
            };
            if events.is_empty() {
                continue;
            }
            let resource_ids = self.resource_ids(&events).await?;
            let bundle = Bundle { events, resource_ids };
            self.deliver(&bundle, &mut message, &mut reader).await?;
        }
    }

    /// Sends a message until the webhook accepts it, and records that it did.
    async fn deliver(&self, bundle: &Bundle, message: &mut WebhookMessage, reader: &mut EventReader) -> Result<(), End> {
        let (id, total) = (bundle.id(&self.webhook.name), bundle.events.len());
        let body = delivery::body(bundle, &self.webhook);
        loop {
            self.sleep_until(message.next_at).await;
            match delivery::send(&self.env, &self.policy, &self.webhook, &id, &body).await {
                Delivered::Accepted => {
                    fault::boundary("delivered");
                    tracing::info!(target: "aam::notify", webhook = %self.webhook.name, message_id = %id, events = total, "delivered");
                    let (webhook, up_to, tries) = (self.webhook.name.clone(), message.up_to, message.tries + 1);
                    let events = u32::try_from(total).unwrap_or(u32::MAX);
                    let notice = Notice::WebhookDelivered { webhook, message: id, up_to, events, tries };
                    self.handle.registry.record_notices(vec![notice]).await?;
                    self.set_status(|status| {
                        (status.problem, status.fix, status.tries, status.next_at) = (String::new(), String::new(), 0, None);
                        status.delivered += 1;
                        status.up_to = up_to;
                    });
                    return Ok(());
                }
                Delivered::Gone => {
                    let reason = format!("{} answered 410: it no longer exists", self.webhook.address.host());
                    tracing::error!(target: "aam::notify", webhook = %self.webhook.name, %reason, "the webhook receives nothing any more");
                    let webhook = self.webhook.name.clone();
                    let notice = Notice::WebhookStopped { webhook, reason: reason.clone() };
                    self.handle.registry.record_notices(vec![notice]).await?;
                    self.show_stopped(&reason);
                    return Err(End::Stopped);
                }
                Delivered::Failed(failure) => {
                    // A place for a fold of its own is not kept during the wait.
                    reader.end_history();
                    message.tries = message.tries.saturating_add(1);
                    let asked = Duration::from_millis(failure.retry_after_ms.unwrap_or(0));
                    message.next_at = self.now().plus(self.backoff(message.tries).max(asked));
                    message.problem = failure.title.clone();
                    tracing::warn!(target: "aam::notify", webhook = %self.webhook.name, message_id = %id, tries = message.tries,
                        next_at = %message.next_at, problem = %failure.title, detail = %failure.detail, "not delivered; AAM tries again");
                    self.handle.registry.store_message(message.clone()).await?;
                    self.set_status(|status| {
                        (status.problem, status.fix) = (failure.title.clone(), failure.fix.clone());
                        (status.tries, status.next_at) = (message.tries, Some(message.next_at));
                        status.failed += 1;
                    });
                }
            }
        }
    }

    /// The wait before the next try, from the policy's backoff.
    fn backoff(&self, tries: u32) -> Duration {
        let rules = &self.policy.backoff;
        let wait = rules.initial.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(rules.max);
        wait.mul_f64(1.0 - rules.jitter * fastrand::f64())
    }

    /// Returns the entry up to which the webhook has received all events. Waits until the registry knows the webhook.
    async fn cursor(&self) -> Result<u64, End> {
        let mut changes = self.handle.registry.changes();
        loop {
            changes.mark_unchanged();
            let known = self.handle.registry.snapshot().webhooks.get(self.webhook.name.as_str()).cloned();
            if let Some(cursor) = known {
                if let Some(reason) = &cursor.stopped {
                    self.show_stopped(reason);
                    return Err(End::Stopped);
                }
                return Ok(cursor.up_to);
            }
            if changes.changed().await.is_err() {
                return Err(End::Registry(RegistryError::Closed));
            }
        }
    }

    /// Collects the next events until there is a pause, the time is over, or there are enough.
    async fn collect(&self, reader: &mut EventReader) -> Result<Vec<Arc<Event>>, End> {
        let mut changes = self.handle.events.changes();
        let mut events: Vec<Arc<Event>> = Vec::new();
        let mut end: Option<Instant> = None;
        loop {
            changes.mark_unchanged();
            let (new, at_end) = self.read(reader).await?;
            if !new.is_empty() {
                end.get_or_insert_with(|| Instant::now() + MAX_COLLECTING);
                events.extend(new);
            }
            if events.len() >= MAX_EVENTS {
                return Ok(events);
            }
            if !at_end {
                continue;
            }
            let Some(end) = end else {
                let up_to = reader.position().seq;
                self.set_status(|status| status.up_to = up_to);
                if changes.changed().await.is_err() {
                    return Err(End::Registry(RegistryError::Closed));
                }
                continue;
            };
            if Instant::now() >= end {
                return Ok(events);
            }
            let quiet = (Instant::now() + QUIET).min(end);
            if !matches!(tokio::time::timeout_at(quiet, changes.changed()).await, Ok(Ok(()))) {
                return Ok(events);
            }
        }
    }

    /// Collects the events of a message that was begun before.
    async fn collect_again(&self, reader: &mut EventReader, up_to: u64) -> Result<Vec<Arc<Event>>, End> {
        let mut events = Vec::new();
        while reader.position() < EventId::after_entry(up_to) {
            let (new, at_end) = self.read(reader).await?;
            events.extend(new);
            if at_end {
                break;
            }
        }
        // A page may reach further than the message did. What follows is read again for the next message.
        events.retain(|event: &Arc<Event>| event.id.seq <= up_to);
        *reader = self.handle.events.read_after(EventId::after_entry(up_to));
        Ok(events)
    }

    /// Reads the next page. Returns the events that the webhook receives, and whether there are no more events.
    async fn read(&self, reader: &mut EventReader) -> Result<(Vec<Arc<Event>>, bool), End> {
        loop {
            let mut own = std::mem::replace(reader, self.handle.events.read_after(reader.position()));
            let (page, own) = blocking(move || Ok((own.next_page()?, own))).await?;
            *reader = own;
            match page {
                Page::NeedsHistory => reader.begin_history().await,
                Page::Folding => {}
                Page::End => return Ok((Vec::new(), true)),
                Page::Events(events) => {
                    let filter = EventFilter { namespaces: self.webhook.namespaces.clone(), types: self.webhook.types() };
                    return Ok((events.into_iter().filter(|event| filter.accepts(event)).collect(), false));
                }
            }
        }
    }

    async fn resource_ids(&self, events: &[Arc<Event>]) -> Result<std::collections::HashMap<u64, Vec<String>>, End> {
        let (log, events) = (Arc::clone(&self.handle.events), events.to_vec());
        blocking(move || log.resource_ids(&events)).await
    }

    async fn stored_message(&self) -> Result<Option<WebhookMessage>, End> {
        let reader = self.handle.registry.reader().clone();
        let all = blocking(move || reader.webhook_messages()).await?;
        let own = all.into_iter().find(|message| message.webhook == self.webhook.name);
        if let Some(message) = own.as_ref().filter(|message| !message.problem.is_empty()) {
            self.set_status(|status| {
                (status.problem, status.tries) = (message.problem.clone(), message.tries);
                status.next_at = Some(message.next_at);
            });
        }
        Ok(own)
    }

    fn new_message(&self, up_to: u64) -> WebhookMessage {
        WebhookMessage { webhook: self.webhook.name.clone(), up_to, tries: 0, next_at: self.now(), problem: String::new() }
    }

    fn now(&self) -> Timestamp {
        self.handle.clock.now()
    }

    /// A clock that was set back prolongs the wait by no more than the longest backoff.
    async fn sleep_until(&self, then: Timestamp) {
        tokio::time::sleep(then.since(self.now()).min(self.policy.backoff.max.max(Duration::from_secs(24 * 3600)))).await;
    }

    fn show_stopped(&self, reason: &str) {
        let fix = format!(
            "correct the address in the entry of notify; to use the same address again, remove the entry {}, save the policy, and add it again",
            self.webhook.name
        );
        self.set_status(|status| (status.problem, status.fix, status.next_at) = (reason.to_string(), fix.clone(), None));
    }

    fn set_status(&self, change: impl Fn(&mut WebhookStatus)) {
        self.handle.webhooks.rcu(|all| {
            let mut all = Vec::clone(all);
            all.iter_mut().filter(|status| status.name == self.webhook.name).for_each(&change);
            all
        });
    }
}

/// Sends the head of the ledger to `webhook` of `policy`, once.
///
/// # Errors
/// Returns why the webhook did not accept it.
pub async fn send_head(
    env: &Env,
    policy: &Arc<Policy>,
    webhook: &Webhook,
    at: Timestamp,
    moment: &str,
    head: &str,
) -> Result<(), Failure> {
    let body = message::head(webhook, at, moment, head).to_string().into();
    match delivery::send(env, policy, webhook, &format!("msg_head_{}", at.0), &body).await {
        Delivered::Accepted => Ok(()),
        Delivered::Gone => {
            let title = format!("{} answered 410: it no longer exists", webhook.address.host());
            Err(Failure::new(Class::Remote, title, "correct the address in the entry of notify"))
        }
        Delivered::Failed(failure) => Err(failure),
    }
}

/// Runs `work`, which reads the registry, where blocking is allowed.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static) -> Result<T, End> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        // The process is ending, or a defect ended the work; the task begins again.
        Err(_) => Err(End::Registry(RegistryError::Closed)),
    }
}
